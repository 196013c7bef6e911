/**
 * The designs on the same work: connections with several subflows, changes of the servers and of the balancer, and which
 * subflows and connections live on. In one process, without packets on a wire, at any scale; everything follows from the seed.
 */
import { tokenOfKey } from '@subflow/stack';
import { CAPABLE_FLAG, FLAG, Segment, SUBTYPE } from '@subflow/wire';
import { BeamerCore } from './beamer.ts';
import type { DecisionCore } from './core.ts';
import { DirectAddressCore } from './direct-address.ts';
import { ServerSet } from './servers.ts';
import { daisyChain } from './shim.ts';
import { StatefulCore } from './stateful.ts';
import { StatelessCore } from './stateless.ts';
import { idOfToken, TokenKeysCore } from './token-keys.ts';
import { TokenLearnedCore } from './token-learned.ts';

export type DesignId = 'a' | 'b-modulo' | 'b-crc' | 'b-maglev' | 'b-rendezvous' | 'c' | 'd' | 'e' | 'f';

export const DESIGNS: Readonly<Record<DesignId, { name: string; make: (seed: number, capacity: number) => DecisionCore }>> = {
  a: { name: 'stateful table', make: (seed, capacity) => new StatefulCore(capacity, seed) },
  'b-modulo': { name: 'stateless, modulo', make: (seed) => new StatelessCore('modulo', seed) },
  'b-crc': { name: 'stateless, CRC ranges', make: (seed) => new StatelessCore('crc-ranges', seed) },
  'b-maglev': { name: 'stateless, Maglev', make: (seed) => new StatelessCore('maglev', seed) },
  'b-rendezvous': { name: 'stateless, rendezvous', make: (seed) => new StatelessCore('rendezvous', seed) },
  c: { name: 'Olteanu and Raiciu: keys that name the server', make: (seed) => new TokenKeysCore(seed) },
  d: { name: 'Lienardy and Donnet: tokens learnt', make: (seed, capacity) => new TokenLearnedCore(capacity, seed) },
  e: { name: 'Duchene and Bonaventure: direct addresses', make: (seed) => new DirectAddressCore('maglev', seed) },
  f: { name: 'Beamer', make: (seed) => new BeamerCore(4096, seed) },
};

/** What happens once all connections are up. */
export type Change =
  | { kind: 'none' }
  | { kind: 'server-added' }
  | { kind: 'server-drained' }
  | { kind: 'weight-doubled' }
  /** A server added, another drained, within four minutes. */
  | { kind: 'two-changes' }
  /** The balancer is another one, with an empty memory; it has the configuration (and Beamer's buckets). */
  | { kind: 'balancer-replaced' }
  /** One more balancer that has missed the last change. */
  | { kind: 'balancer-stale' };

export interface SimulationOptions {
  design: DesignId;
  connections: number;
  servers: number;
  /** Subflows of each connection, the first one included. */
  subflows: number;
  change: Change;
  seed: number;
}

export interface SimulationResult {
  design: DesignId;
  change: Change['kind'];
  /** Share of joins that reached the server of their connection. */
  joined: number;
  /** Of all subflows that were up: the share that still reaches its server. */
  subflowsAlive: number;
  /** Of all connections: the share with a subflow that still reaches the server. */
  connectionsAlive: number;
  /** Busiest server beside the average, first subflows. */
  imbalance: number;
  entries: number;
  bytes: number;
}

const SECOND = 1e6;
const SERVICE_PORT = 443;
const FIRST_OWN_PORT = 20_000;
const OPTION_AT = 0;

interface Flow {
  address: number;
  port: number;
  destination: number;
  destinationPort: number;
  /** It bypasses the balancer. */
  direct: boolean;
}

