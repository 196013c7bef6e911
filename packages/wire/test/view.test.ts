/** The small view and the one IP walk, held against the whole parser; and segments that are used again. */
import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import {
  buildPacket,
  ETHERTYPE,
  etherTypeOf,
  EXTENSION,
  findMptcp,
  findMptcpIn,
  fold,
  FRAME,
  ipDestination,
  ipHeader,
  ipLayout,
  IpLayout,
  ipSource,
  ipTrafficClass,
  ipTtl,
  ipVersion,
  IPV4,
  isMalformed,
  Layers,
  LINKTYPE,
  optionLengthAt,
  packetPorts,
  PARSED,
  parseIpv4,
  parseIpv6,
  parsePacket,
  parsePacketValue,
  parseTcpOptions,
  PROTOCOL,
  pseudoHeader,
  Segment,
  setIpTrafficClass,
  setIpTtl,
  STRICT,
  SUBTYPE,
  sum,
  sumSlices,
  TCP,
  WALK,
  walkFrame,
  walkIp,
  viewOf,
} from '@subflow/wire';
import type { MptcpOption, Packet, TcpOption } from '@subflow/wire';
import { anyPacket, tcpPacket } from './packets.ts';

const runs = { numRuns: 3000 };

/** A packet at `offset` of a larger array, with other bytes around it. */
function inside(packet: Uint8Array, offset: number): Uint8Array {
  const out = new Uint8Array(offset + packet.length + 70).fill(0x45);
  out.set(packet, offset);
  return out;
}

const SUBTYPE_OF: Record<MptcpOption['subtype'], number> = {
  capable: SUBTYPE.capable,
  'join-syn': SUBTYPE.join,
  'join-synack': SUBTYPE.join,
  'join-ack': SUBTYPE.join,
  dss: SUBTYPE.dss,
  'add-addr': SUBTYPE.addAddr,
  'remove-addr': SUBTYPE.removeAddr,
  prio: SUBTYPE.prio,
  fail: SUBTYPE.fail,
  fastclose: SUBTYPE.fastclose,
  tcprst: SUBTYPE.tcprst,
  unknown: -1,
};

