/** What a data plane is told: services with their servers, compiled from a generation. And what it is asked. */
import type { BucketTable, DecisionCore, ServerSet } from '@subflow/balancer';
import type { Segment } from '@subflow/wire';
import { BeamerCore, DirectAddressCore, StatefulCore, StatelessCore, TokenKeysCore, TokenLearnedCore } from '@subflow/balancer';

export const DESIGN_NAMES = ['stateful', 'modulo', 'crc-ranges', 'maglev', 'rendezvous', 'token-keys', 'token-learned', 'direct-address', 'beamer'] as const;
export type DesignName = (typeof DESIGN_NAMES)[number];

/** Letters of the literature (docs/lb.md). */
export const DESIGN_LETTER: Readonly<Record<DesignName, string>> = {
  stateful: 'a',
  modulo: 'b',
  'crc-ranges': 'b',
  maglev: 'b',
  rendezvous: 'b',
  'token-keys': 'c',
  'token-learned': 'd',
  'direct-address': 'e',
  beamer: 'f',
};

/** `dsr`: servers have the service's address and answer clients directly. `nat`: addresses are rewritten, answers come back here. `encapsulation`: IP in IP, answers go directly. */
export const FORWARDING = ['dsr', 'nat', 'encapsulation'] as const;
export type Forwarding = (typeof FORWARDING)[number];

export const PLANES = ['xdp', 'nftables', 'userspace'] as const;
export type PlaneName = (typeof PLANES)[number];

export interface PlanServer {
  address: Uint8Array;
  /** Port of the service on the server (NAT). */
  port: number;
  /** Port from 1024 on that names this server; null: none. */
  ownPort: number | null;
}

export interface ServicePlan {
  /** 0 to 63, stable: state of a data plane is kept under it. */
  id: number;
  name: string;
  address: Uint8Array;
  port: number;
  design: DesignName;
  forwarding: Forwarding;
  seed: number;
  servers: ServerSet;
  /** By id of the server. */
  details: ReadonlyMap<number, PlanServer>;
  /** Of design f: all balancers have the same. Times are wall clock, microseconds. */
  buckets: BucketTable | null;
}

export interface PlaneCounters {
  service: string;
  /** Packets by what became of them: `forwarded`, or the name of a reason. */
  packets: Record<string, number>;
  /** Packets by server id. */
  servers: Map<number, number>;
}

export interface DataPlane {
  readonly name: PlaneName;
  /** Puts a list of services in the place of the last one, whole or not at all. Throws {@link PlaneError}, {@link LinkError}. */
  apply(services: readonly ServicePlan[]): Promise<void>;
  counters(): PlaneCounters[];
  /** What its tables know of a segment (designs a and d), without changing them; null: nothing. `token` of a join. */
  lookup?(plan: ServicePlan, segment: Segment, token: number | null): { server: number; from: string } | null;
  /** Takes everything back that was changed on the system. `keep`: leave what forwards packets in place, for the next start. */
  close(keep?: boolean): void;
}

/** A plan that cannot be: a stable code, the value, what was expected. */
export class PlaneError extends Error {
  readonly code: 'IMPOSSIBLE_PAIR' | 'NO_PROGRAM' | 'NO_NEIGHBOUR' | 'NO_ROUTE' | 'TOO_MANY';

  constructor(code: PlaneError['code'], message: string, options?: ErrorOptions) {
    super(message, options);
    this.code = code;
  }
}

/** Which data plane can do what, and why not. */
export function obstacle(plane: PlaneName, design: DesignName, forwarding: Forwarding): string | null {
  const letter = DESIGN_LETTER[design];
  if (letter === 'f' && forwarding !== 'encapsulation')
    return 'Beamer tells the server in the tunnel which server had the bucket before: expected forwarding "encapsulation"';
  if (plane === 'xdp' && forwarding === 'nat')
    return 'the xdp data plane forwards with "dsr" or "encapsulation"; expected one of them, or data plane "nftables" or "userspace"';
  if (plane === 'nftables') {
    if (letter === 'd') return 'nftables cannot hash a key to its token; expected data plane "xdp" or "userspace"';
    if (forwarding === 'encapsulation') return 'this kernel has no IP-in-IP that nftables could use; expected data plane "xdp" or "userspace"';
    if (letter === 'a' && forwarding !== 'nat') return 'the table of nftables is conntrack, which translates addresses; expected forwarding "nat"';
    if (letter === 'c' && forwarding !== 'dsr') return 'nftables reads timestamps where packets come in, before translation; expected forwarding "dsr"';
  }
  if (plane === 'userspace' && forwarding === 'dsr')
    return 'the userspace data plane works on a TUN device, which has no link-layer addresses; expected "nat" or "encapsulation"';
  return null;
}

/** The decision core of a service, with its servers. */
export function coreOf(plan: ServicePlan, now: number, previous: DecisionCore | null = null, capacity = 1 << 18): DecisionCore {
  const core = previous ?? makeCore(plan, capacity);
  if (core instanceof BeamerCore && plan.buckets !== null) core.adopt(plan.buckets, plan.servers);
  else core.setServers(plan.servers, now);
  return core;
}

function makeCore(plan: ServicePlan, capacity: number): DecisionCore {
  const { design, seed } = plan;
  switch (design) {
    case 'stateful':
      return new StatefulCore(capacity, seed);
    case 'token-keys':
      return new TokenKeysCore(seed);
    case 'token-learned':
      return new TokenLearnedCore(capacity, seed);
    case 'direct-address':
      return new DirectAddressCore('maglev', seed);
    case 'beamer':
      return new BeamerCore(undefined, seed);
    case 'modulo':
    case 'crc-ranges':
    case 'maglev':
    case 'rendezvous':
      return new StatelessCore(design, seed);
  }
}

/** Table of a stateless choice, as the planes in the kernel want it. */
export function slotsOf(plan: ServicePlan): Uint8Array {
  const { design } = plan;
  const kind = design === 'modulo' || design === 'crc-ranges' || design === 'rendezvous' ? design : 'maglev';
  return new StatelessCore(kind, plan.seed).slots(plan.servers);
}
