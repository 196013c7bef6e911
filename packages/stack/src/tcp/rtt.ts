/** Round-trip time and retransmission timeout (RFC 6298 §2), microseconds. */
import type { Tcb } from './tcb.ts';

/** Takes one RTT sample. Samples of retransmitted segments must not come here (Karn's algorithm, RFC 6298 §3). */
export function sampleRtt(tcb: Tcb, rtt: number, now: number): void {
  if (rtt < 1) rtt = 1;
  tcb.lastRtt = rtt;
  if (tcb.srtt === 0) {
    tcb.srtt = rtt;
    tcb.rttvar = rtt / 2;
  } else {
    const error = Math.abs(tcb.srtt - rtt);
    // Falling RTT must not widen the variance by much (as Linux does), or RTO jumps when a queue drains.
    tcb.rttvar += (error - tcb.rttvar) / (rtt < tcb.srtt - tcb.rttvar ? 32 : 4);
    tcb.srtt += (rtt - tcb.srtt) / 8;
  }
  // A minimum older than five minutes says nothing about the path any more (RFC 8985 §6.2 step 1 leaves the window open).
  if (tcb.minRtt === 0 || rtt <= tcb.minRtt || now - tcb.minRttAt > 300_000_000) {
    tcb.minRtt = rtt;
    tcb.minRttAt = now;
  }
  updateRto(tcb);
}

/** RTO from the estimate, without back-off. The variance term is at least the minimum RTO, so that delayed ACKs do not trip it. */
export function updateRto(tcb: Tcb): void {
  const { minRto, maxRto } = tcb.context.tcp;
  tcb.rto = Math.min(maxRto, tcb.srtt + Math.max(minRto, 4 * tcb.rttvar));
}

/** RTO with exponential back-off (RFC 6298 §5.5). */
export function backedOffRto(tcb: Tcb): number {
  return Math.min(tcb.context.tcp.maxRto, tcb.rto * 2 ** tcb.backoff);
}