describe('the view of a packet', () => {
  it('agrees with the whole parser wherever that accepts the packet', () => {
    let accepted = 0;
    fc.assert(
      fc.property(anyPacket, (packet) => {
        const parsed = parsePacketValue(packet);
        if (isMalformed(parsed)) return;
        accepted++;
        const { ip, tcp } = parsed;
        const layout = ipLayout(packet)!;
        expect(ipVersion(packet)).toBe(ip.version);
        expect(ipSource(packet)).toEqual(ip.source);
        expect(ipDestination(packet)).toEqual(ip.destination);
        expect(ipTrafficClass(packet)).toBe(ip.trafficClass);
        expect(ipTtl(packet)).toBe(ip.version === 4 ? ip.ttl : ip.hopLimit);
        expect(layout).toMatchObject({ protocol: ip.protocol, tcpOffset: ip.headerLength, fragmentOffset: ip.fragmentOffset, moreFragments: ip.moreFragments });
        if (tcp !== null) {
          expect(packetPorts(packet)).toEqual({ source: tcp.sourcePort, destination: tcp.destinationPort });
          const subtypes = tcp.options.flatMap((one) => (one.kind === 'mptcp' && one.option.subtype !== 'unknown' ? [SUBTYPE_OF[one.option.subtype]] : []));
          for (const subtype of subtypes) expect(packet[findMptcpIn(packet, subtype) + 2]! >>> 4).toBe(subtype);
          if (!tcp.options.some((one) => one.kind === 'mptcp')) expect(Object.values(SUBTYPE).some((one) => findMptcpIn(packet, one) >= 0)).toBe(false);
        }
      }),
      runs,
    );
    expect(accepted).toBeGreaterThan(1000);
  });

  it('never throws, and reads the same of a packet inside a larger array', () => {
    fc.assert(
      fc.property(anyPacket, fc.nat(9), fc.nat(140), (packet, offset, length) => {
        const large = inside(packet, offset);
        const cut = packet.slice(0, length);
        const there = cut.length;
        expect(ipVersion(large, offset, there)).toBe(ipVersion(cut));
        expect(ipSource(large, offset, there)).toEqual(ipSource(cut));
        expect(ipDestination(large, offset, there)).toEqual(ipDestination(cut));
        expect(ipTrafficClass(large, offset, there)).toBe(ipTrafficClass(cut));
        expect(ipTtl(large, offset, there)).toBe(ipTtl(cut));
        expect(packetPorts(large, offset, there)).toEqual(packetPorts(cut));
        const layout = ipLayout(cut);
        const moved = ipLayout(large, offset, there);
        expect(moved?.tcpOffset).toBe(layout === null ? undefined : layout.tcpOffset + offset);
        for (let subtype = 0; subtype < 16; subtype++) {
          const at = findMptcpIn(cut, subtype);
          expect(findMptcpIn(large, subtype, offset, there)).toBe(at < 0 ? -1 : at + offset);
        }
        // More is asked for than the array has.
        ipLayout(cut, 0, 1000);
        packetPorts(cut, 3, 1000);
        findMptcpIn(cut, SUBTYPE.dss, there + 5);
        ipSource(cut, there, 40);
        etherTypeOf(cut);
        setIpTtl(cut, 3);
        setIpTrafficClass(cut, 0xff);
      }),
      runs,
    );
  });

  it('finds ports of UDP, and none of ICMP, of later fragments, or where they are cut', () => {
    const packet = buildPacket(ipHeader(Uint8Array.of(192, 0, 2, 1), Uint8Array.of(192, 0, 2, 2), PROTOCOL.tcp), {
      tcp: { sourcePort: 1000, destinationPort: 80, seq: 1, ack: 0, headerLength: 20, reserved: 0, flags: 2, window: 9, checksum: 0, urgent: 0, options: [] },
    });
    const changed = (at: number, value: number): Uint8Array => packet.map((octet, i) => (i === at ? value : octet));
    expect(packetPorts(packet)).toEqual({ source: 1000, destination: 80 });
    expect(packetPorts(changed(IPV4.protocol, PROTOCOL.udp))).toEqual({ source: 1000, destination: 80 });
    expect(packetPorts(changed(IPV4.protocol, PROTOCOL.icmp))).toBeNull();
    expect(packetPorts(changed(IPV4.fragment, 0x20))).toEqual({ source: 1000, destination: 80 });
    expect(packetPorts(changed(IPV4.fragment + 1, 1))).toBeNull();
    expect(packetPorts(packet.subarray(0, 24))).toEqual({ source: 1000, destination: 80 });
    expect(packetPorts(packet.subarray(0, 23))).toBeNull();
    expect(packetPorts(changed(IPV4.totalLength + 1, 23))).toBeNull();
  });

  it('writes TTL and traffic class so that the header checksum stays right', () => {
    fc.assert(
      fc.property(tcpPacket, fc.nat(255), fc.nat(255), (packet, ttl, trafficClass) => {
        const before = parsePacketValue(packet) as Packet;
        setIpTtl(packet, ttl);
        setIpTrafficClass(packet, trafficClass);
        const after = parsePacketValue(packet) as Packet;
        const { ip } = after;
        expect(ip).toEqual({ ...before.ip, trafficClass, ...(ip.version === 4 ? { ttl, checksum: ip.checksum } : { hopLimit: ttl }) });
        if (ip.version === 4) expect(fold(sum(packet, 0, ip.headerLength))).toBe(0xffff);
      }),
      runs,
    );
  });
});

