import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import {
  buildPacket,
  emitIcmp,
  emitIpv4,
  emitIpv6,
  emitTcp,
  emitTcpOption,
  finish,
  fold,
  isMalformed,
  parseIcmp,
  parseIpv4,
  parseIpv6,
  parseMptcpOption,
  parsePacket,
  parsePacketValue,
  parseTcp,
  parseTcpOptions,
  PARSED,
  readCapture,
  Segment,
  segmentize,
  sum,
  tcpOptionLength,
  ipHeader,
  OPTION,
  PROTOCOL,
  FLAG,
  emitMptcpOption,
  viewOf,
} from '@subflow/wire';
import type { TcpOption } from '@subflow/wire';

const anyBytes = fc.uint8Array({ minLength: 0, maxLength: 200 });

describe('any bytes give a value or a typed error', () => {
  it('in every parser', () => {
    fc.assert(
      fc.property(anyBytes, (raw) => {
        const bytes = raw.slice();
        const view = viewOf(bytes);
        parseIpv4(view, 0, bytes.length);
        parseIpv6(view, 0, bytes.length);
        parseTcp(view, 0, bytes.length);
        parseTcpOptions(view, 0, bytes.length);
        parseIcmp(view, 0, bytes.length, 4);
        parseIcmp(view, 0, bytes.length, 6);
        parsePacketValue(bytes);
        readCapture(bytes);
        const result = parsePacket(view, bytes, 0, bytes.length, true, new Segment());
        expect(result).toBeGreaterThanOrEqual(0);
        expect(result).toBeLessThanOrEqual(PARSED.badOptions);
      }),
      { numRuns: 3000 },
    );
  });

  it('also when they begin like real packets', () => {
    const start = fc.constantFrom([0x45, 0, 0, 60, 0, 0, 0x40, 0, 64, 6], [0x60, 0, 0, 0, 0, 40, 6, 64], [0x60, 0, 0, 0, 0, 40, 0, 64]);
    fc.assert(
      fc.property(start, anyBytes, (head, tail) => {
        const bytes = new Uint8Array([...head, ...tail]);
        parsePacketValue(bytes);
        parsePacket(viewOf(bytes), bytes, 0, bytes.length, false, new Segment());
        segmentize(viewOf(bytes), bytes, 0, bytes.length, 100, () => undefined);
      }),
      { numRuns: 3000 },
    );
  });
});

