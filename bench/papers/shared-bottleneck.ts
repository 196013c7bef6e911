/** One connection with two subflows and one plain TCP, all through the same queue. */
import { Agenda, EmulatedHost, LinkDirection, PERFECT_LINK, Random } from '@subflow/emulator';
import { Host } from '@subflow/stack';
import type { Connection, Interface, StackEvent } from '@subflow/stack';
import { parseAddress, parsePacketValue, isMalformed } from '@subflow/wire';

const SECOND = 1_000_000;
const WARM_UP = 30 * SECOND;

export interface BottleneckOptions {
  coupled: string;
  congestion: string;
  seed: number;
  /** Mbit/s, one-way milliseconds, packets. */
  rate: number;
  delay: number;
  queue: number;
  seconds: number;
}

/** Payload rates in Mbit/s after the warm-up. */
export function sharedBottleneck(options: BottleneckOptions): { multipath: number; tcp: number } {
  const agenda = new Agenda();
  const random = new Random(options.seed);
  const tcp = { congestion: options.congestion, timeWait: SECOND };
  const make = (name: string, coupled: string): EmulatedHost =>
    new EmulatedHost(name, new Host({ entropy: () => random.uint32(), tcp, mptcp: { coupled } }), agenda);
  const sender = make('multipath', options.coupled);
  const plain = make('plain', 'none');
  const server = make('server', 'none');
  const doors = new Map<string, Interface>();
  // A little jitter: two senders in lock-step share a drop-tail queue in strange ways (RFC 6356 assumes random losses).
  const config = { ...PERFECT_LINK, rate: options.rate * 1e6, delay: options.delay * 1000, queuePackets: options.queue };
  const bottleneck = new LinkDirection(agenda, random.fork('bottleneck'), config, (packet, now) => {
    const parsed = parsePacketValue(packet);
    if (isMalformed(parsed)) return;
    const door = doors.get(parsed.ip.destination.join('.'));
    if (door !== undefined) server.receive(door, packet, now);
  });
  [sender, sender, plain].forEach((client, i) => {
    const a = parseAddress(`192.0.2.${4 * i + 1}`);
    const b = parseAddress(`192.0.2.${4 * i + 2}`);
    const own = client.host.addInterface({ name: `path${i}`, mtu: 1500, addresses: [{ address: a, bits: 30 }] });
    const door = server.host.addInterface({ name: `path${i}`, mtu: 1500, addresses: [{ address: b, bits: 30 }] });
    doors.set(b.join('.'), door);
    if (i === 1) {
      client.host.addEndpoint({ address: a, subflow: true });
      server.host.addEndpoint({ address: b, signal: true });
    }
    const jitter = random.fork(`j${i}`);
    client.attach(own, (packet) => {
      agenda.at(agenda.now + jitter.float() * 500, () => bottleneck.send(packet));
    });
    const back = new LinkDirection(agenda, random.fork(`b${i}`), { ...PERFECT_LINK, delay: options.delay * 1000 }, (packet, now) =>
      client.receive(own, packet, now),
    );
    server.attach(door, (packet) => back.send(packet));
  });
  const received = { multipath: 0, tcp: 0 };
  const accepted: Connection[] = [];
  server.onEvent = (event, now) => {
    if (event.type === 'connection-accepted') accepted.push(server.host.connections.get(event.connection)!);
    if (event.type !== 'connection-readable') return;
    const connection = server.host.connections.get(event.connection)!;
    for (let chunk = connection.peek(); chunk !== null; chunk = connection.peek()) {
      if (now >= WARM_UP) received[connection.mode === 'mptcp' ? 'multipath' : 'tcp'] += chunk.length;
      connection.consume(chunk.length, now);
    }
  };
  server.host.listen({ port: 80 });
  const body = new Uint8Array(65536);
  const start = (node: EmulatedHost, remote: string, multipath: boolean): void => {
    const connection = node.host.connect({ remote: parseAddress(remote), port: 80, multipath }, agenda.now);
    const fill = (): void => {
      while (connection.write(body, agenda.now));
      node.pump();
    };
    node.onEvent = (event: StackEvent) => {
      if (event.type === 'connection-established' || event.type === 'connection-writable') fill();
    };
    node.pump();
  };
  start(sender, '192.0.2.2', true);
  agenda.at(SECOND, () => start(plain, '192.0.2.10', false));
  agenda.runUntil(options.seconds * SECOND);
  const seconds = options.seconds - WARM_UP / SECOND;
  return { multipath: (received.multipath * 8) / seconds / 1e6, tcp: (received.tcp * 8) / seconds / 1e6 };
}
