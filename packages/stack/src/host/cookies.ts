/** SYN cookies with all that a Multipath TCP handshake needs (RFC 4987 §3.6, RFC 8684 §3.1): nothing is kept for MP_CAPABLE, little for MP_JOIN. */
import type { Segment } from '@subflow/wire';
import type { Ends } from '../ends.ts';
import type { HostSecret } from '../tcp/keyed-hash.ts';

/** Low bits of the timestamp that hold options: four of window scale (15: none), one of SACK. */
const TIMESTAMP_BITS = 5;
const NO_SCALE = 15;

/** Options a cookie brings back. */
export interface CookieOptions {
  mss: number;
  timestamps: boolean;
  sack: boolean;
  /** The peer's window scale, -1 for none. */
  scale: number;
}

/** A server's name behind a load balancer takes the last octet; what the cookie remembers moves up. */
const STAMP_BITS = 8;

/** A timestamp value not above `clock` whose low bits hold the SYN's options; `stamp` as in {@link stampTimestamp}, 0 for none. */
export function cookieTimestamp(segment: Segment, clock: number, stamp = 0): number {
  const bits = (segment.windowScale >= 0 ? Math.min(segment.windowScale, 14) : NO_SCALE) | (segment.sackPermitted ? 16 : 0);
  const shift = stamp === 0 ? 0 : STAMP_BITS;
  const low = TIMESTAMP_BITS + shift;
  const value = ((clock >>> low) << low) | (bits << shift) | stamp;
  return ((value - clock) | 0) > 0 ? (value - (1 << low)) | 0 : value | 0;
}

/** Reads the options back from the echoed timestamp. */
export function cookieOptions(segment: Segment, mss: number, stamp = 0): CookieOptions {
  if (!segment.hasTimestamps) return { mss, timestamps: false, sack: false, scale: -1 };
  const bits = stamp === 0 ? segment.tsEcr : segment.tsEcr >>> STAMP_BITS;
  const scale = bits & 15;
  return { mss, timestamps: true, sack: (bits & 16) !== 0, scale: scale === NO_SCALE ? -1 : scale };
}

/** The key a stateless server gives: the third ACK echoes it and it can be made again (RFC 8684 §3.1). */
export function cookieKey(secret: HostSecret, ends: Ends, isn: number): [number, number] {
  return secret.words('mptcp-key', ends, [isn]);
}

/** What a join needs besides its cookie: token and nonces are not in the third ACK. */
export interface PendingJoin {
  token: number;
  remoteNonce: number;
  localNonce: number;
  remoteId: number;
  backup: boolean;
}

/** Joins waiting for their third ACK under load; the oldest make room (as Linux's table of 1,024 slots). */
export class JoinTable {
  private readonly slots = new Map<string, PendingJoin>();
  private readonly limit: number;

  constructor(limit = 1024) {
    this.limit = limit;
  }

  get size(): number {
    return this.slots.size;
  }

  remember(ends: Ends, join: PendingJoin): void {
    const key = keyOf(ends);
    this.slots.delete(key);
    if (this.slots.size >= this.limit) this.slots.delete(this.slots.keys().next().value!);
    this.slots.set(key, join);
  }

  /** Takes an entry out; null when there is none. */
  take(ends: Ends): PendingJoin | null {
    if (this.slots.size === 0) return null;
    const key = keyOf(ends);
    const join = this.slots.get(key) ?? null;
    if (join !== null) this.slots.delete(key);
    return join;
  }
}

function keyOf(ends: Ends): string {
  return String.fromCharCode(ends.localPort, ends.remotePort, ...ends.local, ...ends.remote);
}