/** Runs one design through one change. */
export function simulate(options: SimulationOptions): SimulationResult {
  const draw = generator(options.seed);
  const names = Array.from({ length: options.servers }, (_, i) => ({ id: i + 1, name: `server${i + 1}`, weight: 1, state: 'active' as const }));
  const before = new ServerSet(names);
  const capacity = Math.max(1024, options.connections * options.subflows * 2);
  const design = DESIGNS[options.design];
  let now = 1000 * SECOND;
  let core = design.make(options.seed, capacity);
  configure(core, before, now);
  const scratch = new Scratch();
  const flows: Flow[][] = [];
  const home: number[] = [];
  const perServer = new Map<number, number>();
  let joins = 0;
  let joined = 0;
  for (let i = 0; i < options.connections; i++) {
    const address = draw() | 0;
    const first: Flow = { address, port: 1024 + (draw() % 60_000), destination: 0x0a000001, destinationPort: SERVICE_PORT, direct: false };
    const server = core.decide(scratch.syn(first), now);
    perServer.set(server, (perServer.get(server) ?? 0) + 1);
    const key = keyOf(options.design, server, draw);
    core.decide(scratch.thirdAck(first, server, key), now);
    const up = [first];
    for (let j = 1; j < options.subflows; j++) {
      joins++;
      // The announced address or port of the server: e goes straight there, f by the port's name.
      const direct = options.design === 'e';
      const own = options.design === 'f' ? FIRST_OWN_PORT + server : SERVICE_PORT;
      const flow: Flow = { address: draw() | 0, port: 1024 + (draw() % 60_000), destination: first.destination, destinationPort: own, direct };
      const reached = direct ? server : core.decide(scratch.join(flow, key.token), now);
      if (reached !== server) continue;
      joined++;
      // Its third ACK and all that follows.
      if (!direct) core.decide(scratch.data(flow, server), now);
      up.push(flow);
    }
    flows.push(up);
    home.push(server);
  }
  const busiest = Math.max(...perServer.values());
  const { entries, bytes } = core;
  now += 10 * SECOND;
  ({ core, now } = apply(options, core, before, now, capacity));
  let subflows = 0;
  let subflowsAlive = 0;
  let connectionsAlive = 0;
  flows.forEach((up, i) => {
    let alive = false;
    for (const flow of up) {
      subflows++;
      const reached = flow.direct ? home[i]! : follow(core, scratch.data(flow, home[i]!), home[i]!, now);
      if (reached !== home[i]) continue;
      subflowsAlive++;
      alive = true;
    }
    if (alive) connectionsAlive++;
  });
  return {
    design: options.design,
    change: options.change.kind,
    joined: joins === 0 ? 1 : joined / joins,
    subflowsAlive: subflowsAlive / subflows,
    connectionsAlive: connectionsAlive / options.connections,
    imbalance: busiest / (options.connections / options.servers),
    entries,
    bytes,
  };
}

/** Where a packet ends: at the server that the balancer names, or at the one that it chains on to. */
function follow(core: DecisionCore, segment: Segment, home: number, now: number): number {
  const server = core.decide(segment, now);
  if (!(core instanceof BeamerCore) || server <= 0) return server;
  const next = daisyChain(segment, core.previous, { knows: () => server === home });
  return next === 'here' ? server : next;
}

function configure(core: DecisionCore, servers: ServerSet, now: number): void {
  core.setServers(servers, now);
  if (core instanceof BeamerCore) core.setPorts(new Map(servers.servers.map((one) => [FIRST_OWN_PORT + one.id, one.id])));
}

