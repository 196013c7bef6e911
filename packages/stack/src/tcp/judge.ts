/**
 * What is to be done about an arriving segment (RFC 9293 §3.10.7.4, with the checks of RFC 5961 and RFC 7323), decided
 * before anything changes: a pure function of the segment and the control block, which it cannot write to. Only an {@link Accepted} segment has the
 * positions that applying needs, so that no field of a segment that is about to be discarded can reach the state.
 */
import type { Segment } from '@subflow/wire';
import { FLAG } from '@subflow/wire';
import { toPosition } from './sequence.ts';
import { STATE } from './state.ts';
import type { Tcb } from './tcb.ts';
import { pawsRejects } from './timestamps.ts';
import type { Answered, AnswerReason, SynSentVerdict, Verdict } from './verdict.ts';

const NO_ACK: Verdict = { kind: 'drop', reason: 'tcp-ack-missing' };
const NO_TIMESTAMP: Verdict = { kind: 'drop', reason: 'tcp-timestamp-missing' };
const OVERTAKEN: Verdict = { kind: 'drop', reason: 'tcp-paws' };
const RESET_OUTSIDE: Verdict = { kind: 'drop', reason: 'tcp-reset-out-of-window' };
const RESET_CHALLENGE: Verdict = answer('tcp-reset-challenge', 'challenge');
const SYN_CHALLENGE: Verdict = answer('tcp-syn-challenge', 'challenge');
const ACK_BEYOND: Verdict = answer('tcp-ack-out-of-range', 'challenge');
const ACK_TOO_OLD: Verdict = answer('tcp-ack-too-old', 'challenge');
const SYN_AGAIN: Verdict = { kind: 'syn-again' };

/** Judges a segment for a control block that is neither CLOSED nor in SYN-SENT. */
export function judge(tcb: Readonly<Tcb>, segment: Segment, now: number): Verdict {
  const { flags, payloadLength } = segment;
  const syn = (flags & FLAG.syn) !== 0;
  const fin = (flags & FLAG.fin) !== 0;
  const position = toPosition(tcb.irs, segment.seq, tcb.rcvNxt);
  const dataPosition = syn ? position + 1 : position;
  const end = dataPosition + payloadLength + (fin ? 1 : 0);
  if (syn && (flags & FLAG.rst) === 0) {
    // Wherever its sequence number lies (RFC 5961 §4); but for a half-open connection's own: it comes again, or it is the
    // SYN+ACK of a simultaneous open, whose ACK counts (RFC 9293 §3.5).
    if (tcb.state !== STATE.synReceived || position !== 0) return SYN_CHALLENGE;
    if ((flags & FLAG.ack) === 0) return SYN_AGAIN;
    if (!tcb.activeOpen) return SYN_CHALLENGE;
  } else {
    if ((flags & FLAG.rst) === 0) {
      // PAWS comes before the sequence number; resets are exempt (RFC 7323 §5.3, R1).
      const stale = judgeTimestamp(tcb, segment, dataPosition, now);
      if (stale !== null) return stale;
    }
    if (!inWindow(tcb, position, end)) return (flags & FLAG.rst) !== 0 ? RESET_OUTSIDE : outside(tcb, segment, dataPosition, end);
    // Only an exact match resets; anything else in the window is challenged (RFC 5961 §3.2).
    if ((flags & FLAG.rst) !== 0) return position === tcb.rcvNxt ? { kind: 'reset', segment, position } : RESET_CHALLENGE;
  }
  if ((flags & FLAG.ack) === 0) return NO_ACK;
  const acked = toPosition(tcb.iss, segment.ack, tcb.sndUna);
  if (tcb.state === STATE.synReceived) {
    if (acked <= tcb.sndUna || acked > tcb.sndNxt) return { kind: 'refuse', segment, reason: 'tcp-handshake-ack-unacceptable' };
  } else {
    if (acked > tcb.sndNxt) return ACK_BEYOND;
    // No older than the largest window there was (RFC 5961 §5.2).
    if (acked < tcb.sndUna - tcb.maxSndWnd) return ACK_TOO_OLD;
  }
  return { kind: 'accept', segment, position, dataPosition, end, acked, fin };
}

