/**
 * Attacks, each shown to fail, with the memory and work they cost: off-path injection (RFC 5961), floods, forged
 * addresses (RFC 7430), forged mappings and windows, out-of-order memory, ICMP lies, exhaustion of ports and tokens.
 */
import { afterAll, describe, expect, it } from 'vitest';
import { buildPacket, FLAG, ICMP, ipHeader, parseAddress, PROTOCOL, RESET_REASON } from '@subflow/wire';
import { StackError } from '@subflow/stack';
import { Conversation, find, isReset, resetReason } from './conversation.ts';
import { HandPeer, LOCAL, REMOTE } from './world.ts';

const SECOND = 1_000_000;
const figures: string[] = [];
afterAll(() => console.log(`figures of the attack tests:\n  ${figures.join('\n  ')}`));

/** Runs `count` attack packets; notes bytes of heap kept and microseconds of work for each. */
function measured(name: string, count: number, attack: (i: number) => void): { bytes: number; microseconds: number } {
  const collect = (globalThis as { gc?: () => void }).gc;
  collect?.();
  const before = process.memoryUsage().heapUsed;
  const started = performance.now();
  for (let i = 0; i < count; i++) attack(i);
  const microseconds = ((performance.now() - started) * 1000) / count;
  collect?.();
  const bytes = Math.max(0, process.memoryUsage().heapUsed - before) / count;
  figures.push(`${name}: ${count} packets, ${microseconds.toFixed(1)} µs each${collect === undefined ? '' : `, ${bytes.toFixed(1)} bytes kept each`}`);
  return { bytes, microseconds };
}

describe('blind injection (RFC 5961)', () => {
  it('resets: only the exact sequence number counts; the others draw challenge ACKs, within a budget', () => {
    const c = new Conversation({ tcp: { challengeAckLimit: 100 } }).talk();
    let answers = 0;
    measured('blind RST', 2000, (i) => (answers += c.peer.send({ flags: FLAG.rst, sourcePort: 1000, seq: 200 + i * 30 }).length));
    expect(c.connection.open).toBe(true);
    expect(answers).toBeLessThanOrEqual(100);
    expect(c.peer.host.counters.get('tcp-challenge-ack-limited')).toBeGreaterThan(0);
  });

  it('SYNs in the window: challenged, never a reset, never a new connection', () => {
    const c = new Conversation().talk();
    measured('blind SYN', 500, (i) => expect(isReset(c.peer.send({ flags: FLAG.syn, sourcePort: 1000, seq: 150 + i }))).toBe(false));
    expect(c.connection.open).toBe(true);
    expect(c.peer.host.sizes.connections).toBe(1);
  });

  it('data with an acknowledgement outside what was sent is not taken', () => {
    const c = new Conversation().talk();
    c.read();
    measured('blind data', 500, (i) =>
      c.peer.send({ flags: FLAG.ack, sourcePort: 1000, seq: c.flows[0]!.seq, ack: (c.flows[0]!.ack + 1_000_000 + i * 7919) >>> 0 }, new Uint8Array(10)),
    );
    expect(c.read()).toBe('');
    expect(c.connection.mode).toBe('mptcp');
  });

  it('data in the window without a mapping on one of two subflows costs that subflow, not the connection', () => {
    const c = new Conversation().talk();
    const flow = c.join();
    c.data('evil', { flow, bare: true });
    c.data('b', { at: 2 });
    expect(c.read()).toBe('ab');
  });
});

