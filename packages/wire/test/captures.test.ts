import { describe, expect, it } from 'vitest';
import {
  cookedFrame,
  ethernetFrame,
  formatAddress,
  linkPayload,
  isMalformed,
  LINKTYPE,
  NOT_IP,
  parseAddress,
  pcapHeader,
  pcapngInterface,
  pcapngPacket,
  pcapngSection,
  pcapRecord,
  readCapture,
} from '@subflow/wire';

const packet = new Uint8Array([0x45, 0, 0, 20, 0, 0, 0, 0, 64, 6, 0, 0, 192, 0, 2, 1, 192, 0, 2, 2]);

function join(...parts: Uint8Array[]): Uint8Array {
  return new Uint8Array(parts.flatMap((part) => [...part]));
}

describe('captures', () => {
  it('pcap is read back to the nanosecond; damage gives what came before', () => {
    const record = pcapRecord({ seconds: 1_700_000_000, nanoseconds: 123_456_789, bytes: packet, originalLength: 20 });
    const file = join(pcapHeader(LINKTYPE.raw), record, record);
    const capture = readCapture(file);
    if (isMalformed(capture)) throw new Error(capture.reason);
    expect(capture.damage).toBeNull();
    expect(capture.frames).toHaveLength(2);
    expect(capture.frames[0]).toMatchObject({ seconds: 1_700_000_000, nanoseconds: 123_456_789, bytes: packet });
    const cut = readCapture(file.slice(0, file.length - 3));
    if (isMalformed(cut)) throw new Error(cut.reason);
    expect(cut.frames).toHaveLength(1);
    expect(cut.damage).toMatchObject({ code: 'TRUNCATED', offset: 24 + record.length });
  });

  it('pcapng keeps interfaces, comments and nanoseconds', () => {
    const frame = { interface: 1, seconds: 1_700_000_000, nanoseconds: 987_654_321, bytes: packet, originalLength: 20, comment: 'wifi ✂' };
    const file = join(
      pcapngSection('test', 'a capture'),
      pcapngInterface(LINKTYPE.raw, 'wifi'),
      pcapngInterface(LINKTYPE.ethernet, 'lte'),
      pcapngPacket(frame),
    );
    const capture = readCapture(file);
    if (isMalformed(capture)) throw new Error(capture.reason);
    expect(capture.interfaces.map((one) => one.name)).toEqual(['wifi', 'lte']);
    expect(capture.frames[0]).toMatchObject({ interface: 1, linkType: LINKTYPE.ethernet, nanoseconds: 987_654_321, comment: 'wifi ✂', bytes: packet });
  });

  it('finds the packet behind every link layer', () => {
    const at = (type: number, frame: Uint8Array): number => linkPayload(new DataView(frame.buffer), 0, frame.length, type);
    const ethernet = ethernetFrame(packet, new Uint8Array(6), new Uint8Array(6));
    const behind = (head: number[]): Uint8Array => join(ethernet.slice(0, 12), new Uint8Array(head), packet);
    expect(at(LINKTYPE.raw, packet)).toBe(0);
    expect(at(LINKTYPE.ethernet, ethernet)).toBe(14);
    expect(at(LINKTYPE.ethernet, behind([0x88, 0xa8, 0, 7, 0x81, 0, 0, 8, 8, 0]))).toBe(22);
    expect(at(LINKTYPE.ethernet, behind([0x88, 0x64, 0x11, 0, 0, 1, 0, 22, 0, 0x21]))).toBe(22);
    expect(at(LINKTYPE.ethernet, behind([0x88, 0x47, 0, 1, 0, 64, 0, 1, 1, 64]))).toBe(22);
    expect(at(LINKTYPE.sll, cookedFrame(packet, 1, true))).toBe(16);
    expect(at(LINKTYPE.sll2, cookedFrame(packet, 2, false))).toBe(20);
    expect(at(LINKTYPE.null, join(new Uint8Array([2, 0, 0, 0]), packet))).toBe(4);
    expect(at(LINKTYPE.loop, join(new Uint8Array([0, 0, 0, 2]), packet))).toBe(4);
    expect(at(LINKTYPE.ppp, join(new Uint8Array([0xff, 3, 0, 0x21]), packet))).toBe(4);
    expect(at(LINKTYPE.ppp, join(new Uint8Array([0x21]), packet))).toBe(1);
    expect(at(147, packet)).toBe(NOT_IP.unsupportedLink);
    expect(at(LINKTYPE.ethernet, behind([8, 6]))).toBe(NOT_IP.otherProtocol);
    expect(at(LINKTYPE.ethernet, packet.slice(0, 8))).toBe(NOT_IP.cut);
  });

  it('addresses are written as RFC 5952 says', () => {
    for (const [text, canonical] of [
      ['2001:DB8:0:0:0:0:0:1', '2001:db8::1'],
      ['::', '::'],
      ['::ffff:192.0.2.1', '::ffff:c000:201'],
      ['1:0:0:2:0:0:0:3', '1:0:0:2::3'],
      ['192.0.2.255', '192.0.2.255'],
    ] as const) {
      expect(formatAddress(parseAddress(text))).toBe(canonical);
    }
    expect(() => parseAddress('192.0.2.256')).toThrow(/"192.0.2.256" is not an IP address/);
    expect(() => parseAddress('1::2::3')).toThrow(/not an IP address/);
  });
});
