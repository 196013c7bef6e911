/** Segment arrival (RFC 9293 §3.10.7), with the checks of RFC 5961 and RFC 7323. */
import type { Segment } from '@subflow/wire';
import { FLAG } from '@subflow/wire';
import { ACK, processAck } from './ack.ts';
import { challengeAck } from './challenge-ack.ts';
import { abort, enterTimeWait, remove } from './close.ts';
import { fastOpenCookie } from './fast-open.ts';
import { DEFAULT_MSS_IPV4, DEFAULT_MSS_IPV6, updateMss } from './path-mtu.ts';
import { receivePayload } from './receive.ts';
import { RECORD } from './record.ts';
import { sampleRtt } from './rtt.ts';
import { toPosition } from './sequence.ts';
import { CLOSE_REASON, STATE } from './state.ts';
import type { Tcb } from './tcb.ts';
import { armRetransmission } from './timers.ts';
import { pawsRejects, rememberTimestamp } from './timestamps.ts';
import { windowShift } from './window.ts';

/** Starts an active open (RFC 9293 §3.10.1). */
export function openActive(tcb: Tcb, now: number): void {
  tcb.state = STATE.synSent;
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
  tcb.peerMss = options.mss;
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
}

/** Processes one segment of an existing connection. */
export function segmentArrives(tcb: Tcb, segment: Segment, now: number): void {
  tcb.segmentsReceived++;
  if (tcb.state === STATE.synSent) {
    arrivesInSynSent(tcb, segment, now);
    return;
  }
  if (tcb.state === STATE.closed) return;
  const flags = segment.flags;
  const synLength = (flags & FLAG.syn) !== 0 ? 1 : 0;
  const position = toPosition(tcb.irs, segment.seq, tcb.rcvNxt);
  const dataPosition = position + synLength;
  const end = dataPosition + segment.payloadLength + ((flags & FLAG.fin) !== 0 ? 1 : 0);
  // RFC 7323 §5.3 R1: PAWS comes before everything else; resets are exempt.
  if (tcb.timestamps && (flags & FLAG.rst) === 0) {
    if (!segment.hasTimestamps) {
      tcb.context.count('tcp-timestamp-missing');
      return;
    }
    if (pawsRejects(tcb, segment, now) && (flags & FLAG.syn) === 0) {
      tcb.context.count('tcp-paws');
      // Only what has arrived before may be reported as a duplicate: a block ahead of RCV.NXT would count as received.
      if (segment.payloadLength > 0 && dataPosition + segment.payloadLength <= tcb.rcvNxt) {
        tcb.dsackLeft = dataPosition;
        tcb.dsackRight = dataPosition + segment.payloadLength;
      }
      challengeAck(tcb, now);
      return;
    }
  }
  if (end < tcb.rcvNxt || position > tcb.rcvEdge || (end === tcb.rcvNxt && position < tcb.rcvNxt && synLength === 0)) {
    outOfWindow(tcb, segment, dataPosition, now);
    return;
  }
  if ((flags & FLAG.rst) !== 0) {
    arrivesReset(tcb, segment, position, now);
    return;
  }
  if (synLength !== 0) {
    // Retransmitted SYN of a half-open passive connection: answer it again. Any other SYN is challenged (RFC 5961 §4).
    if (tcb.state === STATE.synReceived && position === 0) {
      if ((flags & FLAG.ack) === 0) {
        tcb.synPending = true;
        tcb.context.wake(tcb);
        return;
      }
      // SYN+ACK answers our SYN of a simultaneous open (RFC 9293 §3.5): the ACK counts.
    } else {
      tcb.context.count('tcp-syn-challenge');
      challengeAck(tcb, now);
      return;
    }
  }
  if ((flags & FLAG.ack) === 0) {
    tcb.context.count('tcp-ack-missing');
    return;
  }
  tcb.lastReceivedAt = now;
  if (tcb.state === STATE.synReceived && !completeHandshake(tcb, segment, now)) return;
  if (tcb.timestamps) rememberTimestamp(tcb, segment, position, end, now);
  if (tcb.ecn) noteCongestionMark(tcb, segment);
  const result = processAck(tcb, segment, position, now);
  if (result === ACK.beyond) {
    tcb.context.count('tcp-ack-out-of-range');
    challengeAck(tcb, now);
    return;
  }
  if ((tcb.state as number) === STATE.closed) return;
  if (!tcb.user.onSegment(segment, dataPosition, now)) return;
  if ((tcb.state as number) === STATE.closed) return;
  finAcknowledged(tcb, now);
  if (segment.payloadLength > 0 || (flags & FLAG.fin) !== 0) arrivesData(tcb, segment, dataPosition, (flags & FLAG.fin) !== 0, now);
  tcb.context.wake(tcb);
}

