/** RACK-TLP loss detection (RFC 8985). */
import { RECORD } from './retransmission-queue.ts';
import type { SendRecord } from './retransmission-queue.ts';
import { CONGESTION } from './state.ts';
import type { Tcb } from './tcb.ts';

/** Worst-case delayed-ACK timer of the peer (RFC 8985 §7.2). */
const WORST_DELAYED_ACK = 200_000;
const MIN_PROBE_TIMEOUT = 2_000;

/** Takes note of a record that was just delivered (RFC 8985 §6.2 steps 2 and 3). */
export function rackDelivered(tcb: Tcb, record: SendRecord, now: number): void {
  const rtt = now - record.sentAt;
  if (record.retransmitted) {
    // An ACK that comes sooner than the minimum RTT answers the original, not the retransmission.
    if (rtt < tcb.minRtt) return;
  } else if (record.end < tcb.rackEnd && record.end < tcb.queue.highestSacked) {
    tcb.rackReordering = true;
  }
  if (record.sentAt > tcb.rackSentAt || (record.sentAt === tcb.rackSentAt && record.end > tcb.rackEnd)) {
    tcb.rackSentAt = record.sentAt;
    tcb.rackEnd = record.end;
    tcb.rackRtt = rtt;
  }
}

/** Adapts the reordering window to duplicate reports (RFC 8985 §6.2 step 4). */
export function rackDsack(tcb: Tcb): void {
  if (tcb.rackDsackRound < 0 || tcb.sndUna >= tcb.rackDsackRound) {
    tcb.rackDsackRound = tcb.sndNxt;
    tcb.rackWindowMultiplier = Math.min(tcb.rackWindowMultiplier + 1, 255);
    tcb.rackPersist = 16;
  }
}

/** Called when recovery ends: the widened window shrinks again after 16 recoveries without duplicate reports. */
export function rackRecovered(tcb: Tcb): void {
  if (tcb.rackPersist > 0 && --tcb.rackPersist === 0) tcb.rackWindowMultiplier = 1;
}

function reorderingWindow(tcb: Tcb): number {
  if (!tcb.rackReordering && (tcb.congestionState !== CONGESTION.open || tcb.sackedBytes >= 3 * tcb.mss)) return 0;
  return Math.min((tcb.rackWindowMultiplier * tcb.minRtt) / 4, tcb.srtt);
}

/**
 * Marks lost what was sent long enough before the latest delivery; arms the reordering timer for what is next (RFC 8985 §6.2
 * step 5). Looks at records in order of transmission, so that one that is not lost ends the search. Returns the bytes marked.
 */
export function rackDetectLoss(tcb: Tcb, now: number): number {
  tcb.reorderAt = 0;
  if (tcb.rackSentAt === 0) return 0;
  const window = reorderingWindow(tcb);
  let marked = 0;
  for (let record = tcb.queue.oldestInFlight; record !== null && sentBefore(tcb, record); record = tcb.queue.oldestInFlight) {
    const lostAt = record.sentAt + tcb.rackRtt + window;
    if (lostAt > now) {
      tcb.reorderAt = lostAt;
      break;
    }
    marked += tcb.queue.markLost(record);
  }
  return marked;
}

/** Whether a record was sent before the one delivered last. */
function sentBefore(tcb: Tcb, record: SendRecord): boolean {
  return record.sentAt < tcb.rackSentAt || (record.sentAt === tcb.rackSentAt && record.end < tcb.rackEnd);
}

/** Arms the probe timeout when the tail is in flight (RFC 8985 §7.2). Returns false when the RTO is to be used. */
export function armTailLossProbe(tcb: Tcb, now: number): boolean {
  if (!tcb.sack || tcb.tlpEnd >= 0 || tcb.srtt === 0 || tcb.inFlight === 0) return false;
  if (tcb.congestionState !== CONGESTION.open || tcb.sackedBytes > 0 || tcb.lostBytes > 0) return false;
  let timeout = 2 * tcb.srtt;
  if (tcb.inFlight <= tcb.mss) timeout += WORST_DELAYED_ACK;
  if (timeout < MIN_PROBE_TIMEOUT) timeout = MIN_PROBE_TIMEOUT;
  if (timeout >= tcb.rto) return false;
  tcb.probeAt = now + timeout;
  return true;
}

/** The record a probe retransmits: the last segment sent (RFC 8985 §7.3); null when it has arrived. */
export function tailRecord(tcb: Tcb): SendRecord | null {
  const { queue } = tcb;
  const last = queue.lastSent;
  if (last === null || last.state !== RECORD.inFlight) return null;
  if (last.end - last.position <= tcb.mss) return last;
  queue.limit(last, last.end - last.position - tcb.mss);
  return queue.lastSent;
}

/** Whether an ACK shows that a tail loss probe repaired a loss (RFC 8985 §7.4.2). Ends the episode when it tells anything. */
export function tailLossRepaired(tcb: Tcb, acked: number, dsackCoversProbe: boolean, duplicate: boolean): boolean {
  if (tcb.tlpEnd < 0 || acked < tcb.tlpEnd) return false;
  const retransmission = tcb.tlpRetransmission;
  if (!retransmission || dsackCoversProbe) {
    tcb.tlpEnd = -1;
    return false;
  }
  if (acked > tcb.tlpEnd) {
    tcb.tlpEnd = -1;
    return true;
  }
  if (duplicate) tcb.tlpEnd = -1;
  return false;
}
