/**
 * The emulated data plane: clients, balancers and servers of our own stack in virtual time, everything from one seed. All designs
 * run here, with packets, both versions and both families; no privileges, no clock.
 */
import { Agenda, EmulatedHost, Random } from '@subflow/emulator';
import { Host } from '@subflow/stack';
import type { Connection, Interface, MptcpConfig, VersionNumber } from '@subflow/stack';
import { formatAddress, ipDestination, ipSource, packetPorts, parseAddress } from '@subflow/wire';
import { BeamerCore } from './beamer.ts';
import type { DecisionCore } from './core.ts';
import { ServerSet } from './servers.ts';
import { ServerShim } from './server-shim.ts';
import { SoftwareBalancer } from './software.ts';

export interface EmulatedFarmOptions {
  seed: number;
  /** Makes the core of a balancer: each has its own. */
  design: (seed: number) => DecisionCore;
  forwarding: 'dsr' | 'nat' | 'encapsulation';
  /** What servers announce, with flag C: nothing, their address, or the service's with a port of their own. */
  announce: 'nothing' | 'own-address' | 'own-port';
  /** Servers draw keys that name them and stamp their timestamps (design c). */
  nameServers?: boolean;
  servers: number;
  /** Servers that take part from the beginning; the others may be added. Default: all. */
  active?: number;
  balancers?: number;
  family?: 4 | 6;
  version?: VersionNumber;
  /** Of every hop, microseconds. */
  delay?: number;
  /** Of the way to the servers, octets. */
  mtu?: number;
  /** Servers answer every SYN with a cookie, as under a flood. */
  synCookies?: boolean;
  /** Sees every packet that arrives anywhere, with the name of the place. */
  tap?: (packet: Uint8Array, place: string, now: number) => void;
  /** Loses a packet on its way to a place. */
  lose?: (packet: Uint8Array, place: string) => boolean;
}

const PORT = 443;
export const FIRST_OWN_PORT = 20_001;
const SECOND = 1e6;

interface EmulatedServer {
  id: number;
  address: Uint8Array;
  node: EmulatedHost;
  through: Interface;
  shim: ServerShim;
  up: boolean;
  /** Connections accepted. */
  accepted: Connection[];
}

export class EmulatedFarm {
  readonly agenda = new Agenda(1000 * SECOND);
  readonly servers: EmulatedServer[] = [];
  readonly client: EmulatedHost;
  readonly service: Uint8Array;
  readonly connections: Connection[] = [];
  balancers: { software: SoftwareBalancer; core: DecisionCore; address: Uint8Array; up: boolean }[] = [];
  set: ServerSet;
  private readonly clientInterfaces: Interface[] = [];
  private readonly random: Random;
  private readonly options: EmulatedFarmOptions;
  private readonly delay: number;

  constructor(options: EmulatedFarmOptions) {
    this.options = options;
    this.random = new Random(options.seed);
    this.delay = options.delay ?? 1000;
    const v4 = options.family !== 6;
    const address = (four: string, six: string): Uint8Array => parseAddress(v4 ? four : six);
    this.service = address('203.0.113.10', '2001:db8:ff::10');
    const versions = [options.version ?? 1];
    this.client = this.host('client', { versions });
    for (let path = 0; path < 2; path++) {
      const own = address(`192.0.2.${4 * path + 1}`, `2001:db8:2:${path}::1`);
      const through = this.client.host.addInterface({ name: `path${path}`, mtu: 1500, addresses: [{ address: own, bits: v4 ? 30 : 64 }] });
      this.client.host.addRoute(address('0.0.0.0', '::'), 0, through);
      this.client.host.addEndpoint({ address: own, subflow: true });
      this.client.attach(through, (packet) => this.carry(packet));
      this.clientInterfaces.push(through);
    }
    const active = options.active ?? options.servers;
    this.set = new ServerSet(Array.from({ length: active }, (_, i) => ({ id: i + 1, name: `s${i + 1}`, weight: 1, state: 'active' as const })));
    for (let i = 0; i < options.servers; i++) this.addServer(i + 1, address(`198.51.100.${101 + i}`, `2001:db8:1::${101 + i}`));
    for (let i = 0; i < (options.balancers ?? 1); i++) this.balancers.push(this.makeBalancer(address(`198.51.100.${10 + i}`, `2001:db8:1::${10 + i}`)));
  }

