/** Choosing and writing the next segment of a connection (RFC 9293 §3.8.6.2.1, §3.10.8). */
import { addOdd, FLAG, finish, fold, pseudoHeader4, sum, writeTcp, writeTimestamps } from '@subflow/wire';
import { writeFastOpen } from './fast-open.ts';
import { tailRecord } from './rack.ts';
import { RECORD, SendRecord, splitRecord } from './record.ts';
import { limitedTransmit } from './recovery.ts';
import { backedOffRto } from './rtt.ts';
import { sackBlocks, sackScratch } from './sack-blocks.ts';
import { toSeq } from './sequence.ts';
import { CONGESTION, STATE } from './state.ts';
import type { Tcb } from './tcb.ts';
import { armPersist, armRetransmission } from './timers.ts';
import { timestampValue } from './timestamps.ts';
import type { TransmitSlot } from './transmit-slot.ts';
import { SEGMENT_KIND } from './user.ts';
import { advertiseWindow } from './window.ts';

const MAX_IP_PACKET = 65535;
const MAX_OPTIONS = 40;
const PROTOCOL_TCP = 6;
const ECT0 = 2;

/** Appends bytes to the send queue as one record: it is sent as one mapping. */
export function enqueue(tcb: Tcb, slices: Uint8Array[], length: number, tag: object | null): SendRecord {
  const record = new SendRecord(tcb.sndEnd, tcb.sndEnd + length, slices, 0, tag);
  if (tcb.tail === null) tcb.head = record;
  else tcb.tail.next = record;
  tcb.tail = record;
  tcb.firstUnsent ??= record;
  tcb.sndEnd += length;
  return record;
}

/** Bytes that may be queued now without waiting for an ACK: congestion and peer window less what is queued. */
export function sendRoom(tcb: Tcb): number {
  const queued = tcb.sndEnd - Math.max(tcb.sndNxt, 1);
  const window = tcb.sndWndEdge - Math.max(tcb.sndNxt, 1) - queued;
  const congestion = tcb.cwnd + limitedTransmit(tcb) - tcb.inFlight - tcb.lostBytes - queued;
  return Math.min(window, congestion);
}

/** Writes the next segment into `slot`. Returns false when there is nothing to send now. */
export function pollSegment(tcb: Tcb, slot: TransmitSlot, now: number): boolean {
  if (tcb.resetPending) {
    tcb.resetPending = false;
    writeSegment(tcb, slot, SEGMENT_KIND.reset, FLAG.rst | FLAG.ack, tcb.sndNxt, null, 0, 0, now);
    tcb.context.removed(tcb);
    return true;
  }
  switch (tcb.state) {
    case STATE.closed:
      return false;
    case STATE.synSent:
    case STATE.synReceived:
      return tcb.synPending && sendSyn(tcb, slot, now);
    case STATE.timeWait:
      return tcb.ackNow && sendAck(tcb, slot, now);
    default:
      break;
  }
  if (tcb.ackFirst) {
    tcb.ackFirst = false;
    return sendAck(tcb, slot, now);
  }
  if (tcb.lostBytes > 0 && retransmit(tcb, slot, now)) return true;
  if (tcb.tlpPending && sendProbe(tcb, slot, now)) return true;
  tcb.user.prepare(now);
  if (tcb.firstUnsent !== null && sendNew(tcb, slot, now)) return true;
  if (tcb.deliveryRate !== null && tcb.firstUnsent === null && tcb.inFlight + tcb.mss <= tcb.cwnd) tcb.deliveryRate.limitedByApplication(tcb.inFlight);
  if (tcb.finQueued && tcb.firstUnsent === null && !tcb.finSent && tcb.sndUna <= tcb.sndEnd) return sendFin(tcb, slot, now);
  if (tcb.probePending) {
    tcb.probePending = false;
    writeSegment(tcb, slot, SEGMENT_KIND.ack, FLAG.ack, tcb.sndUna - 1, null, 0, 0, now);
    return true;
  }
  return tcb.ackNow && sendAck(tcb, slot, now);
}

