/**
 * TIME-WAIT (RFC 9293 §3.6.1): what is left of a connection for 2·MSL is its ends, the two sequence numbers and the timestamps,
 * some 250 bytes instead of the 3,300 of the whole block. Bounded: the oldest makes room.
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
  readonly local: Uint8Array;
  /** Both ports; the remote address, for IPv4 as a word: an array costs more than all the rest. */
  private readonly ports: number;
  private readonly peer: number | Uint8Array;
  hash = 0;
  chain: Demultiplexed | null = null;
  readonly interface: Interface;
  /** Next sequence numbers, ours and the peer's, on the wire; signed int32. */
  readonly sndNxt: number;
  readonly rcvNxt: number;
  readonly window: number;
  /** What is added to the clock for our timestamps; and the peer's latest, null without timestamps. */
  readonly tsOffset: number;
  readonly tsRecent: number | null;
  readonly tsStamp: number;
  /** Milliseconds, rounded up: small integers need no memory of their own. The second: when the table looks at it. */
  expiresAt = 0;
  filedAt = 0;
  next: TimeWait | null = null;
  answers = ANSWERS;

  constructor(tcb: Tcb) {
    this.local = tcb.local;
    this.ports = (tcb.localPort << 16) | tcb.remotePort;
    this.peer = tcb.ipVersion === 4 ? tcb.remoteWord : tcb.remote;
    this.interface = tcb.interface;
    this.sndNxt = toSeq(tcb.iss, tcb.sndNxt);
    this.rcvNxt = toSeq(tcb.irs, tcb.rcvNxt);
    this.window = Math.min(65535, Math.max(0, tcb.rcvEdge - tcb.rcvNxt) >>> tcb.rcvScale);
    this.tsOffset = tcb.tsOffset;
    this.tsRecent = tcb.timestamps ? tcb.tsRecent : null;
    this.tsStamp = tcb.tsStamp;
  }

  get kind(): 'time-wait' {
    return 'time-wait';
  }

  get ipVersion(): number {
    return typeof this.peer === 'number' ? 4 : 6;
  }

  get remote(): Uint8Array {
    const { peer } = this;
    return typeof peer === 'number' ? Uint8Array.of(peer >>> 24, peer >>> 16, peer >>> 8, peer) : peer;
  }

  get localPort(): number {
    return this.ports >>> 16;
  }

  get remotePort(): number {
    return this.ports & 0xffff;
  }
}

/** What is to be done about a segment that finds TIME-WAIT (RFC 9293 §3.10.7.4). */
export type TimeWaitVerdict =
  /** A new SYN whose sequence number or timestamp is beyond the old ones: the tuple is free again (RFC 9293 §3.10.7.4, MAY-2; RFC 6191). */
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
  // A newer timestamp is enough, and an older one too little (RFC 6191 §2).
  const later = entry.tsRecent !== null && segment.hasTimestamps ? (segment.tsVal - entry.tsRecent) | 0 : 0;
  if ((flags & (FLAG.syn | FLAG.ack)) === FLAG.syn && (later > 0 || (later === 0 && ahead > 0))) return { kind: 'reuse' };
  const end = ahead + segment.payloadLength + ((flags & FLAG.fin) !== 0 ? 1 : 0);
  // Its own FIN, and nobody else's: it ends where the stream ended.
  if ((flags & FLAG.fin) !== 0 && (flags & FLAG.ack) !== 0 && end === 0 && ((segment.ack - entry.sndNxt) | 0) === 0) return { kind: 'fin-again' };
  // The ACK that ends a simultaneous close, once more: an ACK is not answered by an ACK.
  if (ahead === 0 && end === 0 && (flags & FLAG.syn) === 0) return { kind: 'drop', reason: 'tcp-ack-in-time-wait' };
  return { kind: 'answer' };
}

/** All connections of a host in TIME-WAIT, the oldest first: every one waits the same time. */
export class TimeWaitTable {
  size = 0;
  // A list through the entries, in order of `filedAt` but for those that were restarted: they go to the end when their first
  // time is over, and may stay a little longer than their second.
  private first: TimeWait | null = null;
  private last: TimeWait | null = null;
  private readonly duration: number;
  private readonly limit: number;

  /** `duration` in microseconds. */
  constructor(duration: number, limit: number) {
    this.duration = duration;
    this.limit = limit;
  }

  /** When the first one is to be looked at, microseconds; Infinity without any. */
  get next(): number {
    return this.first === null ? Number.POSITIVE_INFINITY : this.first.filedAt * 1000;
  }

  /** Enters one. Returns the one that had to make room, or null. */
  start(entry: TimeWait, now: number): TimeWait | null {
    const oldest = this.size >= this.limit ? this.shift() : null;
    this.restart(entry, now);
    this.append(entry);
    this.size++;
    return oldest;
  }

  /** The time of one that is entered starts anew. */
  restart(entry: TimeWait, now: number): void {
    entry.expiresAt = Math.ceil((now + this.duration) / 1000);
  }

  /** Ends one early; it leaves the list when its time comes. */
  remove(entry: TimeWait): void {
    if (entry.expiresAt === OVER) return;
    entry.expiresAt = OVER;
    this.size--;
  }

  /** Removes and returns one that is over at `now`, or null. */
  pop(now: number): TimeWait | null {
    while (this.first !== null && this.first.filedAt * 1000 <= now) {
      const { first } = this;
      this.unlinkFirst();
      if (first.expiresAt === OVER) continue;
      if (first.expiresAt * 1000 > now) {
        this.append(first);
        continue;
      }
      this.size--;
      return first;
    }
    return null;
  }

  /** Removes and returns the oldest one. */
  private shift(): TimeWait | null {
    for (let { first } = this; first !== null; first = this.first) {
      this.unlinkFirst();
      if (first.expiresAt === OVER) continue;
      this.size--;
      return first;
    }
    return null;
  }

  private append(entry: TimeWait): void {
    entry.filedAt = entry.expiresAt;
    entry.next = null;
    if (this.last === null) this.first = entry;
    else this.last.next = entry;
    this.last = entry;
  }

  private unlinkFirst(): void {
    const { first } = this;
    this.first = first?.next ?? null;
    if (this.first === null) this.last = null;
  }
}

/** `expiresAt` of an entry that has been removed. */
const OVER = -1;

/** An initial sequence number beyond those of the connection before (RFC 9293 §3.10.7.4, MAY-2, a): the clock's may not be, after a fast one. */
export function sequenceBeyond(entry: TimeWait, initial: number): number {
  return ((initial - (entry.sndNxt + 0xffff)) | 0) > 0 ? initial : (entry.sndNxt + 0x10001) | 0;
}

/** The ACK that TIME-WAIT answers with. */
export function timeWaitAck(entry: TimeWait, now: number): Uint8Array {
  const options: TcpOption[] = [];
  if (entry.tsRecent !== null) {
    options.push({ kind: 'nop' }, { kind: 'nop' }, { kind: 'timestamps', value: timestampValue(entry, now) >>> 0, echo: entry.tsRecent >>> 0 });
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
