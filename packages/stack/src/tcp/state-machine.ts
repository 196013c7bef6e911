/** Segment arrival (RFC 9293 §3.10.7), with the checks of RFC 5961 and RFC 7323. */
import type { Segment } from '@subflow/wire';
import { FLAG } from '@subflow/wire';
import { processAck } from './ack.ts';
import { owe } from './answers.ts';
import { enterTimeWait, remove } from './close.ts';
import { fastOpenCookie } from './fast-open.ts';
import { judge, judgeSynSent } from './judge.ts';
import { DEFAULT_MSS_IPV4, DEFAULT_MSS_IPV6, MIN_MSS, updateMss } from './path-mtu.ts';
import { receivePayload } from './receive.ts';
import { sampleRtt } from './rtt.ts';
import { CLOSE_REASON, STATE } from './state.ts';
import type { Tcb } from './tcb.ts';
import { armRetransmission } from './timers.ts';
import { rememberTimestamp } from './timestamps.ts';
import type { Accepted, SynAccepted } from './verdict.ts';
import { windowShift } from './window.ts';

/** Starts an active open (RFC 9293 §3.10.1). */
export function openActive(tcb: Tcb, now: number): void {
  tcb.state = STATE.synSent;
  tcb.activeOpen = true;
  tcb.sndNxt = 0;
  tcb.rcvScale = windowShift(tcb.context.tcp.maxReceiveBuffer);
  tcb.synPending = true;
  tcb.lastReceivedAt = now;
  tcb.context.wake(tcb);
}

/** Takes a SYN in LISTEN (RFC 9293 §3.10.7.2). */
export function openPassive(tcb: Tcb, segment: Segment, now: number): void {
  tcb.state = STATE.synReceived;
  takeSyn(tcb, segment, now);
  if (!tcb.user.onHandshake(segment, now)) return;
  tcb.synPending = true;
  tcb.context.wake(tcb);
}

/** Completes a passive open from a valid SYN cookie: as if the SYN had been seen (RFC 4987 §3.6). */
export function openFromCookie(tcb: Tcb, segment: Segment, options: { mss: number; timestamps: boolean; sack: boolean; scale: number }, now: number): void {
  tcb.state = STATE.synReceived;
  tcb.irs = (segment.seq - 1) | 0;
  tcb.rcvNxt = 1;
  tcb.rcvEdge = 1;
  tcb.peerMss = Math.max(options.mss, MIN_MSS);
  tcb.timestamps = options.timestamps;
  tcb.sack = options.sack;
  if (options.timestamps) {
    tcb.tsRecent = segment.tsVal;
    tcb.tsRecentAt = now;
  }
  if (options.scale >= 0 && tcb.context.tcp.windowScaling) {
    tcb.sndScale = options.scale;
    tcb.rcvScale = windowShift(tcb.context.tcp.maxReceiveBuffer);
  }
  tcb.sndNxt = 1;
  tcb.lastReceivedAt = now;
  updateMss(tcb);
  tcb.cwnd = 10 * tcb.mss;
  tcb.rcvEdge = 1 + Math.min(65535, tcb.user.receiveWindow(now));
  segmentArrives(tcb, segment, now);
  // Not what completes a handshake after all: nothing is kept of it.
  if (tcb.state === STATE.synReceived) remove(tcb, CLOSE_REASON.aborted, now);
}

/** Processes one segment of an existing connection: judged first, and only what is accepted is applied. */
export function segmentArrives(tcb: Tcb, segment: Segment, now: number): void {
  tcb.segmentsReceived++;
  // In TIME-WAIT only the last ACK is left to be sent, which answers a repeated FIN too; then the tuple is the host's.
  if (tcb.state === STATE.closed || tcb.state === STATE.timeWait) return;
  if (tcb.state === STATE.synSent) {
    arrivesInSynSent(tcb, segment, now);
    return;
  }
  const verdict = judge(tcb, segment, now);
  switch (verdict.kind) {
    case 'accept':
      applySegment(tcb, verdict, now);
      return;
    case 'answer':
      owe(tcb, verdict, now);
      return;
    case 'reset':
      applyReset(tcb, verdict.segment, now);
      return;
    case 'syn-again':
      tcb.synPending = true;
      tcb.context.wake(tcb);
      return;
    case 'refuse':
      tcb.context.count(verdict.reason);
      tcb.context.refuse(tcb, verdict.segment);
      return;
    case 'drop':
      tcb.context.count(verdict.reason);
  }
}

