/** Two hosts of ours on a perfect wire, and hand-made segments for one of them. */
import { Agenda, EmulatedHost, LinkDirection, PERFECT_LINK, Random } from '@subflow/emulator';
import type { LinkConfig } from '@subflow/emulator';
import { Host } from '@subflow/stack';
import type { Connection, HostOptions, Interface, StackEvent } from '@subflow/stack';
import { buildPacket, ipHeader, isMalformed, parseAddress, parsePacketValue, PROTOCOL } from '@subflow/wire';
import type { Packet, TcpHeader, TcpOption } from '@subflow/wire';

export const LOCAL = parseAddress('192.0.2.1');
export const REMOTE = parseAddress('192.0.2.2');

export interface Pair {
  agenda: Agenda;
  client: EmulatedHost;
  server: EmulatedHost;
  clientEvents: StackEvent[];
  serverEvents: StackEvent[];
  links: { up: LinkDirection; down: LinkDirection; client: Interface; server: Interface }[];
}

export function pair(options: { paths?: number; link?: Partial<LinkConfig>; client?: Partial<HostOptions>; server?: Partial<HostOptions> } = {}): Pair {
  const agenda = new Agenda();
  const random = new Random(42);
  const make = (name: string, more?: Partial<HostOptions>): EmulatedHost =>
    new EmulatedHost(name, new Host({ entropy: () => random.uint32(), ...more, tcp: { timeWait: 1_000_000, ...more?.tcp } }), agenda);
  const world: Pair = { agenda, client: make('client', options.client), server: make('server', options.server), clientEvents: [], serverEvents: [], links: [] };
  world.client.onEvent = (event) => void world.clientEvents.push(event);
  world.server.onEvent = (event) => void world.serverEvents.push(event);
  for (let i = 0; i < (options.paths ?? 1); i++) {
    const a = parseAddress(`192.0.2.${4 * i + 1}`);
    const b = parseAddress(`192.0.2.${4 * i + 2}`);
    const client = world.client.host.addInterface({ name: `path${i}`, mtu: 1500, addresses: [{ address: a, bits: 30 }] });
    const server = world.server.host.addInterface({ name: `path${i}`, mtu: 1500, addresses: [{ address: b, bits: 30 }] });
    if (i > 0) {
      world.client.host.addEndpoint({ address: a, subflow: true });
      world.server.host.addEndpoint({ address: b, signal: true });
    }
    const config = { ...PERFECT_LINK, delay: 1000, ...options.link };
    const up = new LinkDirection(agenda, random.fork(`u${i}`), config, (packet, now) => world.server.receive(server, packet, now));
    const down = new LinkDirection(agenda, random.fork(`d${i}`), config, (packet, now) => world.client.receive(client, packet, now));
    world.client.attach(client, (packet) => up.send(packet));
    world.server.attach(server, (packet) => down.send(packet));
    world.links.push({ up, down, client, server });
  }
  return world;
}

/** Connects and runs until both sides are established. */
export function establish(world: Pair, time = 1_000_000): { client: Connection; server: Connection } {
  world.server.host.listen({ port: 80 });
  const client = world.client.host.connect({ remote: REMOTE, port: 80 }, world.agenda.now);
  world.client.pump();
  world.agenda.runUntil(world.agenda.now + time);
  const accepted = world.serverEvents.find((event) => event.type === 'connection-accepted');
  if (accepted === undefined || !('connection' in accepted)) throw new Error('not accepted');
  return { client, server: world.server.host.connections.get(accepted.connection)! };
}

/** Everything readable, consumed. */
export function readAll(connection: Connection, now: number): number[] {
  const out: number[] = [];
  for (let chunk = connection.read(1 << 20, now); chunk !== null; chunk = connection.read(1 << 20, now)) out.push(...chunk);
  return out;
}

/** A peer made of hand-written segments, talking to one host of ours at {@link LOCAL}. */
export class HandPeer {
  readonly agenda = new Agenda(1_000_000);
  readonly host: Host;
  readonly node: EmulatedHost;
  readonly through: Interface;
  readonly events: StackEvent[] = [];
  /** What our host has sent, parsed, not yet taken. */
  readonly sent: Packet[] = [];

  constructor(options: Partial<HostOptions> = {}) {
    const random = new Random(7);
    this.host = new Host({ entropy: () => random.uint32(), ...options });
    this.node = new EmulatedHost('host', this.host, this.agenda);
    this.node.onEvent = (event) => void this.events.push(event);
    this.through = this.host.addInterface({ name: 'if0', mtu: 1500, addresses: [{ address: LOCAL, bits: 24 }] });
    this.node.attach(this.through, (packet) => {
      const parsed = parsePacketValue(packet);
      if (isMalformed(parsed)) throw new Error(`our host sent ${parsed.reason}`);
      this.sent.push(parsed);
    });
  }

  /** Sends a segment to our host and returns what it answers at once. */
  send(tcp: Partial<TcpHeader>, payload: Uint8Array = new Uint8Array(0)): Packet[] {
    this.sent.length = 0;
    const header: TcpHeader = {
      sourcePort: 1000,
      destinationPort: 80,
      seq: 0,
      ack: 0,
      headerLength: 20,
      reserved: 0,
      flags: 0,
      window: 65535,
      checksum: 0,
      urgent: 0,
      options: [],
      ...tcp,
    };
    this.node.receive(this.through, buildPacket(ipHeader(REMOTE, LOCAL, PROTOCOL.tcp), { tcp: header, payload }), this.agenda.now);
    return this.sent.slice();
  }

  /** Lets virtual time pass; returns what was sent meanwhile. */
  wait(microseconds: number): Packet[] {
    this.sent.length = 0;
    this.agenda.runUntil(this.agenda.now + microseconds);
    return this.sent.slice();
  }
}

export function optionOf<K extends TcpOption['kind']>(packet: Packet | undefined, kind: K): Extract<TcpOption, { kind: K }> | undefined {
  return packet?.tcp?.options.find((option) => option.kind === kind) as Extract<TcpOption, { kind: K }> | undefined;
}

/** The Multipath TCP options of a packet. */
export function mptcpOf(packet: Packet | undefined): { subtype: string }[] {
  return packet?.tcp?.options.flatMap((option) => (option.kind === 'mptcp' ? [option.option] : [])) ?? [];
}
