/** The narrow interface through which an upper layer (Multipath TCP) extends one TCP connection. */
import type { Segment } from '@subflow/wire';
import type { SendRecord } from './record.ts';
import type { CloseReason } from './state.ts';

/** Kinds of segments that ask for options. */
export const SEGMENT_KIND = { syn: 0, synAck: 1, ack: 2, data: 3, fin: 4, reset: 5 } as const;

export interface TcpUser {
  /** Option bytes to keep free in every data segment. */
  optionSpace(): number;
  /** Writes options at `at`, at most `room` bytes, a multiple of four. Returns the bytes written. */
  writeOptions(kind: number, record: SendRecord | null, offset: number, length: number, view: DataView, at: number, room: number, now: number): number;
  /** Sees an acceptable segment before its payload is taken. Returns false when the segment must not be processed further. */
  onSegment(segment: Segment, payloadPosition: number, now: number): boolean;
  /** Sees an acceptable SYN or SYN+ACK. Returns false to refuse (the user has then reset the connection). */
  onHandshake(segment: Segment, now: number): boolean;
  /** In-order payload: `length` bytes at `offset` of `bytes`, valid during the call only. `position` is that of the first byte. */
  deliver(bytes: Uint8Array, offset: number, length: number, position: number, now: number): void;
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
  /** The peer's window or congestion state changed, or a retransmission timed out. */
  onTimeout(consecutive: number, now: number): void;
  onFin(now: number): void;
  onClosed(reason: CloseReason, now: number): void;
}
