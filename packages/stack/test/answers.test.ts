/**
 * What is answered, and how often: good peers always, whatever somebody else does; anybody else within a budget that cannot be
 * predicted (RFC 5961 §7, CVE-2016-5696); an ACK not by ACKs without end, and a RST never by a RST (RFC 9293 §3.10.7).
 */
import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import type { HostOptions } from '@subflow/stack';
import { FLAG, parseAddress } from '@subflow/wire';
import type { MptcpOption, Packet } from '@subflow/wire';
import { Client, isReset, MODES, pattern, SECOND, VARIANTS } from './client.ts';
import type { Family, Mode } from './client.ts';
import { establish, pair } from './world.ts';

const isAck = (packet: Packet): boolean => packet.payload.length === 0 && packet.tcp!.flags === FLAG.ack;

/** A keepalive probe (RFC 9293 §3.8.4): one below what our host expects, empty or with an octet it has. */
function keepalive(client: Client, octet = false): Packet[] {
  return client.segment({ seq: client.seqOf(client.tcb.rcvNxt - 1) }, octet ? new Uint8Array(1) : new Uint8Array(0));
}

describe.each(VARIANTS)('a good peer, over IPv%i, %s', (family, mode) => {
  /** What anybody may send who knows the ends: wrong in every way there is. */
  const floods: Readonly<Record<string, (client: Client, i: number) => Packet[]>> = {
    'old ACKs': (client, i) => client.segment({ seq: client.seqOf(client.tcb.rcvNxt - 100_000 - i) }),
    'ACKs from the future': (client, i) => client.segment({ seq: client.seqOf(client.tcb.rcvEdge + 1000 + i) }),
    'resets near by': (client, i) => client.segment({ seq: client.seqOf(client.tcb.rcvNxt + 1 + (i % 1000)), flags: FLAG.rst }),
    SYNs: (client, i) => client.segment({ seq: client.seqOf(client.tcb.rcvNxt + i), flags: FLAG.syn, ack: 0 }),
    'ACKs of what was never sent': (client, i) => client.segment({ ack: client.ackOf(client.tcb.sndNxt + 1 + i) }),
    'old text': (client, i) => client.segment({ seq: client.seqOf(client.tcb.rcvNxt - 10_000_000 + i) }, new Uint8Array(10)),
  };

  it.each(Object.keys(floods))('is answered whatever comes in its name (%s)', (kind) => {
    const client = new Client(family, mode).open();
    client.data(100);
    let answered = 0;
    for (let i = 0; i < 3000; i++) answered += floods[kind]!(client, i).length;
    // A flood is answered now and then: its budget is no hundred in a moment.
    expect(answered).toBeLessThan(100);
    // Its keepalives, ten minutes long.
    for (let i = 0; i < 60; i++) {
      client.wait(10 * SECOND);
      for (let k = 0; k < 20; k++) floods[kind]!(client, i * 20 + k);
      expect(keepalive(client, i % 2 === 1).filter(isAck)).toHaveLength(1);
    }
    // And data that it sends again because our ACK was lost, however often.
    for (let i = 0; i < 100; i++) expect(client.data(pattern(client.next - 100, 100), { at: client.next - 100 }).filter(isAck)).toHaveLength(1);
    expect(client.alive).toBe(true);
  });

  it('is answered whatever another connection does', () => {
    const client = new Client(family, mode, { host: { tcp: { challengeAckLimit: 100 } } }).open();
    client.data(100);
    const other = { sourcePort: 2000 };
    const [synAck] = client.segment({ ...other, flags: FLAG.syn, seq: 1, ack: 0 });
    const ack = (synAck!.tcp!.seq + 1) >>> 0;
    client.segment({ ...other, seq: 2, ack });
    let answered = 0;
    for (let i = 0; i < 5000; i++)
      answered += client.segment({ ...other, seq: i % 2 === 0 ? 1_000_000 + i : 100 + i, ack, flags: i % 3 === 0 ? FLAG.rst : FLAG.ack }).length;
    expect(answered).toBeLessThan(150);
    for (let i = 0; i < 20; i++) expect(keepalive(client).filter(isAck)).toHaveLength(1);
    for (let i = 0; i < 20; i++) expect(client.data(pattern(client.next - 100, 100), { at: client.next - 100 }).filter(isAck)).toHaveLength(1);
  });
});

