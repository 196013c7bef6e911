/** The trace analyzer as a library: a capture made in memory, its events as they come, and the report of the connection. */
import { Agenda, EmulatedHost, LinkDirection, PERFECT_LINK, Random } from '@subflow/emulator';
import { Host } from '@subflow/stack';
import { Analyzer, connectionReport, sentence, verdicts } from '@subflow/trace';
import { LINKTYPE, parseAddress } from '@subflow/wire';

const analyzer = new Analyzer({
  onEvent: (event) => console.log(`${(event.time / 1000).toFixed(1)} ms, packet ${event.packet}: ${event.type}`),
  onConnection: (connection) => {
    const report = connectionReport(connection);
    for (const event of report.events) console.log(sentence(event, report));
    for (const { severity, text } of verdicts(report)) console.log(`${severity}: ${text}`);
  },
});

// Any source of packets will do; here it is a link of the emulator.
const look = (packet: Uint8Array, time: number): void => {
  analyzer.frame(new DataView(packet.buffer), packet, 0, packet.length, packet.length, LINKTYPE.raw, Math.floor(time / 1e6), (time % 1e6) * 1000);
};
const agenda = new Agenda();
const random = new Random(1);
const [client, server] = ['client', 'server'].map((name) => new EmulatedHost(name, new Host({ entropy: () => random.uint32() }), agenda)) as [
  EmulatedHost,
  EmulatedHost,
];
const [a, b] = ['192.0.2.1', '192.0.2.2'].map(parseAddress) as [Uint8Array, Uint8Array];
const near = client.host.addInterface({ name: 'wifi', mtu: 1500, addresses: [{ address: a, bits: 24 }] });
const far = server.host.addInterface({ name: 'wifi', mtu: 1500, addresses: [{ address: b, bits: 24 }] });
const config = { ...PERFECT_LINK, rate: 10e6, delay: 10_000 };
const up = new LinkDirection(agenda, random, config, (packet, now) => server.receive(far, packet, now));
const down = new LinkDirection(agenda, random, config, (packet, now) => client.receive(near, packet, now));
up.tap = down.tap = (packet, now, point) => point === 'enter' && look(packet.slice(), now);
client.attach(near, (packet) => up.send(packet));
server.attach(far, (packet) => down.send(packet));
server.host.listen({ port: 80 });
server.onEvent = (event, now) => {
  if (event.type === 'connection-end') server.host.connections.get(event.connection)?.shutdown(now);
  server.pump();
};
const connection = client.host.connect({ remote: b, port: 80 }, 0);
connection.write(new TextEncoder().encode('hello\n'), 0);
connection.shutdown(0);
client.pump();
agenda.runUntil(70_000_000);
analyzer.end();
