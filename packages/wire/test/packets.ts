/** Random packets for properties: whole ones of every kind, and what damage makes of them. */
import fc from 'fast-check';
import { buildPacket, ipHeader, PROTOCOL } from '@subflow/wire';
import type { IpHeader, Ipv6Extension, TcpOption } from '@subflow/wire';

const u32 = fc.nat(0xffffffff);
const u64 = fc.record({ high: u32, low: u32 });

/** A DSS with the presence bits that its fields have. */
const dss: fc.Arbitrary<TcpOption> = fc
  .record({ flags: fc.nat(31), ack: u64, dsn: u64, ssn: u32, dataLength: fc.nat(65_535), checksum: fc.option(fc.nat(65_535)) })
  .map(({ flags, ack, dsn, ssn, dataLength, checksum }) => {
    const mapping = (flags & 4) !== 0;
    return {
      kind: 'mptcp',
      option: {
        subtype: 'dss',
        flags,
        dataAck: (flags & 1) === 0 ? null : (flags & 2) === 0 ? { high: 0, low: ack.low } : ack,
        dsn: !mapping ? null : (flags & 8) === 0 ? { high: 0, low: dsn.low } : dsn,
        ssn: mapping ? ssn : 0,
        dataLength: mapping ? dataLength : 0,
        checksum: mapping ? checksum : null,
      },
    };
  });

const option: fc.Arbitrary<TcpOption> = fc.oneof(
  dss,
  dss,
  fc.record({ kind: fc.constant('timestamps' as const), value: u32, echo: u32 }),
  fc.record({ kind: fc.constant('mss' as const), value: fc.nat(65_535) }),
  fc.record({ kind: fc.constant('window-scale' as const), shift: fc.nat(255) }),
  fc.constant({ kind: 'sack-permitted' as const }),
  fc.record({ kind: fc.constant('sack' as const), blocks: fc.array(fc.tuple(u32, u32), { minLength: 1, maxLength: 2 }) }),
  fc.record({ kind: fc.constant('fast-open' as const), cookie: fc.uint8Array({ maxLength: 8 }) }),
  fc.constant({ kind: 'nop' as const }),
  fc.record({ kind: fc.constant('mptcp' as const), option: fc.record({ subtype: fc.constant('prio' as const), flags: fc.nat(15), addressId: fc.nat(255) }) }),
  fc.record({
    kind: fc.constant('mptcp' as const),
    option: fc.record({ subtype: fc.constant('join-syn' as const), flags: fc.nat(15), addressId: fc.nat(255), token: u32, nonce: u32 }),
  }),
);

const extension: fc.Arbitrary<Ipv6Extension> = fc.oneof(
  fc.constantFrom(0, 60, 43).map((type) => ({ type, bytes: Uint8Array.of(0, 0, 1, 4, 0, 0, 0, 0) })),
  fc.constant({ type: 60, bytes: new Uint8Array(16).fill(1, 1, 2) }),
  fc.constant({ type: 51, bytes: new Uint8Array(12).fill(1, 1, 2) }),
  fc.tuple(fc.constantFrom(0, 1, 8, 9, 1480), u32).map(([word, id]) => {
    const bytes = new Uint8Array(8);
    new DataView(bytes.buffer).setUint16(2, word);
    new DataView(bytes.buffer).setUint32(4, id);
    return { type: 44, bytes };
  }),
);

const header: fc.Arbitrary<IpHeader> = fc
  .record({
    v4: fc.boolean(),
    bytes: fc.uint8Array({ minLength: 32, maxLength: 32 }),
    ttl: fc.nat(255),
    trafficClass: fc.nat(255),
    options: fc.nat(3),
    extensions: fc.array(extension, { maxLength: 3 }),
    fragment: fc.constantFrom(0, 0, 0, 8, 1480),
    more: fc.constantFrom(false, false, true),
    identification: fc.nat(65_535),
  })
  .map(({ v4, bytes, ttl, trafficClass, options, extensions, fragment, more, identification }) => {
    const size = v4 ? 4 : 16;
    const ip = ipHeader(bytes.slice(0, size), bytes.slice(16, 16 + size), PROTOCOL.tcp, ttl);
    ip.trafficClass = trafficClass;
    if (ip.version === 4) {
      ip.options = new Uint8Array(options * 4).fill(1);
      ip.fragmentOffset = fragment;
      ip.moreFragments = more;
      ip.identification = identification;
    } else {
      ip.extensions = extensions.map((one, i) => {
        const copy = one.bytes.slice();
        copy[0] = extensions[i + 1]?.type ?? PROTOCOL.tcp;
        return { type: one.type, bytes: copy };
      });
    }
    return ip;
  });

/** TCP packets with right lengths and checksums: both versions, IP options, extension headers, fragments, any TCP options. */
export const tcpPacket: fc.Arbitrary<Uint8Array> = fc
  .record({
    ip: header,
    options: fc.array(option, { maxLength: 4 }),
    payload: fc.uint8Array({ maxLength: 40 }),
    ports: fc.tuple(fc.nat(65_535), fc.nat(65_535)),
    seq: u32,
    flags: fc.nat(255),
  })
  .map(({ ip, options, payload, ports, seq, flags }) => {
    let room = 40;
    const fitting = options.filter((one) => (room -= lengthOf(one)) >= 0);
    const tcp = {
      sourcePort: ports[0],
      destinationPort: ports[1],
      seq,
      ack: seq ^ 0x5555,
      headerLength: 20,
      reserved: 0,
      flags,
      window: seq & 0xffff,
      checksum: 0,
      urgent: flags,
      options: fitting,
    };
    return buildPacket(ip, { tcp, payload });
  });

function lengthOf(one: TcpOption): number {
  if (one.kind === 'mptcp') return 28;
  return one.kind === 'sack' ? 18 : 10;
}

/** Whole packets, packets with some octets changed and an end cut off or put on, and any bytes. */
export const anyPacket: fc.Arbitrary<Uint8Array> = fc.oneof(
  tcpPacket,
  fc.tuple(tcpPacket, fc.array(fc.tuple(fc.nat(90), fc.nat(255)), { maxLength: 4 }), fc.nat(140)).map(([packet, changes, cut]) => {
    const out = packet.slice(0, cut > 100 ? packet.length : cut);
    for (const [at, value] of changes) if (at < out.length) out[at] = value;
    return out;
  }),
  fc.uint8Array({ maxLength: 120 }),
);
