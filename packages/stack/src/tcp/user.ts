/** The narrow interface through which an upper layer (Multipath TCP) extends one TCP connection. */
import type { Segment } from '@subflow/wire';
import type { ChunkPool } from '../buffers.ts';
import type { SendRecord } from './retransmission-queue.ts';
import type { CloseReason } from './state.ts';
import type { Accepted } from './verdict.ts';

/** Kinds of segments that ask for options. */
export const SEGMENT_KIND = { syn: 0, synAck: 1, ack: 2, data: 3, fin: 4, reset: 5 } as const;

export type SegmentKind = (typeof SEGMENT_KIND)[keyof typeof SEGMENT_KIND];

/** Where options go, and on what. */
export interface OptionPlace {
  readonly kind: SegmentKind;
  /** The data on the segment, null for none. */
  readonly record: SendRecord | null;
  /** Position of the segment's first sequence number. */
  readonly position: number;
  readonly view: DataView;
  readonly at: number;
  readonly room: number;
}

export interface TcpUser {
  /** Option bytes to keep free in every data segment. */
  optionSpace(): number;
  /** Writes options, at most `place.room` bytes, a multiple of four. Returns the bytes written. */
  writeOptions(place: OptionPlace, now: number): number;
  /** Sees an accepted segment before its payload is taken. Returns false when the segment must not be processed further. */
  onSegment(accepted: Accepted, now: number): boolean;
  /** Sees a RST that counts, before it takes effect. Returns false when the user has ended the connection itself. */
  onReset(segment: Segment, now: number): boolean;
  /** Sees an acceptable SYN or SYN+ACK. Returns false to refuse (the user has then reset the connection). */
  onHandshake(segment: Segment, now: number): boolean;
  /** In-order payload: `length` bytes at `offset` of `bytes`, valid during the call only. `position` is that of the first byte. */
  deliver(bytes: Uint8Array, offset: number, length: number, position: number, now: number): void;
  /** Where blocks for data ahead of order come from. */
  readonly chunks: ChunkPool;
  /** Memory that data ahead of order may still take, bytes. */
  roomAhead(): number;
  /** Bytes the application has written that wait above for this connection's windows: they count for its timers (RFC 9293 §3.8.6.1). */
  waiting(): number;
  /** Whether the peer's window is shared with other connections: it may look smaller from here and is none the less valid (RFC 8684 §3.3.4). */
  readonly sharesWindow: boolean;
  /** Bytes that the shared window still takes; Infinity when it is not shared. */
  sharedWindow(): number;
  /** The window to advertise, bytes; the user keeps its right edge from moving left and small openings back. */
  receiveWindow(now: number): number;
  /** Called before anything is transmitted, so that data can be handed down late. */
  prepare(now: number): void;
  /** A segment with an acknowledgement has been written. */
  onAckSent(): void;
  /** Data for a SYN with a Fast Open cookie (RFC 7413), at most `limit` bytes; null for none. */
  fastOpenData(limit: number): Uint8Array[] | null;
  /** The SYN+ACK acknowledged this many bytes of the SYN's data; the rest must be sent again as ordinary data. */
  fastOpenAnswered(acknowledged: number, now: number): void;
  /** A tail loss probe is about to go out: acknowledgements are late (RFC 8985 §7.3). */
  onProbe(now: number): void;
  onEstablished(now: number): void;
  /** Bytes up to `position` are acknowledged. */
  onAcknowledged(position: number, now: number): void;
  /** The retransmission timer has expired, for the `consecutive`th time in a row. */
  onTimeout(consecutive: number, now: number): void;
  onFin(now: number): void;
  onClosed(reason: CloseReason, now: number): void;
}
