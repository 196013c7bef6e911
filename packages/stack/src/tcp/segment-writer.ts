/** Writing one segment: IP and TCP headers, options, checksum, references to its payload. */
import {
  FLAG,
  finish,
  fold,
  IPV4_MIN_HEADER,
  IPV6_HEADER,
  OPTION,
  PROTOCOL,
  sum,
  sumSlices,
  TCP,
  TCP_MIN_HEADER,
  writeTcp,
  writeTimestamps,
} from '@subflow/wire';
import { writeFastOpen } from './fast-open.ts';
import type { SendRecord } from './retransmission-queue.ts';
import { toSeq } from './sequence.ts';
import type { Tcb } from './tcb.ts';
import { timestampValue } from './timestamps.ts';
import type { TransmitSlot } from './transmit-slot.ts';
import { SEGMENT_KIND } from './user.ts';
import type { SegmentKind } from './user.ts';
import { advertiseWindow } from './window.ts';

const MAX_OPTIONS = 40;
/** ECN-capable transport (RFC 3168 §5). */
const ECT0 = 2;

/** What a segment carries: `length` bytes of a record, or nothing. */
export interface Outgoing {
  readonly flags: number;
  /** Position of its first sequence number. */
  readonly position: number;
  readonly record: SendRecord | null;
  readonly length: number;
}

/** Writes headers and payload references of one segment. */
export function writeSegment(tcb: Tcb, slot: TransmitSlot, kind: SegmentKind, what: Outgoing, now: number): void {
  const { position, record, length } = what;
  let { flags } = what;
  const view = slot.view;
  const v4 = tcb.ipVersion === 4;
  const ipLength = v4 ? IPV4_MIN_HEADER : IPV6_HEADER;
  const syn = (flags & FLAG.syn) !== 0;
  const tcpAt = ipLength;
  let at = tcpAt + TCP_MIN_HEADER;
  const optionsAt = at;
  slot.interface = tcb.interface;
  slot.sliceCount = 0;
  slot.payloadLength = length;
  if (syn) at += writeSynOptions(tcb, view, at, kind, now);
  else if (tcb.timestamps) at += writeTimestamps(view, at, timestampValue(tcb, now), tcb.tsRecent);
  // SACK goes behind what the user must say; both fit because the user is told the room that is left.
  const sackWanted = !syn && kind !== SEGMENT_KIND.reset && tcb.sack && (tcb.outOfOrder !== null || tcb.dsackRight > tcb.dsackLeft);
  at += tcb.user.writeOptions({ kind, record, position, view, at, room: MAX_OPTIONS - (at - optionsAt) }, now);
  if (syn && tcb.fastOpen !== null && tcb.synCount === 1) at += writeFastOpen(tcb.fastOpen.cookie, view, at, MAX_OPTIONS - (at - optionsAt));
  if (sackWanted) at += writeSack(tcb, view, at, MAX_OPTIONS - (at - optionsAt));
  const optionsLength = at - optionsAt;
  let window = 0;
  if (kind !== SEGMENT_KIND.reset) window = advertiseWindow(tcb, syn, now);
  if (tcb.ecn && !syn) {
    if (tcb.ecnEcho) flags |= FLAG.ece;
    if (tcb.ecnSendCwr && length > 0) {
      flags |= FLAG.cwr;
      tcb.ecnSendCwr = false;
    }
  }
  const acknowledges = (flags & FLAG.ack) !== 0;
  writeTcp(view, tcpAt, tcb.localPort, tcb.remotePort, toSeq(tcb.iss, position), acknowledges ? toSeq(tcb.irs, tcb.rcvNxt) : 0, flags, window, optionsLength);
  slot.headerLength = at;
  slot.transportOffset = tcpAt;
  slot.ipVersion = tcb.ipVersion;
  if (record !== null) gather(slot, record, length);
  const tcpLength = at - tcpAt + length;
  const ect = tcb.ecn && length > 0 && record !== null && !record.retransmitted ? ECT0 : 0;
  if (v4) writeIpv4(tcb, view, ipLength + tcpLength, ect);
  else writeIpv6(tcb, view, slot.header, tcpLength, ect);
  const pseudo = tcb.addressSum + PROTOCOL.tcp + tcpLength;
  // The MSS is not known yet when a SYN carries data (RFC 7413): it is one packet all the same.
  const segments = !syn && length > tcb.mss ? tcb.mss : 0;
  slot.segmentSize = segments;
  slot.checksumPartial = tcb.interface.checksumOffload;
  if (slot.checksumPartial) view.setUint16(tcpAt + TCP.checksum, fold(pseudo));
  else view.setUint16(tcpAt + TCP.checksum, finish(sumSlices(slot.slices, slot.sliceCount, sum(slot.header, tcpAt, at - tcpAt, pseudo))));
  if (acknowledges) {
    tcb.ackNow = false;
    tcb.ackPending = 0;
    tcb.delayedAckAt = 0;
    tcb.lastAckSent = tcb.rcvNxt;
    tcb.dsackRight = tcb.dsackLeft = 0;
    tcb.user.onAckSent();
  }
  tcb.lastSentAt = now;
  tcb.segmentsSent++;
}

