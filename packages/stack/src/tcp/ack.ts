/** What an acceptable ACK does: cumulative and selective acknowledgement, RTT, window, loss detection (RFC 9293 §3.10.7.4, RFC 6675, RFC 8985). */
import type { Segment } from '@subflow/wire';
import { FLAG } from '@subflow/wire';
import { rackDelivered, rackDetectLoss, rackDsack, tailLossRepaired } from './rack.ts';
import { detectLossWithoutSack, enterRecovery, leaveRecovery, proportionalRateReduction, reduceForEcn } from './recovery.ts';
import type { DeliverySink, SendRecord } from './retransmission-queue.ts';
import { sampleRtt } from './rtt.ts';
import { toPosition } from './sequence.ts';
import { CONGESTION } from './state.ts';
import type { Tcb } from './tcb.ts';
import { armRetransmission } from './timers.ts';
import type { Accepted } from './verdict.ts';

/** Shortest time between two openings of the window that each bring a retransmission, microseconds. */
const LEAST_FLAP = 10_000;

/** What one ACK has delivered. */
class AckSample implements DeliverySink {
  /** Bytes newly acknowledged, cumulatively or selectively. */
  bytes = 0;
  /** RTT of the latest segment that was sent once, -1 without one (Karn's algorithm, RFC 6298 §3). */
  rtt = -1;
  /** SND.UNA moved. */
  advanced = false;
  private readonly tcb: Tcb;
  private readonly now: number;

  constructor(tcb: Tcb, now: number) {
    this.tcb = tcb;
    this.now = now;
  }

  delivered(record: SendRecord, length: number): void {
    const { tcb, now } = this;
    this.bytes += length;
    tcb.deliveryRate?.acknowledged(record, length, now);
    rackDelivered(tcb, record, now);
    if (!record.retransmitted) this.rtt = now - record.sentAt;
  }
}

/** Applies the acknowledgement and window of an accepted segment. */
export function processAck(tcb: Tcb, accepted: Accepted, now: number): void {
  const { segment, acked } = accepted;
  const { queue } = tcb;
  const sample = new AckSample(tcb, now);
  const advanced = acked > tcb.sndUna;
  sample.advanced = advanced;
  const dsack = segment.sackCount > 0 && takeSackBlocks(tcb, segment, acked, sample);
  const hadInFlight = queue.inFlight > 0;
  const newlySacked = sample.bytes;
  if (advanced) {
    queue.acknowledge(acked, sample);
    tcb.sndUna = acked;
  }
  // Old, but not too old: overtaken on the way. Only its SACK blocks say something.
  if (acked < tcb.sndUna) return;
  const closed = tcb.sndWnd === 0;
  const windowChanged = updateWindow(tcb, accepted);
  if (closed && tcb.sndWnd > 0) windowOpened(tcb, now);
  if (sample.rtt >= 0) sampleRtt(tcb, sample.rtt, now);
  if (advanced) {
    tcb.backoff = 0;
    tcb.timeouts = 0;
    tcb.blackHoleTimeouts = 0;
    tcb.unackedSince = queue.outstanding || tcb.fin === 'inFlight' || tcb.fin === 'lost' ? now : 0;
  }
  tcb.persistCount = 0;
  tcb.keepaliveCount = 0;
  const duplicate =
    !advanced && !windowChanged && segment.payloadLength === 0 && hadInFlight && (segment.flags & (FLAG.syn | FLAG.fin)) === 0 && segment.otherMptcpCount === 0;
  if (tailLossRepaired(tcb, acked, dsack, duplicate && newlySacked === 0)) {
    enterRecovery(tcb, now);
    leaveRecovery(tcb, now);
  }
  const lost = tcb.sack ? rackDetectLoss(tcb, now) : detectLossWithoutSack(tcb, duplicate, advanced);
  control(tcb, accepted, sample, lost, now);
  if (advanced || sample.bytes > 0) armRetransmission(tcb, now);
  if (advanced) tcb.user.onAcknowledged(acked, now);
}

