/**
 * (f) Beamer (Olteanu et al., NSDI 2018): a stable hash over buckets. Each bucket knows its server, the one before, and when it
 * changed hands: a packet that the new server does not know goes on to the old one (daisy chaining), for four minutes.
 * Ports from 1024 on are names of servers: a join to an announced port finds its server whatever happened to the buckets.
 */
import type { Segment } from '@subflow/wire';
import { DROP } from './core.ts';
import type { DecisionCore } from './core.ts';
import { hashSource } from './hash.ts';
import { BalancerError } from './servers.ts';
import type { ServerSet } from './servers.ts';

/** How long packets go on to the previous server, microseconds. */
export const CHAIN_TIME = 240_000_000;
/** Services are below this port, servers' own ports from it on. */
export const FIRST_SERVER_PORT = 1024;
const DEFAULT_BUCKETS = 4096;

/** Buckets as they are handed to other balancers: 12 octets each. */
export interface BucketTable {
  generation: number;
  current: Uint8Array;
  previous: Uint8Array;
  /** Microseconds on the clock that all balancers share. */
  changedAt: Float64Array;
  /** Port to server id, 65,536 entries. */
  ports: Uint8Array;
}

export class BeamerCore implements DecisionCore {
  readonly design = 'Beamer';
  readonly entries = 0;
  /** Of the last decision: where to go on when the server does not know the connection; 0: nowhere. */
  previous = 0;
  table: BucketTable;
  private readonly seed: number;
  private servers: ServerSet | null = null;

  /** Throws {@link BalancerError} `BAD_SIZE`. */
  constructor(buckets = DEFAULT_BUCKETS, seed = 0) {
    if (!(Number.isInteger(buckets) && buckets >= 1 && buckets <= 1 << 20)) throw new BalancerError('BAD_SIZE', `${buckets} buckets; expected 1 to ${1 << 20}`);
    this.table = {
      generation: 0,
      current: new Uint8Array(buckets),
      previous: new Uint8Array(buckets),
      changedAt: new Float64Array(buckets),
      ports: new Uint8Array(65_536),
    };
    this.seed = seed;
  }

  get bytes(): number {
    const { current, ports } = this.table;
    return current.length * 10 + ports.length;
  }

  decide(segment: Segment, now: number): number {
    const { table } = this;
    if (segment.destinationPort >= FIRST_SERVER_PORT) {
      this.previous = 0;
      const id = table.ports[segment.destinationPort]!;
      if (id === 0) return DROP.unknownPort;
      return this.servers?.alive(id) === true ? id : DROP.noServer;
    }
    const bucket = hashSource(segment, this.seed) % table.current.length;
    const id = table.current[bucket]!;
    const before = table.previous[bucket]!;
    this.previous = before !== 0 && before !== id && now - table.changedAt[bucket]! < CHAIN_TIME ? before : 0;
    return id === 0 ? DROP.noServer : id;
  }

  related(segment: Segment, now: number): number {
    return this.decide(segment, now);
  }

  /** Ports that servers announce as their own. */
  setPorts(ports: ReadonlyMap<number, number>): void {
    for (const [port, id] of ports) {
      if (port < FIRST_SERVER_PORT || port > 65_535)
        throw new BalancerError('BAD_SERVER', `port ${port} for server ${id}; expected ${FIRST_SERVER_PORT} to 65535`);
      this.table.ports[port] = id;
    }
  }

  /**
   * Hands buckets over so that every server has its share by weight, moving as few as possible, those first that have been
   * where they are for longest: a bucket that moves twice within four minutes forgets its first server.
   */
  setServers(servers: ServerSet, now: number): void {
    this.servers = servers;
    const { current, previous, changedAt } = this.table;
    const takers = servers.takers;
    const total = takers.reduce((sum, one) => sum + one.weight, 0);
    const share = new Map<number, number>();
    let given = 0;
    takers.forEach((one, i) => {
      const wanted = i === takers.length - 1 ? current.length - given : Math.round((one.weight / total) * current.length);
      share.set(one.id, wanted);
      given += wanted;
    });
    const count = new Map<number, number>();
    for (const id of current) count.set(id, (count.get(id) ?? 0) + 1);
    const surplus = (id: number): number => (count.get(id) ?? 0) - (share.get(id) ?? 0);
    const order = Array.from(current.keys()).sort((a, b) => changedAt[a]! - changedAt[b]! || a - b);
    const receivers = takers.map((one) => one.id).filter((id) => surplus(id) < 0);
    for (const bucket of order) {
      if (receivers.length === 0) break;
      const from = current[bucket]!;
      if (from !== 0 && surplus(from) <= 0) continue;
      const to = receivers[0]!;
      // A server that is down has nothing to chain to.
      previous[bucket] = from !== 0 && servers.alive(from) ? from : 0;
      current[bucket] = to;
      changedAt[bucket] = now;
      count.set(from, (count.get(from) ?? 0) - 1);
      count.set(to, (count.get(to) ?? 0) + 1);
      if (surplus(to) >= 0) receivers.shift();
    }
    if (takers.length === 0) current.fill(0);
    this.table.generation = servers.generation;
  }

  /** Takes the table of another balancer, as it is: a fresh one, or one that has missed a generation. */
  adopt(table: BucketTable, servers: ServerSet): void {
    this.servers = servers;
    this.table = {
      generation: table.generation,
      current: table.current.slice(),
      previous: table.previous.slice(),
      changedAt: table.changedAt.slice(),
      ports: table.ports.slice(),
    };
  }
}
