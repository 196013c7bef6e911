/** What an acceptable ACK does: cumulative and selective acknowledgement, RTT, window, loss detection (RFC 9293 §3.10.7.4, RFC 6675, RFC 8985). */
import type { Segment } from '@subflow/wire';
import { FLAG } from '@subflow/wire';
import { rackDelivered, rackDetectLoss, rackDsack, tailLossRepaired } from './rack.ts';
import { RECORD, splitRecord } from './record.ts';
import type { SendRecord } from './record.ts';
import { detectLossWithoutSack, enterRecovery, leaveRecovery, proportionalRateReduction, reduceForEcn } from './recovery.ts';
import { sampleRtt } from './rtt.ts';
import { toPosition } from './sequence.ts';
import { CONGESTION } from './state.ts';
import type { Tcb } from './tcb.ts';
import { armRetransmission } from './timers.ts';

/** Results of {@link processAck}. */
export const ACK = { ok: 0, old: 1, beyond: 2 } as const;

let delivered = 0;
let rttSample = 0;

/** Processes the acknowledgement fields of an acceptable segment. */
export function processAck(tcb: Tcb, segment: Segment, segmentPosition: number, now: number): number {
  const acked = toPosition(tcb.iss, segment.ack, tcb.sndUna);
  if (acked > tcb.sndNxt) return ACK.beyond;
  // RFC 5961 §5: no older than the largest window we have seen.
  if (acked < tcb.sndUna - Math.max(tcb.maxSndWnd, 65535)) return ACK.beyond;
  delivered = 0;
  rttSample = -1;
  const advanced = acked > tcb.sndUna;
  const dsack = segment.sackCount > 0 && takeSackBlocks(tcb, segment, acked, now);
  const hadInFlight = tcb.inFlight > 0;
  const newlySacked = delivered;
  if (advanced) takeCumulative(tcb, acked, now);
  const windowChanged = updateWindow(tcb, segment, segmentPosition, acked);
  if (acked < tcb.sndUna) return ACK.old;
  if (rttSample >= 0) sampleRtt(tcb, rttSample, now);
  if (advanced) {
    tcb.backoff = 0;
    tcb.timeouts = 0;
    tcb.blackHoleTimeouts = 0;
    tcb.unackedSince = tcb.head !== null && tcb.head.state !== RECORD.unsent ? now : 0;
  }
  tcb.persistCount = 0;
  tcb.keepaliveCount = 0;
  const duplicate =
    !advanced && !windowChanged && segment.payloadLength === 0 && hadInFlight && (segment.flags & (FLAG.syn | FLAG.fin)) === 0 && segment.otherMptcpCount === 0;
  if (tailLossRepaired(tcb, acked, dsack, duplicate && newlySacked === 0)) {
    enterRecovery(tcb, now);
    leaveRecovery(tcb, now);
  }
  const lost = tcb.sack ? (tcb.inFlight > 0 ? rackDetectLoss(tcb, now) : ((tcb.reorderAt = 0), 0)) : detectLossWithoutSack(tcb, duplicate, advanced);
  control(tcb, segment, advanced, lost, now);
  if (advanced || delivered > 0) armRetransmission(tcb, now);
  if (advanced) tcb.user.onAcknowledged(acked, now);
  return ACK.ok;
}

function control(tcb: Tcb, segment: Segment, advanced: boolean, lost: number, now: number): void {
  if (tcb.congestionState !== CONGESTION.open && tcb.sndUna >= tcb.recoveryPoint && advanced) leaveRecovery(tcb, now);
  if (lost > 0) enterRecovery(tcb, now);
  if (tcb.deliveryRate !== null) {
    // The controller owns the window, in recovery too.
    if (delivered > 0) tcb.congestion.onSample!(tcb, tcb.deliveryRate.finish(delivered, rttSample, tcb.minRtt), now);
    return;
  }
  if (tcb.congestionState === CONGESTION.recovery) {
    proportionalRateReduction(tcb, delivered, advanced && lost === 0);
    return;
  }
  if (tcb.ecn && (segment.flags & FLAG.ece) !== 0) reduceForEcn(tcb, now);
  if (delivered > 0 && tcb.cwndLimited && tcb.deliveryRate === null) tcb.congestion.onAck(tcb, delivered, now);
}

