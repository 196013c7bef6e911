/** A client with some interfaces that go down and come up, and a server with one address that all of them reach. */
import { Agenda, EmulatedHost, LinkDirection, PERFECT_LINK, Random } from '@subflow/emulator';
import { Host, noPathManager } from '@subflow/stack';
import type { Connection, Interface, PathManagerFactory, StackEvent, VersionNumber } from '@subflow/stack';
import { formatAddress, parseAddress } from '@subflow/wire';
import { SECOND } from './client.ts';

export class World {
  readonly agenda = new Agenda();
  readonly client: EmulatedHost;
  readonly server: EmulatedHost;
  readonly interfaces: Interface[] = [];
  readonly serverEvents: StackEvent[] = [];
  readonly connection: Connection;
  readonly accepted: Connection;

  constructor(family: 4 | 6, version: VersionNumber, pathManager: PathManagerFactory, paths = 2) {
    const random = new Random(3);
    const make = (name: string): EmulatedHost => {
      // The server joins nothing by itself: what comes back, the client has opened.
      const mptcp = { versions: [version], pathManager: name === 'client' ? pathManager : noPathManager };
      return new EmulatedHost(name, new Host({ entropy: () => random.uint32(), mptcp, tcp: { timeWait: SECOND } }), this.agenda);
    };
    this.client = make('client');
    this.server = make('server');
    this.server.onEvent = (event) => void this.serverEvents.push(event);
    const server = parseAddress(family === 4 ? '192.0.2.1' : '2001:db8::1');
    const [bits, everything] = family === 4 ? [32, '0.0.0.0'] : [128, '::'];
    const there = this.server.host.addInterface({ name: 'eth0', mtu: 1500, addresses: [{ address: server, bits }] });
    this.server.host.addRoute(parseAddress(everything), 0, there);
    const back = new Map<string, LinkDirection>();
    for (let i = 0; i < paths; i++) {
      const address = parseAddress(family === 4 ? `198.51.100.${i + 1}` : `2001:db8:1::${i + 1}`);
      const through = this.client.host.addInterface({ name: `path${i}`, mtu: 1500, addresses: [{ address, bits }] });
      this.client.host.addRoute(server, bits, through);
      if (i > 0) this.client.host.addEndpoint({ address, subflow: true });
      const config = { ...PERFECT_LINK, delay: 1000 };
      const up = new LinkDirection(this.agenda, random.fork(`u${i}`), config, (packet, now) => this.server.receive(there, packet, now));
      const down = new LinkDirection(this.agenda, random.fork(`d${i}`), config, (packet, now) => {
        if (through.up) this.client.receive(through, packet, now);
      });
      // A cable that is pulled carries nothing.
      this.client.attach(through, (packet) => through.up && up.send(packet));
      back.set(formatAddress(address), down);
      this.interfaces.push(through);
    }
    // The answer goes where the address is.
    const at = family === 4 ? 16 : 24;
    this.server.attach(there, (packet) => back.get(formatAddress(packet.slice(at, at + server.length)))?.send(packet));
    this.server.host.listen({ port: 80 });
    this.connection = this.client.host.connect({ remote: server, port: 80 }, this.agenda.now);
    this.client.pump();
    this.run(SECOND);
    const [accepted] = this.server.host.connections.values();
    this.accepted = accepted!;
    this.send();
  }

  run(time: number): void {
    this.agenda.runUntil(this.agenda.now + time);
  }

  /** Some octets from the client, read at the server. Returns whether they arrived within a second. */
  send(): boolean {
    this.connection.write(new Uint8Array(1000), this.agenda.now);
    this.client.pump();
    this.run(SECOND);
    let got = 0;
    for (let chunk = this.accepted.read(1 << 20, this.agenda.now); chunk !== null; chunk = this.accepted.read(1 << 20, this.agenda.now)) got += chunk.length;
    this.server.pump();
    return got >= 1000;
  }

  /** Local addresses of the established subflows, in the order of interfaces. */
  get subflows(): number[] {
    return this.connection.subflows
      .filter((one) => one.established)
      .map(({ tcb }) => this.interfaces.findIndex((one) => formatAddress(one.addresses[0]!.address) === formatAddress(tcb.local)))
      .toSorted();
  }

  down(which: number): void {
    this.client.host.interfaceDown(this.interfaces[which]!, this.agenda.now);
    this.client.pump();
  }

  up(which: number): void {
    this.client.host.interfaceUp(this.interfaces[which]!, this.agenda.now);
    this.client.pump();
  }

  removals(): number {
    return this.serverEvents.filter((event) => event.type === 'address-removed' && event.byPeer).length;
  }
}