describe('lying acknowledgements', () => {
  it('for data that was never sent: ignored', () => {
    const c = new Conversation().talk();
    c.acknowledge();
    c.write('xyz');
    const { tcb } = c.connection.subflows[0]!;
    const cwnd = tcb.cwnd;
    for (let i = 1; i < 200; i++) c.raw(0, { flags: FLAG.ack, ack: (c.flows[0]!.ack + 3 + i * 100) >>> 0 }, []);
    expect(tcb.sndUna).toBe(1);
    expect(tcb.cwnd).toBe(cwnd);
  });

  it('optimistic ones, in small pieces, do not grow the window faster than the bytes they cover (RFC 3465)', () => {
    const c = new Conversation({ tcp: { congestion: 'newreno' } }).talk();
    c.acknowledge();
    c.write('x'.repeat(10_000));
    const { tcb } = c.connection.subflows[0]!;
    const before = tcb.cwnd;
    const sent = tcb.sndNxt - tcb.sndUna;
    for (let i = 1; i <= sent; i += 7) {
      c.signal({ subtype: 'dss', flags: 3, dataAck: c.dataAck(1 + Math.min(i, sent)), dsn: null, ssn: 0, dataLength: 0, checksum: null });
      c.flows[0]!.ack = (tcb.iss + 1 + Math.min(i, sent)) | 0;
    }
    expect(tcb.cwnd - before).toBeLessThanOrEqual(sent);
  });

  it('at the data level: a DATA_ACK alone frees nothing that a subflow still has to deliver', () => {
    const c = new Conversation().talk();
    c.acknowledge();
    c.write('important');
    c.signal({ subtype: 'dss', flags: 3, dataAck: c.dataAck(10), dsn: null, ssn: 0, dataLength: 0, checksum: null });
    // The subflow keeps its own copy until TCP acknowledges it (RFC 8684 §3.3.2).
    expect(c.connection.subflows[0]!.tcb.inFlight).toBe(9);
    expect(c.peer.wait(2 * SECOND).some((packet) => packet.payload.length === 9)).toBe(true);
  });
});

describe('floods', () => {
  it('SYN: beyond the backlog nothing is kept, and good clients still get in, with Multipath TCP', () => {
    const peer = new HandPeer();
    peer.host.listen({ port: 80, backlog: 64 });
    for (let i = 0; i < 64; i++) peer.send({ flags: FLAG.syn, sourcePort: 20_000 + i, seq: i });
    const before = peer.host.sizes;
    const { bytes } = measured('SYN flood', 20_000, (i) => {
      peer.send({ flags: FLAG.syn, sourcePort: 1 + (i % 19_000), seq: i * 77 });
      peer.events.length = 0;
    });
    expect(peer.host.sizes).toEqual(before);
    expect(bytes).toBeLessThan(64);
    const c = new Conversation({ mptcp: { synCookies: 'always' } }).talk();
    expect(c.connection.mode).toBe('mptcp');
    expect(c.read()).toBe('a');
  });

  it('MP_JOIN with unknown tokens: one RST each, nothing kept', () => {
    const c = new Conversation().talk();
    const before = c.peer.host.sizes;
    const { bytes } = measured('MP_JOIN flood, unknown tokens', 5_000, (i) => {
      const answer = c.peer.send({
        flags: FLAG.syn,
        sourcePort: 10_000 + i,
        seq: i,
        options: [{ kind: 'mptcp', option: { subtype: 'join-syn', flags: 0, addressId: 1, token: (i * 2654435761) >>> 0, nonce: i } }],
      });
      if (resetReason(answer) !== RESET_REASON.mptcp) throw new Error('not refused');
      c.peer.events.length = 0;
    });
    expect(c.peer.host.sizes).toEqual(before);
    expect(bytes).toBeLessThan(64);
  });

  it('MP_JOIN with the right token: a few half-open subflows, then cookies in a bounded table; a good join still gets in', () => {
    const c = new Conversation().talk();
    const flood = (i: number): void => {
      c.peer.send({
        flags: FLAG.syn,
        sourcePort: 3000 + (i % 60_000),
        seq: i,
        options: [{ kind: 'mptcp', option: { subtype: 'join-syn', flags: 0, addressId: 1, token: c.server.token >>> 0, nonce: i } }],
      });
      c.peer.events.length = 0;
    };
    const { bytes } = measured('MP_JOIN flood, right token', 20_000, flood);
    expect(c.connection.subflows.length).toBeLessThanOrEqual(1 + c.peer.host.mptcp.pendingJoins);
    expect(c.peer.host.joinTable.size).toBeLessThanOrEqual(1024);
    expect(bytes).toBeLessThan(256);
    c.joinSyn();
    expect(isReset(c.joinAck())).toBe(false);
    expect(c.connection.subflows.filter((one) => one.established)).toHaveLength(2);
  });

  it('of announcements: what we answer and remember is bounded', () => {
    const c = new Conversation().talk();
    measured('ADD_ADDR flood, right HMACs', 2000, (i) => c.signal(c.addAddress(1 + (i % 255), parseAddress(`203.0.113.${i % 250}`))));
    expect(c.connection.remoteAddresses!.length).toBeLessThanOrEqual(c.peer.host.limits.addressesAccepted);
    expect(c.connection.announcements?.length ?? 0).toBeLessThanOrEqual(64);
  });
});