/** Drops what is acknowledged from the retransmission queue. */
function takeCumulative(tcb: Tcb, acked: number, now: number): void {
  let record = tcb.head;
  while (record !== null && record.position < acked && record.state !== RECORD.unsent) {
    if (record.end > acked) {
      const rest: SendRecord = splitRecord(record, acked);
      if (tcb.tail === record) tcb.tail = rest;
    }
    const length = record.end - record.position;
    switch (record.state) {
      case RECORD.inFlight:
        tcb.inFlight -= length;
        account(tcb, record, length, now);
        break;
      case RECORD.lost:
        tcb.lostBytes -= length;
        account(tcb, record, length, now);
        break;
      default:
        tcb.sackedBytes -= length;
        break;
    }
    record = record.next;
  }
  tcb.head = record;
  if (record === null) tcb.tail = null;
  tcb.sndUna = acked;
}

function account(tcb: Tcb, record: SendRecord, length: number, now: number): void {
  delivered += length;
  tcb.deliveryRate?.acknowledged(record, length, now);
  rackDelivered(tcb, record, now);
  // Karn's algorithm (RFC 6298 §3): only what was sent once gives a sample; the latest such record counts.
  if (!record.retransmitted) rttSample = now - record.sentAt;
}

/** Marks records covered by SACK blocks. Returns whether the first block reports a duplicate (RFC 2883 §4). */
function takeSackBlocks(tcb: Tcb, segment: Segment, acked: number, now: number): boolean {
  let dsack = false;
  for (let i = 0; i < segment.sackCount; i++) {
    const left = toPosition(tcb.iss, segment.sack[2 * i]!, tcb.sndUna);
    const right = toPosition(tcb.iss, segment.sack[2 * i + 1]!, tcb.sndUna);
    if (right <= left) continue;
    if (i === 0 && (right <= acked || (segment.sackCount > 1 && within(tcb, segment, left, right)))) {
      dsack = true;
      rackDsack(tcb);
      continue;
    }
    if (left < tcb.sndUna || right > tcb.sndNxt) continue;
    markSacked(tcb, left, right, now);
    if (right > tcb.highestSacked) tcb.highestSacked = right;
  }
  return dsack;
}

function within(tcb: Tcb, segment: Segment, left: number, right: number): boolean {
  const outerLeft = toPosition(tcb.iss, segment.sack[2]!, tcb.sndUna);
  const outerRight = toPosition(tcb.iss, segment.sack[3]!, tcb.sndUna);
  return left >= outerLeft && right <= outerRight;
}

function markSacked(tcb: Tcb, left: number, right: number, now: number): void {
  for (let record = tcb.head; record !== null && record.state !== RECORD.unsent && record.position < right; record = record.next) {
    if (record.end <= left || record.state === RECORD.sacked) continue;
    if (record.position < left) {
      const rest = splitRecord(record, left);
      if (tcb.tail === record) tcb.tail = rest;
      continue;
    }
    if (record.end > right) {
      const rest = splitRecord(record, right);
      if (tcb.tail === record) tcb.tail = rest;
    }
    const length = record.end - record.position;
    if (record.state === RECORD.inFlight) tcb.inFlight -= length;
    else tcb.lostBytes -= length;
    record.state = RECORD.sacked;
    tcb.sackedBytes += length;
    account(tcb, record, length, now);
  }
}

/** The send window (RFC 9293 §3.10.7.4: SND.WL1, SND.WL2). Returns whether the advertised size changed. */
function updateWindow(tcb: Tcb, segment: Segment, segmentPosition: number, acked: number): boolean {
  if (acked < tcb.sndUna) return false;
  if (!(segmentPosition > tcb.sndWl1 || (segmentPosition === tcb.sndWl1 && acked >= tcb.sndWl2))) return false;
  const window = segment.window * 2 ** ((segment.flags & FLAG.syn) !== 0 ? 0 : tcb.sndScale);
  const changed = window !== tcb.sndWnd;
  tcb.sndWnd = window;
  tcb.sndWl1 = segmentPosition;
  tcb.sndWl2 = acked;
  if (window > tcb.maxSndWnd) tcb.maxSndWnd = window;
  // Never leftwards: under Multipath TCP the window belongs to the data level and may look smaller from one subflow (RFC 8684 §3.3.4).
  if (acked + window > tcb.sndWndEdge) tcb.sndWndEdge = acked + window;
  if (window > 0) tcb.persistAt = 0;
  return changed;
}
