import { describe, expect, it } from 'vitest';
import { buildPacket, emitTcp, FLAG, ICMP, ipHeader, parseAddress, PROTOCOL } from '@subflow/wire';
import type { Packet, TcpOption } from '@subflow/wire';
import { STATE } from '@subflow/stack';
import type { Connection } from '@subflow/stack';
import { establish, HandPeer, LOCAL, optionOf, pair, readAll, REMOTE } from './world.ts';

const PLAIN = { mptcp: { enabled: false } };

interface Session {
  peer: HandPeer;
  connection: Connection;
  /** Our next sequence number, and the next we expect from the host. */
  seq: number;
  ack: number;
}

/** A plain TCP connection, opened by hand. */
function open(options: TcpOption[] = [{ kind: 'mss', value: 1000 }], peer = new HandPeer(PLAIN)): Session {
  if (peer.host.counters.size === 0) peer.host.listen({ port: 80 });
  const [synAck] = peer.send({ flags: FLAG.syn, seq: 100, options });
  const ack = (synAck!.tcp!.seq + 1) >>> 0;
  peer.send({ flags: FLAG.ack, seq: 101, ack });
  const accepted = peer.events.find((event) => event.type === 'connection-accepted')!;
  return { peer, connection: peer.host.connections.get((accepted as { connection: number }).connection)!, seq: 101, ack };
}

function text(value: string): Uint8Array {
  return new TextEncoder().encode(value);
}

function payloadBytes(packets: Packet[]): number {
  return packets.reduce((sum, packet) => sum + packet.payload.length, 0);
}

describe('opening (RFC 9293 §3.5)', () => {
  it('a SYN+ACK offers only what the SYN offered', () => {
    const peer = new HandPeer(PLAIN);
    peer.host.listen({ port: 80 });
    const [bare] = peer.send({ flags: FLAG.syn, seq: 1, sourcePort: 1 });
    expect(bare!.tcp!.options.map((option) => option.kind)).toEqual(['mss']);
    const [full] = peer.send({
      flags: FLAG.syn,
      seq: 1,
      sourcePort: 2,
      options: [{ kind: 'mss', value: 1460 }, { kind: 'sack-permitted' }, { kind: 'timestamps', value: 7, echo: 0 }, { kind: 'window-scale', shift: 3 }],
    });
    expect(new Set(full!.tcp!.options.map((option) => option.kind))).toEqual(new Set(['mss', 'sack-permitted', 'timestamps', 'nop', 'window-scale']));
    expect(optionOf(full, 'timestamps')!.echo).toBe(7);
  });

  it('nobody listening: RST that acknowledges the SYN', () => {
    const [reset] = new HandPeer(PLAIN).send({ flags: FLAG.syn, seq: 41 });
    expect(reset!.tcp).toMatchObject({ flags: FLAG.rst | FLAG.ack, ack: 42, seq: 0 });
  });

  it('connecting to a closed port is refused', () => {
    const world = pair({ client: PLAIN });
    const connection = world.client.host.connect({ remote: REMOTE, port: 81 }, 0);
    world.client.pump();
    world.agenda.runUntil(1_000_000);
    expect(connection.closed && connection.closeReason).toBe('refused');
    expect(world.client.host.idle).toBe(true);
  });

  it('a SYN that nobody answers is retransmitted with back-off and then given up', () => {
    const peer = new HandPeer({ mptcp: { enabled: false }, tcp: { synRetries: 3 } });
    const connection = peer.host.connect({ remote: REMOTE, port: 9 }, peer.agenda.now);
    peer.node.pump();
    const start = peer.agenda.now;
    const times: number[] = [0];
    for (let i = 0; i < 200; i++) if (peer.wait(100_000).some((packet) => packet.tcp!.flags === FLAG.syn)) times.push((peer.agenda.now - start) / 1e6);
    expect(times).toHaveLength(4);
    expect(times.map((time) => Math.round(time))).toEqual([0, 1, 3, 7]);
    expect(connection.closeReason).toBe('timeout');
    expect(peer.host.idle).toBe(true);
  });

  it('simultaneous open ends established on both sides', () => {
    const peer = new HandPeer(PLAIN);
    const connection = peer.host.connect({ remote: REMOTE, port: 1000, localPort: 80 }, peer.agenda.now);
    peer.node.pump();
    const syn = peer.sent[0]!;
    const [synAck] = peer.send({ flags: FLAG.syn, seq: 500 });
    expect(synAck!.tcp).toMatchObject({ flags: FLAG.syn | FLAG.ack, seq: syn.tcp!.seq, ack: 501 });
    peer.send({ flags: FLAG.syn | FLAG.ack, seq: 500, ack: syn.tcp!.seq + 1 });
    expect(connection.open).toBe(true);
  });

  it('a full backlog answers with SYN cookies, and a valid third ACK opens the connection', () => {
    const peer = new HandPeer(PLAIN);
    peer.host.listen({ port: 80, backlog: 1 });
    peer.send({ flags: FLAG.syn, seq: 1, sourcePort: 1 });
    const [cookie] = peer.send({ flags: FLAG.syn, seq: 700, sourcePort: 2, options: [{ kind: 'mss', value: 1300 }] });
    expect(cookie!.tcp!.flags).toBe(FLAG.syn | FLAG.ack);
    expect(peer.host.sizes.connections).toBe(1);
    // A forged acknowledgement opens nothing. While cookies are out it is not answered (what overtook the right one looks
    // the same), later with a reset.
    expect(peer.send({ flags: FLAG.ack, seq: 701, ack: cookie!.tcp!.seq + 2, sourcePort: 2 })).toEqual([]);
    expect(peer.host.sizes.connections).toBe(1);
    peer.send({ flags: FLAG.ack, seq: 701, ack: (cookie!.tcp!.seq + 1) >>> 0, sourcePort: 2 }, text('hello'));
    const accepted = peer.events.filter((event) => event.type === 'connection-accepted');
    expect(accepted).toHaveLength(1);
    const connection = peer.host.connections.get((accepted[0] as { connection: number }).connection)!;
    expect(readAll(connection, peer.agenda.now)).toEqual([...text('hello')]);
    peer.wait(100_000_000);
    expect(peer.send({ flags: FLAG.ack, seq: 701, ack: cookie!.tcp!.seq + 2, sourcePort: 3 })[0]!.tcp!.flags & FLAG.rst).toBe(FLAG.rst);
  });
});

