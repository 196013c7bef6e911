/**
 * (d) Lienardy and Donnet: the third ACK (or the first data, when that was lost) shows the server's key, and so its token.
 * A join looks its token up and gets an entry of its own.
 */
import { findMptcp, FLAG, SUBTYPE } from '@subflow/wire';
import type { Segment } from '@subflow/wire';
import { keyMaterial, tokenOfKey, VERSION_0 } from '@subflow/stack';
import { DROP, joinToken } from './core.ts';
import { ENTRY, FlowTable } from './flow-table.ts';
import type { Lifetimes } from './flow-table.ts';
import { hashPair } from './hash.ts';
import { StatefulCore } from './stateful.ts';

/** Value of a token that two servers have given out. */
const AMBIGUOUS = 0x8000;

export class TokenLearnedCore extends StatefulCore {
  override readonly design: string = 'tokens learnt';
  readonly tokens: FlowTable;
  /** Tokens that two servers have given out. */
  collisions = 0;
  private readonly token = new Int32Array(1);

  constructor(capacity = 1 << 20, seed = 0, lifetimes?: Lifetimes) {
    super(capacity, seed, lifetimes);
    this.tokens = new FlowTable(1, capacity, lifetimes);
  }

  override get entries(): number {
    return super.entries + this.tokens.used;
  }

  override get bytes(): number {
    return super.bytes + this.tokens.bytes;
  }

  override decide(segment: Segment, now: number): number {
    const server = super.decide(segment, now);
    if (server > 0 && (segment.flags & (FLAG.syn | FLAG.ack)) === FLAG.ack) this.learn(segment, server, now);
    return server;
  }

  override known(segment: Segment, token: number | null, now: number): number | null {
    const server = super.known(segment, token, now);
    if (server !== null || token === null) return server;
    const learnt = this.serverOf(token, now);
    return learnt > 0 ? learnt : null;
  }

  protected override choose(segment: Segment, now: number, opening: boolean): number {
    if (opening) {
      const token = joinToken(segment);
      if (token >= 0) return this.serverOf(token, now);
    }
    return super.choose(segment, now, opening);
  }

  /** MP_CAPABLE with both keys: the receiver's is the server's (RFC 8684 §3.1; version 0 has it at the same place). */
  private learn(segment: Segment, server: number, now: number): void {
    const at = findMptcp(segment, SUBTYPE.capable);
    if (at < 0 || segment.view.getUint8(at + 1) < 20) return;
    const version = segment.view.getUint8(at + 2) & 15;
    if (version > 1) return;
    const high = segment.view.getInt32(at + 12);
    const low = segment.view.getInt32(at + 16);
    const token = version === 1 ? tokenOfKey(high, low) : keyMaterial(high, low, VERSION_0).token;
    this.token[0] = token;
    const hash = hashPair(token, 0);
    const seconds = Math.floor(now / 1e6);
    const place = this.tokens.find(this.token, hash, seconds);
    const known = place < 0 ? 0 : this.tokens.server(place);
    if (known !== 0 && known !== server && known !== AMBIGUOUS) this.collisions++;
    this.tokens.put(this.token, hash, known === 0 || known === server ? server : AMBIGUOUS, ENTRY.established, seconds);
  }

  private serverOf(token: number, now: number): number {
    this.token[0] = token | 0;
    const place = this.tokens.find(this.token, hashPair(token | 0, 0), Math.floor(now / 1e6));
    if (place < 0) return DROP.unknownToken;
    const server = this.tokens.server(place);
    if (server === AMBIGUOUS) return DROP.ambiguousToken;
    return this.servers?.alive(server) === true ? server : DROP.noServer;
  }
}