describe('hijacking', () => {
  it('a replayed MP_JOIN: the old third ACK does not fit the new nonce', () => {
    const c = new Conversation().talk();
    c.joinSyn();
    const overheard = c.flows[1]!.serverNonce;
    c.joinAck();
    // The attacker repeats the client's SYN from elsewhere and answers with the HMAC he has seen.
    c.joinSyn();
    const fresh = c.flows[2]!.serverNonce;
    expect(fresh).not.toBe(overheard);
    c.flows[2]!.serverNonce = overheard;
    expect(resetReason(c.joinAck())).toBe(RESET_REASON.mptcp);
  });

  it('a forged ADD_ADDR (RFC 7430 §2): no HMAC, no effect', () => {
    const c = new Conversation().talk();
    measured('forged ADD_ADDR', 1000, (i) =>
      expect(c.signal(c.addAddress(1 + (i % 200), parseAddress('203.0.113.66'), null, new Uint8Array(8).fill(i)))).toEqual([]),
    );
    expect(c.connection.remoteAddresses).toBeNull();
    expect(c.peer.events.some((event) => event.type === 'subflow-created' && event.remote.startsWith('203.0.113.66'))).toBe(false);
  });

  it('a forged REMOVE_ADDR: the subflow answers the keepalive and stays', () => {
    const c = new Conversation().talk();
    const flow = c.join({ addressId: 9 });
    c.signal({ subtype: 'remove-addr', flags: 0, addressIds: [9] });
    c.acknowledge(flow);
    c.peer.wait(10 * SECOND);
    expect(c.connection.subflows).toHaveLength(2);
  });

  it('MP_FASTCLOSE by guessing: 64 bits are not guessed', () => {
    const c = new Conversation().talk();
    measured('MP_FASTCLOSE guesses', 5000, (i) => c.signal({ subtype: 'fastclose', reserved: 0, receiverKey: { high: i, low: i * 7 } }));
    expect(c.connection.open).toBe(true);
  });

  it('options on a segment outside the window do nothing', () => {
    const c = new Conversation().talk();
    c.raw(0, { flags: FLAG.ack, seq: (c.flows[0]!.seq + 100_000_000) >>> 0 }, [{ subtype: 'fastclose', reserved: 0, receiverKey: c.server }]);
    expect(c.connection.open).toBe(true);
  });

  it('our keys never repeat and are not derived from what is seen', () => {
    const seen = new Set<string>();
    const peer = new HandPeer();
    peer.host.listen({ port: 80, backlog: 5000 });
    for (let i = 0; i < 500; i++) {
      const [answer] = peer.send({
        flags: FLAG.syn,
        sourcePort: 1000 + i,
        seq: 1,
        options: [
          { kind: 'mptcp', option: { subtype: 'capable', version: 1, flags: 1, senderKey: null, receiverKey: null, dataLength: null, checksum: null } },
        ],
      });
      const key = find<{ senderKey: { high: number; low: number } }>([answer!], 'capable')!.senderKey;
      seen.add(`${key.high}/${key.low}`);
    }
    expect(seen.size).toBe(500);
  });
});

describe('forged mappings, windows and memory', () => {
  it('DSS far from the window, or contradicting an earlier mapping: no data, bounded memory', () => {
    const c = new Conversation().talk();
    c.read();
    measured('forged DSS', 3000, (i) => c.signal(c.dss(new Uint8Array(0), { at: 2 + i * 1000, length: 500, ssn: 5000 + i * 600 })));
    expect(c.read()).toBe('');
    expect(c.connection.subflows[0]!.mappings?.length ?? 0).toBeLessThanOrEqual(4096);
  });

  it('a data-level window that shrinks does not take back what was offered; nothing is sent beyond the largest', () => {
    const c = new Conversation().talk();
    c.acknowledge();
    const dss = (window: number): void =>
      void c.raw(0, { flags: FLAG.ack, window }, [{ subtype: 'dss', flags: 3, dataAck: c.dataAck(), dsn: null, ssn: 0, dataLength: 0, checksum: null }]);
    const edge = c.connection.dataWndEdge;
    dss(0);
    expect(c.connection.dataWndEdge).toBe(edge);
    c.write('x'.repeat(200_000));
    expect(c.connection.dataNxt).toBeLessThanOrEqual(c.connection.dataWndEdge);
  });

  it('out-of-order data: never more than the receive buffer is held, on a subflow or above', () => {
    const c = new Conversation({ tcp: { receiveBuffer: 100_000, maxReceiveBuffer: 100_000 } }).talk();
    const block = 'z'.repeat(1000);
    measured('out-of-order data', 3000, (i) => c.data(block, { at: 10 + i * 1000, seqOffset: 10 + i * 1000, ssn: 12 + i * 1000, keep: true }));
    const held = c.connection.outOfOrderBytes + c.connection.subflows.reduce((total, one) => total + one.tcb.outOfOrderBytes, 0);
    expect(held).toBeLessThanOrEqual(2 * 100_000 + 16_384);
  });

  it('many one-byte holes: work per packet stays small', () => {
    const c = new Conversation({ tcp: { receiveBuffer: 60_000, maxReceiveBuffer: 60_000 } }).talk();
    const { microseconds } = measured('one-byte holes', 10_000, (i) =>
      c.data('h', { at: 4 + (i % 25_000) * 2, seqOffset: 4 + (i % 25_000) * 2, ssn: 6 + (i % 25_000) * 2, keep: true }),
    );
    expect(microseconds).toBeLessThan(5_000);
  });
});