  /** Opens a connection to the service. */
  connect(): Connection {
    const connection = this.client.host.connect({ remote: this.service, port: PORT, local: this.clientInterfaces[0]!.addresses[0]!.address }, this.agenda.now);
    this.connections.push(connection);
    this.client.pump();
    return connection;
  }

  /** Lets time go by. */
  run(microseconds: number): void {
    this.agenda.runUntil(this.agenda.now + microseconds);
  }

  /** A new list of servers; `stale` balancers do not hear of it. Buckets go from the first to all others. */
  change(set: ServerSet, stale: readonly number[] = []): void {
    this.set = set;
    const leader = this.balancers.findIndex((_, i) => !stale.includes(i));
    this.balancers.forEach((one, i) => {
      if (stale.includes(i)) return;
      const first = this.balancers[leader]!.core;
      if (i !== leader && one.core instanceof BeamerCore && first instanceof BeamerCore) one.core.adopt(first.table, set);
      else this.configure(one.core);
      this.publish(one);
    });
  }

  /** Another balancer in the place of one: with an empty memory, and what all balancers agree on. */
  replaceBalancer(i: number): void {
    const before = this.balancers[i]!;
    const next = this.makeBalancer(before.address);
    if (next.core instanceof BeamerCore && before.core instanceof BeamerCore) next.core.adopt(before.core.table, this.set);
    this.publish(next);
    this.balancers[i] = next;
  }

  /** Id of the server that a connection of the client ended at; 0: none. */
  homeOf(connection: Connection): number {
    const remote = connection.remote;
    if (remote === null) return 0;
    for (const one of this.servers) if (one.accepted.some((other) => other.local?.high === remote.high && other.local.low === remote.low)) return one.id;
    return 0;
  }

  /** How things stand at the client. Hosts ask after idle subflows every second: what leads to the wrong server is gone soon. */
  facts(): { alive: number; joined: number; subflows: number; servers: Map<number, number> } {
    const servers = new Map<number, number>();
    let alive = 0;
    let joined = 0;
    let subflows = 0;
    for (const connection of this.connections) {
      const up = connection.open ? connection.subflows.filter((one) => one.established).length : 0;
      if (up === 0) continue;
      alive++;
      subflows += up;
      if (up > 1) joined++;
      const home = this.homeOf(connection);
      servers.set(home, (servers.get(home) ?? 0) + 1);
    }
    return { alive, joined, subflows, servers };
  }

  private host(name: string, mptcp: Partial<MptcpConfig>): EmulatedHost {
    const random = this.random.fork(name);
    return new EmulatedHost(
      name,
      new Host({ entropy: () => random.uint32(), mptcp, tcp: { keepaliveIdle: SECOND, keepaliveInterval: SECOND, keepaliveProbes: 3 } }),
      this.agenda,
    );
  }

  private addServer(id: number, address: Uint8Array): void {
    const { options } = this;
    const v4 = address.length === 4;
    const node = this.host(`server${id}`, {
      acceptVersions: [options.version ?? 1],
      denyJoinInitial: options.announce !== 'nothing',
      synCookies: options.synCookies === true ? 'always' : 'when-full',
      serverId: options.nameServers === true ? id : 0,
    });
    const through = node.host.addInterface({
      name: 'eth0',
      mtu: 1500,
      addresses: [
        { address: this.service, bits: v4 ? 32 : 128 },
        { address, bits: v4 ? 24 : 64 },
      ],
    });
    node.host.addRoute(parseAddress(v4 ? '0.0.0.0' : '::'), 0, through);
    if (options.announce === 'own-address') node.host.addEndpoint({ address, signal: true });
    if (options.announce === 'own-port') node.host.addEndpoint({ address: this.service, signal: true, port: FIRST_OWN_PORT + id - 1 });
    node.host.listen({ port: PORT });
    const server: EmulatedServer = {
      id,
      address,
      node,
      through,
      shim: new ServerShim(
        node.host,
        Array.from({ length: options.balancers ?? 1 }, (_, i) => parseAddress(v4 ? `198.51.100.${10 + i}` : `2001:db8:1::${10 + i}`)),
      ),
      up: true,
      accepted: [],
    };
    node.onEvent = (event) => {
      if (event.type !== 'connection-accepted') return;
      const connection = node.host.connections.get(event.connection);
      if (connection !== undefined) server.accepted.push(connection);
    };
    node.attach(through, (packet) => this.carry(packet));
    this.servers.push(server);
  }

