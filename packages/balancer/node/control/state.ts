/** What all balancers agree on: one generation of servers, and how it becomes the next. Pure but for its encoding. */
import { createHash } from 'node:crypto';
import { BeamerCore, ServerSet } from '@subflow/balancer';
import type { BucketTable, Server } from '@subflow/balancer';
import { formatAddress, parseAddress } from '@subflow/wire';
import { seedOf } from '../config.ts';
import type { LbConfig, ServiceConfig } from '../config.ts';
import { DESIGN_LETTER } from '../plan.ts';
import type { PlanServer, ServicePlan } from '../plan.ts';

/** `active`: gets its share; `draining`: keeps what it has. What health checks say is apart from what people want. */
export interface ServerState {
  name: string;
  id: number;
  address: string;
  port: number;
  ownPort: number | null;
  weight: number;
  wanted: 'active' | 'draining';
  healthy: boolean;
}

export interface ServiceState {
  name: string;
  servers: ServerState[];
  /** Of design f: base64 of current, previous, and times of change (64-bit floats, microseconds of wall clock). */
  buckets: { current: string; previous: string; changedAt: string } | null;
}

export interface State {
  generation: number;
  /** Of the configuration that it began with: a file that was changed is taken up anew. */
  digest: string;
  services: ServiceState[];
}

export type StateChange =
  | {
      do: 'add';
      service: string;
      server: { name: string; id?: number | undefined; address: string; port?: number | undefined; ownPort?: number | undefined; weight?: number | undefined };
    }
  | { do: 'drain'; service: string; server: string }
  | { do: 'undrain'; service: string; server: string }
  | { do: 'remove'; service: string; server: string }
  | { do: 'weight'; service: string; server: string; weight: number }
  | { do: 'health'; service: string; server: string; healthy: boolean };

/** A change that cannot be: a stable code, the value, what was expected. */
export class ChangeError extends Error {
  readonly code: 'UNKNOWN_SERVICE' | 'UNKNOWN_SERVER' | 'BAD_CHANGE';

  constructor(code: ChangeError['code'], message: string) {
    super(message);
    this.code = code;
  }
}

export function digestOf(config: LbConfig): string {
  const services = config.services.map((one) => ({
    ...one,
    address: formatAddress(one.address),
    servers: one.servers.map((each) => ({ ...each, address: formatAddress(each.address) })),
  }));
  return createHash('sha256').update(JSON.stringify(services)).digest('hex').slice(0, 16);
}

/** The first generation of a configuration, or the next one when the file has changed: what is known of health and buckets stays. */
export function stateOf(config: LbConfig, before: State | null, now: number): State {
  const services = config.services.map((service): ServiceState => {
    const old = before?.services.find((one) => one.name === service.name) ?? null;
    const servers = service.servers.map((each): ServerState => {
      const known = old?.servers.find((one) => one.name === each.name && one.address === formatAddress(each.address));
      return {
        name: each.name,
        id: each.id,
        address: formatAddress(each.address),
        port: each.port ?? service.port,
        ownPort: each.ownPort ?? null,
        weight: each.weight,
        wanted: 'active',
        healthy: known?.healthy ?? true,
      };
    });
    return { name: service.name, servers, buckets: old?.buckets ?? null };
  });
  const next: State = { generation: (before?.generation ?? 0) + 1, digest: digestOf(config), services };
  for (const service of config.services) moveBuckets(service, next, now);
  return next;
}

/** The generation after a change; the same object when nothing changes. Throws {@link ChangeError}, {@link BalancerError}. */
export function changed(config: LbConfig, state: State, change: StateChange, now: number): State {
  const at = state.services.findIndex((one) => one.name === change.service);
  const service = config.services.find((one) => one.name === change.service);
  if (at < 0 || service === undefined)
    throw new ChangeError('UNKNOWN_SERVICE', `no service "${change.service}"; expected ${state.services.map((one) => one.name).join(', ')}`);
  const before = state.services[at]!;
  const named = (name: string): number => {
    const i = before.servers.findIndex((one) => one.name === name);
    if (i < 0)
      throw new ChangeError(
        'UNKNOWN_SERVER',
        `service "${before.name}" has no server "${name}"; expected ${before.servers.map((one) => one.name).join(', ') || 'none: it has no servers'}`,
      );
    return i;
  };
  let servers = before.servers;
  const set = (i: number, fields: Partial<ServerState>): void => {
    servers = servers.map((one, k) => (k === i ? { ...one, ...fields } : one));
  };
  switch (change.do) {
    case 'add':
      servers = [...servers, added(service, before, change.server)];
      break;
    case 'remove': {
      const i = named(change.server);
      servers = servers.filter((_, k) => k !== i);
      break;
    }
    case 'drain':
    case 'undrain': {
      const i = named(change.server);
      const wanted = change.do === 'drain' ? 'draining' : 'active';
      if (servers[i]!.wanted === wanted) return state;
      set(i, { wanted });
      break;
    }
    case 'weight': {
      const i = named(change.server);
      if (!(change.weight >= 0 && change.weight <= 65_535)) throw new ChangeError('BAD_CHANGE', `weight ${change.weight}; expected 0 to 65535`);
      if (servers[i]!.weight === change.weight) return state;
      set(i, { weight: change.weight });
      break;
    }
    case 'health': {
      const i = named(change.server);
      if (servers[i]!.healthy === change.healthy) return state;
      set(i, { healthy: change.healthy });
      break;
    }
  }
  const next: State = { ...state, generation: state.generation + 1, services: state.services.map((one, k) => (k === at ? { ...one, servers } : one)) };
  // Says what is wrong with ids, names and weights before anything is written.
  serverSet(next.services[at]!, next.generation);
  moveBuckets(service, next, now);
  return next;
}

