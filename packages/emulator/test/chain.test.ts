/** Paths with routers: TTL, what is quoted, how often, and where boxes stand. */
import { buildPacket, FLAG, icmpErrorParts, ipHeader, ipSource, isMalformed, mplsLabels, parseAddress, parsePacketValue, PROTOCOL } from '@subflow/wire';
import { describe, expect, it } from 'vitest';
import { Agenda, Chain, editSegments, MIDDLEBOXES, Random } from '../src/index.ts';
import type { ChainConfig } from '../src/index.ts';

const CLIENT = { 4: parseAddress('192.0.2.1'), 6: parseAddress('2001:db8::1') };
const SERVER = { 4: parseAddress('198.51.100.2'), 6: parseAddress('2001:db8::2') };

function syn(version: 4 | 6, ttl: number, payload = 0): Uint8Array {
  const tcp = {
    sourcePort: 1,
    destinationPort: 2,
    seq: 3,
    ack: 0,
    headerLength: 20,
    reserved: 0,
    flags: FLAG.syn,
    window: 5,
    checksum: 0,
    urgent: 0,
    options: [],
  };
  return buildPacket(ipHeader(CLIENT[version], SERVER[version], PROTOCOL.tcp, ttl), { tcp, payload: new Uint8Array(payload) });
}

function chain(config: Partial<ChainConfig> & { routers: ChainConfig['routers'] }): {
  agenda: Agenda;
  path: Chain;
  client: Uint8Array[];
  server: Uint8Array[];
} {
  const agenda = new Agenda();
  const path = new Chain(agenda, new Random(1), config);
  const client: Uint8Array[] = [];
  const server: Uint8Array[] = [];
  path.client = (packet) => client.push(packet);
  path.server = (packet) => server.push(packet);
  return { agenda, path, client, server };
}

const router = (i: number) => ({ address: parseAddress(`203.0.113.${i}`), address6: parseAddress(`2001:db8:f::${i}`) });

describe('a chain of routers', () => {
  it.each([4, 6] as const)('counts TTL down and says where it ended, IPv%i', (version) => {
    const { agenda, path, client, server } = chain({ routers: [router(1), router(2), router(3)] });
    for (const ttl of [1, 2, 3, 4]) {
      path.fromClient(syn(version, ttl));
      agenda.runUntil(agenda.now + 1);
    }
    expect(server).toHaveLength(1);
    const arrived = parsePacketValue(server[0]!);
    expect(!isMalformed(arrived) && (arrived.ip.version === 4 ? arrived.ip.ttl : arrived.ip.hopLimit)).toBe(1);
    const errors = client.map((bytes) => parsePacketValue(bytes));
    expect(errors.map((one) => !isMalformed(one) && one.ip.source.at(-1))).toEqual([1, 2, 3]);
    for (const one of errors) {
      if (isMalformed(one) || one.icmp?.kind !== 'error') throw new Error('expected an ICMP error');
      // Linux and others send the whole packet back as far as it fits.
      expect(one.icmp.quote.length).toBe(version === 4 ? 40 : 60);
      expect(one.icmp.type).toBe(version === 4 ? 11 : 3);
    }
  });

  it('quotes as much as it is told, and no more than fits into 576 octets', () => {
    for (const [quote, expected] of [
      [8, 28],
      [520, 540],
      [Number.POSITIVE_INFINITY, 548],
    ] as const) {
      const { agenda, path, client } = chain({ routers: [{ ...router(1), quote }] });
      path.fromClient(syn(4, 1, 1000));
      agenda.runUntil(1);
      const error = parsePacketValue(client[0]!);
      expect(!isMalformed(error) && error.icmp?.kind === 'error' && error.icmp.quote.length).toBe(expected);
    }
  });

  it('says nothing about errors, nothing when silent, and no more than its rate', () => {
    const { agenda, path, client } = chain({
      routers: [
        { ...router(1), rateLimit: 3 },
        { ...router(2), silent: true },
      ],
    });
    for (let i = 0; i < 10; i++) path.fromClient(syn(4, 1));
    path.fromClient(syn(4, 2));
    const quote = syn(4, 9);
    path.fromClient(
      buildPacket(ipHeader(CLIENT[4], SERVER[4], PROTOCOL.icmp, 1), { icmp: { kind: 'error', version: 4, type: 11, code: 0, checksum: 0, rest: 0, quote } }),
    );
    agenda.runUntil(1);
    expect(client).toHaveLength(3);
    expect(path.routers.map((one) => one.expired)).toEqual([11, 1]);
    agenda.runUntil(2e6);
    path.fromClient(syn(4, 1));
    agenda.runUntil(3e6);
    expect(client).toHaveLength(4);
  });

  it('tells the labels of its tunnel behind the quote', () => {
    const labels = [{ label: 9, trafficClass: 2, bottom: true, ttl: 7 }];
    const { agenda, path, client } = chain({ routers: [{ ...router(1), labels, quote: 8 }] });
    path.fromClient(syn(4, 1));
    agenda.runUntil(1);
    const error = parsePacketValue(client[0]!);
    if (isMalformed(error) || error.icmp?.kind !== 'error') throw new Error('expected an ICMP error');
    const parts = icmpErrorParts(error.icmp);
    expect(mplsLabels(parts.extensions)).toEqual(labels);
    // Padded to 128 octets (RFC 4884 §4).
    expect(parts.quote).toHaveLength(128);
  });

  it('shows a box from the hop behind it on', () => {
    const { agenda, path, client } = chain({ routers: [router(1), router(2), router(3)] });
    path.attach(
      editSegments('window', 'forward', (packet) => ((packet.tcp.window = 77), true)),
      1,
    );
    for (const ttl of [1, 2, 3]) path.fromClient(syn(4, ttl));
    agenda.runUntil(1);
    expect(client.map((bytes) => new DataView(bytes.buffer).getUint16(28 + 20 + 14))).toEqual([5, 77, 77]);
  });

  it('translates the quotes of errors for the client behind it (RFC 5508)', () => {
    const { agenda, path, client } = chain({ routers: [router(1), router(2)] });
    path.attach(MIDDLEBOXES['nat']!.make({ random: new Random(1), outside: parseAddress('203.0.113.200') }), 1);
    path.fromClient(syn(4, 2));
    agenda.runUntil(1);
    const error = parsePacketValue(client[0]!);
    if (isMalformed(error) || error.icmp?.kind !== 'error') throw new Error('expected an ICMP error');
    expect([...error.ip.destination]).toEqual([...CLIENT[4]]);
    expect(ipSource(error.icmp.quote)).toEqual(CLIENT[4]);
    expect(new DataView(error.icmp.quote.buffer, error.icmp.quote.byteOffset).getUint16(20)).toBe(1);
  });
});

it('builds every row of the catalogue', () => {
  for (const [name, row] of Object.entries(MIDDLEBOXES)) {
    const { agenda, path, server } = chain({ routers: [router(1)] });
    const box = path.attach(row.make({ random: new Random(1), outside: parseAddress('203.0.113.200') }), 0);
    expect(box.name, name).not.toBe('');
    expect(row.description).not.toBe('');
    path.fromClient(new Uint8Array(5));
    path.fromClient(new Uint8Array(60).fill(0x45));
    agenda.runUntil(1e6);
    expect(server.length, name).toBeLessThanOrEqual(2);
  }
});
