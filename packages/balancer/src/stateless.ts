/** (b) Stateless: a hash of the 4-tuple and a table. Subflows of one connection go wherever their own tuple leads. */
import type { Segment } from '@subflow/wire';
import { DROP } from './core.ts';
import type { DecisionCore } from './core.ts';
import { hashFlow } from './hash.ts';
import { TABLES } from './lookup-tables.ts';
import type { TableKind } from './lookup-tables.ts';
import type { ServerSet } from './servers.ts';

export class StatelessCore implements DecisionCore {
  readonly design: string;
  readonly entries = 0;
  private readonly kind: TableKind;
  private readonly seed: number;
  private table: Uint8Array = new Uint8Array(1);

  constructor(kind: TableKind, seed = 0) {
    this.kind = kind;
    this.design = `stateless, ${kind}`;
    this.seed = seed;
  }

  get bytes(): number {
    return this.table.length;
  }

  decide(segment: Segment): number {
    const server = this.table[hashFlow(segment, this.seed) % this.table.length]!;
    return server === 0 ? DROP.noServer : server;
  }

  related(segment: Segment): number {
    return this.decide(segment);
  }

  setServers(servers: ServerSet): void {
    this.table = this.slots(servers);
  }

  /** The table of a list of servers, for data planes that look it up themselves: an id for each remainder of a hash. */
  slots(servers: ServerSet, size = TABLES[this.kind].size): Uint8Array {
    return TABLES[this.kind].build(servers, size);
  }
}
