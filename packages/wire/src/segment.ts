/**
 * The hot path: one IP packet with a TCP segment, read in place into a reused, flat {@link Segment}, and headers
 * written straight into a slab. No allocation, no objects per option (see docs/benchmarks.md for the figures).
 */
import { fold, pseudoHeader4, pseudoHeader6, sum } from './checksum.ts';
import { extensionLength, EXTENSION, isExtension } from './ipv6.ts';
import { DSS_FLAG, SUBTYPE } from './mptcp-options.ts';

/** Results of {@link parsePacket}: 0 is a good TCP segment, the others say why it is not one. */
export const PARSED = {
  tcp: 0,
  icmp: 1,
  icmpv6: 2,
  otherProtocol: 3,
  fragment: 4,
  truncated: 5,
  badVersion: 6,
  badHeader: 7,
  badIpChecksum: 8,
  badTcpChecksum: 9,
  badOptions: 10,
} as const;

/** At most this many Multipath TCP options besides DSS are looked at in one segment; 40 bytes hold no more useful ones. */
export const MAX_OTHER_MPTCP = 8;

/** A TCP segment and the packet around it, as offsets and numbers. Sequence numbers are signed int32. */
export class Segment {
  view: DataView = new DataView(new ArrayBuffer(0));
  bytes: Uint8Array = new Uint8Array(0);
  ipVersion = 4;
  /** Offset of the IP header. */
  ipOffset = 0;
  /** Offset of the TCP (or other upper-layer) header. */
  tcpOffset = 0;
  /** Upper-layer protocol. */
  protocol = 0;
  /** End of the packet according to the IP header. */
  endOffset = 0;
  trafficClass = 0;
  ttl = 0;
  /** Address words, first word only for IPv4. */
  source0 = 0;
  source1 = 0;
  source2 = 0;
  source3 = 0;
  destination0 = 0;
  destination1 = 0;
  destination2 = 0;
  destination3 = 0;
  sourcePort = 0;
  destinationPort = 0;
  seq = 0;
  ack = 0;
  flags = 0;
  window = 0;
  urgent = 0;
  payloadOffset = 0;
  payloadLength = 0;
  /** Bytes of TCP options. */
  optionsLength = 0;
  /** -1 when absent. */
  mss = -1;
  windowScale = -1;
  sackPermitted = false;
  hasTimestamps = false;
  tsVal = 0;
  tsEcr = 0;
  sackCount = 0;
  /** Left and right edges, up to four blocks. */
  readonly sack: Int32Array = new Int32Array(8);
  /** Offset of a Fast Open option, -1 when absent. */
  fastOpenOffset = -1;
  hasDss = false;
  /** DSS flags, {@link DSS_FLAG}. */
  dssFlags = 0;
  dataAckHigh = 0;
  dataAckLow = 0;
  dsnHigh = 0;
  dsnLow = 0;
  ssn = 0;
  dataLength = 0;
  /** -1 when the mapping carries none. */
  dssChecksum = -1;
  /** Offsets of Multipath TCP options other than DSS. */
  otherMptcpCount = 0;
  readonly otherMptcp: Int32Array = new Int32Array(MAX_OTHER_MPTCP);
}

/**
 * Parses the packet at `offset` into `segment`. `verify` asks for the transport checksum to be checked; a driver with
 * offload has done that already. Returns a {@link PARSED} value. Never throws for any bytes, as long as
 * `offset + length` lies within `view`.
 */