  private makeBalancer(address: Uint8Array): EmulatedFarm['balancers'][number] {
    const core = this.options.design(this.options.seed);
    const made = { software: new SoftwareBalancer([address], this.options.mtu ?? 1500), core, address, up: true };
    this.configure(core);
    this.publish(made);
    return made;
  }

  private configure(core: DecisionCore): void {
    core.setServers(this.set, this.agenda.now);
    if (core instanceof BeamerCore) core.setPorts(new Map(this.set.servers.map((one) => [FIRST_OWN_PORT + one.id - 1, one.id])));
  }

  private publish(balancer: EmulatedFarm['balancers'][number]): void {
    const { options } = this;
    balancer.software.setServices([
      {
        name: 'web',
        address: this.service,
        port: PORT,
        ownPorts: options.announce === 'own-port' ? this.servers.map((one) => FIRST_OWN_PORT + one.id - 1) : [],
        core: balancer.core,
        forwarding: options.forwarding,
        targets: new Map(this.servers.map((one) => [one.id, { address: one.address, port: PORT }])),
        generation: this.set.generation,
      },
    ]);
  }

  /** Routing: the service's address to the balancers, by the flow; all other addresses to their owner. */
  private carry(packet: Uint8Array): void {
    this.agenda.at(this.agenda.now + this.delay, (now) => this.arrive(packet, now));
  }

  private arrive(packet: Uint8Array, now: number): void {
    const { options } = this;
    const destination = ipDestination(packet);
    const place = destination === null ? null : this.placeOf(formatAddress(destination), packet);
    if (place === null) return;
    options.tap?.(packet, place.name, now);
    if (options.lose?.(packet, place.name) === true) return;
    place.take(packet, now);
  }

  private placeOf(destination: string, packet: Uint8Array): { name: string; take: (packet: Uint8Array, now: number) => void } | null {
    if (destination === formatAddress(this.service)) {
      const up = this.balancers.filter((one) => one.up);
      if (up.length === 0) return null;
      // Equal-cost paths: by address and port.
      const chosen = up[((packetPorts(packet)?.source ?? 0) + ipSource(packet)!.at(-1)!) % up.length]!;
      return { name: 'balancer', take: (bytes, now) => this.balance(chosen, bytes, now) };
    }
    for (const through of this.clientInterfaces)
      if (formatAddress(through.addresses[0]!.address) === destination)
        return {
          name: 'client',
          take: (bytes, now) => {
            // With translation answers go back through a balancer.
            const answer = this.options.forwarding === 'nat' ? this.balancers.find((one) => one.up)?.software.handleAnswer(bytes) : bytes;
            this.client.receive(through, answer ?? bytes, now);
          },
        };
    const server = this.servers.find((one) => formatAddress(one.address) === destination);
    return server === undefined || !server.up ? null : { name: `server${server.id}`, take: (bytes, now) => this.serve(server, bytes, now) };
  }

  private balance(balancer: EmulatedFarm['balancers'][number], packet: Uint8Array, now: number): void {
    const outcome = balancer.software.handle(packet, now);
    if (outcome.kind === 'back') this.carry(outcome.packet);
    if (outcome.kind !== 'forward') return;
    const server = this.servers.find((one) => one.id === outcome.server)!;
    if (this.options.forwarding !== 'dsr') {
      this.carry(outcome.packet);
      return;
    }
    this.agenda.at(now + this.delay, (later) => {
      this.options.tap?.(outcome.packet, `server${server.id}`, later);
      if (server.up && this.options.lose?.(outcome.packet, `server${server.id}`) !== true) this.serve(server, outcome.packet, later);
    });
  }

  private serve(server: EmulatedServer, packet: Uint8Array, now: number): void {
    const outcome = server.shim.receive(packet);
    if (outcome.kind === 'onward') this.carry(outcome.packet);
    else if (outcome.kind === 'here') server.node.receive(server.through, outcome.packet.slice(), now);
  }
}