describe('receiving', () => {
  it('segments out of order are reassembled and reported by SACK, the most recent block first (RFC 2018 §4)', () => {
    const session = open([{ kind: 'mss', value: 1000 }, { kind: 'sack-permitted' }]);
    const { peer, ack } = session;
    peer.send({ flags: FLAG.ack, seq: 106, ack }, text('fghij'));
    const [answer] = peer.send({ flags: FLAG.ack, seq: 116, ack }, text('pqrst'));
    expect(answer!.tcp!.ack).toBe(101);
    expect(optionOf(answer, 'sack')!.blocks).toEqual([
      [116, 121],
      [106, 111],
    ]);
    peer.send({ flags: FLAG.ack, seq: 111, ack }, text('klmno'));
    const [last] = peer.send({ flags: FLAG.ack, seq: 101, ack }, text('abcde'));
    expect(last!.tcp!.ack).toBe(121);
    expect(readAll(session.connection, peer.agenda.now)).toEqual([...text('abcdefghijklmnopqrst')]);
  });

  it('an ACK for every second full segment, and within the delay for a single one (RFC 9293 §3.8.6.3)', () => {
    const { peer, ack } = open([{ kind: 'mss', value: 1000 }]);
    const body = new Uint8Array(1000);
    let seq = 101;
    const next = (): number => {
      const answers = peer.send({ flags: FLAG.ack, seq, ack }, body).length;
      seq += 1000;
      return answers;
    };
    // A young connection acknowledges at once, so that the sender's window opens.
    for (let i = 0; i < 16; i++) expect(next()).toBe(1);
    expect([next(), next(), next(), next()]).toEqual([0, 1, 0, 1]);
    expect(next()).toBe(0);
    expect(peer.wait(39_000)).toEqual([]);
    expect(peer.wait(2_000)).toHaveLength(1);
  });

  it('a duplicate is reported by D-SACK (RFC 2883) and delivered once', () => {
    const { peer, ack, connection } = open([{ kind: 'mss', value: 1000 }, { kind: 'sack-permitted' }]);
    peer.send({ flags: FLAG.ack, seq: 101, ack }, text('abc'));
    const [answer] = peer.send({ flags: FLAG.ack, seq: 101, ack }, text('abc'));
    expect(optionOf(answer, 'sack')!.blocks).toEqual([[101, 104]]);
    expect(readAll(connection, peer.agenda.now)).toEqual([...text('abc')]);
  });

  it('data beyond the window is not taken', () => {
    const peer = new HandPeer({ mptcp: { enabled: false }, tcp: { receiveBuffer: 2000, maxReceiveBuffer: 2000 } });
    const session = open([{ kind: 'mss', value: 1000 }], peer);
    peer.send({ flags: FLAG.ack, seq: 101, ack: session.ack }, new Uint8Array(1400).fill(1));
    const [answer] = peer.send({ flags: FLAG.ack, seq: 1501, ack: session.ack }, new Uint8Array(1400).fill(2));
    expect(answer!.tcp!.ack).toBe(2101);
    expect(session.connection.readable).toBe(2000);
    expect(answer!.tcp!.window).toBe(0);
  });

  it('old timestamps are rejected (PAWS, RFC 7323 §5)', () => {
    const stamp = (value: number): TcpOption[] => [{ kind: 'timestamps', value, echo: 0 }];
    const peer = new HandPeer(PLAIN);
    peer.host.listen({ port: 80 });
    const [synAck] = peer.send({ flags: FLAG.syn, seq: 100, options: [...stamp(1000)] });
    const ack = (synAck!.tcp!.seq + 1) >>> 0;
    peer.send({ flags: FLAG.ack, seq: 101, ack, options: stamp(1001) });
    peer.send({ flags: FLAG.ack, seq: 101, ack, options: stamp(1002) }, text('good'));
    const [answer] = peer.send({ flags: FLAG.ack, seq: 105, ack, options: stamp(900) }, text('evil'));
    expect(answer!.tcp!.ack).toBe(105);
    expect(peer.host.counters.get('tcp-paws')).toBe(1);
  });
});

