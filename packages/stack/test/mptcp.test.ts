import { describe, expect, it } from 'vitest';
import { fillTcpChecksum, FLAG, parseAddress, RESET_REASON } from '@subflow/wire';
import type { MptcpOption, Packet } from '@subflow/wire';
import { addAddressHmac, joinHmac, keyMaterial } from '@subflow/stack';
import type { Connection, KeyMaterial } from '@subflow/stack';
import { stripMultipath } from '@subflow/emulator';
import { establish, HandPeer, mptcpOf, pair, readAll } from './world.ts';

const KEY = keyMaterial(0x01234567, 0x89abcdef);

interface Session {
  peer: HandPeer;
  connection: Connection;
  server: KeyMaterial;
  ack: number;
}

function opt(option: MptcpOption): { options: [{ kind: 'mptcp'; option: MptcpOption }] } {
  return { options: [{ kind: 'mptcp', option }] };
}

const capable = (more: object): MptcpOption =>
  ({ subtype: 'capable', version: 1, flags: 1, senderKey: null, receiverKey: null, dataLength: null, checksum: null, ...more }) as MptcpOption;

function dss(position: number, ssn: number, length: number, more: { fin?: boolean; ack?: number; server?: KeyMaterial } = {}): MptcpOption {
  const dsn = { high: KEY.idsnHigh, low: (KEY.idsnLow + position) | 0 };
  const flags = 0x0c | (more.fin ? 0x10 : 0) | (more.ack === undefined ? 0 : 3);
  return {
    subtype: 'dss',
    flags,
    dataAck: more.ack === undefined ? null : { high: more.server!.idsnHigh, low: (more.server!.idsnLow + more.ack) | 0 },
    dsn,
    ssn,
    dataLength: length,
    checksum: null,
  };
}

/** MP_CAPABLE by hand, up to the third ACK. */
function open(peer = new HandPeer()): Session {
  peer.host.listen({ port: 80 });
  const [synAck] = peer.send({ flags: FLAG.syn, seq: 100, ...opt(capable({})) });
  const answer = mptcpOf(synAck)[0] as unknown as { subtype: string; senderKey: { high: number; low: number }; flags: number };
  expect(answer).toMatchObject({ subtype: 'capable', version: 1, flags: 1 });
  const server = keyMaterial(answer.senderKey.high, answer.senderKey.low);
  const ack = (synAck!.tcp!.seq + 1) >>> 0;
  peer.send({ flags: FLAG.ack, seq: 101, ack, ...opt(capable({ senderKey: KEY, receiverKey: server })) });
  const accepted = peer.events.find((event) => event.type === 'connection-accepted') as { connection: number };
  return { peer, connection: peer.host.connections.get(accepted.connection)!, server, ack };
}

function text(value: string): Uint8Array {
  return new TextEncoder().encode(value);
}

function resetReason(packets: Packet[]): number | null {
  const reset = packets.find((packet) => (packet.tcp!.flags & FLAG.rst) !== 0);
  const option = mptcpOf(reset).find((one) => one.subtype === 'tcprst') as unknown as { reason: number } | undefined;
  return reset === undefined ? null : (option?.reason ?? -1);
}

describe('keys (RFC 8684 §3.1, §3.2)', () => {
  it('token and IDSN are the ends of SHA-256 of the key', () => {
    // printf '\x01\x23\x45\x67\x89\xab\xcd\xef' | sha256sum: 55c53f5d490297900cefa825d0c8e8e9532ee8a118abe7d8570762cd38be9818
    expect(KEY).toMatchObject({ token: 0x55c53f5d, idsnHigh: 0x570762cd, idsnLow: 0x38be9818 });
  });
});