describe('the IP walk', () => {
  it('with the strict policy accepts no packet that the tolerant one refuses, and reads the same', () => {
    fc.assert(
      fc.property(anyPacket, (packet) => {
        const strict = new IpLayout();
        const tolerant = new IpLayout();
        const result = walkIp(viewOf(packet), 0, packet.length, STRICT, strict);
        const other = walkIp(viewOf(packet), 0, packet.length, packet.length, tolerant);
        if (result > WALK.fragment) {
          expect(strict).toEqual(new IpLayout());
          return;
        }
        expect(other).toBe(result);
        // IPv6 without a payload length: a jumbogram, or an empty packet.
        if (strict.endOffset > strict.ipOffset + 40 || strict.ipVersion === 4) expect(tolerant).toEqual(strict);
        expect(strict.endOffset).toBeLessThanOrEqual(packet.length);
      }),
      runs,
    );
  });

  it('gives the fragment facts of either version', () => {
    fc.assert(
      fc.property(tcpPacket, (packet) => {
        const segment = new Segment();
        const { ip } = parsePacketValue(packet) as Packet;
        const result = parsePacket(viewOf(packet), packet, 0, packet.length, false, segment);
        if (result !== PARSED.fragment) {
          expect(segment).toMatchObject({ fragmentOffset: 0, moreFragments: false, identification: 0 });
          return;
        }
        if (ip.version === 4) {
          expect(segment).toMatchObject({ fragmentOffset: ip.fragmentOffset, moreFragments: ip.moreFragments, identification: ip.identification });
          return;
        }
        const first = ip.extensions.find(({ type, bytes }) => type === EXTENSION.fragment && (viewOf(bytes).getUint16(2) & 0xfff9) !== 0)!.bytes;
        expect(segment).toMatchObject({ fragmentOffset: viewOf(first).getUint16(2) & 0xfff8, identification: viewOf(first).getUint32(4), protocol: first[0] });
      }),
      runs,
    );
  });

  it('says of a header that is refused what it has and what was expected', () => {
    const v4 = Uint8Array.of(0x45, 0, 0, 19, ...new Uint8Array(16));
    expect(parseIpv4(viewOf(v4), 0, 19)).toMatchObject({ code: 'TRUNCATED', reason: 'IPv4 header needs 20 bytes, found 19' });
    expect(parseIpv4(viewOf(v4), 0, 20)).toMatchObject({ code: 'BAD_LENGTH', offset: 2, reason: "IPv4 total length 19 is below the header's 20" });
    expect(parseIpv6(viewOf(new Uint8Array(40).fill(0x45)), 0, 40)).toMatchObject({ code: 'BAD_VERSION', reason: 'IP version 4, expected 6' });
    expect(parseIpv4(viewOf(v4.with(0, 0x44)), 0, 20)).toMatchObject({ code: 'BAD_LENGTH', reason: 'IPv4 header length 16 is below 20' });
    expect(parseIpv4(viewOf(v4.with(0, 0x46).with(3, 24)), 0, 20)).toMatchObject({ code: 'TRUNCATED', reason: 'IPv4 header of 24 bytes, found 20' });
    const v6 = new Uint8Array(48).with(0, 0x60).with(6, 43).with(41, 1);
    expect(parseIpv6(viewOf(v6), 0, 48)).toMatchObject({ code: 'TRUNCATED', offset: 40, reason: 'IPv6 extension headers are cut at 48 bytes' });
  });
});

/** What of a segment has a meaning: of the arrays, as many entries as are counted. */
function meaning(segment: Segment): object {
  const { view: _view, bytes: _bytes, sack, otherMptcp, ...rest } = segment;
  return { ...rest, sack: [...sack.subarray(0, 2 * segment.sackCount)], otherMptcp: [...otherMptcp.subarray(0, segment.otherMptcpCount)] };
}