describe('blind attacks (RFC 5961)', () => {
  it('a RST that is not exactly next is challenged, an exact one resets', () => {
    const { peer, connection, ack } = open();
    const [challenge] = peer.send({ flags: FLAG.rst, seq: 150 });
    expect(challenge!.tcp).toMatchObject({ flags: FLAG.ack, ack: 101, seq: ack });
    expect(connection.closed).toBe(false);
    expect(peer.send({ flags: FLAG.rst, seq: 0x70000000 })).toEqual([]);
    peer.send({ flags: FLAG.rst, seq: 101 });
    expect(connection.closeReason).toBe('reset');
  });

  it('a SYN inside a connection is challenged', () => {
    const { peer, connection } = open();
    const [challenge] = peer.send({ flags: FLAG.syn, seq: 150 });
    expect(challenge!.tcp!.flags).toBe(FLAG.ack);
    expect(connection.open).toBe(true);
  });

  it('acknowledgements of what was never sent, or long ago, change nothing', () => {
    const { peer, connection, ack } = open();
    const [answer] = peer.send({ flags: FLAG.ack, seq: 101, ack: (ack + 5000) >>> 0 }, text('x'));
    expect(answer!.tcp!.ack).toBe(101);
    expect(connection.readable).toBe(0);
    expect(peer.host.counters.get('tcp-ack-out-of-range')).toBe(1);
  });

  it('challenge ACKs are limited per second, to a number drawn at random (CVE-2016-5696)', () => {
    const { peer } = open([{ kind: 'mss', value: 1000 }], new HandPeer({ mptcp: { enabled: false }, tcp: { challengeAckLimit: 3 } }));
    let answers = 0;
    for (let i = 0; i < 10; i++) answers += peer.send({ flags: FLAG.syn, seq: 150 }).length;
    expect(answers).toBeGreaterThanOrEqual(1);
    expect(answers).toBeLessThanOrEqual(4);
  });
});