export function parsePacket(view: DataView, bytes: Uint8Array, offset: number, length: number, verify: boolean, segment: Segment): number {
  if (length < 20) return PARSED.truncated;
  segment.view = view;
  segment.bytes = bytes;
  segment.ipOffset = offset;
  const first = view.getUint8(offset);
  if (first >>> 4 === 4) {
    const headerLength = (first & 15) << 2;
    const totalLength = view.getUint16(offset + 2);
    if (headerLength < 20 || totalLength < headerLength) return PARSED.badHeader;
    if (totalLength > length) return PARSED.truncated;
    const fragment = view.getUint16(offset + 6);
    if (fold(sum(bytes, offset, headerLength)) !== 0xffff) return PARSED.badIpChecksum;
    segment.ipVersion = 4;
    segment.trafficClass = view.getUint8(offset + 1);
    segment.ttl = view.getUint8(offset + 8);
    segment.source0 = view.getInt32(offset + 12);
    segment.destination0 = view.getInt32(offset + 16);
    segment.source1 = segment.source2 = segment.source3 = 0;
    segment.destination1 = segment.destination2 = segment.destination3 = 0;
    segment.protocol = view.getUint8(offset + 9);
    segment.tcpOffset = offset + headerLength;
    segment.endOffset = offset + totalLength;
    if ((fragment & 0x3fff) !== 0) return PARSED.fragment;
  } else if (first >>> 4 === 6) {
    if (length < 40) return PARSED.truncated;
    const result = parseIpv6Into(view, offset, length, segment);
    if (result !== PARSED.tcp) return result;
  } else {
    return PARSED.badVersion;
  }
  if (segment.protocol !== 6) return segment.protocol === 1 ? PARSED.icmp : segment.protocol === 58 ? PARSED.icmpv6 : PARSED.otherProtocol;
  const tcpLength = segment.endOffset - segment.tcpOffset;
  if (verify && fold(sum(bytes, segment.tcpOffset, tcpLength, tcpPseudoHeader(segment, tcpLength))) !== 0xffff) return PARSED.badTcpChecksum;
  return parseTcpInto(view, segment.tcpOffset, tcpLength, segment);
}

/** Partial sum of the pseudo-header of the packet in `segment` for an upper-layer length. */
export function tcpPseudoHeader(segment: Segment, length: number): number {
  return segment.ipVersion === 4
    ? pseudoHeader4(segment.source0, segment.destination0, segment.protocol, length)
    : pseudoHeader6(segment.bytes, segment.ipOffset + 8, segment.protocol, length);
}

/**
 * Parses a TCP header and its options at `offset` into `segment`; `length` is header plus payload. Options at or past
 * `limit` are not there (a capture cut them): what comes before is read, and the result is `badOptions`.
 */
export function parseTcpInto(view: DataView, offset: number, length: number, segment: Segment, limit: number = Number.POSITIVE_INFINITY): number {
  if (length < 20) return PARSED.truncated;
  const headerLength = (view.getUint8(offset + 12) >>> 4) << 2;
  if (headerLength < 20) return PARSED.badHeader;
  if (headerLength > length) return PARSED.truncated;
  segment.sourcePort = view.getUint16(offset);
  segment.destinationPort = view.getUint16(offset + 2);
  segment.seq = view.getInt32(offset + 4);
  segment.ack = view.getInt32(offset + 8);
  segment.flags = view.getUint8(offset + 13);
  segment.window = view.getUint16(offset + 14);
  segment.urgent = view.getUint16(offset + 18);
  segment.payloadOffset = offset + headerLength;
  segment.payloadLength = length - headerLength;
  segment.optionsLength = headerLength - 20;
  segment.mss = -1;
  segment.windowScale = -1;
  segment.sackPermitted = false;
  segment.hasTimestamps = false;
  segment.sackCount = 0;
  segment.fastOpenOffset = -1;
  segment.hasDss = false;
  segment.dssFlags = 0;
  segment.otherMptcpCount = 0;
  let at = offset + 20;
  const end = Math.min(offset + headerLength, limit);
  // Almost every segment starts with NOP, NOP, timestamps: one 32-bit compare instead of three loop turns.
  if (at + 12 <= end && view.getInt32(at) === 0x0101080a) {
    segment.hasTimestamps = true;
    segment.tsVal = view.getInt32(at + 4);
    segment.tsEcr = view.getInt32(at + 8);
    at += 12;
  }
  while (at < end) {
    const kind = view.getUint8(at);
    if (kind === 0) break;
    if (kind === 1) {
      at++;
      continue;
    }
    if (at + 1 >= end) return PARSED.badOptions;
    const size = view.getUint8(at + 1);
    if (size < 2 || at + size > end) return PARSED.badOptions;
    if (kind === 30) {
      if (size >= 4 && view.getUint8(at + 2) >>> 4 === SUBTYPE.dss) parseDssInto(view, at, size, segment);
      else if (size >= 3 && segment.otherMptcpCount < MAX_OTHER_MPTCP) segment.otherMptcp[segment.otherMptcpCount++] = at;
    } else {
      parseOptionInto(view, at, kind, size, segment);
    }
    at += size;
  }
  return limit < offset + headerLength ? PARSED.badOptions : PARSED.tcp;
}