/** RFC 7323 §3.2, §5.3. */
function judgeTimestamp(tcb: Readonly<Tcb>, segment: Segment, dataPosition: number, now: number): Verdict | null {
  if (!tcb.timestamps) return null;
  if (!segment.hasTimestamps) {
    // The ACK of our SYN+ACK without the option: it did not reach the peer, and there will be no timestamps (`applySegment`).
    return tcb.state === STATE.synReceived ? null : NO_TIMESTAMP;
  }
  if (!pawsRejects(tcb, segment, now)) return null;
  // An ACK that was overtaken on the way: it says nothing new, and its sender needs no answer (as Linux, tcp_disordered_ack).
  if (segment.payloadLength === 0 && (segment.flags & FLAG.fin) === 0 && dataPosition === tcb.rcvNxt) return OVERTAKEN;
  const right = dataPosition + segment.payloadLength;
  // Only what has arrived before may be reported as a duplicate: a block ahead of RCV.NXT would count as received.
  const known = segment.payloadLength > 0 && right <= tcb.rcvNxt && isRecent(tcb, dataPosition);
  return { ...answer('tcp-paws', 'other'), left: known ? dataPosition : 0, right: known ? right : 0, fin: false };
}

/**
 * RFC 9293 §3.10.7.4, first (Table 6), with two allowances. What is empty but for a FIN may lie at the right edge: who has
 * filled the window sends it there. And to a closed window what begins at RCV.NXT is acceptable for its ACK and RST; its
 * text is trimmed away.
 */
function inWindow(tcb: Readonly<Tcb>, position: number, end: number): boolean {
  const { rcvNxt, rcvEdge } = tcb;
  if (position === rcvNxt) return true;
  if (end <= rcvNxt) return false;
  return position < rcvEdge || (position === rcvEdge && end - position <= 1);
}

function outside(tcb: Readonly<Tcb>, segment: Segment, dataPosition: number, end: number): Verdict {
  const { rcvNxt } = tcb;
  const fin = (segment.flags & FLAG.fin) !== 0;
  const { payloadLength } = segment;
  const reason = 'tcp-out-of-window';
  // A keepalive or window probe: below RCV.NXT by one, with or without an octet (RFC 9293 §3.8.4, §3.8.6.1).
  if (dataPosition === rcvNxt - 1 && payloadLength <= 1) return { ...answer(reason, 'probe'), fin };
  // Of the last window: a retransmission of what we have, and reported as such. What comes from further away, no peer has sent now.
  if (end <= rcvNxt && payloadLength > 0 && isRecent(tcb, dataPosition)) {
    const right = Math.min(rcvNxt, dataPosition + payloadLength);
    return { kind: 'answer', reason: 'tcp-duplicate', budget: 'duplicate', left: dataPosition, right, fin };
  }
  return { ...answer(reason, 'other'), fin };
}

/** Whether a position lies behind RCV.NXT by no more than a window, and in the stream at all. */
function isRecent(tcb: Readonly<Tcb>, position: number): boolean {
  return position >= 1 && position > tcb.rcvNxt - Math.max(tcb.rcvEdge - tcb.rcvNxt, MIN_RECENT);
}

/** Text this far back is a retransmission, whatever our window is now. */
const MIN_RECENT = 65_536;

function answer(reason: AnswerReason, budget: Answered['budget']): Answered {
  return { kind: 'answer', reason, budget, left: 0, right: 0, fin: false };
}

/** Judges a segment for a control block in SYN-SENT. */
export function judgeSynSent(tcb: Readonly<Tcb>, segment: Segment): SynSentVerdict {
  const { flags } = segment;
  const hasAck = (flags & FLAG.ack) !== 0;
  const acked = hasAck ? toPosition(tcb.iss, segment.ack, tcb.sndUna) : -1;
  if (hasAck && (acked <= 0 || acked > tcb.sndNxt)) {
    const reason = 'tcp-syn-sent-ack-unacceptable';
    return (flags & FLAG.rst) !== 0 ? { kind: 'drop', reason } : { kind: 'refuse', segment, reason };
  }
  if ((flags & FLAG.rst) !== 0) return hasAck ? { kind: 'reset', segment } : { kind: 'drop', reason: 'tcp-syn-sent-reset-without-ack' };
  if ((flags & FLAG.syn) === 0) return { kind: 'drop', reason: 'tcp-syn-sent-no-syn' };
  return { kind: 'accept', segment, acked, fin: (flags & FLAG.fin) !== 0 };
}
