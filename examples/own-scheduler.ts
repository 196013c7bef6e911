/** A scheduler and a path manager of one's own: two subflows on one path, data always on the latest, events printed. */
import { Agenda, EmulatedHost, LinkDirection, PERFECT_LINK, Random } from '@subflow/emulator';
import { connectionInfo, eventPathManager, Host } from '@subflow/stack';
import type { SchedulerFactory } from '@subflow/stack';
import { parseAddress } from '@subflow/wire';

const latest: SchedulerFactory = () => ({
  name: 'always the latest',
  select: (subflows, _request, roomOf) => {
    const subflow = subflows[subflows.length - 1] ?? null;
    return subflow !== null && roomOf(subflow) > 0 ? subflow : null;
  },
});

const CLIENT = parseAddress('192.0.2.1');
const SERVER = parseAddress('192.0.2.2');
const manager = eventPathManager((event) => {
  console.log(`${event.type} (token ${event.token.toString(16)})`);
  // A second subflow between the same addresses as soon as it is allowed.
  if (event.type === 'established' && !event.serverSide)
    event.connection.join({ local: CLIENT, localId: 0, remote: SERVER, remotePort: 80, remoteId: 0 }, event.time);
});

const agenda = new Agenda();
const random = new Random(1);
const client = new EmulatedHost('client', new Host({ entropy: () => random.uint32(), mptcp: { scheduler: latest, pathManager: manager } }), agenda);
const server = new EmulatedHost('server', new Host({ entropy: () => random.uint32() }), agenda);
const near = client.host.addInterface({ name: 'if0', mtu: 1500, addresses: [{ address: CLIENT, bits: 24 }] });
const far = server.host.addInterface({ name: 'if0', mtu: 1500, addresses: [{ address: SERVER, bits: 24 }] });
const config = { ...PERFECT_LINK, rate: 10_000_000, delay: 10_000, queueTime: 50_000 };
const up = new LinkDirection(agenda, random.fork('up'), config, (packet, now) => server.receive(far, packet, now));
const down = new LinkDirection(agenda, random.fork('down'), config, (packet, now) => client.receive(near, packet, now));
client.attach(near, (packet) => up.send(packet));
server.attach(far, (packet) => down.send(packet));

server.host.listen({ port: 80 });
const connection = client.host.connect({ remote: SERVER, port: 80 }, 0);
connection.write(new Uint8Array(100), 0);
client.pump();
agenda.runUntil(1_000_000);
connection.write(new Uint8Array(100_000), agenda.now);
client.pump();
agenda.runUntil(3_000_000);
for (const subflow of connectionInfo(connection).subflowInfo)
  console.log(`subflow ${subflow.id}: ${subflow.bytesSent} bytes, RTT ${(subflow.srtt / 1000).toFixed(1)} ms`);