/** References the first `length` bytes of a record. */
function gather(slot: TransmitSlot, record: SendRecord, length: number): void {
  let skip = record.skip;
  let left = length;
  for (const bytes of record.slices) {
    if (skip >= bytes.length) {
      skip -= bytes.length;
      continue;
    }
    const take = Math.min(left, bytes.length - skip);
    // A whole slice is passed as it is: subarray costs 88 ns and 90 bytes.
    slot.slices[slot.sliceCount++] = skip === 0 && take === bytes.length ? bytes : bytes.subarray(skip, skip + take);
    left -= take;
    skip = 0;
    if (left === 0) return;
  }
}

/** Options of SYN segments as words: what pads them to four octets comes in front. */
const MSS_WORD = (OPTION.mss << 24) | (4 << 16);
const SACK_PERMITTED = (OPTION.sackPermitted << 8) | 2;
const TIMESTAMPS = (OPTION.timestamps << 8) | 10;
const PADDING = (OPTION.nop << 24) | (OPTION.nop << 16);
const WINDOW_SCALE_WORD = (OPTION.nop << 24) | (OPTION.windowScale << 16) | (3 << 8);

function writeSynOptions(tcb: Tcb, view: DataView, at: number, kind: SegmentKind, now: number): number {
  const start = at;
  const { tcp } = tcb.context;
  const answering = kind === SEGMENT_KIND.synAck;
  view.setInt32(at, MSS_WORD | (tcb.interface.mtu - (tcb.ipVersion === 4 ? IPV4_MIN_HEADER : IPV6_HEADER) - TCP_MIN_HEADER));
  at += 4;
  const sack = answering ? tcb.sack : tcp.sack;
  const timestamps = answering ? tcb.timestamps : tcp.timestamps;
  if (sack && timestamps) {
    view.setUint16(at, SACK_PERMITTED);
    view.setUint16(at + 2, TIMESTAMPS);
    view.setInt32(at + 4, timestampValue(tcb, now));
    view.setInt32(at + 8, answering ? tcb.tsRecent : 0);
    at += 12;
  } else if (timestamps) {
    at += writeTimestamps(view, at, timestampValue(tcb, now), answering ? tcb.tsRecent : 0);
  } else if (sack) {
    view.setInt32(at, PADDING | SACK_PERMITTED);
    at += 4;
  }
  if (answering ? tcb.rcvScale > 0 || tcb.sndScale > 0 : tcp.windowScaling) {
    view.setInt32(at, WINDOW_SCALE_WORD | tcb.rcvScale);
    at += 4;
  }
  return at - start;
}

/** SACK blocks: a duplicate report first (RFC 2883 §4), then what is held ahead of order (RFC 2018 §4). */
function writeSack(tcb: Tcb, view: DataView, at: number, room: number): number {
  const limit = Math.min(4, (room - 4) >> 3);
  if (limit <= 0) return 0;
  let end = at + 4;
  const write = (left: number, right: number): void => {
    view.setInt32(end, toSeq(tcb.irs, left));
    view.setInt32(end + 4, toSeq(tcb.irs, right));
    end += 8;
  };
  const duplicate = tcb.dsackRight > tcb.dsackLeft;
  if (duplicate) write(tcb.dsackLeft, tcb.dsackRight);
  if (tcb.outOfOrder !== null) for (const { position, end: right } of tcb.outOfOrder.report(duplicate ? limit - 1 : limit)) write(position, right);
  const count = (end - at - 4) >> 3;
  if (count === 0) return 0;
  view.setInt32(at, PADDING | (OPTION.sack << 8) | (2 + 8 * count));
  return end - at;
}

/** Version 4, five words, no type of service; Don't Fragment with identification 0: atomic datagrams need none (RFC 6864 §4.1). */
const IPV4_FIRST_WORD = 0x4500_0000;
const IPV4_DONT_FRAGMENT = 0x4000;
const HOP_LIMIT = 64;
/** Sum of the header's 16-bit words that are the same in every packet. */
const IPV4_CONSTANT_SUM = (IPV4_FIRST_WORD >>> 16) + IPV4_DONT_FRAGMENT + ((HOP_LIMIT << 8) | PROTOCOL.tcp);

/** Writes the IPv4 header; its sum comes from what is known of it: adding it up again costs as much as writing it. */
function writeIpv4(tcb: Tcb, view: DataView, totalLength: number, ecn: number): void {
  view.setInt32(0, IPV4_FIRST_WORD | (ecn << 16) | totalLength);
  view.setInt32(4, IPV4_DONT_FRAGMENT);
  view.setInt32(8, (((HOP_LIMIT << 8) | PROTOCOL.tcp) << 16) | finish(IPV4_CONSTANT_SUM + ecn + totalLength + tcb.addressSum));
  view.setInt32(12, tcb.localWord);
  view.setInt32(16, tcb.remoteWord);
}

/** Writes the IPv6 header, with a stable flow label for each connection (RFC 6437 §3). */
function writeIpv6(tcb: Tcb, view: DataView, header: Uint8Array, payloadLength: number, ecn: number): void {
  view.setInt32(0, 0x6000_0000 | (ecn << 20) | (tcb.iss & 0xfffff));
  view.setInt32(4, (payloadLength << 16) | (PROTOCOL.tcp << 8) | HOP_LIMIT);
  header.set(tcb.local, 8);
  header.set(tcb.remote, 24);
}
