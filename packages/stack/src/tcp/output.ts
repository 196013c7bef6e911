/** Choosing the next segment of a connection (RFC 9293 §3.8.6.2.1, §3.10.8). */
import { FLAG } from '@subflow/wire';
import { tailRecord } from './rack.ts';
import { limitedTransmit } from './recovery.ts';
import type { RecordTag, SendRecord } from './retransmission-queue.ts';
import { backedOffRto } from './rtt.ts';
import { writeSegment } from './segment-writer.ts';
import type { Outgoing } from './segment-writer.ts';
import { CONGESTION, STATE } from './state.ts';
import type { Tcb } from './tcb.ts';
import { armPersist, armRetransmission, leastUsefulWindow, stopPersist, usableWindow } from './timers.ts';
import type { TransmitSlot } from './transmit-slot.ts';
import { SEGMENT_KIND } from './user.ts';

const MAX_IP_PACKET = 65535;
/** Bytes that headers take of the largest IP packet, at most. */
const HEADER_RESERVE = 120;
const MAX_OPTIONS = 40;

/** Appends bytes to the send queue as one record: it is sent as one mapping. */
export function enqueue(tcb: Tcb, slices: readonly Uint8Array[], length: number, tag: RecordTag): SendRecord {
  const record = tcb.queue.append(tcb.sndEnd, length, slices, tag);
  tcb.sndEnd += length;
  return record;
}

/** Bytes that may be queued now without waiting for an ACK: congestion and peer window less what is queued. */
export function sendRoom(tcb: Tcb): number {
  const queued = tcb.sndEnd - Math.max(tcb.sndNxt, 1);
  const window = tcb.sndWndEdge - Math.max(tcb.sndNxt, 1) - queued;
  const congestion = tcb.cwnd + limitedTransmit(tcb) - tcb.queue.inFlight - tcb.queue.lostBytes - queued;
  return Math.min(window, congestion);
}

/** Writes the next segment into `slot`. Returns false when there is nothing to send now. */
export function pollSegment(tcb: Tcb, slot: TransmitSlot, now: number): boolean {
  if (tcb.resetPending) {
    tcb.resetPending = false;
    writeSegment(tcb, slot, SEGMENT_KIND.reset, bare(tcb.sndNxt, FLAG.rst | FLAG.ack), now);
    tcb.context.removed(tcb);
    return true;
  }
  switch (tcb.state) {
    case STATE.closed:
      return false;
    case STATE.synSent:
    case STATE.synReceived:
      return (tcb.synPending && sendSyn(tcb, slot, now)) || (tcb.state === STATE.synReceived && tcb.ackNow && sendAck(tcb, slot, now));
    case STATE.timeWait:
      return tcb.ackNow && sendAck(tcb, slot, now);
    case STATE.established:
    case STATE.finWait1:
    case STATE.finWait2:
    case STATE.closeWait:
    case STATE.closing:
    case STATE.lastAck:
      return pollSynchronized(tcb, slot, now);
  }
}

/** In the synchronized states: what is lost first, then a probe, new data, FIN, and a bare ACK when nothing else carries it. */
function pollSynchronized(tcb: Tcb, slot: TransmitSlot, now: number): boolean {
  const { queue } = tcb;
  if (tcb.ackFirst) {
    tcb.ackFirst = false;
    return sendAck(tcb, slot, now);
  }
  if (queue.lostBytes > 0 && retransmit(tcb, slot, now)) return true;
  if (tcb.tlpPending && sendProbe(tcb, slot, now)) return true;
  tcb.user.prepare(now);
  if (queue.unsent !== null && sendNew(tcb, slot, now)) return true;
  if (tcb.deliveryRate !== null && queue.unsent === null && queue.inFlight + tcb.mss <= tcb.cwnd) tcb.deliveryRate.limitedByApplication(queue.inFlight);
  if ((tcb.fin === 'queued' || tcb.fin === 'lost') && queue.unsent === null) return sendFin(tcb, slot, now);
  watchWindow(tcb, now);
  if (tcb.probePending) {
    tcb.probePending = false;
    writeSegment(tcb, slot, SEGMENT_KIND.ack, bare(tcb.sndUna - 1, FLAG.ack), now);
    return true;
  }
  return tcb.ackNow && sendAck(tcb, slot, now);
}

