/** A peer that keeps to no rule costs what its own packets cost: no exception, no loop, no memory beyond the buffer, no state it may not touch. */
import { describe, expect, it } from 'vitest';
import { buildPacket, FLAG, ipHeader, parseAddress, PROTOCOL } from '@subflow/wire';
import type { Packet, TcpOption } from '@subflow/wire';
import { Client, SECOND, VARIANTS } from './client.ts';
import { bytes, Conversation } from './conversation.ts';
import { establish, HandPeer, LOCAL, optionOf, pair, REMOTE } from './world.ts';

const MSS: TcpOption = { kind: 'mss', value: 1460 };

/** A plain connection that the peer opened, and the sequence number after our SYN. */
function accepted(options: ConstructorParameters<typeof HandPeer>[0] = {}, syn: TcpOption[] = [MSS], ack3: TcpOption[] = []): { peer: HandPeer; ack: number } {
  const peer = new HandPeer(options);
  peer.host.listen({ port: 80, multipath: false });
  const ack = (peer.send({ seq: 100, flags: FLAG.syn, options: syn })[0]!.tcp!.seq + 1) >>> 0;
  peer.send({ seq: 101, ack, flags: FLAG.ack, options: ack3 });
  return { peer, ack };
}

const only = (peer: HandPeer) => [...peer.host.connections.values()][0]!;

describe.each([0, 1] as const)('mappings of version %i', (version) => {
  it('windows and limits stay whole numbers however the receive buffer has grown', () => {
    const c = new Conversation({}, version).talk();
    for (let n = 60; n < 400; n += 13) {
      for (let i = 0; i < n; i++) {
        c.data('x'.repeat(1000 + n));
        c.read();
        c.peer.node.pump();
      }
      c.peer.agenda.runUntil(c.peer.agenda.now + 150_000);
      expect([Number.isInteger(c.connection.receiveLimit), Number.isInteger(c.connection.dataRcvEdge)]).toEqual([true, true]);
    }
  });

  it('that agree with many small ones cost what one costs', () => {
    const cost = (count: number): number => {
      const c = new Conversation({ tcp: { receiveBuffer: 1 << 24, maxReceiveBuffer: 1 << 24 } }, version).talk();
      c.read();
      const { ssn } = c.flows[0]!;
      for (let i = 0; i < count; i++) c.data('x', { at: c.next + 1 + i, ssn: ssn + 1 + i, seqOffset: 1 + i, keep: true });
      const runs: number[] = [];
      for (let run = 0; run < 7; run++) {
        const begin = performance.now();
        for (let i = 0; i < 50; i++) c.raw(0, { flags: FLAG.ack }, [c.dss(bytes(''), { at: c.next + 1, ssn: ssn + 1, length: 65_535 })]);
        runs.push(performance.now() - begin);
      }
      return Math.min(...runs) / 50;
    };
    cost(100);
    expect(cost(20_000)).toBeLessThan(3 * cost(100) + 0.05);
  }, 30_000);
});

describe('data that waits for its checksum', () => {
  it.each([4096, 16_384, 65_536])('is never more than a receive buffer of %i, and takes no array for an octet', (buffer) => {
    const c = new Conversation({ tcp: { receiveBuffer: buffer, maxReceiveBuffer: buffer }, mptcp: { checksum: true } }, 1).talk(0x81);
    c.read();
    c.peer.node.pump();
    const at = c.next;
    const { ssn } = c.flows[0]!;
    const { connection } = c;
    const heap = (): number => {
      globalThis.gc?.();
      return process.memoryUsage().arrayBuffers;
    };
    const before = heap();
    for (let i = 0; i < 60_000 && !connection.closed; i++) c.data('x', i === 0 ? { ssn, at, length: 65_000, checksum: 1 } : { bare: true, at });
    // What the buffer and what may be held beside it cannot take is given up with the subflow.
    expect(connection.subflows[0]?.pendingMapping?.received.length ?? 0).toBeLessThanOrEqual(Math.min(65_000, 1.25 * buffer + 16_384));
    expect(heap() - before).toBeLessThan(4_000_000);
  });
});