describe('ICMP lies (RFC 5927)', () => {
  const quote = (c: Conversation, seq: number): Uint8Array => {
    const { tcb } = c.connection.subflows[0]!;
    return buildPacket(ipHeader(LOCAL, REMOTE, PROTOCOL.tcp), {
      tcp: {
        sourcePort: tcb.localPort,
        destinationPort: tcb.remotePort,
        seq: seq >>> 0,
        ack: 0,
        headerLength: 20,
        reserved: 0,
        flags: FLAG.ack,
        window: 0,
        checksum: 0,
        urgent: 0,
        options: [],
      },
    });
  };
  const icmp = (c: Conversation, type: number, code: number, rest: number, seq: number): void =>
    c.peer.node.receive(
      c.peer.through,
      buildPacket(ipHeader(REMOTE, LOCAL, PROTOCOL.icmp), {
        icmp: { kind: 'error', version: 4, type, code, checksum: 0, rest, quote: quote(c, seq) } as never,
      }),
      c.peer.agenda.now,
    );

  it('unreachable errors never end an established connection', () => {
    const c = new Conversation().talk();
    const { tcb } = c.connection.subflows[0]!;
    measured('ICMP unreachable', 2000, (i) => icmp(c, ICMP.unreachable, i % 13, 0, tcb.iss + tcb.sndUna));
    expect(c.connection.open).toBe(true);
  });

  it('"fragmentation needed" for a sequence number that is not in flight is ignored; a tiny MTU is not believed', () => {
    const c = new Conversation().talk();
    c.acknowledge();
    c.write('x'.repeat(5000));
    const { tcb } = c.connection.subflows[0]!;
    icmp(c, ICMP.unreachable, 4, 600, tcb.iss + 50_000_000);
    expect(tcb.pathMtu).toBe(1500);
    icmp(c, ICMP.unreachable, 4, 68, tcb.iss + tcb.sndUna);
    expect(tcb.pathMtu).toBeGreaterThanOrEqual(576);
  });
});

describe('exhaustion', () => {
  it('of tokens: beyond the limit connections are plain TCP, and work', () => {
    const peer = new HandPeer({ mptcp: { maxTokens: 3 } });
    peer.host.listen({ port: 80 });
    const multipath = (port: number): boolean =>
      find(
        peer.send({
          flags: FLAG.syn,
          sourcePort: port,
          seq: 1,
          options: [
            { kind: 'mptcp', option: { subtype: 'capable', version: 1, flags: 1, senderKey: null, receiverKey: null, dataLength: null, checksum: null } },
          ],
        }),
        'capable',
      ) !== undefined;
    expect([1, 2, 3, 4, 5].map(multipath)).toEqual([true, true, true, false, false]);
    expect(peer.host.sizes.connections).toBe(5);
    expect(peer.host.mptcpCounters.MPFallbackTokenInit).toBeGreaterThan(0);
  });

  it('of ports: a clear error, nothing left behind', () => {
    const peer = new HandPeer();
    let opened = 0;
    let error: unknown = null;
    try {
      for (; opened < 17_000; opened++) {
        peer.host.connect({ remote: REMOTE, port: 80, multipath: false }, peer.agenda.now);
        peer.events.length = 0;
      }
    } catch (caught) {
      error = caught;
    }
    expect(error).toBeInstanceOf(StackError);
    expect((error as StackError).code).toBe('NO_PORTS');
    expect(peer.host.sizes.connections).toBe(opened);
    expect(opened).toBe(16_384);
  });
});
