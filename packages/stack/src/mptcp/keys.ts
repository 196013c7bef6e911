/** Keys, tokens, initial data sequence numbers and HMACs (RFC 8684 §3.1, §3.2, §3.4.1; RFC 6824 with SHA-1). */
import { hmac } from '@noble/hashes/hmac.js';
import type { U64 } from '@subflow/wire';
import { VERSION_1 } from './version.ts';
import type { MptcpVersion } from './version.ts';

/** What a key determines. */
export interface KeyMaterial {
  high: number;
  low: number;
  /** Most significant 32 bits of the hash. */
  token: number;
  /** Least significant 64 bits of the hash. */
  idsnHigh: number;
  idsnLow: number;
}

const keyScratch = new Uint8Array(8);
const keyView = new DataView(keyScratch.buffer);

/** Derives token and IDSN from a key, hashed in network byte order (RFC 8684 §3.1). */
export function keyMaterial(high: number, low: number, version: MptcpVersion = VERSION_1): KeyMaterial {
  keyView.setInt32(0, high | 0);
  keyView.setInt32(4, low | 0);
  const digest = version.hash(keyScratch);
  const view = new DataView(digest.buffer, digest.byteOffset, digest.length);
  const end = digest.length;
  return { high: high | 0, low: low | 0, token: view.getInt32(0), idsnHigh: view.getInt32(end - 8), idsnLow: view.getInt32(end - 4) };
}

/** The HMAC of one direction's joins: the keys are taken in once, so that a flood of joins costs half of the hashing. */
export class JoinHmac {
  private readonly keyed: { clone(): { update(bytes: Uint8Array): { digest(): Uint8Array } } };

  constructor(sender: U64, receiver: U64, version: MptcpVersion) {
    this.keyed = hmac.create(version.hash, pairKey(sender, receiver));
  }

  /** See {@link joinHmac}. */
  of(senderNonce: number, receiverNonce: number): Uint8Array {
    return this.keyed.clone().update(nonces(senderNonce, receiverNonce)).digest();
  }
}

/** HMAC of a join: keyed with sender's then receiver's key, over sender's then receiver's nonce (RFC 8684 §3.2). 32 bytes, 20 in version 0. */
export function joinHmac(sender: U64, receiver: U64, senderNonce: number, receiverNonce: number, version: MptcpVersion = VERSION_1): Uint8Array {
  return hmac(version.hash, pairKey(sender, receiver), nonces(senderNonce, receiverNonce));
}

function nonces(sender: number, receiver: number): Uint8Array {
  const message = new Uint8Array(8);
  const view = new DataView(message.buffer);
  view.setInt32(0, sender | 0);
  view.setInt32(4, receiver | 0);
  return message;
}

/** The rightmost 64 bits of the HMAC over id, address and port (RFC 8684 §3.4.1); version 0 has none. */
export function addAddressHmac(sender: U64, receiver: U64, addressId: number, address: Uint8Array, port: number): Uint8Array {
  const message = new Uint8Array(address.length + 3);
  message[0] = addressId;
  message.set(address, 1);
  message[address.length + 1] = port >>> 8;
  message[address.length + 2] = port & 0xff;
  return hmac(VERSION_1.hash, pairKey(sender, receiver), message).slice(24);
}

/** Whether two byte strings are equal, in a time that does not depend on where they differ. */
export function sameBytes(a: Uint8Array, b: Uint8Array): boolean {
  if (a.length !== b.length) return false;
  let difference = 0;
  for (let i = 0; i < a.length; i++) difference |= a[i]! ^ b[i]!;
  return difference === 0;
}

function pairKey(first: U64, second: U64): Uint8Array {
  const key = new Uint8Array(16);
  const view = new DataView(key.buffer);
  view.setInt32(0, first.high | 0);
  view.setInt32(4, first.low | 0);
  view.setInt32(8, second.high | 0);
  view.setInt32(12, second.low | 0);
  return key;
}

/**
 * The same key with its data sequence space moved back by `bytes`: data on a Fast Open SYN comes before the first
 * octet of that space (RFC 8684 appendix B.2), yet is part of the application's stream, whose positions we count.
 */
export function shiftedBy(material: KeyMaterial, bytes: number): KeyMaterial {
  const low = (material.idsnLow >>> 0) - bytes;
  return { ...material, idsnHigh: (material.idsnHigh + Math.floor(low / 0x100000000)) | 0, idsnLow: low | 0 };
}
