/** SYN cookies (RFC 4987 §3.6): a SYN+ACK without state when the backlog is full. */
import { tupleHash } from './isn.ts';
import type { HostSecret } from './isn.ts';

/** MSS values a cookie can name (three bits). */
const MSS_TABLE = [536, 1220, 1300, 1360, 1400, 1420, 1440, 1460] as const;
/** A cookie is good for this many periods of 64 s. */
const PERIOD = 64_000_000;
const MAX_AGE = 2;

/** Cookie layout: 24 bits of hash, 5 bits of period, 3 bits of MSS index. */
export function makeCookie(
  secret: HostSecret,
  local: Uint8Array,
  localPort: number,
  remote: Uint8Array,
  remotePort: number,
  clientIsn: number,
  mss: number,
  now: number,
): number {
  const period = Math.floor(now / PERIOD);
  let index = 0;
  for (let i = 0; i < MSS_TABLE.length; i++) if (MSS_TABLE[i]! <= mss) index = i;
  return cookie(secret, local, localPort, remote, remotePort, clientIsn, period, index);
}

/** The MSS of a valid cookie, or -1. `clientIsn` is the sequence number of the ACK minus one, `value` its ack minus one. */
export function checkCookie(
  secret: HostSecret,
  local: Uint8Array,
  localPort: number,
  remote: Uint8Array,
  remotePort: number,
  clientIsn: number,
  value: number,
  now: number,
): number {
  const period = Math.floor(now / PERIOD);
  const index = value & 7;
  for (let age = 0; age <= MAX_AGE && age <= period; age++) {
    if (((period - age) & 31) !== ((value >>> 3) & 31)) continue;
    if (cookie(secret, local, localPort, remote, remotePort, clientIsn, period - age, index) === (value | 0)) return MSS_TABLE[index]!;
  }
  return -1;
}

function cookie(
  secret: HostSecret,
  local: Uint8Array,
  localPort: number,
  remote: Uint8Array,
  remotePort: number,
  clientIsn: number,
  period: number,
  index: number,
): number {
  const salt = (clientIsn ^ Math.imul(period, 0x9e3779b1) ^ (index << 29)) | 0;
  const hash = tupleHash(secret, local, localPort, remote, remotePort, salt);
  return (hash & ~0xff) | ((period & 31) << 3) | index | 0;
}
