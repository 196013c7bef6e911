/**
 * What may be found about an arriving segment (RFC 9293 §3.10.7). Only an {@link Accepted} segment has the positions that
 * applying needs: the compiler keeps the fields of any other one out of the state.
 */
import type { Segment } from '@subflow/wire';

/** A segment that is acceptable as a whole: its acknowledgement, window, timestamp, options and text may be applied. */
export interface Accepted {
  readonly kind: 'accept';
  readonly segment: Segment;
  /** Position of the segment's first sequence number. */
  readonly position: number;
  /** Position of the first byte of text: one further when a SYN comes first. */
  readonly dataPosition: number;
  /** Position after its last sequence number. */
  readonly end: number;
  /** Position it acknowledges up to; below SND.UNA for an old one. */
  readonly acked: number;
  readonly fin: boolean;
}

/** Why a segment that is not acceptable is answered; each kind is counted under its own name. */
export type AnswerReason =
  | 'tcp-paws'
  | 'tcp-duplicate'
  | 'tcp-out-of-window'
  | 'tcp-reset-challenge'
  | 'tcp-syn-challenge'
  | 'tcp-ack-out-of-range'
  | 'tcp-ack-too-old';

/** An ACK is owed, if the budget allows, and nothing else changes. */
export interface Answered {
  readonly kind: 'answer';
  readonly reason: AnswerReason;
  /** `duplicate`: text that has arrived before; always answered, its sender has missed our ACK. `probe`: a keepalive or window probe, at RCV.NXT - 1. `other`: anything else that is not acceptable. `challenge`: could be forged (RFC 5961). */
  readonly budget: 'duplicate' | 'probe' | 'other' | 'challenge';
  /** Positions to report as received twice (RFC 2883); equal when there are none. */
  readonly left: number;
  readonly right: number;
  /** A FIN came again. */
  readonly fin: boolean;
}

export type Verdict =
  | Accepted
  | Answered
  /** Nothing happens. */
  | { readonly kind: 'drop'; readonly reason: string }
  /** A RST that counts (RFC 5961 §3.2). */
  | { readonly kind: 'reset'; readonly segment: Segment; readonly position: number }
  /** The SYN of a half-open connection came again: so does our SYN+ACK. */
  | { readonly kind: 'syn-again' }
  /** An ACK that is none of ours on a half-open connection: RST <SEQ=SEG.ACK>, and the connection stays (RFC 9293 §3.10.7.4, fifth). */
  | { readonly kind: 'refuse'; readonly segment: Segment; readonly reason: string };

/** A segment that counts in SYN-SENT (RFC 9293 §3.10.7.3). `acked` is -1 without an ACK: both ends opened at once. */
export interface SynAccepted {
  readonly kind: 'accept';
  readonly segment: Segment;
  readonly acked: number;
  readonly fin: boolean;
}

export type SynSentVerdict =
  | SynAccepted
  | { readonly kind: 'drop'; readonly reason: string }
  | { readonly kind: 'reset'; readonly segment: Segment }
  | { readonly kind: 'refuse'; readonly segment: Segment; readonly reason: string };