function sendSyn(tcb: Tcb, slot: TransmitSlot, now: number): boolean {
  tcb.synPending = false;
  tcb.synCount++;
  tcb.sndNxt = Math.max(tcb.sndNxt, 1);
  const passive = tcb.state === STATE.synReceived;
  let flags: number = passive ? FLAG.syn | FLAG.ack : FLAG.syn;
  // ECN-setup SYN and SYN+ACK (RFC 3168 §6.1.1); retransmitted SYNs do without (§6.1.1.1).
  if (passive ? tcb.ecn : tcb.context.tcp.ecn && tcb.synCount === 1) {
    flags |= passive ? FLAG.ece : FLAG.ece | FLAG.cwr;
    tcb.ecn = true;
  } else {
    tcb.ecn = false;
  }
  const data = passive || tcb.fastOpen === null ? null : synData(tcb, now);
  const kind = passive ? SEGMENT_KIND.synAck : SEGMENT_KIND.syn;
  if (data === null) writeSegment(tcb, slot, kind, flags, 0, null, 0, 0, now);
  else writeSegment(tcb, slot, kind, flags, 0, data, data.position, data.end - data.position, now);
  tcb.retransmitAt = now + backedOffRto(tcb);
  tcb.context.reschedule(tcb);
  return true;
}

/** Data for a SYN with a Fast Open cookie; a repeated SYN goes without (RFC 7413 §4.2.1). */
function synData(tcb: Tcb, now: number): SendRecord | null {
  const fastOpen = tcb.fastOpen!;
  // What the first SYN carried may still be acknowledged: it stays in the queue until the SYN+ACK tells.
  if (tcb.synCount > 1) return null;
  const largest = tcb.interface.mtu - (tcb.ipVersion === 4 ? 40 : 60);
  const limit = fastOpen.cookie.length === 0 ? 0 : Math.min(tcb.peerMss, largest) - MAX_OPTIONS;
  const slices = limit <= 0 ? null : tcb.user.fastOpenData(limit);
  if (slices === null) return null;
  const length = slices.reduce((total, slice) => total + slice.length, 0);
  const record = enqueue(tcb, slices, length, null);
  record.state = RECORD.inFlight;
  record.sentAt = now;
  tcb.firstUnsent = null;
  tcb.sndNxt = record.end;
  tcb.inFlight = length;
  fastOpen.sent = length;
  return record;
}

function sendAck(tcb: Tcb, slot: TransmitSlot, now: number): boolean {
  writeSegment(tcb, slot, SEGMENT_KIND.ack, FLAG.ack, tcb.sndNxt, null, 0, 0, now);
  return true;
}

function sendFin(tcb: Tcb, slot: TransmitSlot, now: number): boolean {
  const again = tcb.finLost;
  tcb.finSent = true;
  tcb.finLost = false;
  if (tcb.sndNxt === tcb.sndEnd) tcb.sndNxt = tcb.sndEnd + 1;
  if (tcb.state === STATE.established) tcb.state = STATE.finWait1;
  else if (tcb.state === STATE.closeWait) tcb.state = STATE.lastAck;
  if (again) tcb.retransmissions++;
  writeSegment(tcb, slot, SEGMENT_KIND.fin, FLAG.fin | FLAG.ack, tcb.sndEnd, null, 0, 0, now);
  if (tcb.retransmitAt === 0) armRetransmission(tcb, now);
  tcb.context.reschedule(tcb);
  return true;
}

/** The earliest lost bytes, as far as the window allows. */
function retransmit(tcb: Tcb, slot: TransmitSlot, now: number): boolean {
  if (tcb.inFlight > 0 && tcb.inFlight + tcb.mss > tcb.cwnd) return false;
  if (isPaced(tcb, now)) return false;
  let record = tcb.head;
  while (record !== null && record.state !== RECORD.lost && record.state !== RECORD.unsent) record = record.next;
  if (record === null || record.state !== RECORD.lost) return false;
  const limit = Math.max(tcb.mss, Math.min(superSegment(tcb), tcb.cwnd - tcb.inFlight));
  limitRecord(tcb, record, limit);
  tcb.lostBytes -= record.end - record.position;
  resend(tcb, slot, record, now);
  if (tcb.retransmitAt === 0) armRetransmission(tcb, now);
  return true;
}

