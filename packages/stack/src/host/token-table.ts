/** Keys and tokens of a host (RFC 8684 §3.1): each token names one connection. */
import type { Connection } from '../mptcp/connection.ts';
import { keyMaterial } from '../mptcp/keys.ts';
import type { KeyMaterial } from '../mptcp/keys.ts';
import { tokenOfKey } from '../mptcp/token-hash.ts';
import type { MptcpVersion } from '../mptcp/version.ts';

const KEY_TRIES = 16;
/** One in 256 fits: that none of so many does happens once in 10^13 keys, and costs one connection its joins. */
const MOST_DRAWS = 8192;

export class TokenTable {
  private readonly tokens = new Map<number, Connection>();
  /** Keys drawn in advance whose tokens name this server. */
  private readonly pool: [number, number][] = [];
  private readonly random32: () => number;
  private readonly serverId: number;
  private readonly limit: number;

  /** `serverId`: first octet of every token, 0 for any. `limit`: tokens at most. */
  constructor(random32: () => number, serverId: number, limit: number) {
    this.random32 = random32;
    this.serverId = serverId;
    this.limit = limit;
  }

  get size(): number {
    return this.tokens.size;
  }

  find(token: number): Connection | undefined {
    return this.tokens.get(token);
  }

  /** A key whose token no other connection uses; null when several tries found none. */
  fresh(connection: Connection): KeyMaterial | null {
    for (let i = 0; i < KEY_TRIES; i++) {
      const [high, low] = this.serverId === 0 ? [this.random32(), this.random32()] : this.namingKey(connection.version);
      const key = this.claim(connection, high, low);
      if (key !== null) return key;
    }
    return null;
  }

  /** The material of a given key, if its token is free. */
  claim(connection: Connection, high: number, low: number): KeyMaterial | null {
    const key = keyMaterial(high, low, connection.version);
    if (this.tokens.has(key.token) || this.tokens.size >= this.limit) return null;
    this.tokens.set(key.token, connection);
    return key;
  }

  forget(connection: Connection): void {
    if (connection.local !== null && this.tokens.get(connection.local.token) === connection) this.tokens.delete(connection.local.token);
  }

  /** See {@link Host.fillKeyPool}. */
  fill(count: number, tries: number): boolean {
    if (this.serverId === 0) return true;
    for (let i = 0; i < tries && this.pool.length < count; i++) {
      const key: [number, number] = [this.random32(), this.random32()];
      if (tokenOfKey(key[0], key[1]) >>> 24 === this.serverId) this.pool.push(key);
    }
    return this.pool.length >= count;
  }

  /** A key whose token begins with the name of this server: from the pool, or drawn now. */
  private namingKey(version: MptcpVersion): [number, number] {
    const pooled = version.number === 1 ? this.pool.pop() : undefined;
    if (pooled !== undefined) return pooled;
    for (let i = 0; ; i++) {
      const high = this.random32();
      const low = this.random32();
      const token = version.number === 1 ? tokenOfKey(high, low) : keyMaterial(high, low, version).token;
      if (token >>> 24 === this.serverId || i >= MOST_DRAWS) return [high, low];
    }
  }
}