describe('the handshake', () => {
  it('third ACK with keys, then data with DSS: data is delivered and acknowledged at the data level', () => {
    const { peer, connection, ack, server } = open();
    expect(connection.mode).toBe('mptcp');
    const [answer] = peer.send({ flags: FLAG.ack, seq: 101, ack, ...opt(dss(1, 1, 5)) }, text('hello'));
    expect(readAll(connection, peer.agenda.now)).toEqual([...text('hello')]);
    // A 64-bit DSN is answered with a 64-bit DATA_ACK (RFC 8684 §3.3.2).
    expect(mptcpOf(answer)[0]).toMatchObject({ subtype: 'dss', flags: 3, dataAck: { high: KEY.idsnHigh >>> 0, low: (KEY.idsnLow + 6) >>> 0 } });
    expect(server.token).toBe(connection.local!.token);
  });

  it('MP_CAPABLE with data stands for third ACK and first mapping', () => {
    const peer = new HandPeer();
    peer.host.listen({ port: 80 });
    const [synAck] = peer.send({ flags: FLAG.syn, seq: 100, ...opt(capable({})) });
    const server = (mptcpOf(synAck)[0] as unknown as { senderKey: { high: number; low: number } }).senderKey;
    peer.send(
      { flags: FLAG.ack, seq: 101, ack: (synAck!.tcp!.seq + 1) >>> 0, ...opt(capable({ senderKey: KEY, receiverKey: server, dataLength: 3 })) },
      text('abc'),
    );
    const connection = [...peer.host.connections.values()][0]!;
    expect(connection.mode).toBe('mptcp');
    expect(readAll(connection, peer.agenda.now)).toEqual([...text('abc')]);
  });

  it.each([
    ['version 0 without key', capable({ version: 0 })],
    ['flag B', capable({ flags: 0x41 })],
    ['no algorithm', capable({ flags: 0 })],
  ])('a SYN with %s is answered as plain TCP', (_name, option) => {
    const peer = new HandPeer();
    peer.host.listen({ port: 80 });
    const [synAck] = peer.send({ flags: FLAG.syn, seq: 100, ...opt(option) });
    expect(synAck!.tcp!.flags).toBe(FLAG.syn | FLAG.ack);
    expect(mptcpOf(synAck)).toEqual([]);
  });

  it('a bare third ACK falls back', () => {
    const peer = new HandPeer();
    peer.host.listen({ port: 80 });
    const [synAck] = peer.send({ flags: FLAG.syn, seq: 100, ...opt(capable({})) });
    peer.send({ flags: FLAG.ack, seq: 101, ack: (synAck!.tcp!.seq + 1) >>> 0 });
    const connection = [...peer.host.connections.values()][0]!;
    expect(connection).toMatchObject({ mode: 'tcp', fallbackReason: 'third-ack-without-option' });
    expect(peer.host.sizes.tokens).toBe(0);
  });

  it('a third ACK that echoes a wrong key falls back (RFC 8684 §3.1; Linux ignores it)', () => {
    const peer = new HandPeer();
    peer.host.listen({ port: 80 });
    const [synAck] = peer.send({ flags: FLAG.syn, seq: 100, ...opt(capable({})) });
    peer.send({ flags: FLAG.ack, seq: 101, ack: (synAck!.tcp!.seq + 1) >>> 0, ...opt(capable({ senderKey: KEY, receiverKey: { high: 1, low: 2 } })) });
    expect([...peer.host.connections.values()][0]!.mode).toBe('tcp');
  });

  it('checksums are used when either side asks', () => {
    const peer = new HandPeer();
    peer.host.listen({ port: 80 });
    const [synAck] = peer.send({ flags: FLAG.syn, seq: 100, ...opt(capable({ flags: 0x81 })) });
    expect(mptcpOf(synAck)[0]).toMatchObject({ flags: 0x81 });
  });
});

