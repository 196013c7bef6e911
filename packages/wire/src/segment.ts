/**
 * The hot path: one IP packet with a TCP segment, read in place into a reused, flat {@link Segment}, and headers
 * written straight into a slab. No allocation, no objects per option (see docs/benchmarks.md for the figures).
 */
import { fold, pseudoHeader4, pseudoHeader6, sum } from './checksum.ts';
import { clearLayout, IpLayout, STRICT, WALK, walkIp } from './ip-walk.ts';
import { DSS_FLAG, SUBTYPE } from './mptcp-options.ts';
import { IPV4, IPV6, PROTOCOL } from './numbers.ts';
import { OPTION, TCP, TCP_MIN_HEADER } from './tcp.ts';

/** Results of {@link parsePacket}: 0 is a good TCP segment, the others say why it is not one. */
export const PARSED = {
  tcp: 0,
  icmp: 1,
  icmpv6: 2,
  otherProtocol: 3,
  fragment: WALK.fragment,
  truncated: WALK.cut,
  badVersion: WALK.badVersion,
  badHeader: WALK.badHeader,
  badIpChecksum: WALK.badChecksum,
  badTcpChecksum: 9,
  badOptions: 10,
} as const;

// The names of `numbers.ts` and `tcp.ts` as this module's own constants: V8 folds those into the code, but reads the fields of an
// imported object each time, which makes parsing a third slower.
const { source: SOURCE4, destination: DESTINATION4, trafficClass: TRAFFIC_CLASS4, ttl: TTL4 } = IPV4;
const { source: SOURCE6, destination: DESTINATION6, versionClassFlow: CLASS6, hopLimit: HOP_LIMIT6 } = IPV6;
const { tcp: TCP_PROTOCOL } = PROTOCOL;
const {
  sourcePort: SOURCE_PORT,
  destinationPort: DESTINATION_PORT,
  seq: SEQ,
  ack: ACK,
  dataOffset: DATA_OFFSET,
  flags: FLAGS,
  window: WINDOW,
  checksum: CHECKSUM,
  urgent: URGENT,
} = TCP;
const { end: END, nop: NOP, timestamps: TIMESTAMPS, sack: SACK, mptcp: MPTCP } = OPTION;
const { dataAck: DATA_ACK, dataAck64: DATA_ACK64, mapping: MAPPING, dsn64: DSN64 } = DSS_FLAG;
const { dss: DSS } = SUBTYPE;
const { fragment: FRAGMENT, upper: UPPER } = WALK;
const { tcp: GOOD, badOptions: BAD_OPTIONS } = PARSED;
const HEADER = TCP_MIN_HEADER;

/** NOP, NOP, kind and length of timestamps, as one word: the layout that RFC 7323 appendix A recommends. */
const ALIGNED_TIMESTAMPS = (NOP << 24) | (NOP << 16) | (TIMESTAMPS << 8) | 10;

/** At most this many Multipath TCP options besides DSS are looked at in one segment; 40 bytes hold no more useful ones. */
export const MAX_OTHER_MPTCP = 8;

/**
 * A TCP segment and the packet around it, as offsets and numbers. Sequence numbers are signed int32. Reused from packet to
 * packet: what a packet does not have is as in a new object, never what the packet before had.
 */