function applySegment(tcb: Tcb, accepted: Accepted, now: number): void {
  const { segment } = accepted;
  tcb.lastReceivedAt = now;
  if (tcb.state === STATE.synReceived) {
    if (tcb.timestamps && !segment.hasTimestamps) {
      // Our SYN+ACK's timestamp did not reach the peer: it will send none, and must not be ignored for it.
      tcb.timestamps = false;
      updateMss(tcb);
    }
    completeHandshake(tcb, accepted, now);
    if (isClosed(tcb)) return;
  }
  if (tcb.timestamps) rememberTimestamp(tcb, accepted, now);
  if (tcb.ecn) noteCongestionMark(tcb, segment);
  processAck(tcb, accepted, now);
  if (isClosed(tcb)) return;
  if (!tcb.user.onSegment(accepted, now)) return;
  if (isClosed(tcb)) return;
  finAcknowledged(tcb, now);
  if (segment.payloadLength > 0 || accepted.fin) arrivesData(tcb, accepted, now);
  tcb.context.wake(tcb);
}

/** RFC 9293 §3.10.7.4, second; the sequence number has been found exact (RFC 5961 §3.2). */
function applyReset(tcb: Tcb, segment: Segment, now: number): void {
  if (tcb.user.onReset(segment, now) && !isClosed(tcb)) remove(tcb, CLOSE_REASON.reset, now);
}

function isClosed(tcb: Tcb): boolean {
  return tcb.state === STATE.closed;
}

function completeHandshake(tcb: Tcb, { segment, acked }: Accepted, now: number): void {
  // After a simultaneous open our SYN may have carried data too.
  const synAcked = answerFastOpen(tcb, segment, acked);
  tcb.sndUna = 1 + synAcked;
  tcb.state = STATE.established;
  takeHandshakeRtt(tcb, now);
  // The SYN+ACK of a simultaneous open: windows on SYN segments are never scaled (RFC 7323 §2.2).
  takeFirstWindow(tcb, (segment.flags & FLAG.syn) !== 0 ? segment.window : segment.window << tcb.sndScale, acked);
  if (synAcked > 0) tcb.user.fastOpenAnswered(synAcked, now);
  established(tcb, now);
}

/** The window of the segment that established the connection. */
function takeFirstWindow(tcb: Tcb, window: number, acked: number): void {
  tcb.sndWnd = window;
  tcb.maxSndWnd = Math.max(tcb.maxSndWnd, window);
  tcb.sndWndEdge = tcb.offeredEdge = acked + window;
  tcb.sndWl1 = 0;
  tcb.sndWl2 = acked;
}

function established(tcb: Tcb, now: number): void {
  tcb.timeouts = 0;
  tcb.backoff = 0;
  tcb.unackedSince = 0;
  armRetransmission(tcb, now);
  if (tcb.keepaliveIdle > 0) tcb.keepaliveAt = now + tcb.keepaliveIdle;
  tcb.user.onEstablished(now);
}

/** SYN and SYN+ACK give a sample when they were sent once; else RTO starts at 3 s (RFC 6298 §5.7). */
function takeHandshakeRtt(tcb: Tcb, now: number): void {
  if (tcb.synCount === 1) sampleRtt(tcb, now - tcb.lastSentAt, now);
  else if (tcb.synCount > 1) tcb.rto = 3_000_000;
}

function arrivesInSynSent(tcb: Tcb, segment: Segment, now: number): void {
  const verdict = judgeSynSent(tcb, segment);
  switch (verdict.kind) {
    case 'accept':
      applySyn(tcb, verdict, now);
      return;
    case 'reset':
      if (tcb.user.onReset(verdict.segment, now) && !isClosed(tcb)) remove(tcb, CLOSE_REASON.refused, now);
      return;
    case 'refuse':
      tcb.context.count(verdict.reason);
      tcb.context.refuse(tcb, verdict.segment);
      return;
    case 'drop':
      tcb.context.count(verdict.reason);
  }
}

function applySyn(tcb: Tcb, { segment, acked, fin }: SynAccepted, now: number): void {
  takeSyn(tcb, segment, now);
  if (acked < 0) {
    // Simultaneous open (RFC 9293 §3.5).
    tcb.state = STATE.synReceived;
    if (!tcb.user.onHandshake(segment, now)) return;
    tcb.synPending = true;
    tcb.context.wake(tcb);
    return;
  }
  const synAcked = answerFastOpen(tcb, segment, acked);
  tcb.sndUna = 1 + synAcked;
  tcb.state = STATE.established;
  takeHandshakeRtt(tcb, now);
  // Windows on SYN segments are never scaled (RFC 7323 §2.2).
  takeFirstWindow(tcb, segment.window, acked);
  if (tcb.ecn) tcb.ecn = (segment.flags & (FLAG.ece | FLAG.cwr)) === FLAG.ece;
  tcb.ackNow = true;
  if (!tcb.user.onHandshake(segment, now)) return;
  if (synAcked > 0) tcb.user.fastOpenAnswered(synAcked, now);
  established(tcb, now);
  if (isClosed(tcb)) return;
  // Data or FIN on a SYN+ACK is taken after establishment.
  const end = 1 + segment.payloadLength + (fin ? 1 : 0);
  if (end > 1) arrivesData(tcb, { kind: 'accept', segment, position: 0, dataPosition: 1, end, acked, fin }, now);
  tcb.context.wake(tcb);
}