describe('mappings (RFC 8684 §3.3.1)', () => {
  it('one mapping may span segments, repeat, or arrive out of order', () => {
    const { peer, connection, ack } = open();
    peer.send({ flags: FLAG.ack, seq: 104, ack, ...opt(dss(1, 1, 6)) }, text('def'));
    peer.send({ flags: FLAG.ack, seq: 101, ack, ...opt(dss(1, 1, 6)) }, text('abc'));
    expect(readAll(connection, peer.agenda.now)).toEqual([...text('abcdef')]);
    peer.send({ flags: FLAG.ack, seq: 107, ack, ...opt(dss(7, 7, 6)) }, text('ghi'));
    peer.send({ flags: FLAG.ack, seq: 110, ack }, text('jkl'));
    expect(readAll(connection, peer.agenda.now)).toEqual([...text('ghijkl')]);
  });

  it('a hole at the data level waits; a duplicate is delivered once', () => {
    const { peer, connection, ack } = open();
    peer.send({ flags: FLAG.ack, seq: 101, ack, ...opt(dss(1, 1, 1)) }, text('a'));
    const [answer] = peer.send({ flags: FLAG.ack, seq: 102, ack, ...opt(dss(3, 2, 1)) }, text('c'));
    expect(answer!.tcp!.ack).toBe(103);
    expect(connection.dataRcvNxt).toBe(2);
    peer.send({ flags: FLAG.ack, seq: 103, ack, ...opt(dss(2, 3, 1)) }, text('b'));
    peer.send({ flags: FLAG.ack, seq: 104, ack, ...opt(dss(2, 4, 1)) }, text('B'));
    expect(readAll(connection, peer.agenda.now)).toEqual([...text('abc')]);
  });

  it('data far beyond the window is dropped at the data level and counted', () => {
    const { peer, connection, ack } = open();
    peer.send({ flags: FLAG.ack, seq: 101, ack, ...opt(dss(5_000_000, 1, 1)) }, text('x'));
    expect(connection.outOfOrderBytes).toBe(0);
    expect(peer.host.counters.get('mptcp-data-beyond-window')).toBe(1);
  });

  it('first data without DSS falls back and is delivered (RFC 8684 §3.7)', () => {
    const { peer, connection, ack } = open();
    peer.send({ flags: FLAG.ack, seq: 101, ack }, text('plain'));
    expect(connection).toMatchObject({ mode: 'tcp', fallbackReason: 'no-dss-in-first-data' });
    expect(readAll(connection, peer.agenda.now)).toEqual([...text('plain')]);
  });

  it('an infinite mapping falls back', () => {
    const { peer, connection, ack } = open();
    peer.send({ flags: FLAG.ack, seq: 101, ack, ...opt(dss(1, 1, 3)) }, text('abc'));
    peer.send({ flags: FLAG.ack, seq: 104, ack, ...opt(dss(4, 4, 0)) }, text('def'));
    peer.send({ flags: FLAG.ack, seq: 107, ack }, text('ghi'));
    expect(connection).toMatchObject({ mode: 'tcp', fallbackReason: 'infinite-mapping' });
    expect(readAll(connection, peer.agenda.now)).toEqual([...text('abcdefghi')]);
  });
});