describe('what was parsed is emitted again byte for byte', () => {
  it('Multipath TCP options of any subtype and length', () => {
    fc.assert(
      fc.property(fc.uint8Array({ minLength: 1, maxLength: 38 }), (body) => {
        const bytes = new Uint8Array([OPTION.mptcp, body.length + 2, ...body]);
        const option = parseMptcpOption(viewOf(bytes), 0, bytes.length);
        if (isMalformed(option)) throw new Error(option.reason);
        const again = new Uint8Array(bytes.length);
        expect(emitMptcpOption(option, viewOf(again), 0)).toBe(bytes.length);
        expect(again).toEqual(bytes);
      }),
      { numRuns: 10_000 },
    );
  });

  it('all DSS flag combinations, with and without checksum', () => {
    for (let flags = 0; flags < 64; flags++) {
      const ack = (flags & 1) === 0 ? 0 : (flags & 2) === 0 ? 4 : 8;
      const map = (flags & 4) === 0 ? 0 : ((flags & 8) === 0 ? 4 : 8) + 6;
      for (const checksum of map === 0 ? [0] : [0, 2]) {
        const bytes = new Uint8Array(4 + ack + map + checksum).map((_, i) => (i * 37) & 0xff);
        bytes.set([OPTION.mptcp, bytes.length, 0x20, flags]);
        const option = parseMptcpOption(viewOf(bytes), 0, bytes.length);
        expect(option).toMatchObject({ subtype: 'dss' });
        const again = new Uint8Array(bytes.length);
        if (!isMalformed(option)) emitMptcpOption(option, viewOf(again), 0);
        expect(again).toEqual(bytes);
      }
    }
  });

  it('TCP option lists', () => {
    fc.assert(
      fc.property(fc.uint8Array({ minLength: 0, maxLength: 40 }), (bytes) => {
        const options = parseTcpOptions(viewOf(bytes), 0, bytes.length);
        if (isMalformed(options)) return;
        const again = new Uint8Array(bytes.length + 40);
        let at = 0;
        for (const option of options) at += emitTcpOption(option, viewOf(again), at);
        expect(again.slice(0, at)).toEqual(bytes);
      }),
      { numRuns: 10_000 },
    );
  });

  it('whole headers', () => {
    fc.assert(
      fc.property(fc.uint8Array({ minLength: 60, maxLength: 120 }), fc.integer({ min: 5, max: 15 }), (raw, words) => {
        const bytes = raw.slice();
        bytes[12] = (words << 4) | (bytes[12]! & 15);
        const tcp = parseTcp(viewOf(bytes), 0, bytes.length);
        if (!isMalformed(tcp)) {
          const again = new Uint8Array(200);
          expect(emitTcp(tcp, viewOf(again), 0)).toBe(tcp.headerLength);
          expect(again.slice(0, tcp.headerLength)).toEqual(bytes.slice(0, tcp.headerLength));
        }
        bytes[0] = 0x40 | words;
        bytes[6] = bytes[6]! & 0x7f;
        bytes[2] = 1;
        const v4 = parseIpv4(viewOf(bytes), 0, bytes.length);
        if (!isMalformed(v4)) {
          const again = new Uint8Array(200);
          emitIpv4(v4, viewOf(again), 0);
          expect(again.slice(0, v4.headerLength)).toEqual(bytes.slice(0, v4.headerLength));
        }
        bytes[0] = 0x60;
        const v6 = parseIpv6(viewOf(bytes), 0, bytes.length);
        if (!isMalformed(v6)) {
          const again = new Uint8Array(4000);
          emitIpv6(v6, viewOf(again), 0);
          expect(again.slice(0, v6.headerLength)).toEqual(bytes.slice(0, v6.headerLength));
        }
        for (const version of [4, 6] as const) {
          const icmp = parseIcmp(viewOf(bytes), 0, bytes.length, version);
          if (isMalformed(icmp)) continue;
          const again = new Uint8Array(200);
          expect(emitIcmp(icmp, viewOf(again), 0)).toBe(bytes.length);
          expect(again.slice(0, bytes.length)).toEqual(bytes);
        }
      }),
      { numRuns: 3000 },
    );
  });
});