/** What the SYN+ACK says about the data on our SYN; learns a cookie (RFC 7413 §4.1.3). Returns the bytes acknowledged. */
function answerFastOpen(tcb: Tcb, segment: Segment, acked: number): number {
  const { fastOpen } = tcb;
  if (fastOpen === null) return 0;
  const cookie = fastOpenCookie(segment);
  const accepted = Math.max(0, acked - 1);
  if (cookie !== null && cookie.length > 0) tcb.context.fastOpenCookie(tcb, cookie);
  else if (fastOpen.sent > 0 && accepted === 0) tcb.context.fastOpenCookie(tcb, null);
  if (fastOpen.sent > 0) dropSynData(tcb, acked);
  tcb.fastOpen = null;
  return accepted;
}

/** Takes the data of a SYN out of the send queue: what is not acknowledged goes out again as ordinary data. */
function dropSynData(tcb: Tcb, acked: number): void {
  tcb.queue.clear();
  tcb.sndUna = Math.min(tcb.sndUna, acked);
  tcb.sndNxt = acked;
  tcb.sndEnd = acked;
}

/** Learns sequence numbers and options from the peer's SYN. */
function takeSyn(tcb: Tcb, segment: Segment, now: number): void {
  const { tcp } = tcb.context;
  const active = tcb.state === STATE.synSent;
  tcb.irs = segment.seq;
  tcb.rcvNxt = 1;
  tcb.lastReceivedAt = now;
  tcb.peerMss = segment.mss >= 0 ? Math.max(segment.mss, MIN_MSS) : tcb.ipVersion === 4 ? DEFAULT_MSS_IPV4 : DEFAULT_MSS_IPV6;
  tcb.sack = tcp.sack && segment.sackPermitted;
  tcb.timestamps = tcp.timestamps && segment.hasTimestamps;
  if (tcb.timestamps) {
    tcb.tsRecent = segment.tsVal;
    tcb.tsRecentAt = now;
  }
  if (tcp.windowScaling && segment.windowScale >= 0) {
    // RFC 7323 §2.3: a shift above 14 is taken as 14.
    tcb.sndScale = Math.min(segment.windowScale, 14);
    tcb.rcvScale = windowShift(tcp.maxReceiveBuffer);
  } else {
    tcb.sndScale = 0;
    tcb.rcvScale = 0;
  }
  if (!active) tcb.ecn = (segment.flags & (FLAG.ece | FLAG.cwr)) === (FLAG.ece | FLAG.cwr);
  tcb.rcvEdge = Math.max(tcb.rcvEdge, 1 + Math.min(65535, tcb.user.receiveWindow(now)));
  takeFirstWindow(tcb, segment.window, 1);
  updateMss(tcb);
  // RFC 6928 §2.
  tcb.cwnd = Math.min(10 * tcb.mss, Math.max(2 * tcb.mss, 14600));
}

function arrivesData(tcb: Tcb, accepted: Accepted, now: number): void {
  if (tcb.state !== STATE.established && tcb.state !== STATE.finWait1 && tcb.state !== STATE.finWait2) return;
  receivePayload(tcb, accepted, now);
  if (tcb.peerFin !== 'taken') return;
  switch (tcb.state) {
    case STATE.established:
      tcb.state = STATE.closeWait;
      break;
    case STATE.finWait1:
      tcb.state = STATE.closing;
      break;
    case STATE.finWait2:
      // The last ACK must go out although the block is on its way to TIME-WAIT.
      tcb.ackNow = true;
      enterTimeWait(tcb, now);
      break;
    default:
      break;
  }
}

/** State changes when our FIN is acknowledged. */
function finAcknowledged(tcb: Tcb, now: number): void {
  if (tcb.fin === 'none' || tcb.fin === 'acknowledged' || tcb.sndUna !== tcb.sndEnd + 1) return;
  tcb.fin = 'acknowledged';
  tcb.retransmitAt = 0;
  switch (tcb.state) {
    case STATE.finWait1:
      tcb.state = STATE.finWait2;
      if (tcb.orphaned) tcb.closeAt = now + tcb.context.tcp.finWait2;
      break;
    case STATE.closing:
      enterTimeWait(tcb, now);
      break;
    case STATE.lastAck:
      remove(tcb, CLOSE_REASON.normal, now);
      break;
    default:
      break;
  }
}

/** ECN at the receiver (RFC 3168 §6.1.3): echo marks until the sender says it has reacted. */
function noteCongestionMark(tcb: Tcb, segment: Segment): void {
  if ((segment.flags & FLAG.cwr) !== 0) tcb.ecnEcho = false;
  if ((segment.trafficClass & 3) === 3) tcb.ecnEcho = true;
}