describe('sending', () => {
  it('starts with ten segments and respects the peer’s MSS and window (RFC 6928)', () => {
    const { peer, connection } = open([{ kind: 'mss', value: 1000 }]);
    connection.write(new Uint8Array(50_000), peer.agenda.now);
    peer.sent.length = 0;
    peer.node.pump();
    expect(peer.sent).toHaveLength(10);
    expect(new Set(peer.sent.map((packet) => packet.payload.length))).toEqual(new Set([1000]));
  });

  it('Nagle holds a small segment until the one before is acknowledged; noDelay does not (RFC 9293 §3.7.4)', () => {
    const { peer, connection, ack } = open();
    const write = (value: string): Packet[] => {
      peer.sent.length = 0;
      connection.write(text(value), peer.agenda.now);
      peer.node.pump();
      return peer.sent.slice();
    };
    expect(payloadBytes(write('a'))).toBe(1);
    expect(write('b')).toEqual([]);
    expect(write('c')).toEqual([]);
    expect(payloadBytes(peer.send({ flags: FLAG.ack, seq: 101, ack: ack + 1 }))).toBe(2);
    connection.noDelay = true;
    expect(payloadBytes(write('d'))).toBe(1);
  });

  it('a window that shrinks to nothing is believed, probed with an octet, and used when it opens (RFC 9293 §3.8.6, §3.8.6.1)', () => {
    const { peer, connection, ack } = open();
    peer.send({ flags: FLAG.ack, seq: 101, ack, window: 0 });
    peer.sent.length = 0;
    connection.write(new Uint8Array(100_000), peer.agenda.now);
    peer.node.pump();
    // Nothing at once (MUST-34), then an octet that had been granted before, again and again while the peer answers (MUST-35, MUST-36).
    expect(peer.sent).toEqual([]);
    let probes = 0;
    for (let i = 0; i < 40; i++) {
      for (const packet of peer.wait(10_000_000)) {
        expect(packet.tcp!.seq).toBe(ack);
        expect(packet.payload.length).toBe(1);
        probes++;
      }
      peer.send({ flags: FLAG.ack, seq: 101, ack, window: 0 });
    }
    expect(probes).toBeGreaterThanOrEqual(6);
    expect(connection.closed).toBe(false);
    // Open: the octet goes out again at once, and the rest as fast as the congestion window, one segment after the timeouts, allows.
    let opened = 0;
    let packets = peer.send({ flags: FLAG.ack, seq: 101, ack, window: 5000 });
    expect(packets[0]!.tcp!.seq).toBe(ack);
    for (let i = 0; i < 10; i++) {
      for (const packet of packets) opened = Math.max(opened, packet.tcp!.seq + packet.payload.length - ack);
      packets = peer.send({ flags: FLAG.ack, seq: 101, ack: ack + opened, window: 5000 - opened });
    }
    // All of it but a piece smaller than a segment (RFC 9293 §3.8.6.2.1).
    expect(opened).toBeGreaterThan(4000);
    expect(opened).toBeLessThanOrEqual(5000);
  });

  it('without SACK the third duplicate ACK retransmits, the first two send new data (RFC 5681, RFC 3042)', () => {
    const { peer, connection, ack } = open([{ kind: 'mss', value: 1000 }]);
    connection.write(new Uint8Array(40_000), peer.agenda.now);
    peer.node.pump();
    peer.agenda.now += 10_000;
    const duplicate = (): Packet[] => peer.send({ flags: FLAG.ack, seq: 101, ack });
    expect(duplicate()[0]!.tcp!.seq).toBe(ack + 10_000);
    expect(duplicate()[0]!.tcp!.seq).toBe(ack + 11_000);
    const third = duplicate();
    expect(third.map((packet) => packet.tcp!.seq)).toContain(ack);
  });

  it('with SACK, RACK retransmits exactly what is missing (RFC 8985)', () => {
    const { peer, connection, ack } = open([{ kind: 'mss', value: 1000 }, { kind: 'sack-permitted' }]);
    connection.write(new Uint8Array(40_000), peer.agenda.now);
    peer.node.pump();
    peer.agenda.now += 50_000;
    const answer = peer.send({ flags: FLAG.ack, seq: 101, ack: ack + 1000, options: [{ kind: 'sack', blocks: [[ack + 2000, ack + 8000]] }] });
    const later = peer.wait(60_000);
    const again = [...answer, ...later].filter((packet) => packet.tcp!.seq < ack + 10_000 && packet.payload.length > 0).map((packet) => packet.tcp!.seq - ack);
    expect(again).toContain(1000);
    expect(again.filter((seq) => seq >= 2000 && seq < 8000)).toEqual([]);
  });

  it('a lost tail is probed after two round trips, long before the RTO (RFC 8985 §7)', () => {
    const { peer, connection, ack } = open([{ kind: 'mss', value: 1000 }, { kind: 'sack-permitted' }]);
    connection.write(new Uint8Array(3000), peer.agenda.now);
    peer.node.pump();
    peer.agenda.now += 20_000;
    peer.send({ flags: FLAG.ack, seq: 101, ack: ack + 1000 });
    const start = peer.agenda.now;
    let probe: Packet | undefined;
    while (probe === undefined && peer.agenda.now - start < 1_000_000) probe = peer.wait(1000).find((packet) => packet.payload.length > 0);
    expect(probe!.tcp!.seq).toBe(ack + 2000);
    expect(peer.agenda.now - start).toBeLessThan(150_000);
  });

  it('timeouts back off and end the connection (RFC 6298 §5.5, RFC 9293 §3.8.3)', () => {
    const { peer, connection } = open([{ kind: 'mss', value: 1000 }], new HandPeer({ mptcp: { enabled: false }, tcp: { maxRetransmits: 4 } }));
    connection.write(new Uint8Array(100), peer.agenda.now);
    peer.node.pump();
    const times: number[] = [];
    const start = peer.agenda.now;
    for (let i = 0; i < 1000 && !connection.closed; i++) if (peer.wait(20_000).some((packet) => packet.payload.length > 0)) times.push(peer.agenda.now - start);
    expect(connection.closeReason).toBe('timeout');
    expect(times).toHaveLength(4);
    const gaps = times.slice(1).map((time, i) => time - times[i]!);
    expect(gaps[1]! / gaps[0]!).toBeCloseTo(2, 0);
    expect(gaps[2]! / gaps[1]!).toBeCloseTo(2, 0);
  });

  it('an ICMP "too big" for a segment in flight shrinks the segments; a forged one does not (RFC 1191, RFC 5927)', () => {
    const { peer, connection, ack } = open([{ kind: 'mss', value: 1460 }]);
    connection.write(new Uint8Array(5000), peer.agenda.now);
    peer.node.pump();
    const tooBig = (seq: number): void => {
      const quote = new Uint8Array(28);
      const view = new DataView(quote.buffer);
      quote.set([0x45, 0, 5, 0xdc, 0, 0, 0x40, 0, 64, 6, 0, 0, ...LOCAL, ...REMOTE]);
      view.setUint16(20, 80);
      view.setUint16(22, 1000);
      view.setUint32(24, seq);
      peer.node.receive(
        peer.through,
        buildPacket(ipHeader(parseAddress('192.0.2.99'), LOCAL, PROTOCOL.icmp), {
          icmp: { kind: 'error', version: 4, type: ICMP.unreachable, code: 4, checksum: 0, rest: 1000, quote },
        }),
        peer.agenda.now,
      );
    };
    tooBig((ack + 900_000) >>> 0);
    expect(connection.subflows[0]!.tcb.mss).toBe(1460);
    peer.sent.length = 0;
    tooBig(ack);
    expect(connection.subflows[0]!.tcb.mss).toBe(960);
    expect(Math.max(...peer.sent.map((packet) => packet.payload.length))).toBe(960);
  });

  it('keepalive probes an idle peer and gives up when nobody answers (RFC 9293 §3.8.4)', () => {
    const { peer, connection } = open(
      [{ kind: 'mss', value: 1000 }],
      new HandPeer({ mptcp: { enabled: false }, tcp: { keepaliveIdle: 1_000_000, keepaliveInterval: 500_000, keepaliveProbes: 3 } }),
    );
    const probes = peer.wait(10_000_000).filter((packet) => packet.tcp!.flags === FLAG.ack);
    expect(probes).toHaveLength(3);
    expect(connection.closeReason).toBe('timeout');
  });

  it('marks are echoed until the sender has reacted (ECN, RFC 3168)', () => {
    const world = pair({ link: { rate: 20_000_000, markAbove: 5_000 }, client: { ...PLAIN, tcp: { ecn: true } }, server: PLAIN });
    const { client, server } = establish(world);
    for (let i = 0; i < 30; i++) client.write(new Uint8Array(8000), world.agenda.now);
    world.client.pump();
    world.agenda.runUntil(world.agenda.now + 3_000_000);
    expect(server.readable).toBe(240_000);
    expect(world.links[0]!.up.counters.marked).toBeGreaterThan(0);
    expect(world.clientEvents.some((event) => event.type === 'congestion' && event.kind === 'ecn')).toBe(true);
    expect(client.subflows[0]!.tcb.retransmissions).toBe(0);
  });
});