describe('what comes from the network never throws', () => {
  it('a fallback of the handshake with every ephemeral port in use', () => {
    const peer = new HandPeer({ mptcp: { versions: [1, 0] } });
    for (let i = 0; i < 16_384; i++) peer.host.connect({ remote: REMOTE, port: 1000 }, peer.agenda.now);
    peer.node.pump();
    const { sourcePort, seq } = peer.sent.at(-1)!.tcp!;
    peer.send({ sourcePort: 1000, destinationPort: sourcePort, seq: 500, ack: (seq + 1) >>> 0, flags: FLAG.syn | FLAG.ack });
    expect(peer.host.sizes.connections).toBe(16_384);
  });
});

describe('segments that are not accepted', () => {
  it.each([1000, 70_000_000, 2_000_000_000])('are not reported as received twice, %i octets back (RFC 2883)', (back) => {
    const { peer, ack } = accepted({}, [MSS, { kind: 'sack-permitted' }]);
    const [answer] = peer.send({ seq: (101 - back) >>> 0, ack, flags: FLAG.ack }, new Uint8Array(10));
    expect(optionOf(answer, 'sack')).toBeUndefined();
  });
});

describe('Fast Open and a simultaneous open', () => {
  it.each([false, true])('the data of the SYN is in the stream once, multipath %s (RFC 7413 §4.2)', (multipath) => {
    const peer = new HandPeer();
    const { host, agenda } = peer;
    const call = () => host.connect({ remote: REMOTE, port: 1000, fastOpen: true, multipath, localPort: 80 }, agenda.now);
    const first = call();
    peer.node.pump();
    const ack = (peer.sent[0]!.tcp!.seq + 1) >>> 0;
    peer.send({ seq: 500, ack, flags: FLAG.syn | FLAG.ack, options: [MSS, { kind: 'fast-open', cookie: new Uint8Array(8).fill(7) }] });
    first.abort(agenda.now);
    peer.node.pump();
    peer.sent.length = 0;
    const connection = call();
    connection.write(bytes('hello'), agenda.now);
    peer.node.pump();
    const syn = peer.sent[0]!;
    expect(new TextDecoder().decode(syn.payload)).toBe('hello');
    const stream = new Map<number, string>();
    const take = (packets: readonly Packet[]): void => {
      for (const { tcp, payload } of packets)
        for (let i = 0; i < payload.length; i++) stream.set(((tcp!.seq - syn.tcp!.seq) | 0) + i, String.fromCharCode(payload[i]!));
    };
    take(peer.send({ seq: 700, flags: FLAG.syn, options: [MSS] }));
    take(peer.send({ seq: 701, ack: (syn.tcp!.seq + 1) >>> 0, flags: FLAG.ack }));
    take(peer.wait(5 * SECOND));
    expect(
      [...stream]
        .sort(([a], [b]) => a - b)
        .map(([, octet]) => octet)
        .join(''),
    ).toBe('hello');
    expect(Math.max(...stream.keys())).toBe(5);
  });

  it("the SYN+ACK's window is not scaled (RFC 7323 §2.2)", () => {
    const peer = new HandPeer();
    const connection = peer.host.connect({ remote: REMOTE, port: 1000, localPort: 80, multipath: false }, peer.agenda.now);
    peer.node.pump();
    const ack = (peer.sent[0]!.tcp!.seq + 1) >>> 0;
    const options: TcpOption[] = [{ kind: 'window-scale', shift: 14 }];
    peer.send({ seq: 700, flags: FLAG.syn, window: 1000, options });
    peer.send({ seq: 700, ack, flags: FLAG.syn | FLAG.ack, window: 1000, options });
    const { tcb } = connection.subflows[0]!;
    expect([tcb.sndWnd, tcb.maxSndWnd]).toEqual([1000, 1000]);
  });
});