/** Tail loss probe (RFC 8985 §7.3): new data if there is any and the window allows, else the last segment again. */
function sendProbe(tcb: Tcb, slot: TransmitSlot, now: number): boolean {
  tcb.tlpPending = false;
  tcb.user.prepare(now);
  const unsent = tcb.firstUnsent;
  if (unsent !== null && unsent.position < tcb.sndWndEdge) {
    limitRecord(tcb, unsent, Math.min(tcb.mss, tcb.sndWndEdge - unsent.position));
    tcb.tlpRetransmission = false;
    transmitNew(tcb, slot, unsent, now);
  } else {
    const tail = tailRecord(tcb);
    if (tail === null) return false;
    tcb.inFlight -= tail.end - tail.position;
    tcb.tlpRetransmission = true;
    resend(tcb, slot, tail, now);
  }
  tcb.tlpEnd = tcb.sndNxt;
  tcb.probeAt = 0;
  tcb.retransmitAt = now + backedOffRto(tcb);
  tcb.context.reschedule(tcb);
  return true;
}

function resend(tcb: Tcb, slot: TransmitSlot, record: SendRecord, now: number): void {
  const length = record.end - record.position;
  record.state = RECORD.inFlight;
  record.retransmitted = true;
  record.sentAt = now;
  tcb.deliveryRate?.sent(record, tcb.inFlight, now);
  pace(tcb, length, now);
  tcb.inFlight += length;
  tcb.retransmissions++;
  tcb.bytesRetransmitted += length;
  if (tcb.congestionState === CONGESTION.recovery) tcb.prrOut += length;
  writeSegment(tcb, slot, SEGMENT_KIND.data, FLAG.ack | FLAG.psh, record.position, record, record.position, length, now);
}

function sendNew(tcb: Tcb, slot: TransmitSlot, now: number): boolean {
  if (isPaced(tcb, now)) return false;
  const record = tcb.firstUnsent!;
  const wanted = record.end - record.position;
  const congestion = tcb.cwnd + limitedTransmit(tcb) - tcb.inFlight;
  if (congestion < Math.min(tcb.mss, wanted) && tcb.inFlight > 0) {
    tcb.cwndLimited = true;
    return false;
  }
  const window = tcb.sndWndEdge - record.position;
  if (window <= 0) {
    if (tcb.inFlight === 0) armPersist(tcb, now);
    return false;
  }
  // Sender-side silly-window avoidance (RFC 9293 §3.8.6.2.1): not less than a segment unless it is all there is,
  // or half the largest window seen.
  if (window < wanted && window < tcb.mss && window < tcb.maxSndWnd / 2 && tcb.inFlight > 0) return false;
  let length = Math.min(wanted, window, superSegment(tcb), Math.max(congestion, tcb.mss));
  if (length < wanted && length > tcb.mss) length -= length % tcb.mss;
  limitRecord(tcb, record, length);
  transmitNew(tcb, slot, record, now);
  return true;
}

function transmitNew(tcb: Tcb, slot: TransmitSlot, record: SendRecord, now: number): void {
  const length = record.end - record.position;
  record.state = RECORD.inFlight;
  record.sentAt = now;
  tcb.firstUnsent = record.next;
  tcb.sndNxt = record.end;
  tcb.deliveryRate?.sent(record, tcb.inFlight, now);
  pace(tcb, length, now);
  tcb.inFlight += length;
  tcb.bytesSent += length;
  if (tcb.unackedSince === 0) tcb.unackedSince = now;
  if (tcb.congestionState === CONGESTION.recovery) tcb.prrOut += length;
  tcb.cwndLimited = tcb.inFlight + tcb.mss > tcb.cwnd || (tcb.cwnd < tcb.ssthresh && tcb.inFlight * 2 > tcb.cwnd);
  const last = tcb.firstUnsent === null;
  writeSegment(tcb, slot, SEGMENT_KIND.data, last ? FLAG.ack | FLAG.psh : FLAG.ack, record.position, record, record.position, length, now);
  if (tcb.retransmitAt === 0 && tcb.probeAt === 0) armRetransmission(tcb, now);
  else if (tcb.probeAt !== 0) armRetransmission(tcb, now);
}