function added(service: ServiceConfig, before: ServiceState, server: Extract<StateChange, { do: 'add' }>['server']): ServerState {
  if (before.servers.some((one) => one.name === server.name))
    throw new ChangeError('BAD_CHANGE', `service "${before.name}" has a server "${server.name}" already`);
  let address: string;
  try {
    address = formatAddress(parseAddress(server.address));
  } catch {
    throw new ChangeError('BAD_CHANGE', `"${server.address}" is no address; expected IPv4 or IPv6`);
  }
  let id = server.id ?? 1;
  if (server.id === undefined) while (before.servers.some((one) => one.id === id)) id++;
  const ownPort = server.ownPort ?? null;
  if (ownPort !== null && (ownPort < 1024 || ownPort > 65_535 || before.servers.some((one) => one.ownPort === ownPort)))
    throw new ChangeError('BAD_CHANGE', `own port ${ownPort}; expected a free one from 1024 to 65535`);
  return { name: server.name, id, address, port: server.port ?? service.port, ownPort, weight: server.weight ?? 1, wanted: 'active', healthy: true };
}

/** Servers as designs see them. When nobody is healthy, checks are not believed: better a try than a certain refusal. */
export function serverSet(service: ServiceState, generation: number): ServerSet {
  const nobody = service.servers.every((one) => !one.healthy);
  return new ServerSet(
    service.servers.map((one): Server => ({ id: one.id, name: one.name, weight: one.weight, state: one.healthy || nobody ? one.wanted : 'down' })),
    generation,
  );
}

/** Plans for a data plane. */
export function plansOf(config: LbConfig, state: State): ServicePlan[] {
  return config.services.flatMap((service, id) => {
    const found = state.services.find((one) => one.name === service.name);
    if (found === undefined) return [];
    const details = new Map<number, PlanServer>(
      found.servers.map((one) => [one.id, { address: parseAddress(one.address), port: one.port, ownPort: one.ownPort }]),
    );
    const { name, address, port, design, forwarding } = service;
    return [
      {
        id,
        name,
        address,
        port,
        design,
        forwarding,
        seed: seedOf(service),
        servers: serverSet(found, state.generation),
        details,
        buckets: readBuckets(found, state.generation),
      },
    ];
  });
}

/** Hands buckets of design f over to the servers that there are now. */
function moveBuckets(service: ServiceConfig, state: State, now: number): void {
  if (DESIGN_LETTER[service.design] !== 'f') return;
  const found = state.services.find((one) => one.name === service.name)!;
  const core = new BeamerCore(undefined, seedOf(service));
  const servers = serverSet(found, state.generation);
  const before = readBuckets(found, state.generation);
  if (before !== null) core.adopt(before, servers);
  core.setServers(servers, now);
  const { current, previous, changedAt } = core.table;
  const bytes = (array: Uint8Array | Float64Array): string => Buffer.from(array.buffer, array.byteOffset, array.byteLength).toString('base64');
  found.buckets = { current: bytes(current), previous: bytes(previous), changedAt: bytes(changedAt) };
}

function readBuckets(service: ServiceState, generation: number): BucketTable | null {
  if (service.buckets === null) return null;
  const ports = new Uint8Array(65_536);
  for (const one of service.servers) if (one.ownPort !== null) ports[one.ownPort] = one.id;
  const bytes = (text: string): Uint8Array => new Uint8Array(Buffer.from(text, 'base64'));
  return {
    generation,
    current: bytes(service.buckets.current),
    previous: bytes(service.buckets.previous),
    changedAt: new Float64Array(bytes(service.buckets.changedAt).buffer),
    ports,
  };
}

export function encodeState(state: State): Uint8Array {
  return new TextEncoder().encode(JSON.stringify(state));
}

export function decodeState(bytes: Uint8Array): State {
  return JSON.parse(new TextDecoder().decode(bytes)) as State;
}
