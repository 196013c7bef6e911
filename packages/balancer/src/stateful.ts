/** (a) Stateful: an entry for each 4-tuple, made at its SYN; what has none goes by hash, as after a balancer was replaced. */
import { FLAG } from '@subflow/wire';
import type { Segment } from '@subflow/wire';
import type { DecisionCore } from './core.ts';
import { ENTRY, FlowTable } from './flow-table.ts';
import type { Lifetimes } from './flow-table.ts';
import { hashFlow } from './hash.ts';
import type { ServerSet } from './servers.ts';
import { StatelessCore } from './stateless.ts';

/** Words of a key: client address, ports, service address folded. */
export const TUPLE_WORDS = 6;

/** The tuple of a segment as a key. */
export function tupleKey(segment: Segment, key: Int32Array): void {
  key[0] = segment.source0;
  key[1] = segment.source1;
  key[2] = segment.source2;
  key[3] = segment.source3;
  key[4] = (segment.sourcePort << 16) | segment.destinationPort;
  key[5] = segment.destination0 ^ segment.destination1 ^ segment.destination2 ^ segment.destination3;
}

export class StatefulCore implements DecisionCore {
  readonly design: string = 'stateful';
  readonly table: FlowTable;
  protected servers: ServerSet | null = null;
  protected readonly fallback: StatelessCore;
  protected readonly key = new Int32Array(TUPLE_WORDS);
  private readonly seed: number;

  constructor(capacity = 1 << 20, seed = 0, lifetimes?: Lifetimes) {
    this.table = new FlowTable(TUPLE_WORDS, capacity, lifetimes);
    this.fallback = new StatelessCore('maglev', seed);
    this.seed = seed;
  }

  get entries(): number {
    return this.table.used;
  }

  get bytes(): number {
    return this.table.bytes + this.fallback.bytes;
  }

  decide(segment: Segment, now: number): number {
    const seconds = Math.floor(now / 1e6);
    const hash = hashFlow(segment, this.seed);
    tupleKey(segment, this.key);
    const { flags } = segment;
    const opening = (flags & (FLAG.syn | FLAG.ack)) === FLAG.syn;
    const place = this.table.find(this.key, hash, seconds);
    if (place >= 0) {
      const server = this.table.server(place);
      // A server that is gone answers nothing: whoever is there now refuses the connection at once.
      if (this.servers?.alive(server) === true) {
        this.table.touch(place, stateAfter(this.table.state(place), flags, opening), seconds);
        return server;
      }
      this.table.remove(place);
    }
    const server = this.choose(segment, now, opening);
    if (server > 0 && (flags & FLAG.rst) === 0) this.table.put(this.key, hash, server, opening ? ENTRY.halfOpen : ENTRY.established, seconds);
    return server;
  }

  related(segment: Segment, now: number): number {
    tupleKey(segment, this.key);
    const place = this.table.find(this.key, hashFlow(segment, this.seed), Math.floor(now / 1e6));
    return place >= 0 ? this.table.server(place) : this.fallback.related(segment);
  }

  /** What the table knows of a tuple, or of a join's token; null: nothing. Changes nothing. */
  known(segment: Segment, _token: number | null, now: number): number | null {
    tupleKey(segment, this.key);
    const place = this.table.find(this.key, hashFlow(segment, this.seed), Math.floor(now / 1e6));
    return place >= 0 ? this.table.server(place) : null;
  }

  setServers(servers: ServerSet, _now: number): void {
    this.servers = servers;
    this.fallback.setServers(servers);
  }

  /** Server for a tuple without an entry. */
  protected choose(segment: Segment, _now: number, _opening: boolean): number {
    return this.fallback.decide(segment);
  }
}

function stateAfter(state: number, flags: number, opening: boolean): number {
  if ((flags & (FLAG.rst | FLAG.fin)) !== 0) return ENTRY.closing;
  if (opening) return state === ENTRY.closing ? ENTRY.halfOpen : state;
  return state === ENTRY.closing ? ENTRY.closing : ENTRY.established;
}
