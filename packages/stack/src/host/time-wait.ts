/**
 * TIME-WAIT (RFC 9293 §3.6.1): what is left of a connection for 2·MSL is its ends, the two sequence numbers and the timestamps,
 * some two hundred bytes instead of the whole block with its buffers. Bounded: the oldest makes room.
 */
import { buildPacket, FLAG, ipHeader, PROTOCOL } from '@subflow/wire';
import type { Segment, TcpOption } from '@subflow/wire';
import type { Demultiplexed } from '../ends.ts';
import type { Interface } from '../interface.ts';
import { toSeq } from '../tcp/sequence.ts';
import type { Tcb } from '../tcp/tcb.ts';
import { timestampValue } from '../tcp/timestamps.ts';

/** Answers to segments that come too late, for one connection: a peer whose last ACK was lost needs few. */
const ANSWERS = 16;

/** A connection in TIME-WAIT. */
export class TimeWait implements Demultiplexed {
  readonly kind = 'time-wait';
  readonly ipVersion: number;
  readonly local: Uint8Array;
  readonly remote: Uint8Array;
  readonly localPort: number;
  readonly remotePort: number;
  hash = 0;
  chain: Demultiplexed | null = null;
  readonly interface: Interface;
  /** Next sequence numbers, ours and the peer's, on the wire; signed int32. */
  readonly sndNxt: number;
  readonly rcvNxt: number;
  readonly window: number;
  /** Null without timestamps: what is added to the clock, and the peer's latest. */
  readonly timestamps: { readonly offset: number; readonly stamp: number; readonly recent: number } | null;
  expiresAt = 0;
  answers = ANSWERS;

  constructor(tcb: Tcb) {
    this.ipVersion = tcb.ipVersion;
    this.local = tcb.local;
    this.remote = tcb.remote;
    this.localPort = tcb.localPort;
    this.remotePort = tcb.remotePort;
    this.interface = tcb.interface;
    this.sndNxt = toSeq(tcb.iss, tcb.sndNxt);
    this.rcvNxt = toSeq(tcb.irs, tcb.rcvNxt);
    this.window = Math.min(65535, Math.max(0, tcb.rcvEdge - tcb.rcvNxt) >>> tcb.rcvScale);
    this.timestamps = tcb.timestamps ? { offset: tcb.tsOffset, stamp: tcb.tsStamp, recent: tcb.tsRecent } : null;
  }
}

/** What is to be done about a segment that finds TIME-WAIT (RFC 9293 §3.10.7.4). */
export type TimeWaitVerdict =
  /** A new SYN whose sequence number is beyond the old ones: the tuple is free again (RFC 9293 §3.10.7.4, MAY-2; RFC 6191). */
  | { readonly kind: 'reuse' }
  /** The peer's FIN again: our last ACK was lost, and the time starts anew. */
  | { readonly kind: 'fin-again' }
  | { readonly kind: 'answer' }
  | { readonly kind: 'drop'; readonly reason: string };

/** Judges a segment for a connection in TIME-WAIT; changes nothing. */
export function judgeTimeWait(entry: TimeWait, segment: Segment): TimeWaitVerdict {
  const { flags } = segment;
  const ahead = (segment.seq - entry.rcvNxt) | 0;
  // RFC 9293 would delete the block; then an old segment could reach its successor (RFC 1337 §3).
  if ((flags & FLAG.rst) !== 0) return { kind: 'drop', reason: 'tcp-reset-in-time-wait' };
  if ((flags & (FLAG.syn | FLAG.ack)) === FLAG.syn && ahead > 0) return { kind: 'reuse' };
  const end = ahead + segment.payloadLength + ((flags & FLAG.fin) !== 0 ? 1 : 0);
  // Its own FIN, and nobody else's: it ends where the stream ended.
  if ((flags & FLAG.fin) !== 0 && (flags & FLAG.ack) !== 0 && end === 0 && ((segment.ack - entry.sndNxt) | 0) === 0) return { kind: 'fin-again' };
  return { kind: 'answer' };
}

/** All connections of a host in TIME-WAIT, the oldest first: every one waits the same time. */
export class TimeWaitTable {
  /** In order of expiry. */
  private readonly entries = new Set<TimeWait>();
  private readonly duration: number;
  private readonly limit: number;

  constructor(duration: number, limit: number) {
    this.duration = duration;
    this.limit = limit;
  }

  get size(): number {
    return this.entries.size;
  }

  /** When the first one is over, Infinity without any. */
  get next(): number {
    const first = this.entries.values().next();
    return first.done === true ? Number.POSITIVE_INFINITY : first.value.expiresAt;
  }

  /** Enters one, or starts its time anew. Returns the one that had to make room, or null. */
  start(entry: TimeWait, now: number): TimeWait | null {
    this.entries.delete(entry);
    const first = this.entries.size >= this.limit ? (this.entries.values().next().value ?? null) : null;
    if (first !== null) this.entries.delete(first);
    entry.expiresAt = now + this.duration;
    this.entries.add(entry);
    return first;
  }

  remove(entry: TimeWait): void {
    this.entries.delete(entry);
  }

  /** Removes and returns one that is over at `now`, or null. */
  pop(now: number): TimeWait | null {
    const first = this.entries.values().next();
    if (first.done === true || first.value.expiresAt > now) return null;
    this.entries.delete(first.value);
    return first.value;
  }
}

/** The ACK that TIME-WAIT answers with. */
export function timeWaitAck(entry: TimeWait, now: number): Uint8Array {
  const options: TcpOption[] = [];
  if (entry.timestamps !== null) {
    const value = timestampValue({ tsOffset: entry.timestamps.offset, tsStamp: entry.timestamps.stamp }, now) >>> 0;
    options.push({ kind: 'nop' }, { kind: 'nop' }, { kind: 'timestamps', value, echo: entry.timestamps.recent >>> 0 });
  }
  return buildPacket(ipHeader(entry.local, entry.remote, PROTOCOL.tcp), {
    tcp: {
      sourcePort: entry.localPort,
      destinationPort: entry.remotePort,
      seq: entry.sndNxt >>> 0,
      ack: entry.rcvNxt >>> 0,
      headerLength: 20,
      reserved: 0,
      flags: FLAG.ack,
      window: entry.window,
      checksum: 0,
      urgent: 0,
      options,
    },
  });
}
