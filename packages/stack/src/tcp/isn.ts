/** Initial sequence numbers (RFC 6528) and timestamp offsets (RFC 7323 §7.1). */
import type { Ends } from '../ends.ts';
import type { HostSecret } from './keyed-hash.ts';

/** ISN = M + F(4-tuple, secret), M advancing every 4 microseconds (RFC 6528 §3, RFC 9293 §3.4.1). Signed int32. */
export function initialSequence(secret: HostSecret, ends: Ends, now: number): number {
  return (secret.word('isn', ends) + Math.floor(now / 4)) | 0;
}

/**
 * What is added to the timestamp clock, by addresses only: so that the timestamps between two hosts run forwards from
 * connection to connection (RFC 7323 §7.1, RFC 6191).
 */
export function timestampOffset(secret: HostSecret, ends: Ends): number {
  return secret.word('timestamp', { ...ends, localPort: 0, remotePort: 0 });
}