describe('a segment that is used again', () => {
  it('holds nothing of the packet before, whatever the two packets are', () => {
    fc.assert(
      fc.property(anyPacket, anyPacket, fc.boolean(), (first, second, verify) => {
        const used = new Segment();
        const fresh = new Segment();
        parsePacket(viewOf(first), first, 0, first.length, verify, used);
        const result = parsePacket(viewOf(second), second, 0, second.length, verify, used);
        expect(parsePacket(viewOf(second), second, 0, second.length, verify, fresh)).toBe(result);
        expect(meaning(used)).toEqual(meaning(fresh));
      }),
      { numRuns: 20_000 },
    );
  });

  it('as part of a captured frame too', () => {
    const linkType = fc.constantFrom(LINKTYPE.raw, LINKTYPE.raw, LINKTYPE.null, LINKTYPE.ethernet);
    fc.assert(
      fc.property(anyPacket, anyPacket, linkType, fc.nat(140), (first, second, type, cut) => {
        const used = new Layers();
        const fresh = new Layers();
        const length = Math.min(cut, second.length);
        walkFrame(viewOf(first), first, 0, first.length, first.length, LINKTYPE.raw, used);
        const result = walkFrame(viewOf(second), second, 0, length, second.length, type, used);
        expect(walkFrame(viewOf(second), second, 0, length, second.length, type, fresh)).toBe(result);
        expect(meaning(used.segment)).toEqual(meaning(fresh.segment));
        expect(used.badOptions).toBe(fresh.badOptions);
        if (result === FRAME.tcp) expect(used.segment.protocol).toBe(PROTOCOL.tcp);
      }),
      runs,
    );
  });

  it('has the last of options that come twice, and never the fields of two mixed', () => {
    const dss = (flags: number, high: number): TcpOption => ({
      kind: 'mptcp',
      option: {
        subtype: 'dss',
        flags,
        dataAck: (flags & 1) === 0 ? null : { high: (flags & 2) === 0 ? 0 : high, low: high + 1 },
        dsn: (flags & 4) === 0 ? null : { high: 0, low: high + 2 },
        ssn: (flags & 4) === 0 ? 0 : 5,
        dataLength: (flags & 4) === 0 ? 0 : 6,
        checksum: null,
      },
    });
    const read = (...options: TcpOption[]): Segment => {
      const tcp = { sourcePort: 1, destinationPort: 2, seq: 1, ack: 0, headerLength: 20, reserved: 0, flags: 16, window: 9, checksum: 0, urgent: 0, options };
      const packet = buildPacket(ipHeader(Uint8Array.of(192, 0, 2, 1), Uint8Array.of(192, 0, 2, 2), PROTOCOL.tcp), { tcp });
      const segment = new Segment();
      expect(parsePacket(viewOf(packet), packet, 0, packet.length, true, segment)).toBe(PARSED.tcp);
      return segment;
    };
    const both = read(dss(7, 100), dss(1, 200));
    expect(both).toMatchObject({ hasDss: true, dssFlags: 1, dataAckHigh: 0, dataAckLow: 201, dsnLow: 0, ssn: 0, dataLength: 0, dssChecksum: -1 });
    expect(findMptcp(both, SUBTYPE.dss)).toBe(both.tcpOffset + TCP.options + 4 + 8 + 10);
    expect(read({ kind: 'timestamps', value: 1, echo: 2 }, { kind: 'timestamps', value: 3, echo: 4 })).toMatchObject({ tsVal: 3, tsEcr: 4 });
    // One whose length does not fit its flags is as if it were absent.
    const wrong: TcpOption = { kind: 'mptcp', option: { subtype: 'unknown', data: Uint8Array.of(0x20, 5, 0, 0) } };
    expect(read(dss(1, 200), wrong)).toMatchObject({ hasDss: true, dssFlags: 1, dataAckLow: 201 });
  });
});

describe('options in place', () => {
  it('are walked as the value parser walks them', () => {
    fc.assert(
      fc.property(fc.uint8Array({ maxLength: 40 }), (list) => {
        const view = viewOf(list);
        const kinds: number[] = [];
        let at = 0;
        for (let size = 0; (size = optionLengthAt(view, at, list.length)) > 0; at += size) kinds.push(list[at]!);
        expect(at).toBeLessThanOrEqual(list.length);
        const options = parseTcpOptions(view, 0, list.length);
        if (isMalformed(options)) expect(options.offset).toBe(at);
        else expect(kinds.length).toBe(options.filter((one) => one.kind !== 'end').length);
      }),
      runs,
    );
  });
});

describe('sums over slices', () => {
  it('equal the sum over one array, wherever it is cut', () => {
    fc.assert(
      fc.property(fc.array(fc.uint8Array({ maxLength: 90 }), { maxLength: 8 }), fc.nat(8), fc.nat(100_000), (slices, cut, initial) => {
        const count = Math.min(cut, slices.length);
        const whole = Uint8Array.from(slices.slice(0, count).flatMap((one) => [...one]));
        expect(fold(sumSlices(slices, count, initial))).toBe(fold(sum(whole, 0, whole.length, initial)));
      }),
      runs,
    );
  });

  it('with the pseudo-header of either version make a TCP checksum right', () => {
    fc.assert(
      fc.property(tcpPacket, fc.nat(5), (packet, offset) => {
        const large = inside(packet, offset);
        const layout = ipLayout(packet)!;
        if (layout.fragmentOffset !== 0 || layout.moreFragments) return;
        const length = layout.endOffset - layout.tcpOffset;
        expect(fold(sum(packet, layout.tcpOffset, length, pseudoHeader(large, offset, PROTOCOL.tcp, length)))).toBe(0xffff);
      }),
      runs,
    );
  });

  it('an Ethernet frame says which version its packet has', () => {
    expect(etherTypeOf(Uint8Array.of(0x45))).toBe(ETHERTYPE.ipv4);
    expect(etherTypeOf(Uint8Array.of(0x60))).toBe(ETHERTYPE.ipv6);
  });
});