export class Segment extends IpLayout {
  view: DataView = new DataView(new ArrayBuffer(0));
  bytes: Uint8Array = new Uint8Array(0);
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
  /** Offset of the DSS option, -1 when absent. */
  dssOffset = -1;
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
// oxlint-disable-next-line max-params -- a call for every packet: an object for its arguments costs as much as the work
export function parsePacket(view: DataView, bytes: Uint8Array, offset: number, length: number, verify: boolean, segment: Segment): number {
  segment.view = view;
  segment.bytes = bytes;
  const walked = walkIp(view, offset, length, STRICT, segment);
  if (walked > FRAGMENT) clearIpFields(segment);
  else readIpFields(view, offset, segment);
  if (walked !== UPPER) {
    clearTcp(segment);
    return walked;
  }
  const { protocol } = segment;
  if (protocol !== TCP_PROTOCOL) {
    clearTcp(segment);
    return protocol === PROTOCOL.icmp ? PARSED.icmp : protocol === PROTOCOL.icmpv6 ? PARSED.icmpv6 : PARSED.otherProtocol;
  }
  const tcpLength = segment.endOffset - segment.tcpOffset;
  if (verify && fold(sum(bytes, segment.tcpOffset, tcpLength, tcpPseudoHeader(segment, tcpLength))) !== 0xffff) {
    clearTcp(segment);
    return PARSED.badTcpChecksum;
  }
  return parseTcpInto(view, segment.tcpOffset, tcpLength, segment);
}

/** Partial sum of the pseudo-header of the packet in `segment` for an upper-layer length. */
export function tcpPseudoHeader(segment: Segment, length: number): number {
  return segment.ipVersion === 4
    ? pseudoHeader4(segment.source0, segment.destination0, segment.protocol, length)
    : pseudoHeader6(segment.bytes, segment.ipOffset + SOURCE6, segment.protocol, length);
}

/**
 * Parses a TCP header and its options at `offset` into `segment`; `length` is header plus payload. Options at or past
 * `limit` are not there (a capture cut them): what comes before is read, and the result is `badOptions`. Of an option that
 * comes twice the last one counts, as in Linux (no RFC says more), and it counts whole: never the fields of two mixed.
 */
export function parseTcpInto(view: DataView, offset: number, length: number, segment: Segment, limit: number = Number.POSITIVE_INFINITY): number {
  if (length < HEADER) return withoutTcp(segment, PARSED.truncated);
  const headerLength = (view.getUint8(offset + DATA_OFFSET) >>> 4) << 2;
  if (headerLength < HEADER) return withoutTcp(segment, PARSED.badHeader);
  if (headerLength > length) return withoutTcp(segment, PARSED.truncated);
  segment.sourcePort = view.getUint16(offset + SOURCE_PORT);
  segment.destinationPort = view.getUint16(offset + DESTINATION_PORT);
  segment.seq = view.getInt32(offset + SEQ);
  segment.ack = view.getInt32(offset + ACK);
  segment.flags = view.getUint8(offset + FLAGS);
  segment.window = view.getUint16(offset + WINDOW);
  segment.urgent = view.getUint16(offset + URGENT);
  segment.payloadOffset = offset + headerLength;
  segment.payloadLength = length - headerLength;
  segment.optionsLength = headerLength - HEADER;
  segment.mss = -1;
  segment.windowScale = -1;
  segment.sackPermitted = false;
  segment.sackCount = 0;
  segment.fastOpenOffset = -1;
  segment.otherMptcpCount = 0;
  const end = Math.min(offset + headerLength, limit);
  let at = offset + HEADER;
  // What segment after segment has is emptied only when it is found to be absent: that saves the stores.
  let timestamps = false;
  let dss = false;
  // Almost every segment starts with NOP, NOP, timestamps: one 32-bit compare instead of three loop turns.
  if (at + 12 <= end && view.getInt32(at) === ALIGNED_TIMESTAMPS) {
    readTimestamps(view, at + 4, segment);
    timestamps = true;
    at += 12;
  }
  let whole = end === offset + headerLength;
  while (at < end) {
    const kind = view.getUint8(at);
    if (kind === END) break;
    if (kind === NOP) {
      at++;
      continue;
    }
    const size = at + 1 < end ? view.getUint8(at + 1) : 0;
    if (size < 2 || at + size > end) {
      whole = false;
      break;
    }
    if (kind === MPTCP) {
      if (size >= 4 && view.getUint8(at + 2) >>> 4 === DSS) dss = parseDssInto(view, at, size, segment) || dss;
      else if (size >= 3 && segment.otherMptcpCount < MAX_OTHER_MPTCP) segment.otherMptcp[segment.otherMptcpCount++] = at;
    } else if (kind === TIMESTAMPS && size === 10) {
      readTimestamps(view, at + 2, segment);
      timestamps = true;
    } else {
      parseOptionInto(view, at, kind, size, segment);
    }
    at += size;
  }
  if (!timestamps && segment.hasTimestamps) clearTimestamps(segment);
  if (!dss && segment.hasDss) clearDss(segment);
  return whole ? GOOD : BAD_OPTIONS;
}

function readTimestamps(view: DataView, at: number, segment: Segment): void {
  segment.hasTimestamps = true;
  segment.tsVal = view.getInt32(at);
  segment.tsEcr = view.getInt32(at + 4);
}

function withoutTcp(segment: Segment, result: number): number {
  clearTcp(segment);
  return result;
}

function parseOptionInto(view: DataView, at: number, kind: number, size: number, segment: Segment): void {
  switch (kind) {
    case OPTION.mss:
      if (size === 4) segment.mss = view.getUint16(at + 2);
      break;
    case OPTION.windowScale:
      if (size === 3) segment.windowScale = view.getUint8(at + 2);
      break;
    case OPTION.sackPermitted:
      if (size === 2) segment.sackPermitted = true;
      break;
    case SACK: {
      const count = Math.min((size - 2) >>> 3, 4);
      if ((size - 2) % 8 !== 0) break;
      for (let i = 0; i < count * 2; i++) segment.sack[i] = view.getInt32(at + 2 + 4 * i);
      segment.sackCount = count;
      break;
    }
    case OPTION.fastOpen:
      segment.fastOpenOffset = at;
      break;
    default:
      break;
  }
}

/** Reads a DSS; false when its length does not fit its flags. */
function parseDssInto(view: DataView, at: number, size: number, segment: Segment): boolean {
  const flags = view.getUint8(at + 3);
  const ackSize = (flags & DATA_ACK) === 0 ? 0 : (flags & DATA_ACK64) === 0 ? 4 : 8;
  const dsnSize = (flags & MAPPING) === 0 ? 0 : (flags & DSN64) === 0 ? 4 : 8;
  const plain = 4 + ackSize + (dsnSize === 0 ? 0 : dsnSize + 6);
  const checksummed = dsnSize !== 0 && size === plain + 2;
  // A DSS whose length does not fit its flags says nothing reliable: leave it out, as if it were absent.
  if (size !== plain && !checksummed) return false;
  segment.hasDss = true;
  segment.dssOffset = at;
  segment.dssFlags = flags;
  let next = at + 4;
  if (ackSize === 8) {
    segment.dataAckHigh = view.getInt32(next);
    segment.dataAckLow = view.getInt32(next + 4);
  } else {
    segment.dataAckHigh = 0;
    segment.dataAckLow = ackSize === 0 ? 0 : view.getInt32(next);
  }
  next += ackSize;
  if (dsnSize === 0) {
    clearMapping(segment);
    return true;
  }
  if (dsnSize === 8) {
    segment.dsnHigh = view.getInt32(next);
    segment.dsnLow = view.getInt32(next + 4);
  } else {
    segment.dsnHigh = 0;
    segment.dsnLow = view.getInt32(next);
  }
  next += dsnSize;
  segment.ssn = view.getInt32(next);
  segment.dataLength = view.getUint16(next + 4);
  segment.dssChecksum = checksummed ? view.getUint16(next + 6) : -1;
  return true;
}

/** Traffic class, TTL or hop limit, and addresses of the IP header at `offset`, which {@link walkIp} has accepted. */
export function readIpFields(view: DataView, offset: number, segment: Segment): void {
  if (segment.ipVersion === 4) {
    segment.trafficClass = view.getUint8(offset + TRAFFIC_CLASS4);
    segment.ttl = view.getUint8(offset + TTL4);
    segment.source0 = view.getInt32(offset + SOURCE4);
    segment.destination0 = view.getInt32(offset + DESTINATION4);
    segment.source1 = segment.source2 = segment.source3 = 0;
    segment.destination1 = segment.destination2 = segment.destination3 = 0;
    return;
  }
  segment.trafficClass = (view.getUint16(offset + CLASS6) >>> 4) & 0xff;
  segment.ttl = view.getUint8(offset + HOP_LIMIT6);
  segment.source0 = view.getInt32(offset + SOURCE6);
  segment.source1 = view.getInt32(offset + SOURCE6 + 4);
  segment.source2 = view.getInt32(offset + SOURCE6 + 8);
  segment.source3 = view.getInt32(offset + SOURCE6 + 12);
  segment.destination0 = view.getInt32(offset + DESTINATION6);
  segment.destination1 = view.getInt32(offset + DESTINATION6 + 4);
  segment.destination2 = view.getInt32(offset + DESTINATION6 + 8);
  segment.destination3 = view.getInt32(offset + DESTINATION6 + 12);
}

/** Source becomes destination and back, addresses and ports: a segment that is quoted, as the other end would have sent it. */
export function swapEnds(segment: Segment): void {
  const { source0, source1, source2, source3, sourcePort } = segment;
  segment.source0 = segment.destination0;
  segment.source1 = segment.destination1;
  segment.source2 = segment.destination2;
  segment.source3 = segment.destination3;
  segment.sourcePort = segment.destinationPort;
  segment.destination0 = source0;
  segment.destination1 = source1;
  segment.destination2 = source2;
  segment.destination3 = source3;
  segment.destinationPort = sourcePort;
}

/** Empties everything about a packet, as in a new object; `view` and `bytes` stay. */
export function clearSegment(segment: Segment): void {
  clearLayout(segment);
  clearIpFields(segment);
  clearTcp(segment);
}

function clearIpFields(segment: Segment): void {
  segment.trafficClass = 0;
  segment.ttl = 0;
  segment.source0 = segment.source1 = segment.source2 = segment.source3 = 0;
  segment.destination0 = segment.destination1 = segment.destination2 = segment.destination3 = 0;
}

/** Empties the TCP fields: what is not a whole TCP header has none. */
export function clearTcp(segment: Segment): void {
  segment.sourcePort = 0;
  segment.destinationPort = 0;
  segment.seq = 0;
  segment.ack = 0;
  segment.flags = 0;
  segment.window = 0;
  segment.urgent = 0;
  segment.payloadOffset = 0;
  segment.payloadLength = 0;
  segment.optionsLength = 0;
  segment.mss = -1;
  segment.windowScale = -1;
  segment.sackPermitted = false;
  segment.sackCount = 0;
  segment.fastOpenOffset = -1;
  segment.otherMptcpCount = 0;
  clearTimestamps(segment);
  clearDss(segment);
}

function clearTimestamps(segment: Segment): void {
  segment.hasTimestamps = false;
  segment.tsVal = 0;
  segment.tsEcr = 0;
}

function clearDss(segment: Segment): void {
  segment.hasDss = false;
  segment.dssOffset = -1;
  segment.dssFlags = 0;
  segment.dataAckHigh = 0;
  segment.dataAckLow = 0;
  clearMapping(segment);
}

function clearMapping(segment: Segment): void {
  segment.dsnHigh = 0;
  segment.dsnLow = 0;
  segment.ssn = 0;
  segment.dataLength = 0;
  segment.dssChecksum = -1;
}

/** Writes the fixed 20 bytes of a TCP header, checksum and urgent pointer zero; `optionsLength` is a multiple of 4. */
// oxlint-disable-next-line max-params -- a call for every packet: an object for its arguments costs as much as the work
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
  view.setInt32(at + SOURCE_PORT, (sourcePort << 16) | destinationPort);
  view.setInt32(at + SEQ, seq);
  view.setInt32(at + ACK, ack);
  view.setInt32(at + DATA_OFFSET, ((HEADER + optionsLength) << 26) | (flags << 16) | window);
  view.setInt32(at + CHECKSUM, 0);
}