function outOfWindow(tcb: Tcb, segment: Segment, dataPosition: number, now: number): void {
  if ((segment.flags & FLAG.rst) !== 0) {
    tcb.context.count('tcp-reset-out-of-window');
    return;
  }
  tcb.context.count('tcp-out-of-window');
  if (segment.payloadLength > 0 && dataPosition < tcb.rcvNxt) {
    tcb.dsackLeft = dataPosition;
    tcb.dsackRight = Math.min(tcb.rcvNxt, dataPosition + segment.payloadLength);
  }
  // A retransmitted FIN restarts TIME-WAIT (RFC 9293 §3.10.7.4, eighth).
  if (tcb.state === STATE.timeWait && (segment.flags & FLAG.fin) !== 0) {
    tcb.closeAt = now + tcb.context.tcp.timeWait;
    tcb.context.reschedule(tcb);
  }
  // A valid ACK may still ride on a duplicate.
  if ((segment.flags & FLAG.ack) !== 0 && tcb.state >= STATE.established && tcb.state !== STATE.timeWait) {
    if (processAck(tcb, segment, toPosition(tcb.irs, segment.seq, tcb.rcvNxt), now) === ACK.ok) {
      finAcknowledged(tcb, now);
      if ((tcb.state as number) === STATE.closed) return;
    }
  }
  challengeAck(tcb, now);
}

/** RFC 5961 §3.2: only an exact match resets; anything else in the window is challenged. */
function arrivesReset(tcb: Tcb, segment: Segment, position: number, now: number): void {
  if (position !== tcb.rcvNxt) {
    tcb.context.count('tcp-reset-challenge');
    challengeAck(tcb, now);
    return;
  }
  if (tcb.state === STATE.timeWait) {
    remove(tcb, CLOSE_REASON.normal, now);
    return;
  }
  if (!tcb.user.onSegment(segment, position, now)) return;
  if ((tcb.state as number) === STATE.closed) return;
  remove(tcb, CLOSE_REASON.reset, now);
}

function completeHandshake(tcb: Tcb, segment: Segment, now: number): boolean {
  const acked = toPosition(tcb.iss, segment.ack, tcb.sndUna);
  if (acked <= tcb.sndUna || acked > tcb.sndNxt) {
    tcb.context.count('tcp-handshake-ack-unacceptable');
    abort(tcb, CLOSE_REASON.reset, now);
    return false;
  }
  tcb.sndUna = 1;
  tcb.state = STATE.established;
  takeHandshakeRtt(tcb, now);
  tcb.sndWnd = segment.window * 2 ** tcb.sndScale;
  tcb.maxSndWnd = tcb.sndWnd;
  tcb.sndWndEdge = acked + tcb.sndWnd;
  tcb.sndWl1 = 0;
  tcb.sndWl2 = 1;
  established(tcb, now);
  return (tcb.state as number) !== STATE.closed;
}