function control(tcb: Tcb, { segment }: Accepted, sample: AckSample, lost: number, now: number): void {
  const { advanced } = sample;
  if (tcb.congestionState !== CONGESTION.open && tcb.sndUna >= tcb.recoveryPoint && advanced) leaveRecovery(tcb, now);
  if (lost > 0) enterRecovery(tcb, now);
  if (tcb.deliveryRate !== null) {
    // The controller owns the window, in recovery too.
    if (sample.bytes > 0) tcb.congestion.onSample!(tcb, tcb.deliveryRate.finish(sample.bytes, sample.rtt, tcb.minRtt), now);
    return;
  }
  if (tcb.congestionState === CONGESTION.recovery) {
    proportionalRateReduction(tcb, sample.bytes, advanced && lost === 0);
    return;
  }
  if (tcb.ecn && (segment.flags & FLAG.ece) !== 0) reduceForEcn(tcb, now);
  if (sample.bytes > 0 && tcb.cwndLimited) tcb.congestion.onAck(tcb, sample.bytes, now);
}

/** The peer had no room and has some now: what it had to discard goes out at once, not after a timer that has doubled many times. */
function windowOpened(tcb: Tcb, now: number): void {
  tcb.backoff = 0;
  tcb.timeouts = 0;
  // Once in a round trip: a window that flaps must not make a retransmission of every ACK.
  const { head } = tcb.queue;
  if (tcb.retransmitAt !== 0 && head !== null && now - head.sentAt > Math.max(tcb.srtt, LEAST_FLAP)) tcb.queue.loseHead(tcb.mss);
}

/** Marks what SACK blocks cover. Returns whether the first block reports a duplicate (RFC 2883 §4). */
function takeSackBlocks(tcb: Tcb, segment: Segment, acked: number, sample: AckSample): boolean {
  let dsack = false;
  for (let i = 0; i < segment.sackCount; i++) {
    const left = toPosition(tcb.iss, segment.sack[2 * i]!, tcb.sndUna);
    const right = toPosition(tcb.iss, segment.sack[2 * i + 1]!, tcb.sndUna);
    if (right <= left) continue;
    if (i === 0 && (right <= acked || (segment.sackCount > 1 && within(tcb, segment, left, right)))) {
      // Of what was sent, and lately: anything else is not a report of our segments (as Linux, tcp_is_sackblock_valid).
      if (left < Math.max(1, tcb.sndUna - Math.max(tcb.maxSndWnd, 1)) || right > tcb.sndNxt) continue;
      dsack = true;
      rackDsack(tcb);
      continue;
    }
    if (left < tcb.sndUna || right > tcb.sndNxt) continue;
    tcb.queue.sack(left, right, tcb.mss, sample);
  }
  return dsack;
}

function within(tcb: Tcb, segment: Segment, left: number, right: number): boolean {
  const outerLeft = toPosition(tcb.iss, segment.sack[2]!, tcb.sndUna);
  const outerRight = toPosition(tcb.iss, segment.sack[3]!, tcb.sndUna);
  return left >= outerLeft && right <= outerRight;
}

/** The send window (RFC 9293 §3.10.7.4: SND.WL1, SND.WL2). Returns whether the advertised size changed. */
function updateWindow(tcb: Tcb, { segment, position, acked }: Accepted): boolean {
  if (!(position > tcb.sndWl1 || (position === tcb.sndWl1 && acked >= tcb.sndWl2))) return false;
  const window = (segment.flags & FLAG.syn) !== 0 ? segment.window : segment.window << tcb.sndScale;
  const changed = window !== tcb.sndWnd;
  tcb.sndWnd = window;
  tcb.sndWl1 = position;
  tcb.sndWl2 = acked;
  if (window > tcb.maxSndWnd) tcb.maxSndWnd = window;
  const edge = acked + window;
  if (edge > tcb.offeredEdge) tcb.offeredEdge = edge;
  // A window may shrink, and what lies beyond may not be sent any more (RFC 9293 §3.8.6, MUST-34). Under Multipath TCP it
  // belongs to the data level and only looks smaller from one subflow: there it never moves left (RFC 8684 §3.3.4).
  if (edge > tcb.sndWndEdge || !tcb.user.sharesWindow) tcb.sndWndEdge = edge;
  return changed;
}
