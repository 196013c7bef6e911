/** TCP Fast Open (RFC 7413): cookies, and data on SYN segments. */
import { OPTION } from '@subflow/wire';
import type { Segment } from '@subflow/wire';
import type { HostSecret } from './keyed-hash.ts';

/** Six bytes: beside MP_CAPABLE, timestamps and the rest a SYN+ACK has room for no more (RFC 8684 appendix B.1). */
const COOKIE_LENGTH = 6;

/** What a connection does about Fast Open. `cookie` empty asks for one. */
export interface FastOpen {
  cookie: Uint8Array;
  /** Bytes of data on our SYN; 0 when none went out or the SYN was repeated without. */
  sent: number;
}

/** The cookie of a client's address (RFC 7413 §4.1.2). */
export function makeFastOpenCookie(secret: HostSecret, local: Uint8Array, remote: Uint8Array): Uint8Array {
  const cookie = new Uint8Array(8);
  const view = new DataView(cookie.buffer);
  const [high, low] = secret.words('fast-open', { local, localPort: 0, remote, remotePort: 0 });
  view.setInt32(0, high);
  view.setInt32(4, low);
  return cookie.subarray(0, COOKIE_LENGTH);
}

/** The cookie in a segment: null when there is no such option, empty when it asks for one. */
export function fastOpenCookie(segment: Segment): Uint8Array | null {
  const at = segment.fastOpenOffset;
  if (at < 0) return null;
  const length = segment.view.getUint8(at + 1);
  // RFC 7413 §4.1.1: 4 to 16 bytes and even; anything else is ignored.
  if (length !== 2 && (length < 6 || length > 18 || length % 2 !== 0)) return null;
  return segment.bytes.slice(at + 2, at + length);
}

/** Writes the option padded to four bytes. Returns the bytes written, 0 when it does not fit. */
export function writeFastOpen(cookie: Uint8Array, view: DataView, at: number, room: number): number {
  const length = 2 + cookie.length;
  const padding = -length & 3;
  if (length + padding > room) return 0;
  for (let i = 0; i < padding; i++) view.setUint8(at + i, OPTION.nop);
  view.setUint8(at + padding, OPTION.fastOpen);
  view.setUint8(at + padding + 1, length);
  for (let i = 0; i < cookie.length; i++) view.setUint8(at + padding + 2 + i, cookie[i]!);
  return length + padding;
}