/** A segment without payload. */
function bare(position: number, flags: number): Outgoing {
  return { flags, position, record: null, length: 0 };
}

/**
 * Something waits, here or above, nothing is out whose ACK could open the window, and the window is closed or too small to
 * be used: the persist timer has to run (RFC 9293 §3.8.6.1, §3.8.6.2.1).
 */
function watchWindow(tcb: Tcb, now: number): void {
  const waits = tcb.queue.unsent !== null || tcb.user.waiting() > 0;
  if (waits && usableWindow(tcb) < leastUsefulWindow(tcb)) {
    if (!tcb.queue.outstanding) armPersist(tcb, now);
  } else if (tcb.persistSince !== 0) {
    // Also while data is out: how long the window has been closed begins anew when it closes again.
    stopPersist(tcb);
  }
}

function sendSyn(tcb: Tcb, slot: TransmitSlot, now: number): boolean {
  tcb.synPending = false;
  if (tcb.unackedSince === 0) tcb.unackedSince = now;
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
  const data = passive ? null : synData(tcb, now);
  const kind = passive ? SEGMENT_KIND.synAck : SEGMENT_KIND.syn;
  writeSegment(tcb, slot, kind, data === null ? bare(0, flags) : { flags, position: 0, record: data, length: data.end - data.position }, now);
  tcb.retransmitAt = now + backedOffRto(tcb);
  tcb.context.reschedule(tcb);
  return true;
}

/** Data for a SYN with a Fast Open cookie; a repeated SYN goes without (RFC 7413 §4.2.1). */
function synData(tcb: Tcb, now: number): SendRecord | null {
  const { fastOpen } = tcb;
  // What the first SYN carried may still be acknowledged: it stays in the queue until the SYN+ACK tells.
  if (fastOpen === null || tcb.synCount > 1) return null;
  const largest = tcb.interface.mtu - (tcb.ipVersion === 4 ? 40 : 60);
  const limit = fastOpen.cookie.length === 0 ? 0 : Math.min(tcb.peerMss, largest) - MAX_OPTIONS;
  const slices = limit <= 0 ? null : tcb.user.fastOpenData(limit);
  if (slices === null) return null;
  const length = slices.reduce((total, slice) => total + slice.length, 0);
  const record = enqueue(tcb, slices, length, null);
  tcb.queue.sent(record, now, null);
  tcb.sndNxt = record.end;
  fastOpen.sent = length;
  return record;
}

function sendAck(tcb: Tcb, slot: TransmitSlot, now: number): boolean {
  writeSegment(tcb, slot, SEGMENT_KIND.ack, bare(tcb.sndNxt, FLAG.ack), now);
  return true;
}

function sendFin(tcb: Tcb, slot: TransmitSlot, now: number): boolean {
  const again = tcb.fin === 'lost';
  if (tcb.unackedSince === 0) tcb.unackedSince = now;
  tcb.fin = 'inFlight';
  if (tcb.sndNxt === tcb.sndEnd) tcb.sndNxt = tcb.sndEnd + 1;
  if (tcb.state === STATE.established) tcb.state = STATE.finWait1;
  else if (tcb.state === STATE.closeWait) tcb.state = STATE.lastAck;
  if (again) tcb.retransmissions++;
  writeSegment(tcb, slot, SEGMENT_KIND.fin, bare(tcb.sndEnd, FLAG.fin | FLAG.ack), now);
  if (tcb.retransmitAt === 0) armRetransmission(tcb, now);
  tcb.context.reschedule(tcb);
  return true;
}

/** The earliest lost bytes, as far as the window allows. */
function retransmit(tcb: Tcb, slot: TransmitSlot, now: number): boolean {
  const { queue } = tcb;
  if (queue.inFlight > 0 && queue.inFlight + tcb.mss > tcb.cwnd) return false;
  const record = queue.firstLost;
  if (record === null || isPaced(tcb, now)) return false;
  queue.limit(record, Math.max(tcb.mss, Math.min(superSegment(tcb), tcb.cwnd - queue.inFlight)));
  resend(tcb, slot, record, now);
  if (tcb.retransmitAt === 0) armRetransmission(tcb, now);
  return true;
}

