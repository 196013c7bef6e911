/** No connection waits for ever: whatever state a peer brings it into, a timer runs or the peer is asked. RFC 9293 §3.8.6.1, §3.9.1, §3.10. */
import { describe, expect, it } from 'vitest';
import { FLAG } from '@subflow/wire';
import { Client, SECOND, VARIANTS } from './client.ts';
import { Conversation } from './conversation.ts';
import { establish, HandPeer, pair, readAll } from './world.ts';

const DAY = 24 * 3600 * SECOND;

describe.each([1, 2, 3])('a shared receive window, over %i subflows', (paths) => {
  it.each([false, true])('that is full is probed when its update is lost, checksums %s', (checksum) => {
    const side = { tcp: { receiveBuffer: 60_000, maxReceiveBuffer: 60_000 }, mptcp: { checksum } };
    const world = pair({ paths, client: side, server: side });
    const { client, server } = establish(world);
    const { agenda } = world;
    client.write(new Uint8Array(1000), agenda.now);
    world.client.pump();
    agenda.runUntil(agenda.now + 2 * SECOND);
    expect(client.subflows.length).toBe(paths);
    const total = 200_000;
    let written = 1000;
    const fill = (): void => {
      while (written < total && client.write(new Uint8Array(5000).subarray(0, Math.min(5000, total - written)), agenda.now))
        written = Math.min(total, written + 5000);
      world.client.pump();
    };
    world.client.onEvent = (event) => event.type === 'connection-writable' && fill();
    fill();
    agenda.runUntil(agenda.now + 10 * SECOND);
    expect(client.dataNxt).toBe(client.dataWndEdge);
    for (const link of world.links) link.down.filter = () => null;
    let got = readAll(server, agenda.now).length;
    world.server.pump();
    agenda.runUntil(agenda.now + SECOND);
    for (const link of world.links) link.down.filter = null;
    world.server.onEvent = () => {
      got += readAll(server, agenda.now).length;
      world.server.pump();
    };
    agenda.runUntil(agenda.now + 120 * SECOND);
    expect(got).toBe(total);
  });
});

describe.each(VARIANTS)('a closed window, over IPv%i, %s', (family, mode) => {
  it('data and FIN are out, the peer has dropped both and answers everything: the connection stays (MUST-37)', () => {
    const client = new Client(family, mode).open();
    const { connection } = client;
    client.write(500);
    connection.shutdown(client.agenda.now);
    client.node.pump();
    for (let i = 0; i < 1800; i++) if (!connection.closed && client.wait(SECOND).length > 0) client.acknowledge({ window: 0 });
    expect(connection.closed).toBe(false);
    let packets = client.acknowledge({ window: 5000 });
    for (let i = 0; i < 200 && client.received < 500; i++) {
      client.take(packets);
      packets = [...client.acknowledge({ window: 5000 }), ...client.wait(SECOND)];
    }
    expect(client.received).toBeGreaterThanOrEqual(501);
  });

  it('that opens and closes at one instant does not make us send without end', () => {
    const client = new Client(family, mode).open();
    client.write(10_000);
    let bytes = 0;
    for (let i = 0; i < 1000; i++) for (const window of [0, 65_535]) for (const packet of client.acknowledge({ window })) bytes += packet.payload.length;
    // What waits, and its head again a few times.
    expect(bytes).toBeLessThan(30_000);
    client.window = 65_535;
    for (let i = 0; i < 100 && client.received < 10_001; i++) client.take([...client.acknowledge(), ...client.wait(SECOND)]);
    expect(client.received).toBeGreaterThanOrEqual(10_001);
  });
});

describe.each(VARIANTS)('a connection that the application has closed, over IPv%i, %s', (family, mode) => {
  it('does not outlive FIN-WAIT-2 when the peer says nothing more', () => {
    const client = new Client(family, mode, { host: { tcp: { finWait2: 60 * SECOND } } }).open();
    client.connection.close(client.agenda.now);
    client.node.pump();
    client.wait(SECOND / 100);
    // Both FINs of ours are acknowledged, nothing is sent.
    client.received++;
    client.acknowledge();
    client.wait(DAY);
    expect(client.host.sizes).toMatchObject({ connections: 0, subflows: 0 });
  });
});