/** Writes NOP, NOP, timestamps (RFC 7323 appendix A). Returns 12. */
export function writeTimestamps(view: DataView, at: number, value: number, echo: number): number {
  view.setInt32(at, ALIGNED_TIMESTAMPS);
  view.setInt32(at + 4, value);
  view.setInt32(at + 8, echo);
  return 12;
}

/**
 * Writes a DSS option (RFC 8684 §3.3), padded with NOPs in front to a multiple of four. `checksum` is -1 when there is
 * none. Returns the bytes written.
 */
// oxlint-disable-next-line max-params -- a call for every packet: an object for its arguments costs as much as the work
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
  const mapping = (flags & MAPPING) !== 0;
  if (mapping && checksum < 0) {
    view.setUint16(at, (NOP << 8) | NOP);
    at += 2;
  }
  const option = at;
  view.setUint16(at + 2, (DSS << 12) | flags);
  at += 4;
  if ((flags & DATA_ACK) !== 0) {
    if ((flags & DATA_ACK64) !== 0) {
      view.setInt32(at, ackHigh);
      at += 4;
    }
    view.setInt32(at, ackLow);
    at += 4;
  }
  if (mapping) {
    if ((flags & DSN64) !== 0) {
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
  view.setUint16(option, (MPTCP << 8) | (at - option));
  return at - start;
}