/** Tail loss probe (RFC 8985 §7.3): new data if there is any and the window allows, else the last segment again. */
function sendProbe(tcb: Tcb, slot: TransmitSlot, now: number): boolean {
  tcb.tlpPending = false;
  tcb.user.prepare(now);
  const { unsent } = tcb.queue;
  if (unsent !== null && unsent.position < tcb.sndWndEdge) {
    tcb.queue.limit(unsent, Math.min(tcb.mss, tcb.sndWndEdge - unsent.position));
    tcb.tlpRetransmission = false;
    transmitNew(tcb, slot, unsent, now);
  } else {
    const tail = tailRecord(tcb);
    if (tail === null) return false;
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
  tcb.queue.sent(record, now, tcb.deliveryRate?.stamp(tcb.queue.inFlight, now) ?? null);
  pace(tcb, length, now);
  tcb.retransmissions++;
  tcb.bytesRetransmitted += length;
  if (tcb.congestionState === CONGESTION.recovery) tcb.prrOut += length;
  writeSegment(tcb, slot, SEGMENT_KIND.data, { flags: FLAG.ack | FLAG.psh, position: record.position, record, length }, now);
}

function sendNew(tcb: Tcb, slot: TransmitSlot, now: number): boolean {
  const { queue } = tcb;
  const record = queue.unsent;
  if (record === null || isPaced(tcb, now)) return false;
  const wanted = record.end - record.position;
  const congestion = tcb.cwnd + limitedTransmit(tcb) - queue.inFlight;
  if (congestion < Math.min(tcb.mss, wanted) && queue.inFlight > 0) {
    tcb.cwndLimited = true;
    return false;
  }
  let window = tcb.sndWndEdge - record.position;
  if (window <= 0) {
    // A probe of a window that has shrunk: an octet for which there was room once (RFC 9293 §3.8.6.1, MUST-36).
    if (!tcb.override || tcb.offeredEdge <= record.position) return false;
    window = 1;
  }
  // Sender-side silly-window avoidance (RFC 9293 §3.8.6.2.1): not less than a segment unless it is all there is, or half
  // the largest window seen, or the override timeout has passed.
  if (window < wanted && window < leastUsefulWindow(tcb) && !tcb.override) return false;
  let length = Math.min(wanted, window, superSegment(tcb), Math.max(congestion, tcb.mss));
  if (length < wanted && length > tcb.mss) length -= length % tcb.mss;
  queue.limit(record, length);
  transmitNew(tcb, slot, record, now);
  return true;
}

function transmitNew(tcb: Tcb, slot: TransmitSlot, record: SendRecord, now: number): void {
  const { queue } = tcb;
  const length = record.end - record.position;
  queue.sent(record, now, tcb.deliveryRate?.stamp(queue.inFlight, now) ?? null);
  tcb.sndNxt = record.end;
  pace(tcb, length, now);
  tcb.bytesSent += length;
  // All that is queued, or a probe: either way the receiver should not wait for more (RFC 9293 §3.9.1.2).
  const push = queue.unsent === null || tcb.override;
  tcb.override = false;
  if (tcb.unackedSince === 0) tcb.unackedSince = now;
  if (tcb.congestionState === CONGESTION.recovery) tcb.prrOut += length;
  tcb.cwndLimited = queue.inFlight + tcb.mss > tcb.cwnd || (tcb.cwnd < tcb.ssthresh && queue.inFlight * 2 > tcb.cwnd);
  const flags = push ? FLAG.ack | FLAG.psh : FLAG.ack;
  writeSegment(tcb, slot, SEGMENT_KIND.data, { flags, position: record.position, record, length }, now);
  if (tcb.retransmitAt === 0 || tcb.probeAt !== 0) armRetransmission(tcb, now);
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
  const room = Math.min(limit, MAX_IP_PACKET - HEADER_RESERVE);
  return Math.max(tcb.mss, room - (room % tcb.mss));
}
