/**
 * Keyed functions of a host's secret: one key for each purpose, so that what one of them gives away (a sequence number,
 * a cookie, a port) says nothing about another, whatever fields a peer chooses (RFC 6528 §3, RFC 6056 §3.3, RFC 4987 §3.6).
 */
import { sha256 } from '@noble/hashes/sha2.js';
import type { Ends } from '../ends.ts';

/** What a keyed function is for. */
export type Purpose = 'isn' | 'timestamp' | 'port' | 'fast-open' | 'syn-cookie' | 'mptcp-key' | 'challenge';

const PURPOSES: readonly Purpose[] = ['isn', 'timestamp', 'port', 'fast-open', 'syn-cookie', 'mptcp-key', 'challenge'];
const KEY_LENGTH = 32;

/** The keyed functions of one host. */
export class HostSecret {
  private readonly keys = new Map<Purpose, Uint8Array>();

  /** `secret`: 32 bytes of entropy. */
  constructor(secret: Uint8Array) {
    for (const purpose of PURPOSES) {
      const label = Uint8Array.from(purpose, (letter) => letter.charCodeAt(0));
      const message = new Uint8Array(secret.length + label.length);
      message.set(secret, 0);
      message.set(label, secret.length);
      this.keys.set(purpose, sha256(message));
    }
  }

  /**
   * Two words (signed int32) of SHA-256 over the purpose's key, both ends and the fields, each in a place of its own. The
   * input has one length for each purpose and family, and little of the output is shown: a prefix key is enough.
   */
  words(purpose: Purpose, ends: Ends, fields: readonly number[] = []): [number, number] {
    const size = ends.local.length;
    const message = new Uint8Array(KEY_LENGTH + 2 * size + 4 + 4 * fields.length);
    message.set(this.keys.get(purpose)!, 0);
    message.set(ends.local, KEY_LENGTH);
    message.set(ends.remote, KEY_LENGTH + size);
    const view = new DataView(message.buffer);
    let at = KEY_LENGTH + 2 * size;
    view.setUint16(at, ends.localPort);
    view.setUint16(at + 2, ends.remotePort);
    for (const field of fields) view.setInt32((at += 4), field | 0);
    const digest = sha256(message);
    const out = new DataView(digest.buffer, digest.byteOffset);
    return [out.getInt32(0), out.getInt32(4)];
  }

  /** The first word of {@link words}. */
  word(purpose: Purpose, ends: Ends, fields: readonly number[] = []): number {
    return this.words(purpose, ends, fields)[0];
  }
}