describe('joins (RFC 8684 §3.2)', () => {
  const join = (session: Session, token: number, port = 2000): Packet[] =>
    session.peer.send({ flags: FLAG.syn, seq: 900, sourcePort: port, ...opt({ subtype: 'join-syn', flags: 0, addressId: 3, token, nonce: 77 }) });

  function confirmed(): Session {
    const session = open();
    session.peer.send({ flags: FLAG.ack, seq: 101, ack: session.ack, ...opt(dss(1, 1, 1)) }, text('a'));
    return session;
  }

  it('the right HMAC joins; data on both subflows is one stream', () => {
    const session = confirmed();
    const { peer, connection, server } = session;
    const [synAck] = join(session, server.token);
    const answer = mptcpOf(synAck)[0] as unknown as { hmac: Uint8Array; nonce: number; addressId: number };
    expect(answer.hmac).toEqual(joinHmac(server, KEY, answer.nonce, 77).slice(0, 8));
    const [fourth] = peer.send({
      flags: FLAG.ack,
      seq: 901,
      ack: synAck!.tcp!.seq + 1,
      sourcePort: 2000,
      ...opt({ subtype: 'join-ack', reserved: 0, hmac: joinHmac(KEY, server, 77, answer.nonce).slice(0, 20) }),
    });
    expect(fourth!.tcp!.flags).toBe(FLAG.ack);
    expect(connection.subflows).toHaveLength(2);
    peer.send({ flags: FLAG.ack, seq: 901, ack: synAck!.tcp!.seq + 1, sourcePort: 2000, ...opt(dss(3, 1, 1)) }, text('c'));
    peer.send({ flags: FLAG.ack, seq: 102, ack: session.ack, ...opt(dss(2, 2, 1)) }, text('b'));
    expect(readAll(connection, peer.agenda.now)).toEqual([...text('abc')]);
  });

  it('an unknown token is refused with reason 1', () => {
    expect(resetReason(join(confirmed(), 12345))).toBe(RESET_REASON.mptcp);
  });

  it('a wrong HMAC or a missing option in the third ACK is refused with reason 1', () => {
    for (const option of [{ options: [] }, opt({ subtype: 'join-ack', reserved: 0, hmac: new Uint8Array(20) })]) {
      const session = confirmed();
      const [synAck] = join(session, session.server.token);
      expect(resetReason(session.peer.send({ flags: FLAG.ack, seq: 901, ack: synAck!.tcp!.seq + 1, sourcePort: 2000, ...option }))).toBe(RESET_REASON.mptcp);
      expect(session.connection.subflows).toHaveLength(1);
    }
  });

  it('beyond the limit it is refused with reason 3', () => {
    const session = confirmed();
    const { peer, server } = session;
    for (let port = 2000; port < 2008; port++) {
      const [synAck] = join(session, server.token, port);
      const answer = mptcpOf(synAck)[0] as unknown as { nonce: number };
      const hmac = joinHmac(KEY, server, 77, answer.nonce).slice(0, 20);
      peer.send({ flags: FLAG.ack, seq: 901, ack: synAck!.tcp!.seq + 1, sourcePort: port, ...opt({ subtype: 'join-ack', reserved: 0, hmac }) });
    }
    expect(session.connection.subflows).toHaveLength(9);
    expect(resetReason(join(session, server.token, 2008))).toBe(RESET_REASON.prohibited);
  });
});

