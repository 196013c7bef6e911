/** Entering, pacing and leaving loss recovery: RFC 6675, RFC 6582 without SACK, PRR (RFC 6937), ECN response (RFC 3168). */
import { rackRecovered } from './rack.ts';
import { CONGESTION } from './state.ts';
import type { Tcb } from './tcb.ts';

const DUP_THRESHOLD = 3;

/** Starts fast recovery: one window reduction per window of data. */
export function enterRecovery(tcb: Tcb, now: number): void {
  if (tcb.congestionState !== CONGESTION.open) return;
  tcb.congestionState = CONGESTION.recovery;
  tcb.recoveryPoint = tcb.sndNxt;
  tcb.ssthresh = Math.floor(tcb.congestion.onLoss(tcb, now));
  tcb.prrDelivered = 0;
  tcb.prrOut = 0;
  tcb.prrFlight = Math.max(tcb.sndNxt - tcb.sndUna, tcb.mss);
  tcb.probeAt = 0;
  tcb.tlpEnd = -1;
  tcb.context.congestionEvent(tcb, 'fast-recovery', now);
}

/** Sets `cwnd` for this ACK during recovery (RFC 6937 §3, with the slow-start reduction bound). */
export function proportionalRateReduction(tcb: Tcb, delivered: number, advanced: boolean): void {
  tcb.prrDelivered += delivered;
  const pipe = tcb.inFlight;
  let allowance: number;
  if (pipe > tcb.ssthresh) {
    allowance = Math.ceil((tcb.prrDelivered * tcb.ssthresh) / tcb.prrFlight) - tcb.prrOut;
  } else {
    const bound = Math.max(tcb.prrDelivered - tcb.prrOut, delivered) + (advanced ? tcb.mss : 0);
    allowance = Math.min(tcb.ssthresh - pipe, bound);
  }
  // The first fast retransmission always goes out (RFC 6937 §3.1).
  if (tcb.prrOut === 0 && allowance < tcb.mss) allowance = tcb.mss;
  tcb.cwnd = Math.max(pipe + Math.max(allowance, 0), tcb.mss);
}

/** Leaves recovery once everything sent before it is acknowledged. */
export function leaveRecovery(tcb: Tcb, now: number): void {
  if (tcb.congestionState === CONGESTION.recovery) {
    if (tcb.deliveryRate === null) tcb.cwnd = Math.max(tcb.ssthresh, 2 * tcb.mss);
    rackRecovered(tcb);
  }
  tcb.congestionState = CONGESTION.open;
  tcb.dupAcks = 0;
  tcb.context.congestionEvent(tcb, 'recovered', now);
}

/** Loss detection without SACK (RFC 5681 §3.2, RFC 6582): the third duplicate ACK, and partial ACKs during recovery. Returns the bytes marked lost. */
export function detectLossWithoutSack(tcb: Tcb, duplicate: boolean, advanced: boolean): number {
  if (tcb.congestionState === CONGESTION.recovery) {
    return advanced && tcb.sndUna < tcb.recoveryPoint ? tcb.queue.loseHead(tcb.mss) : 0;
  }
  if (!duplicate) {
    if (advanced) tcb.dupAcks = 0;
    return 0;
  }
  tcb.dupAcks++;
  return tcb.dupAcks === DUP_THRESHOLD ? tcb.queue.loseHead(tcb.mss) : 0;
}

/** Limited transmit (RFC 3042): two new segments on the first two duplicate ACKs. Bytes by which the window may be exceeded. */
export function limitedTransmit(tcb: Tcb): number {
  return !tcb.sack && tcb.congestionState === CONGESTION.open && tcb.dupAcks > 0 && tcb.dupAcks < DUP_THRESHOLD ? tcb.dupAcks * tcb.mss : 0;
}

/** Retransmission timeout: everything in flight is lost, the window is one segment (RFC 5681 §3.1, RFC 8985 §6.3). */
export function enterLoss(tcb: Tcb, now: number): void {
  if (tcb.congestionState !== CONGESTION.loss || tcb.sndUna >= tcb.recoveryPoint) tcb.ssthresh = Math.floor(tcb.congestion.onTimeout(tcb, now));
  tcb.congestionState = CONGESTION.loss;
  tcb.recoveryPoint = tcb.sndNxt;
  tcb.cwnd = tcb.mss;
  tcb.dupAcks = 0;
  tcb.tlpEnd = -1;
  tcb.reorderAt = 0;
  tcb.queue.loseAll();
  tcb.context.congestionEvent(tcb, 'timeout', now);
}

/** The peer echoes a congestion mark: one reduction per round trip (RFC 3168 §6.1.2). */
export function reduceForEcn(tcb: Tcb, now: number): void {
  if (tcb.congestionState !== CONGESTION.open || tcb.sndUna < tcb.ecnReducedAt) return;
  tcb.ecnReducedAt = tcb.sndNxt;
  tcb.ssthresh = Math.floor(tcb.congestion.onLoss(tcb, now));
  if (tcb.deliveryRate === null) tcb.cwnd = Math.max(tcb.ssthresh, tcb.mss);
  tcb.ecnSendCwr = true;
  tcb.context.congestionEvent(tcb, 'ecn', now);
}
