/** Initial sequence numbers (RFC 6528) and timestamp offsets, from a keyed hash of the 4-tuple. */
import { sha256 } from '@noble/hashes/sha2.js';

/** 32 secret bytes of a host; made from its entropy at start. */
export type HostSecret = Uint8Array;

/** ISN = M + F(4-tuple, secret), M advancing every 4 microseconds (RFC 6528 §3, RFC 9293 §3.4.1). */
export function initialSequence(secret: HostSecret, local: Uint8Array, localPort: number, remote: Uint8Array, remotePort: number, now: number): number {
  return (tupleHash(secret, local, localPort, remote, remotePort) + Math.floor(now / 4)) | 0;
}

/** A keyed 32-bit hash of a 4-tuple and an optional salt, as signed int32. */
export function tupleHash(secret: HostSecret, local: Uint8Array, localPort: number, remote: Uint8Array, remotePort: number, salt = 0): number {
  const message = new Uint8Array(secret.length + local.length + remote.length + 8);
  message.set(secret, 0);
  let at = secret.length;
  message.set(local, at);
  at += local.length;
  message.set(remote, at);
  at += remote.length;
  const view = new DataView(message.buffer);
  view.setUint16(at, localPort);
  view.setUint16(at + 2, remotePort);
  view.setInt32(at + 4, salt | 0);
  const digest = sha256(message);
  return (digest[0]! << 24) | (digest[1]! << 16) | (digest[2]! << 8) | digest[3]!;
}
