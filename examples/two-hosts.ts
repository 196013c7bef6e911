/** Two hosts of ours, two emulated paths, virtual time: a server greets, the client reads, one path carries each half. */
import { Agenda, EmulatedHost, LinkDirection, PERFECT_LINK, Random } from '@subflow/emulator';
import { Host } from '@subflow/stack';
import { parseAddress } from '@subflow/wire';

const agenda = new Agenda();
const random = new Random(1);
const make = (name: string): EmulatedHost => new EmulatedHost(name, new Host({ entropy: () => random.uint32() }), agenda);
const client = make('client');
const server = make('server');
for (const i of [0, 1]) {
  const a = parseAddress(`192.0.2.${4 * i + 1}`);
  const b = parseAddress(`192.0.2.${4 * i + 2}`);
  const near = client.host.addInterface({ name: `path${i}`, mtu: 1500, addresses: [{ address: a, bits: 30 }] });
  const far = server.host.addInterface({ name: `path${i}`, mtu: 1500, addresses: [{ address: b, bits: 30 }] });
  if (i > 0) server.host.addEndpoint({ address: b, signal: true });
  const config = { ...PERFECT_LINK, rate: 10_000_000, delay: 10_000, queueTime: 50_000 };
  const up = new LinkDirection(agenda, random.fork(`up${i}`), config, (packet, now) => server.receive(far, packet, now));
  const down = new LinkDirection(agenda, random.fork(`down${i}`), config, (packet, now) => client.receive(near, packet, now));
  client.attach(near, (packet) => up.send(packet));
  server.attach(far, (packet) => down.send(packet));
}

server.host.listen({ port: 80 });
const body = new Uint8Array(2_000_000);
server.onEvent = (event, now) => {
  if (event.type !== 'connection-readable') return;
  const connection = server.host.connections.get(event.connection)!;
  connection.consume(connection.readable, now);
  for (let at = 0; at < body.length; at += 65_536) connection.write(body.subarray(at, at + 65_536), now);
  connection.shutdown(now);
  server.pump();
};
// A send buffer that takes the whole body at once keeps this example short.
(server.host.tcp as { sendBuffer: number }).sendBuffer = body.length + 1;

const connection = client.host.connect({ remote: parseAddress('192.0.2.2'), port: 80 }, 0);
connection.write(new TextEncoder().encode('hello\n'), 0);
let received = 0;
client.onEvent = (event, now) => {
  if (event.type === 'subflow-established') console.log(`${(now / 1000).toFixed(1)} ms: subflow ${event.subflow} established`);
  if (event.type === 'connection-readable') {
    received += connection.readable;
    connection.consume(connection.readable, now);
  }
  if (event.type === 'connection-end') {
    console.log(`${(now / 1000).toFixed(1)} ms: ${received} bytes over ${connection.subflows.length} subflows, ${((received * 8) / now).toFixed(1)} Mbit/s`);
    connection.shutdown(now);
  }
  client.pump();
};
client.pump();
agenda.runUntil(70_000_000);
if (received !== body.length) throw new Error(`received ${received} of ${body.length} bytes`);