describe('challenge ACKs of a host', () => {
  it('are bounded each second, and their number says nothing: it is another one each time', () => {
    const client = new Client(4, 'plain TCP', { host: { tcp: { challengeAckLimit: 100 } } }).open();
    const ports = Array.from({ length: 40 }, (_, i) => 3000 + i);
    const acks = ports.map((sourcePort) => {
      const [synAck] = client.segment({ sourcePort, flags: FLAG.syn, seq: 1, ack: 0 });
      client.segment({ sourcePort, seq: 2, ack: (synAck!.tcp!.seq + 1) >>> 0 });
      return synAck;
    });
    expect(acks.every((one) => one !== undefined)).toBe(true);
    const counts: number[] = [];
    for (let second = 0; second < 12; second++) {
      client.wait(SECOND - (client.agenda.now % SECOND) + 10);
      let count = 0;
      for (let i = 0; i < 2000; i++) count += client.segment({ sourcePort: ports[i % ports.length]!, flags: FLAG.rst, seq: 200 + i, ack: 0 }).length;
      counts.push(count);
    }
    expect(Math.max(...counts)).toBeLessThanOrEqual(150);
    expect(new Set(counts).size).toBeGreaterThan(6);
  });

  it('to one connection are one in half a second on average, however many connections there are', () => {
    const client = new Client(6, 'plain TCP').open();
    let answered = 0;
    for (let i = 0; i < 600; i++) {
      client.wait(SECOND / 10);
      for (let k = 0; k < 10; k++) answered += client.segment({ seq: client.seqOf(client.tcb.rcvNxt + 10 + k), flags: FLAG.rst }).length;
    }
    expect(answered).toBeGreaterThan(60);
    expect(answered).toBeLessThan(300);
  });
});

describe.each([
  ['version 1', {}],
  ['version 0', { client: { mptcp: { versions: [0] } } as Partial<HostOptions> }],
])('two ends that have both shut down while data is missing (%s)', (_name, options) => {
  it.each([
    [500, 150_000, false],
    [50, 150_000, false],
    [500, 150_000, true],
    [5000, 400_000, true],
  ])('paths of %i and %i µs, the slow one dead %s: a handful of packets, not an answer to each answer', (fast, slow, dead) => {
    const world = pair({ paths: 2, link: { delay: slow }, ...options });
    for (const direction of [world.links[1]!.up, world.links[1]!.down]) direction.config = { ...direction.config, delay: fast };
    const { client, server } = establish(world, 2 * SECOND);
    const both = [client, server];
    client.write(new Uint8Array(100), world.agenda.now);
    world.client.pump();
    world.agenda.runUntil(world.agenda.now + 3 * SECOND);
    expect(client.subflows.length).toBe(2);
    for (const one of both) for (let i = 0; i < 30; i++) one.write(new Uint8Array(5000), world.agenda.now);
    world.client.pump();
    world.server.pump();
    world.agenda.runUntil(world.agenda.now + 1000);
    for (const one of both) one.shutdown(world.agenda.now);
    world.client.pump();
    world.server.pump();
    if (dead) for (const direction of [world.links[0]!.up, world.links[0]!.down]) direction.setUp(false);
    let data = 0;
    const packets = (): number => both.flatMap((one) => one.subflows).reduce((sum, { tcb }) => sum + tcb.segmentsSent, 0);
    let last = packets();
    let most = 0;
    for (let i = 0; i < 100; i++) {
      world.agenda.runUntil(world.agenda.now + SECOND / 10);
      for (const one of both)
        for (let chunk = one.read(1 << 20, world.agenda.now); chunk !== null; chunk = one.read(1 << 20, world.agenda.now)) data += chunk.length;
      world.client.pump();
      world.server.pump();
      const now = packets();
      // The data itself is 300 kB, 210 segments and their ACKs at most, in the first moments.
      if (i >= 10) most = Math.max(most, now - last);
      last = now;
    }
    expect(most).toBeLessThan(400);
    expect(data).toBe(2 * 150_000 + 100);
    expect(both.map((one) => one.closeReason)).toEqual(['normal', 'normal']);
  });
});

describe.each([4, 6] as const)('DATA_FIN again and again over IPv%i', (family) => {
  it.each(['version 0', 'version 1'] as const)('is answered within a budget, and then once for its own sake (%s)', (mode) => {
    const client = new Client(family, mode).open();
    client.data(10);
    const fin = (): number => client.segment({ flags: FLAG.ack }, new Uint8Array(0), [client.dataFin()]).length;
    expect(fin()).toBe(1);
    let answers = 0;
    for (let i = 0; i < 5000; i++) answers += fin();
    expect(answers).toBeLessThan(100);
    client.wait(20 * SECOND);
    expect(fin()).toBe(1);
  });
});