function established(tcb: Tcb, now: number): void {
  tcb.timeouts = 0;
  tcb.backoff = 0;
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
  const flags = segment.flags;
  const acked = toPosition(tcb.iss, segment.ack, tcb.sndUna);
  if ((flags & FLAG.ack) !== 0 && (acked <= 0 || acked > tcb.sndNxt)) {
    // The host answers with a reset of its own; this connection is not concerned (RFC 9293 §3.10.7.3, first).
    tcb.context.count('tcp-syn-sent-ack-unacceptable');
    return;
  }
  if ((flags & FLAG.rst) !== 0) {
    if ((flags & FLAG.ack) === 0) {
      tcb.context.count('tcp-syn-sent-reset-without-ack');
      return;
    }
    if (!tcb.user.onSegment(segment, 0, now)) return;
    if ((tcb.state as number) !== STATE.closed) remove(tcb, CLOSE_REASON.refused, now);
    return;
  }
  if ((flags & FLAG.syn) === 0) {
    tcb.context.count('tcp-syn-sent-no-syn');
    return;
  }
  takeSyn(tcb, segment, now);
  const synAcked = (flags & FLAG.ack) === 0 ? 0 : answerFastOpen(tcb, segment, acked);
  if ((flags & FLAG.ack) === 0) {
    // Simultaneous open (RFC 9293 §3.5).
    tcb.state = STATE.synReceived;
    if (!tcb.user.onHandshake(segment, now)) return;
    tcb.synPending = true;
    tcb.context.wake(tcb);
    return;
  }
  tcb.sndUna = 1 + synAcked;
  tcb.state = STATE.established;
  takeHandshakeRtt(tcb, now);
  // Windows on SYN segments are never scaled (RFC 7323 §2.2).
  tcb.sndWnd = segment.window;
  tcb.maxSndWnd = tcb.sndWnd;
  tcb.sndWndEdge = acked + tcb.sndWnd;
  tcb.sndWl1 = 0;
  tcb.sndWl2 = acked;
  if (tcb.ecn) tcb.ecn = (flags & (FLAG.ece | FLAG.cwr)) === FLAG.ece;
  tcb.ackNow = true;
  if (!tcb.user.onHandshake(segment, now)) return;
  if (synAcked > 0) tcb.user.fastOpenAnswered(synAcked, now);
  established(tcb, now);
  if ((tcb.state as number) === STATE.closed) return;
  // Data or FIN on a SYN+ACK is taken after establishment.
  if (segment.payloadLength > 0 || (flags & FLAG.fin) !== 0) arrivesData(tcb, segment, 1, (flags & FLAG.fin) !== 0, now);
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
  if (tcb.head !== null && tcb.head.state === RECORD.inFlight) tcb.inFlight = 0;
  tcb.head = tcb.tail = tcb.firstUnsent = null;
  tcb.lostBytes = tcb.sackedBytes = 0;
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
  tcb.peerMss = segment.mss >= 0 ? Math.max(segment.mss, 64) : tcb.ipVersion === 4 ? DEFAULT_MSS_IPV4 : DEFAULT_MSS_IPV6;
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
  tcb.sndWnd = segment.window;
  tcb.sndWndEdge = 1 + segment.window;
  updateMss(tcb);
  // RFC 6928 §2.
  tcb.cwnd = Math.min(10 * tcb.mss, Math.max(2 * tcb.mss, 14600));
}

function arrivesData(tcb: Tcb, segment: Segment, position: number, fin: boolean, now: number): void {
  switch (tcb.state) {
    case STATE.established:
    case STATE.finWait1:
    case STATE.finWait2:
      break;
    default:
      return;
  }
  receivePayload(tcb, segment, position, fin, now);
  if (tcb.finPosition !== -2) return;
  switch (tcb.state) {
    case STATE.established:
      tcb.state = STATE.closeWait;
      break;
    case STATE.finWait1:
      tcb.state = STATE.closing;
      break;
    case STATE.finWait2:
      flushAck(tcb);
      enterTimeWait(tcb, now);
      break;
    default:
      break;
  }
}

/** The last ACK must go out although the block is on its way to TIME-WAIT. */
function flushAck(tcb: Tcb): void {
  tcb.ackNow = true;
  tcb.context.wake(tcb);
}

/** State changes when our FIN is acknowledged. */
function finAcknowledged(tcb: Tcb, now: number): void {
  if (!tcb.finQueued || tcb.sndUna !== tcb.sndEnd + 1) return;
  tcb.finSent = false;
  tcb.finLost = false;
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