function apply(options: SimulationOptions, core: DecisionCore, servers: ServerSet, now: number, capacity: number): { core: DecisionCore; now: number } {
  const fresh = { id: options.servers + 1, weight: 1, state: 'active' } as const;
  switch (options.change.kind) {
    case 'none':
      break;
    case 'server-added':
      configure(core, servers.with({ fresh }), now);
      break;
    case 'server-drained':
      configure(core, servers.with({ server1: { state: 'draining' } }), now);
      break;
    case 'weight-doubled':
      configure(core, servers.with({ server1: { weight: 2 } }), now);
      break;
    case 'two-changes': {
      const more = servers.with({ fresh });
      configure(core, more, now);
      now += 120 * SECOND;
      configure(core, more.with({ server1: { state: 'draining' } }), now);
      break;
    }
    case 'balancer-replaced': {
      const other = DESIGNS[options.design].make(options.seed, capacity);
      if (core instanceof BeamerCore && other instanceof BeamerCore) other.adopt(core.table, servers);
      else configure(other, servers, now);
      core = other;
      break;
    }
    case 'balancer-stale': {
      // Packets come to the one that has not heard of the new server; servers and connections are those of before.
      const stale = DESIGNS[options.design].make(options.seed, capacity);
      if (core instanceof BeamerCore && stale instanceof BeamerCore) stale.adopt(core.table, servers);
      else configure(stale, servers, now);
      configure(core, servers.with({ fresh }), now);
      core = stale;
      break;
    }
  }
  return { core, now: now + SECOND };
}

/** Keys as the server draws them: any, or with its name in the token. */
function keyOf(design: DesignId, server: number, draw: () => number): { high: number; low: number; token: number } {
  for (;;) {
    const high = draw() | 0;
    const low = draw() | 0;
    const token = tokenOfKey(high, low);
    if (design !== 'c' || idOfToken(token) === server) return { high, low, token };
  }
}

/** Segments without packets: the fields that cores read, and the one option. */
class Scratch {
  private readonly segment = new Segment();
  private readonly view = new DataView(new ArrayBuffer(64));

  constructor() {
    this.segment.view = this.view;
  }

  syn(flow: Flow): Segment {
    return this.fill(flow, FLAG.syn, 0);
  }

  /** MP_CAPABLE with both keys; the TSecr echoes what the server stamped. */
  thirdAck(flow: Flow, server: number, key: { high: number; low: number }): Segment {
    const { view } = this;
    view.setUint8(OPTION_AT, 30);
    view.setUint8(OPTION_AT + 1, 20);
    view.setUint8(OPTION_AT + 2, (SUBTYPE.capable << 4) | 1);
    view.setUint8(OPTION_AT + 3, CAPABLE_FLAG.sha256);
    view.setInt32(OPTION_AT + 12, key.high);
    view.setInt32(OPTION_AT + 16, key.low);
    return this.fill(flow, FLAG.ack, server, true);
  }

  join(flow: Flow, token: number): Segment {
    const { view } = this;
    view.setUint8(OPTION_AT, 30);
    view.setUint8(OPTION_AT + 1, 12);
    view.setUint8(OPTION_AT + 2, SUBTYPE.join << 4);
    view.setInt32(OPTION_AT + 4, token);
    return this.fill(flow, FLAG.syn, 0, true);
  }

  data(flow: Flow, server: number): Segment {
    return this.fill(flow, FLAG.ack, server);
  }

  private fill(flow: Flow, flags: number, server: number, option = false): Segment {
    const { segment } = this;
    segment.source0 = flow.address;
    segment.sourcePort = flow.port;
    segment.destination0 = flow.destination;
    segment.destinationPort = flow.destinationPort;
    segment.flags = flags;
    segment.hasTimestamps = server > 0;
    segment.tsEcr = 0x01020300 | server;
    segment.otherMptcpCount = option ? 1 : 0;
    segment.otherMptcp[0] = OPTION_AT;
    return segment;
  }
}

/** SplitMix32: enough for addresses and keys of a simulation. */
function generator(seed: number): () => number {
  let state = seed | 0;
  return () => {
    state = (state + 0x9e3779b9) | 0;
    let z = state;
    z = Math.imul(z ^ (z >>> 16), 0x85ebca6b);
    z = Math.imul(z ^ (z >>> 13), 0xc2b2ae35);
    return (z ^ (z >>> 16)) >>> 0;
  };
}