function parseOptionInto(view: DataView, at: number, kind: number, size: number, segment: Segment): void {
  switch (kind) {
    case 2:
      if (size === 4) segment.mss = view.getUint16(at + 2);
      break;
    case 3:
      if (size === 3) segment.windowScale = view.getUint8(at + 2);
      break;
    case 4:
      if (size === 2) segment.sackPermitted = true;
      break;
    case 5: {
      const count = Math.min((size - 2) >>> 3, 4);
      if ((size - 2) % 8 !== 0) break;
      for (let i = 0; i < count * 2; i++) segment.sack[i] = view.getInt32(at + 2 + 4 * i);
      segment.sackCount = count;
      break;
    }
    case 8:
      if (size === 10) {
        segment.hasTimestamps = true;
        segment.tsVal = view.getInt32(at + 2);
        segment.tsEcr = view.getInt32(at + 6);
      }
      break;
    case 34:
      segment.fastOpenOffset = at;
      break;
    default:
      break;
  }
}

function parseDssInto(view: DataView, at: number, size: number, segment: Segment): void {
  const flags = view.getUint8(at + 3);
  const ackSize = (flags & DSS_FLAG.dataAck) === 0 ? 0 : (flags & DSS_FLAG.dataAck64) === 0 ? 4 : 8;
  const dsnSize = (flags & DSS_FLAG.mapping) === 0 ? 0 : (flags & DSS_FLAG.dsn64) === 0 ? 4 : 8;
  const plain = 4 + ackSize + (dsnSize === 0 ? 0 : dsnSize + 6);
  const checksummed = dsnSize !== 0 && size === plain + 2;
  // A DSS whose length does not fit its flags says nothing reliable: leave it out, as if it were absent.
  if (size !== plain && !checksummed) return;
  segment.hasDss = true;
  segment.dssFlags = flags;
  let next = at + 4;
  if (ackSize === 8) {
    segment.dataAckHigh = view.getInt32(next);
    segment.dataAckLow = view.getInt32(next + 4);
  } else if (ackSize === 4) {
    segment.dataAckLow = view.getInt32(next);
  }
  next += ackSize;
  if (dsnSize === 0) return;
  if (dsnSize === 8) {
    segment.dsnHigh = view.getInt32(next);
    segment.dsnLow = view.getInt32(next + 4);
  } else {
    segment.dsnLow = view.getInt32(next);
  }
  next += dsnSize;
  segment.ssn = view.getInt32(next);
  segment.dataLength = view.getUint16(next + 4);
  segment.dssChecksum = checksummed ? view.getUint16(next + 6) : -1;
}

/** Traffic class, hop limit and addresses of the IPv6 header at `offset`, of which 40 bytes are there. */
export function readIpv6Addresses(view: DataView, offset: number, segment: Segment): void {
  segment.trafficClass = (view.getUint16(offset) >>> 4) & 0xff;
  segment.ttl = view.getUint8(offset + 7);
  segment.source0 = view.getInt32(offset + 8);
  segment.source1 = view.getInt32(offset + 12);
  segment.source2 = view.getInt32(offset + 16);
  segment.source3 = view.getInt32(offset + 20);
  segment.destination0 = view.getInt32(offset + 24);
  segment.destination1 = view.getInt32(offset + 28);
  segment.destination2 = view.getInt32(offset + 32);
  segment.destination3 = view.getInt32(offset + 36);
}