/** Whether the controller's pacing rate makes the next transmission wait; arms the timer for it. */
function isPaced(tcb: Tcb, now: number): boolean {
  if (tcb.pacingRate === 0 || tcb.pacedUntil <= now) return false;
  tcb.paceAt = Math.ceil(tcb.pacedUntil);
  tcb.context.reschedule(tcb);
  return true;
}

function pace(tcb: Tcb, length: number, now: number): void {
  if (tcb.pacingRate > 0) tcb.pacedUntil = Math.max(now, tcb.pacedUntil) + length / tcb.pacingRate;
}

/** Largest payload of one transmission on this interface. */
export function superSegment(tcb: Tcb): number {
  const limit = tcb.interface.segmentationLimit;
  if (limit === 0) return tcb.mss;
  const room = Math.min(limit, MAX_IP_PACKET - 120);
  return Math.max(tcb.mss, room - (room % tcb.mss));
}

function limitRecord(tcb: Tcb, record: SendRecord, length: number): void {
  if (record.end - record.position <= length) return;
  const rest = splitRecord(record, record.position + length);
  if (tcb.tail === record) tcb.tail = rest;
}

/** Writes headers and payload references of one segment. */
function writeSegment(
  tcb: Tcb,
  slot: TransmitSlot,
  kind: number,
  flags: number,
  position: number,
  record: SendRecord | null,
  from: number,
  length: number,
  now: number,
): void {
  const view = slot.view;
  const v4 = tcb.ipVersion === 4;
  const ipLength = v4 ? 20 : 40;
  const syn = (flags & FLAG.syn) !== 0;
  const tcpAt = ipLength;
  let at = tcpAt + 20;
  const optionsAt = at;
  slot.interface = tcb.interface;
  slot.sliceCount = 0;
  slot.payloadLength = length;
  if (syn) at += writeSynOptions(tcb, view, at, kind, now);
  else if (tcb.timestamps) at += writeTimestamps(view, at, timestampValue(tcb, now), tcb.tsRecent);
  // SACK goes behind what the user must say; both fit because the user is told the room that is left.
  const sackWanted = !syn && kind !== SEGMENT_KIND.reset && tcb.sack && (tcb.outOfOrder !== null || tcb.dsackRight > tcb.dsackLeft);
  at += tcb.user.writeOptions(kind, record, from, length, view, at, MAX_OPTIONS - (at - optionsAt), now);
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
  if (record !== null) gather(slot, record, from, length);
  const tcpLength = at - tcpAt + length;
  const ect = tcb.ecn && length > 0 && record !== null && !record.retransmitted ? ECT0 : 0;
  const pseudo = v4 ? writeIpv4(tcb, view, slot.header, ipLength + tcpLength, ect) + tcpLength : writeIpv6(tcb, view, tcpLength, ect) + tcpLength;
  // The MSS is not known yet when a SYN carries data (RFC 7413): it is one packet all the same.
  const segments = !syn && length > tcb.mss ? tcb.mss : 0;
  slot.segmentSize = segments;
  slot.checksumPartial = tcb.interface.checksumOffload;
  if (slot.checksumPartial) view.setUint16(tcpAt + 16, fold(pseudo));
  else view.setUint16(tcpAt + 16, finish(payloadSum(slot, sum(slot.header, tcpAt, at - tcpAt, pseudo))));
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

/** References the bytes [from, from + length) of a record. */
function gather(slot: TransmitSlot, record: SendRecord, from: number, length: number): void {
  let skip = record.skip + (from - record.position);
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

function payloadSum(slot: TransmitSlot, initial: number): number {
  let total = initial;
  let odd = false;
  for (let i = 0; i < slot.sliceCount; i++) {
    const slice = slot.slices[i]!;
    const piece = sum(slice, 0, slice.length);
    total = odd ? addOdd(total, piece) : total + piece;
    if ((slice.length & 1) !== 0) odd = !odd;
  }
  return total;
}

function writeSynOptions(tcb: Tcb, view: DataView, at: number, kind: number, now: number): number {
  const start = at;
  const { tcp } = tcb.context;
  const answering = kind === SEGMENT_KIND.synAck;
  view.setInt32(at, 0x02040000 | (tcb.interface.mtu - (tcb.ipVersion === 4 ? 40 : 60)));
  at += 4;
  const sack = answering ? tcb.sack : tcp.sack;
  const timestamps = answering ? tcb.timestamps : tcp.timestamps;
  if (sack && timestamps) {
    view.setUint16(at, 0x0402);
    view.setUint16(at + 2, 0x080a);
    view.setInt32(at + 4, timestampValue(tcb, now));
    view.setInt32(at + 8, answering ? tcb.tsRecent : 0);
    at += 12;
  } else if (timestamps) {
    at += writeTimestamps(view, at, timestampValue(tcb, now), answering ? tcb.tsRecent : 0);
  } else if (sack) {
    view.setInt32(at, 0x01010402);
    at += 4;
  }
  if (answering ? tcb.rcvScale > 0 || tcb.sndScale > 0 : tcp.windowScaling) {
    view.setInt32(at, 0x01030300 | tcb.rcvScale);
    at += 4;
  }
  return at - start;
}

function writeSack(tcb: Tcb, view: DataView, at: number, room: number): number {
  const limit = Math.min(4, (room - 4) >> 3);
  if (limit <= 0) return 0;
  const count = sackBlocks(tcb, limit);
  if (count === 0) return 0;
  view.setInt32(at, 0x01010500 | (2 + 8 * count));
  for (let i = 0; i < 2 * count; i++) view.setInt32(at + 4 + 4 * i, toSeq(tcb.irs, sackScratch[i]!));
  return 4 + 8 * count;
}

/** Writes the IPv4 header; returns the pseudo-header sum without the length. */
function writeIpv4(tcb: Tcb, view: DataView, header: Uint8Array, totalLength: number, ecn: number): number {
  view.setInt32(0, 0x45000000 | (ecn << 16) | totalLength);
  // Don't Fragment with identification 0: atomic datagrams need none (RFC 6864 §4.1).
  view.setInt32(4, 0x4000);
  view.setInt32(8, (64 << 24) | (PROTOCOL_TCP << 16));
  header.set(tcb.local, 12);
  header.set(tcb.remote, 16);
  view.setUint16(10, finish(sum(header, 0, 20)));
  return pseudoHeader4(view.getInt32(12), view.getInt32(16), PROTOCOL_TCP, 0);
}

/** Writes the IPv6 header; returns the pseudo-header sum without the length. */
function writeIpv6(tcb: Tcb, view: DataView, payloadLength: number, ecn: number): number {
  // A stable flow label per connection (RFC 6437 §3).
  view.setInt32(0, 0x60000000 | (ecn << 20) | (tcb.iss & 0xfffff));
  view.setInt32(4, (payloadLength << 16) | (PROTOCOL_TCP << 8) | 64);
  let total = PROTOCOL_TCP;
  for (let i = 0; i < 16; i += 2) {
    const source = (tcb.local[i]! << 8) | tcb.local[i + 1]!;
    const destination = (tcb.remote[i]! << 8) | tcb.remote[i + 1]!;
    view.setUint16(8 + i, source);
    view.setUint16(24 + i, destination);
    total += source + destination;
  }
  return total;
}