describe('closing (RFC 9293 §3.6)', () => {
  it('half-close: the other direction goes on', () => {
    const world = pair({ client: PLAIN, server: PLAIN });
    const { client, server } = establish(world);
    client.shutdown(world.agenda.now);
    world.client.pump();
    world.agenda.runUntil(world.agenda.now + 10_000);
    expect(server.receiveEnded).toBe(true);
    server.write(text('still here'), world.agenda.now);
    server.shutdown(world.agenda.now);
    world.server.pump();
    world.agenda.runUntil(world.agenda.now + 10_000);
    expect(readAll(client, world.agenda.now)).toEqual([...text('still here')]);
    expect(client.closeReason).toBe('normal');
    expect(client.subflows).toEqual([]);
    world.agenda.runUntil(world.agenda.now + 5_000_000);
    expect(world.client.host.idle && world.server.host.idle).toBe(true);
  });

  it('simultaneous close passes through CLOSING to TIME-WAIT', () => {
    const { peer, connection, ack } = open();
    const { tcb } = connection.subflows[0]!;
    connection.shutdown(peer.agenda.now);
    peer.node.pump();
    expect(tcb.state).toBe(STATE.finWait1);
    peer.send({ flags: FLAG.fin | FLAG.ack, seq: 101, ack });
    expect(tcb.state).toBe(STATE.closing);
    peer.send({ flags: FLAG.ack, seq: 102, ack: ack + 1 });
    expect(peer.host.timeWaits.size).toBe(1);
    // A retransmitted FIN is acknowledged again.
    expect(peer.send({ flags: FLAG.fin | FLAG.ack, seq: 101, ack: ack + 1 })[0]!.tcp!.ack).toBe(102);
  });

  it('abort resets', () => {
    const { peer, connection } = open();
    peer.sent.length = 0;
    connection.abort(peer.agenda.now);
    peer.node.pump();
    expect(peer.sent[0]!.tcp!.flags & FLAG.rst).toBe(FLAG.rst);
    expect(peer.host.idle).toBe(true);
  });
});

describe('robustness', () => {
  it('any options on any segment leave the host standing', () => {
    const { peer, ack } = open();
    const scratch = new Uint8Array(60);
    let state = 1;
    for (let i = 0; i < 3000; i++) {
      const body = Array.from({ length: i % 38 }, () => (state = Math.imul(state, 1103515245) + 12345) & 0xff);
      const options: TcpOption[] = [{ kind: 'unknown', code: i % 3 === 0 ? 30 : i & 0xff || 2, data: new Uint8Array(body) }];
      expect(
        emitTcp(
          { sourcePort: 1, destinationPort: 1, seq: 0, ack: 0, headerLength: 20, reserved: 0, flags: 0, window: 0, checksum: 0, urgent: 0, options },
          new DataView(scratch.buffer),
          0,
        ),
      ).toBeLessThanOrEqual(60);
      peer.send({ flags: i & 0xff, seq: 101, ack, options });
    }
    expect(peer.host.sizes.connections).toBeLessThan(1300);
  });
});