describe('signals', () => {
  it('ADD_ADDR with the right HMAC is echoed; with a wrong one, or of version 0, it is ignored (RFC 8684 §3.4.1)', () => {
    const { peer, ack, server } = open();
    peer.send({ flags: FLAG.ack, seq: 101, ack, ...opt(dss(1, 1, 1)) }, text('a'));
    const address = new Uint8Array([198, 51, 100, 7]);
    const add = (hmac: Uint8Array | null, flags = 0, version: 0 | 1 = 1): Packet[] =>
      peer.send({ flags: FLAG.ack, seq: 102, ack, ...opt({ subtype: 'add-addr', version, flags, addressId: 9, address, port: null, hmac }) });
    expect(
      add(new Uint8Array(8))
        .flatMap(mptcpOf)
        .filter((one) => one.subtype === 'add-addr'),
    ).toEqual([]);
    expect(
      add(null, 4, 0)
        .flatMap(mptcpOf)
        .filter((one) => one.subtype === 'add-addr'),
    ).toEqual([]);
    const echo = add(addAddressHmac(KEY, server, 9, address, 0))
      .flatMap(mptcpOf)
      .filter((one) => one.subtype === 'add-addr');
    expect(echo).toMatchObject([{ flags: 1, addressId: 9, address, hmac: null }]);
  });

  it('MP_FASTCLOSE with the right key resets everything, with a wrong one nothing (RFC 8684 §3.5)', () => {
    const { peer, connection, ack, server } = open();
    peer.send({ flags: FLAG.ack, seq: 101, ack, ...opt(dss(1, 1, 1)) }, text('a'));
    peer.send({ flags: FLAG.ack, seq: 102, ack, ...opt({ subtype: 'fastclose', reserved: 0, receiverKey: { high: 5, low: 6 } }) });
    expect(connection.closed).toBe(false);
    const answer = peer.send({ flags: FLAG.ack, seq: 102, ack, ...opt({ subtype: 'fastclose', reserved: 0, receiverKey: server }) });
    expect(resetReason(answer)).toBe(0);
    expect(connection.closeReason).toBe('reset');
    expect(peer.host.idle).toBe(true);
  });

  it('MP_PRIO makes a subflow backup: data goes on the other one (RFC 8684 §3.3.8)', () => {
    const world = pair({ paths: 2, link: { rate: 50_000_000 } });
    const { client, server } = establish(world);
    client.write(text('start'), world.agenda.now);
    world.client.pump();
    world.agenda.runUntil(world.agenda.now + 200_000);
    expect(client.subflows.map((one) => one.established)).toEqual([true, true]);
    client.setBackup(client.subflows[0]!, true, world.agenda.now);
    world.client.pump();
    world.agenda.runUntil(world.agenda.now + 50_000);
    expect(server.subflows[0]!.remoteBackup).toBe(true);
    const before = server.subflows.map((one) => one.bytesScheduled);
    for (let i = 0; i < 20; i++) server.write(new Uint8Array(10_000), world.agenda.now);
    world.server.pump();
    world.agenda.runUntil(world.agenda.now + 2_000_000);
    expect(client.readable).toBe(200_000);
    expect(server.subflows.map((one, i) => one.bytesScheduled - before[i]!)).toEqual([0, 200_000]);
  });

  it('DATA_FIN closes each direction, with and without data, and is repeated until acknowledged (RFC 8684 §3.3.3)', () => {
    const { peer, connection, ack, server } = open();
    peer.send({ flags: FLAG.ack, seq: 101, ack, ...opt(dss(1, 1, 4, { fin: true })) }, text('end'));
    expect(connection.receiveEnded).toBe(true);
    expect(connection.dataRcvNxt).toBe(5);
    connection.shutdown(peer.agenda.now);
    const fins = peer
      .wait(3_000_000)
      .flatMap(mptcpOf)
      .filter((one) => one.subtype === 'dss' && ((one as unknown as { flags: number }).flags & 0x10) !== 0);
    expect(fins.length).toBeGreaterThanOrEqual(2);
    const finish = peer.send({
      flags: FLAG.ack,
      seq: 104,
      ack,
      ...opt({ subtype: 'dss', flags: 3, dataAck: { high: server.idsnHigh, low: (server.idsnLow + 2) | 0 }, dsn: null, ssn: 0, dataLength: 0, checksum: null }),
    });
    expect(finish.some((packet) => (packet.tcp!.flags & FLAG.fin) !== 0)).toBe(true);
    expect(connection.closeReason).toBe('normal');
  });
});

describe('limits', () => {
  it('flag C keeps further subflows away from the initial address (RFC 8684 §3.1)', () => {
    for (const denyJoinInitial of [false, true]) {
      const world = pair({ paths: 2, server: { mptcp: { denyJoinInitial } } });
      // A route from the second path to the server's initial address makes the join possible.
      world.client.host.addRoute(parseAddress('0.0.0.0'), 0, world.links[1]!.client);
      world.server.host.addRoute(parseAddress('0.0.0.0'), 0, world.links[1]!.server);
      const { client } = establish(world);
      client.write(text('start'), world.agenda.now);
      world.client.pump();
      world.agenda.runUntil(world.agenda.now + 300_000);
      const initial = client.subflows.filter((one) => one.established && one.remoteId === 0);
      expect(initial.length).toBe(denyJoinInitial ? 1 : 2);
    }
  });
});