describe('sizes', () => {
  it.each([64, 88, 100, 536])('a maximum segment size of %i holds, with the options of each segment (RFC 9293 §3.7.1)', (mss) => {
    const stamp: TcpOption = { kind: 'timestamps', value: 1000, echo: 0 };
    const { peer } = accepted({}, [{ kind: 'mss', value: mss }, stamp], [stamp]);
    peer.sent.length = 0;
    only(peer).write(new Uint8Array(1000), peer.agenda.now);
    peer.node.pump();
    const sizes = peer.sent.map((one) => one.payload.length);
    expect(sizes.length).toBeGreaterThan(0);
    expect(Math.max(...sizes)).toBeLessThanOrEqual(mss - 12);
  });

  it.each([68, 500, 1279])('an ICMPv6 Packet Too Big of %i is discarded (RFC 8201 §4)', (mtu) => {
    const peer = new HandPeer();
    const local = parseAddress('2001:db8::1');
    const remote = parseAddress('2001:db8::2');
    const through = peer.host.addInterface({ name: 'v6', mtu: 1500, addresses: [{ address: local, bits: 64 }] });
    peer.node.attach(through, () => undefined);
    const connection = peer.host.connect({ remote, port: 9, local, localPort: 99, multipath: false }, peer.agenda.now);
    const { tcb } = connection.subflows[0]!;
    peer.node.pump();
    const tcp = {
      sourcePort: 99,
      destinationPort: 9,
      seq: tcb.iss >>> 0,
      ack: 0,
      headerLength: 20,
      reserved: 0,
      flags: FLAG.syn,
      window: 0,
      checksum: 0,
      urgent: 0,
    };
    const quote = buildPacket(ipHeader(local, remote, PROTOCOL.tcp), { tcp: { ...tcp, options: [] }, payload: new Uint8Array(0) });
    const icmp = { kind: 'error', version: 6, type: 2, code: 0, rest: mtu, checksum: 0, quote } as const;
    peer.node.receive(through, buildPacket(ipHeader(remote, local, PROTOCOL.icmpv6), { icmp }), peer.agenda.now);
    expect(tcb.pathMtu).toBe(1500);
  });

  it('an ICMP error that quotes SND.NXT with nothing in flight is not believed (RFC 5927 §4.1)', () => {
    const { peer } = accepted();
    const { tcb } = only(peer).subflows[0]!;
    const tcp = {
      sourcePort: 80,
      destinationPort: 1000,
      seq: (tcb.iss + tcb.sndNxt) >>> 0,
      ack: 0,
      headerLength: 20,
      reserved: 0,
      flags: FLAG.ack,
      window: 0,
      checksum: 0,
      urgent: 0,
    };
    const quote = buildPacket(ipHeader(LOCAL, REMOTE, PROTOCOL.tcp), { tcp: { ...tcp, options: [] }, payload: new Uint8Array(0) });
    const icmp = { kind: 'error', version: 4, type: 3, code: 4, rest: 576, checksum: 0, quote } as const;
    peer.node.receive(peer.through, buildPacket(ipHeader(REMOTE, LOCAL, PROTOCOL.icmp), { icmp }), peer.agenda.now);
    expect(tcb.pathMtu).toBe(1500);
  });
});

describe('the user timeout (RFC 9293 §3.9.1)', () => {
  it('counts for a FIN that nobody acknowledges', () => {
    const { peer } = accepted({ tcp: { userTimeout: 5 * SECOND } });
    const connection = only(peer);
    connection.shutdown(peer.agenda.now);
    peer.node.pump();
    peer.wait(15 * SECOND);
    expect(connection.closeReason).toBe('user-timeout');
  });

  it('counts for a SYN', () => {
    const peer = new HandPeer({ tcp: { userTimeout: 5 * SECOND } });
    const connection = peer.host.connect({ remote: REMOTE, port: 1 }, peer.agenda.now);
    peer.node.pump();
    peer.wait(15 * SECOND);
    expect(connection.closeReason).toBe('user-timeout');
  });
});

describe.each(VARIANTS)('a FIN that lies before data already held, over IPv%i, %s', (family, mode) => {
  it('ends neither in an exception nor in a connection that nobody can close', () => {
    const client = new Client(family, mode).open();
    const at = client.next;
    client.data(10, { at: at + 20 });
    client.segment({ seq: client.seqOf(at + 10), flags: FLAG.ack | FLAG.fin });
    client.data(20, { at });
    client.connection.close(client.agenda.now);
    client.node.pump();
    client.wait(3600 * SECOND);
    expect(client.host.sizes).toMatchObject({ connections: 0, subflows: 0 });
  });
});

