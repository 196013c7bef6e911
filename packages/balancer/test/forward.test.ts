/** What leaves a balancer: tunnels, translation, errors; and bytes that nobody should send. */
import { describe, expect, it } from 'vitest';
import { buildPacket, FLAG, ICMP, ICMPV6, ipHeader, isMalformed, parseAddress, parsePacket, parsePacketValue, PARSED, PROTOCOL, Segment } from '@subflow/wire';
import type { Packet } from '@subflow/wire';
import { decapsulate, encapsulate, rewriteEnd, rewriteError, ServerShim } from '@subflow/balancer';
import { Random } from '@subflow/emulator';

const tcp = (sourcePort: number, destinationPort: number, flags: number = FLAG.ack) => ({
  sourcePort,
  destinationPort,
  seq: 1,
  ack: 2,
  headerLength: 20,
  reserved: 0,
  flags,
  window: 100,
  checksum: 0,
  urgent: 0,
  options: [],
});
const addresses = { 4: ['192.0.2.1', '203.0.113.10', '198.51.100.7'], 6: ['2001:db8::1', '2001:db8:ff::10', '2001:db8:1::7'] } as const;

function verified(bytes: Uint8Array): boolean {
  const view = new DataView(bytes.buffer, bytes.byteOffset, bytes.length);
  return parsePacket(view, bytes, 0, bytes.length, true, new Segment()) === PARSED.tcp;
}

function value(bytes: Uint8Array): Packet {
  const packet = parsePacketValue(bytes);
  if (isMalformed(packet)) throw packet;
  return packet;
}

describe.each([4, 6] as const)('IPv%i', (family) => {
  const [client, service, server] = addresses[family].map((text) => parseAddress(text)) as [Uint8Array, Uint8Array, Uint8Array];
  const request = (): Uint8Array => buildPacket(ipHeader(client, service, PROTOCOL.tcp), { tcp: tcp(40_000, 443), payload: new Uint8Array(33).fill(7) });

  it('translates there and back, checksums right on both ways', () => {
    const packet = request();
    expect(rewriteEnd(packet, 'destination', { address: server, port: 8443 })).toBe(true);
    expect(verified(packet)).toBe(true);
    expect(value(packet)).toMatchObject({ ip: { destination: server }, tcp: { destinationPort: 8443 } });
    const answer = buildPacket(ipHeader(server, client, PROTOCOL.tcp), { tcp: tcp(8443, 40_000) });
    expect(rewriteEnd(answer, 'source', { address: service, port: 443 })).toBe(true);
    expect(verified(answer)).toBe(true);
    expect(value(answer)).toMatchObject({ ip: { source: service }, tcp: { sourcePort: 443 } });
  });

  it('puts the quote of an error right in both directions', () => {
    const sent = buildPacket(ipHeader(service, client, PROTOCOL.tcp), { tcp: tcp(443, 40_000), payload: new Uint8Array(60) });
    const error = buildPacket(ipHeader(client, service, family === 4 ? PROTOCOL.icmp : PROTOCOL.icmpv6), {
      icmp: {
        kind: 'error',
        version: family,
        type: family === 4 ? ICMP.unreachable : ICMPV6.packetTooBig,
        code: family === 4 ? 4 : 0,
        checksum: 0,
        rest: 1400,
        quote: sent.slice(0, 80),
      },
    });
    expect(rewriteError(error, 'destination', { address: server, port: 8443 })).toBe(true);
    const packet = value(error);
    expect(packet.ip.destination).toEqual(server);
    const quote = (packet.icmp as { quote: Uint8Array }).quote;
    const at = family === 4 ? 20 : 40;
    expect(quote.slice(family === 4 ? 12 : 8, family === 4 ? 16 : 24)).toEqual(server);
    expect((quote[at]! << 8) | quote[at + 1]!).toBe(8443);
    // Built anew from its values it has the same checksum.
    expect(buildPacket(packet.ip, { icmp: { ...packet.icmp!, checksum: 0 } as never })).toEqual(error);
  });

  for (const outer of [4, 6] as const) {
    it(`goes through a tunnel of IPv${outer} and comes out the same`, () => {
      const [, , to] = addresses[outer].map((text) => parseAddress(text)) as [Uint8Array, Uint8Array, Uint8Array];
      const from = parseAddress(outer === 4 ? '198.51.100.10' : '2001:db8:1::10');
      for (const previous of [null, parseAddress(outer === 4 ? '198.51.100.9' : '2001:db8:1::9')]) {
        const packet = request();
        const tunnelled = encapsulate(packet, { source: from, destination: to, previous, generation: 9, seconds: 77 });
        const out = decapsulate(tunnelled)!;
        expect(out.packet).toEqual(packet);
        expect(out.previous).toEqual(previous);
        expect(out.generation).toBe(previous === null ? 0 : 9);
        expect([out.source, out.destination]).toEqual([from, to]);
        for (let length = 0; length < tunnelled.length; length++) expect(decapsulate(tunnelled.subarray(0, length))).toBeNull();
      }
    });
  }

  it('stays here when it is known, goes on when it is not, and is refused from strangers', () => {
    const balancer = parseAddress('198.51.100.10');
    const previous = parseAddress('198.51.100.9');
    const to = parseAddress('198.51.100.7');
    let known = true;
    const shim = new ServerShim({ knows: () => known }, [balancer]);
    const packet = request();
    const tunnel = { source: balancer, destination: to, previous, generation: 1, seconds: 1 };
    expect(shim.receive(encapsulate(packet, tunnel))).toEqual({ kind: 'here', packet });
    known = false;
    const onward = shim.receive(encapsulate(packet, tunnel));
    if (onward.kind !== 'onward') throw new Error(onward.kind);
    // Nobody is asked after that one.
    expect(decapsulate(onward.packet)).toMatchObject({ destination: previous, previous: null, packet });
    const syn = buildPacket(ipHeader(client, service, PROTOCOL.tcp), { tcp: tcp(40_000, 443, FLAG.syn) });
    expect(shim.receive(encapsulate(syn, tunnel)).kind).toBe('here');
    expect(shim.receive(encapsulate(packet, { ...tunnel, source: parseAddress('198.51.100.66') }))).toEqual({ kind: 'drop', reason: 'foreign' });
    expect(shim.receive(packet)).toEqual({ kind: 'here', packet });
  });

  it('takes any bytes', () => {
    const random = new Random(family);
    const shim = new ServerShim({ knows: () => false }, [parseAddress('198.51.100.10')]);
    const base = encapsulate(request(), {
      source: parseAddress('198.51.100.10'),
      destination: parseAddress('198.51.100.7'),
      previous: parseAddress('198.51.100.9'),
      generation: 1,
      seconds: 1,
    });
    for (let i = 0; i < 20_000; i++) {
      const bytes = (random.uint32() & 1) === 0 ? base.slice(0, random.uint32() % (base.length + 1)) : request().slice(0, 1 + (random.uint32() % 73));
      for (let k = random.uint32() % 6; k > 0 && bytes.length > 0; k--) bytes[random.uint32() % bytes.length] = random.uint32() & 0xff;
      shim.receive(bytes);
      rewriteEnd(bytes, 'source', { address: server, port: 1 });
      rewriteError(bytes, 'destination', { address: server, port: 1 });
    }
    expect(shim.foreign).toBeGreaterThan(0);
  });
});