describe('half-open connections end', () => {
  it.each(['when-full', 'always'] as const)('a cookie is answered by an ACK, not by a SYN+ACK; cookies %s', (synCookies) => {
    const peer = new HandPeer({ mptcp: { synCookies } });
    const listener = peer.host.listen({ port: 81, backlog: 0 });
    for (let i = 0; i < 200; i++) {
      const [synAck] = peer.send({ sourcePort: 1000 + i, destinationPort: 81, seq: 100, flags: FLAG.syn });
      peer.send({ sourcePort: 1000 + i, destinationPort: 81, seq: 101, ack: (synAck!.tcp!.seq + 1) >>> 0, flags: FLAG.syn | FLAG.ack });
    }
    expect([peer.host.sizes.connections, listener.pending]).toEqual([0, 0]);
  });

  it('a third ACK with a mapping and without keys does not open for ever (RFC 8684 §3.1)', () => {
    const c = new Conversation({}, 1);
    c.syn();
    c.raw(0, { flags: FLAG.ack }, [c.dss(new Uint8Array(0), { length: 1 })]);
    c.peer.wait(DAY);
    expect([c.peer.host.sizes.connections, c.listener.pending]).toEqual([0, 0]);
  });

  it('a SYN+ACK at the number of the SYN is no third ACK of a passive connection (RFC 9293 §3.10.7.4)', () => {
    const peer = new HandPeer({ mptcp: { enabled: false } });
    peer.host.listen({ port: 80 });
    const [synAck] = peer.send({ flags: FLAG.syn, seq: 100 });
    peer.send({ flags: FLAG.syn | FLAG.ack, seq: 100, ack: (synAck!.tcp!.seq + 1) >>> 0 });
    expect([...peer.host.connections.values()].some((one) => one.open)).toBe(false);
  });
});

describe('two ends in TIME-WAIT', () => {
  it('do not answer each other: a duplicated ACK draws nothing (RFC 9293 §3.10.7.4)', () => {
    const side = { mptcp: { enabled: false }, tcp: { timeWait: 60 * SECOND } };
    const world = pair({ client: side, server: side });
    const { client, server } = establish(world);
    const { agenda } = world;
    client.shutdown(agenda.now);
    server.shutdown(agenda.now);
    const link = world.links[0]!;
    const seen: Uint8Array[] = [];
    for (const direction of [link.up, link.down])
      direction.filter = (packet) => {
        seen.push(packet.slice());
        return packet;
      };
    world.client.pump();
    world.server.pump();
    agenda.runUntil(agenda.now + SECOND);
    expect([client.closed, server.closed, world.client.host.sizes.connections]).toEqual([true, true, 0]);
    const last = seen.at(-1)!;
    seen.length = 0;
    link.down.send(last.slice());
    link.up.send(last.slice());
    agenda.runUntil(agenda.now + SECOND);
    expect(seen.length).toBe(2);
  });
});

describe.each(VARIANTS)('a window that closes again much later, over IPv%i, %s', (family, mode) => {
  it('is new: neither the user timeout nor the time between probes goes on from the first time (SHLD-29)', () => {
    const client = new Client(family, mode, { host: { tcp: { userTimeout: 10 * SECOND } } }).open();
    client.write(20_000);
    // Closed for a while, and probed.
    client.take(client.acknowledge({ window: 0 }));
    client.acknowledge({ window: 0 });
    for (let i = 0; i < 7; i++) if (client.wait(SECOND).length > 0) client.acknowledge({ window: 0 });
    // Open for a minute, with something to send all the time.
    client.window = 3000;
    for (let i = 0; i < 60; i++) {
      client.write(2000);
      client.take([...client.acknowledge(), ...client.wait(SECOND)]);
    }
    const held = client.connection;
    client.acknowledge();
    client.acknowledge({ window: 0 });
    let first = 0;
    for (let i = 1; i <= 50; i++) {
      if (client.wait(SECOND / 10).length === 0) continue;
      if (first === 0) first = i;
      client.acknowledge({ window: 0 });
    }
    expect(held.closed).toBe(false);
    if (held.sendBuffer.end > client.received) expect(first).toBeLessThan(15);
  });
});

describe('SYN-RECEIVED', () => {
  it('a segment outside the window is answered, and a SYN of another number challenged (RFC 9293 §3.10.7.4, RFC 5961 §4)', () => {
    for (const flags of [FLAG.ack, FLAG.syn]) {
      const peer = new HandPeer({ mptcp: { enabled: false } });
      peer.host.listen({ port: 80 });
      const [synAck] = peer.send({ flags: FLAG.syn, seq: 100 });
      const iss = synAck!.tcp!.seq;
      const [answer] = peer.send({ flags, seq: 5_000_000, ack: flags === FLAG.syn ? 0 : (iss + 1) >>> 0 });
      expect(answer!.tcp).toMatchObject({ flags: FLAG.ack, seq: (iss + 1) >>> 0, ack: 101 });
    }
  });
});