function parseIpv6Into(view: DataView, offset: number, length: number, segment: Segment): number {
  const payloadLength = view.getUint16(offset + 4);
  if (40 + payloadLength > length) return PARSED.truncated;
  segment.ipVersion = 6;
  readIpv6Addresses(view, offset, segment);
  segment.endOffset = offset + 40 + payloadLength;
  let next = view.getUint8(offset + 6);
  let at = offset + 40;
  while (isExtension(next)) {
    if (at + 8 > segment.endOffset) return PARSED.truncated;
    if (next === EXTENSION.fragment && (view.getUint16(at + 2) & 0xfff9) !== 0) {
      segment.protocol = view.getUint8(at);
      segment.tcpOffset = at + 8;
      return PARSED.fragment;
    }
    const size = extensionLength(view, at, next);
    if (at + size > segment.endOffset) return PARSED.truncated;
    next = view.getUint8(at);
    at += size;
  }
  segment.protocol = next;
  segment.tcpOffset = at;
  return PARSED.tcp;
}

/** Writes the fixed 20 bytes of a TCP header, checksum and urgent pointer zero; `optionsLength` is a multiple of 4. */
export function writeTcp(
  view: DataView,
  at: number,
  sourcePort: number,
  destinationPort: number,
  seq: number,
  ack: number,
  flags: number,
  window: number,
  optionsLength: number,
): void {
  view.setInt32(at, (sourcePort << 16) | destinationPort);
  view.setInt32(at + 4, seq);
  view.setInt32(at + 8, ack);
  view.setInt32(at + 12, ((20 + optionsLength) << 26) | (flags << 16) | window);
  view.setInt32(at + 16, 0);
}

/** Writes NOP, NOP, timestamps (RFC 7323 appendix A). Returns 12. */
export function writeTimestamps(view: DataView, at: number, value: number, echo: number): number {
  view.setInt32(at, 0x0101080a);
  view.setInt32(at + 4, value);
  view.setInt32(at + 8, echo);
  return 12;
}

/**
 * Writes a DSS option (RFC 8684 §3.3), padded with NOPs in front to a multiple of four. `checksum` is -1 when there is
 * none. Returns the bytes written.
 */
export function writeDss(
  view: DataView,
  at: number,
  flags: number,
  ackHigh: number,
  ackLow: number,
  dsnHigh: number,
  dsnLow: number,
  ssn: number,
  length: number,
  checksum: number,
): number {
  const start = at;
  const mapping = (flags & DSS_FLAG.mapping) !== 0;
  if (mapping && checksum < 0) {
    view.setUint16(at, 0x0101);
    at += 2;
  }
  const option = at;
  view.setUint16(at + 2, (SUBTYPE.dss << 12) | flags);
  at += 4;
  if ((flags & DSS_FLAG.dataAck) !== 0) {
    if ((flags & DSS_FLAG.dataAck64) !== 0) {
      view.setInt32(at, ackHigh);
      at += 4;
    }
    view.setInt32(at, ackLow);
    at += 4;
  }
  if (mapping) {
    if ((flags & DSS_FLAG.dsn64) !== 0) {
      view.setInt32(at, dsnHigh);
      at += 4;
    }
    view.setInt32(at, dsnLow);
    view.setInt32(at + 4, ssn);
    view.setUint16(at + 8, length);
    at += 10;
    if (checksum >= 0) {
      view.setUint16(at, checksum);
      at += 2;
    }
  }
  view.setUint16(option, (30 << 8) | (at - option));
  return at - start;
}