describe('the flat parser', () => {
  it('reads what the value parser reads', () => {
    const options = fc.array(
      fc.oneof(
        fc.record({ kind: fc.constant('mss' as const), value: fc.nat(65535) }),
        fc.record({ kind: fc.constant('timestamps' as const), value: fc.nat(0xffffffff), echo: fc.nat(0xffffffff) }),
        fc.record({ kind: fc.constant('window-scale' as const), shift: fc.nat(255) }),
        fc.constant({ kind: 'sack-permitted' as const }),
        fc.constant({ kind: 'nop' as const }),
      ),
      { maxLength: 3 },
    );
    fc.assert(
      fc.property(options, fc.uint8Array({ maxLength: 50 }), fc.nat(255), (list, payload, flags) => {
        const packet = buildPacket(ipHeader(new Uint8Array([192, 0, 2, 1]), new Uint8Array([192, 0, 2, 2]), PROTOCOL.tcp), {
          tcp: {
            sourcePort: 1000,
            destinationPort: 80,
            seq: 0xfffffff0,
            ack: 7,
            headerLength: 20,
            reserved: 0,
            flags,
            window: 9,
            checksum: 0,
            urgent: 0,
            options: list as TcpOption[],
          },
          payload,
        });
        const segment = new Segment();
        expect(parsePacket(viewOf(packet), packet, 0, packet.length, true, segment)).toBe(PARSED.tcp);
        const last = <K extends TcpOption['kind']>(kind: K) =>
          list.filter((option) => option.kind === kind).at(-1) as Extract<TcpOption, { kind: K }> | undefined;
        expect(segment.seq >>> 0).toBe(0xfffffff0);
        expect(segment.payloadLength).toBe(payload.length);
        expect(segment.mss).toBe(last('mss')?.value ?? -1);
        expect(segment.windowScale).toBe(last('window-scale')?.shift ?? -1);
        expect(segment.sackPermitted).toBe(last('sack-permitted') !== undefined);
        expect(segment.hasTimestamps ? segment.tsVal >>> 0 : -1).toBe(last('timestamps')?.value ?? -1);
        expect(list.reduce((n, option) => n + tcpOptionLength(option as TcpOption), 0)).toBeLessThanOrEqual(segment.optionsLength);
      }),
      { numRuns: 1000 },
    );
  });

  it('finds a flipped bit anywhere in an IPv4 TCP packet', () => {
    const packet = buildPacket(ipHeader(new Uint8Array([192, 0, 2, 1]), new Uint8Array([192, 0, 2, 2]), PROTOCOL.tcp), {
      tcp: {
        sourcePort: 1000,
        destinationPort: 80,
        seq: 1,
        ack: 7,
        headerLength: 20,
        reserved: 0,
        flags: FLAG.ack,
        window: 9,
        checksum: 0,
        urgent: 0,
        options: [],
      },
      payload: new Uint8Array(33).fill(7),
    });
    for (let bit = 0; bit < packet.length * 8; bit++) {
      const copy = packet.slice();
      copy[bit >>> 3] = copy[bit >>> 3]! ^ (1 << (bit & 7));
      expect(parsePacket(viewOf(copy), copy, 0, copy.length, true, new Segment())).not.toBe(PARSED.tcp);
    }
  });
});

describe('sums', () => {
  it('equal the textbook sum at every alignment and length', () => {
    fc.assert(
      fc.property(fc.uint8Array({ minLength: 300, maxLength: 400 }), fc.nat(9), fc.nat(290), (bytes, offset, length) => {
        let plain = 0;
        for (let i = 0; i < length; i++) plain += (i & 1) === 0 ? bytes[offset + i]! << 8 : bytes[offset + i]!;
        expect(fold(sum(bytes, offset, length))).toBe(fold(plain));
      }),
      { numRuns: 2000 },
    );
  });

  it('cut pieces of a super-segment carry right checksums and the same bytes', () => {
    const payload = new Uint8Array(5000).map((_, i) => (i * 7) & 0xff);
    const packet = buildPacket(ipHeader(new Uint8Array([192, 0, 2, 1]), new Uint8Array([192, 0, 2, 2]), PROTOCOL.tcp), {
      tcp: {
        sourcePort: 1000,
        destinationPort: 80,
        seq: 0xffffff00,
        ack: 7,
        headerLength: 20,
        reserved: 0,
        flags: FLAG.ack | FLAG.psh | FLAG.fin,
        window: 9,
        checksum: 0,
        urgent: 0,
        options: [],
      },
      payload,
    });
    const pieces: Uint8Array[] = [];
    expect(segmentize(viewOf(packet), packet, 0, packet.length, 1400, (piece) => pieces.push(piece))).toBe(4);
    const all: number[] = [];
    pieces.forEach((piece, i) => {
      const segment = new Segment();
      expect(parsePacket(viewOf(piece), piece, 0, piece.length, true, segment)).toBe(PARSED.tcp);
      expect((segment.flags & FLAG.fin) !== 0).toBe(i === 3);
      all.push(...piece.subarray(segment.payloadOffset));
    });
    expect(new Uint8Array(all)).toEqual(payload);
    expect(finish(0)).toBe(0xffff);
  });
});