describe('checksum failures (RFC 8684 §3.7)', () => {
  it('a payload rewritten on the only path falls back with MP_FAIL and is delivered as it is', () => {
    const world = pair({ client: { mptcp: { checksum: true } } });
    const { client, server } = establish(world);
    const send = (value: string): void => {
      client.write(text(value), world.agenda.now);
      world.client.pump();
      world.agenda.runUntil(world.agenda.now + 500_000);
    };
    send('good');
    world.links[0]!.up.filter = (packet) => {
      const copy = packet.slice();
      const at = copy.findIndex((_, i) => i >= 40 && String.fromCharCode(...copy.subarray(i, i + 3)) === 'bad');
      if (at < 0) return packet;
      copy[at] = 'B'.charCodeAt(0);
      fillTcpChecksum(new DataView(copy.buffer), copy);
      return copy;
    };
    send('bad');
    send('more');
    expect(server.fallbackReason).toBe('checksum-failure');
    expect([client.mode, server.mode]).toEqual(['tcp', 'tcp']);
    expect(readAll(server, world.agenda.now)).toEqual([...text('goodBadmore')]);
  });
});

describe('two stacks', () => {
  it('fill both paths and survive the silent loss of one', () => {
    const world = pair({ paths: 2, link: { rate: 20_000_000, delay: 10_000, queueTime: 50_000 } });
    const { client, server } = establish(world);
    client.write(text('go'), world.agenda.now);
    world.client.pump();
    let sent = 0;
    let received = 0;
    const feed = (): void => {
      while (sent < 16_000_000 && server.write(new Uint8Array(50_000), world.agenda.now)) sent += 50_000;
      if (sent === 16_000_000 && !server.sendClosed) server.shutdown(world.agenda.now);
    };
    world.server.onEvent = () => {
      feed();
      world.server.pump();
    };
    world.client.onEvent = (event, now) => {
      world.clientEvents.push(event);
      for (let chunk = client.peek(); chunk !== null; chunk = client.peek()) {
        received += chunk.length;
        client.consume(chunk.length, now);
      }
      world.client.pump();
    };
    feed();
    world.server.pump();
    const start = world.agenda.now;
    world.agenda.runUntil(start + 1_500_000);
    expect((received * 8) / 1.5).toBeGreaterThan(0.75 * 40_000_000);
    world.links[0]!.up.setUp(false);
    world.links[0]!.down.setUp(false);
    world.agenda.runUntil(start + 3_500_000);
    const cut = received;
    world.links[0]!.up.setUp(true);
    world.links[0]!.down.setUp(true);
    world.agenda.runUntil(start + 9_000_000);
    expect(received).toBe(16_000_000);
    expect(cut).toBeLessThan(16_000_000);
    expect(world.clientEvents.some((event) => event.type === 'subflow-closed' && event.reason === 'timeout')).toBe(true);
  });

  it.each(['syn', 'synack', 'after-handshake', 'all'] as const)('a path that strips options from %s segments leaves plain TCP that works', (where) => {
    const world = pair();
    world.links[0]!.up.filter = stripMultipath(where);
    world.links[0]!.down.filter = stripMultipath(where);
    const { client, server } = establish(world);
    client.write(text('question'), world.agenda.now);
    client.shutdown(world.agenda.now);
    world.client.pump();
    world.agenda.runUntil(world.agenda.now + 2_000_000);
    expect(readAll(server, world.agenda.now)).toEqual([...text('question')]);
    server.write(text('answer'), world.agenda.now);
    server.shutdown(world.agenda.now);
    world.server.pump();
    world.agenda.runUntil(world.agenda.now + 2_000_000);
    expect(readAll(client, world.agenda.now)).toEqual([...text('answer')]);
    expect([client.mode, server.mode, client.closeReason, server.closeReason]).toEqual(['tcp', 'tcp', 'normal', 'normal']);
  });

  it('paths that drop SYNs with unknown options are tried without them (RFC 8684 §3.1)', () => {
    const world = pair();
    world.links[0]!.up.filter = (packet) => (packet[33] === FLAG.syn && packet.length > 60 ? null : packet);
    world.server.host.listen({ port: 80 });
    const client = world.client.host.connect({ remote: world.links[0]!.server.addresses[0]!.address, port: 80 }, 0);
    world.client.pump();
    world.agenda.runUntil(30_000_000);
    expect(client).toMatchObject({ mode: 'tcp', fallbackReason: 'syn-timeout', open: true });
  });
});