/** Every kind of option that may stand on a RST. */
const onReset: readonly (MptcpOption | null)[] = [
  null,
  { subtype: 'tcprst', flags: 0, reason: 1 },
  { subtype: 'tcprst', flags: 1, reason: 4 },
  { subtype: 'fastclose', reserved: 0, receiverKey: { high: 1, low: 2 } },
  { subtype: 'fail', reserved: 0, dsn: { high: 0, low: 7 } },
  { subtype: 'prio', flags: 1, addressId: null },
  { subtype: 'remove-addr', flags: 0, addressIds: [0, 1] },
  { subtype: 'add-addr', version: 1, flags: 0, addressId: 9, address: parseAddress('192.0.2.77'), port: null, hmac: new Uint8Array(8) },
  { subtype: 'capable', version: 1, flags: 1, senderKey: { high: 1, low: 2 }, receiverKey: { high: 3, low: 4 }, dataLength: 5, checksum: null },
  { subtype: 'join-syn', flags: 0, addressId: 1, token: 5, nonce: 6 },
  { subtype: 'join-ack', reserved: 0, hmac: new Uint8Array(20) },
  { subtype: 'dss', flags: 0x1f, dataAck: { high: 1, low: 1 }, dsn: { high: 1, low: 1 }, ssn: 1, dataLength: 1, checksum: null },
];

/** How far a connection has come when the RST arrives. */
const STAGES = [
  'no listener',
  'no connection',
  'half-open',
  'established',
  'with data both ways',
  'they have closed',
  'we have closed',
  'both have closed',
  'TIME-WAIT',
] as const;

function reach(family: Family, mode: Mode, stage: (typeof STAGES)[number]): Client {
  const client = new Client(family, mode);
  if (stage === 'no listener' || stage === 'no connection') return client;
  if (stage === 'half-open') {
    client.iss = client.syn().tcp!.seq;
    return client;
  }
  client.open();
  if (stage === 'with data both ways') {
    client.data(500);
    client.write(3000);
  }
  const close = (): void => {
    client.connection.shutdown(client.agenda.now);
    client.node.pump();
  };
  const theirs = (): void => {
    client.segment({ flags: FLAG.ack | FLAG.fin }, new Uint8Array(0), client.multipath ? [client.dataFin()] : []);
    client.next++;
  };
  if (stage === 'they have closed') theirs();
  if (stage === 'we have closed') close();
  if (stage === 'both have closed') {
    theirs();
    close();
  }
  if (stage === 'TIME-WAIT') {
    close();
    client.received = client.tcb.sndNxt;
    client.acknowledge();
    theirs();
  }
  return client;
}

describe.each(MODES)('a RST, %s', (mode) => {
  it.each(STAGES)('is never answered by a RST, whatever it carries: %s', (stage) => {
    const shot = fc.record({
      seq: fc.oneof(fc.integer({ min: -3, max: 3 }), fc.integer({ min: -70_000, max: 70_000 }), fc.integer()),
      ack: fc.oneof(fc.integer({ min: -3, max: 3 }), fc.integer()),
      flags: fc.nat(255).map((flags) => flags | FLAG.rst),
      option: fc.constantFrom(...onReset),
      length: fc.constantFrom(0, 0, 5),
    });
    fc.assert(
      fc.property(fc.constantFrom<Family>(4, 6), fc.array(shot, { minLength: 1, maxLength: 4 }), (family, shots) => {
        const client = reach(family, mode, stage);
        const { next, received } = client;
        for (const { seq, ack, flags, option, length } of shots) {
          const header = {
            seq: client.seqOf(next + seq),
            ack: client.ackOf(received + ack),
            flags,
            ...(stage === 'no listener' ? { destinationPort: 81 } : {}),
          };
          const answers = client.segment(header, new Uint8Array(length), option === null ? [] : [option]);
          expect(answers.filter(isReset)).toEqual([]);
          expect(answers.length).toBeLessThanOrEqual(1);
        }
      }),
      { numRuns: 40 },
    );
  });
});

describe.each(VARIANTS.filter(([, mode]) => mode.startsWith('version')))('MP_FASTCLOSE on a RST, over IPv%i, %s', (family, mode) => {
  it('with the right key ends the connection without a word; with a wrong one only the subflow', () => {
    const client = new Client(family, mode).open();
    client.data(10);
    expect(client.segment({ flags: FLAG.rst | FLAG.ack }, new Uint8Array(0), [client.fastclose()])).toEqual([]);
    expect(client.events.find((event) => event.type === 'connection-closed')).toMatchObject({ reason: 'reset' });
    expect([client.wait(60 * SECOND), client.host.sizes.connections]).toEqual([[], 0]);
    const other = new Client(family, mode).open();
    other.data(10);
    expect(other.segment({ flags: FLAG.rst | FLAG.ack }, new Uint8Array(0), [other.fastclose({ high: 1, low: 2 })])).toEqual([]);
    expect(other.events.some((event) => event.type === 'subflow-closed')).toBe(true);
  });
});
