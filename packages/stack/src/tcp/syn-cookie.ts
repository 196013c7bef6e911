/** SYN cookies (RFC 4987 §3.6): a SYN+ACK without state when the backlog is full. */
import type { Ends } from '../ends.ts';
import type { HostSecret } from './keyed-hash.ts';

/** MSS values a cookie can name (three bits). */
const MSS_TABLE = [536, 1220, 1300, 1360, 1400, 1420, 1440, 1460] as const;
/** A cookie is good for the period it was made in and the next one, microseconds. */
const PERIOD = 64_000_000;
/** Longest life of a cookie: who sent none for this long accepts none. */
export const COOKIE_LIFETIME = 2 * PERIOD;

/** The initial sequence number that answers a SYN: 29 bits of hash, 3 bits of MSS index. The period is in the hash only. */
export function makeCookie(secret: HostSecret, ends: Ends, clientIsn: number, mss: number, now: number): number {
  let index = 0;
  for (let i = 0; i < MSS_TABLE.length; i++) if (MSS_TABLE[i]! <= mss) index = i;
  return cookie(secret, ends, clientIsn, Math.floor(now / PERIOD), index);
}

/** The MSS of a valid cookie, or -1. `clientIsn` is the sequence number of the ACK minus one, `value` its ack minus one. */
export function checkCookie(secret: HostSecret, ends: Ends, clientIsn: number, value: number, now: number): number {
  const period = Math.floor(now / PERIOD);
  const index = value & 7;
  for (let age = 0; age <= 1 && age <= period; age++) {
    if (cookie(secret, ends, clientIsn, period - age, index) === (value | 0)) return MSS_TABLE[index]!;
  }
  return -1;
}

function cookie(secret: HostSecret, ends: Ends, clientIsn: number, period: number, index: number): number {
  return (secret.word('syn-cookie', ends, [clientIsn, period, index]) & ~7) | index;
}