describe('calls of an application', () => {
  const reading = () => {
    const world = pair();
    const { client, server } = establish(world);
    client.write(new Uint8Array(100), world.agenda.now);
    world.client.pump();
    world.agenda.runUntil(world.agenda.now + SECOND);
    return { world, client, server };
  };
  const codeOf = (call: () => unknown): unknown => {
    try {
      call();
    } catch (error) {
      return (error as { code?: string }).code;
    }
    return 'none';
  };

  it.each([150, -10, Number.NaN, 1.5, Number.POSITIVE_INFINITY])('consume(%d) of 100 octets is refused, and nothing is lost', (count) => {
    const { world, server } = reading();
    expect(codeOf(() => server.consume(count, world.agenda.now))).toBe('BAD_ARGUMENT');
    expect(server.read(1000, world.agenda.now)!.length).toBe(100);
  });

  it.each([Number.NaN, -1, Number.NEGATIVE_INFINITY])('configure({ keepaliveIdle: %d }) is refused', (keepaliveIdle) => {
    const { world, client } = reading();
    expect(codeOf(() => client.configure({ keepaliveIdle }, world.agenda.now))).toBe('BAD_OPTION');
  });

  it.each([-1, 65_536, 1.5, Number.NaN])('port %d is refused by connect and listen', (port) => {
    const { host, agenda } = new HandPeer();
    expect([codeOf(() => host.connect({ remote: REMOTE, port }, agenda.now)), codeOf(() => host.listen({ port }))]).toEqual(['BAD_OPTION', 'BAD_OPTION']);
    expect(host.idle).toBe(true);
  });

  it('settings of a listener are checked when it listens, not when a SYN comes', () => {
    const { host } = new HandPeer();
    expect(codeOf(() => host.listen({ port: 80, settings: { congestion: 'nonsense' } }))).not.toBe('none');
    expect(codeOf(() => host.listen({ port: 81, settings: { coupled: 'nonsense' } }))).not.toBe('none');
  });

  it('the same addresses and ports twice: ADDRESS_IN_USE', () => {
    const { host, agenda } = new HandPeer();
    host.connect({ remote: REMOTE, port: 80, localPort: 5 }, agenda.now);
    expect(codeOf(() => host.connect({ remote: REMOTE, port: 80, localPort: 5 }, agenda.now))).toBe('ADDRESS_IN_USE');
  });
});

describe('addresses of no single host', () => {
  it.each(['0.0.0.0', '224.0.0.1', '255.255.255.255'])('a SYN from %s draws nothing (RFC 9293 §3.9.2.3, MUST-63)', (source) => {
    const peer = new HandPeer();
    peer.host.listen({ port: 80 });
    const tcp = {
      sourcePort: 1,
      destinationPort: 80,
      seq: 1,
      ack: 0,
      headerLength: 20,
      reserved: 0,
      flags: FLAG.syn,
      window: 0,
      checksum: 0,
      urgent: 0,
      options: [],
    };
    peer.node.receive(peer.through, buildPacket(ipHeader(parseAddress(source), LOCAL, PROTOCOL.tcp), { tcp, payload: new Uint8Array(0) }), peer.agenda.now);
    expect([peer.sent.length, peer.host.sizes.connections]).toEqual([0, 0]);
  });

  it.each(['0.0.0.0', '224.0.0.1', '::', 'ff02::1'])('connect to %s is refused (MUST-46), and one between two families', (remote) => {
    const { host, agenda } = new HandPeer();
    expect(() => host.connect({ remote: parseAddress(remote), port: 80 }, agenda.now)).toThrow('expected the address of one host');
    expect(() => host.connect({ remote: parseAddress('2001:db8::2'), local: LOCAL, port: 80 }, agenda.now)).toThrow('of the family of');
  });
});
