/**
 * What a full receive window costs when one subflow holds up its first byte, and what helps: opportunistic
 * retransmission and penalisation (Raiciu et al., "How hard can it be?", NSDI 2012, §4.2).
 */
import type { Connection } from './connection.ts';
import { Mapping } from './mapping.ts';
import { maySend, sendAgain } from './send.ts';
import type { Subflow } from './subflow.ts';

/** The shared window is full although a subflow could send: send its first bytes again there, slow down who blocks it. */
export function unblockWindow(connection: Connection, now: number): void {
  const { opportunisticRetransmission, penalisation } = connection.host.mptcp;
  if (!opportunisticRetransmission && !penalisation) return;
  const held = holderOfHead(connection);
  if (held === null) return;
  const { blocker, end } = held;
  let faster: Subflow | null = null;
  for (const subflow of connection.subflows) {
    if (subflow === blocker || !maySend(subflow) || subflow.stale || subflow.backup !== blocker.backup) continue;
    if (subflow.tcb.srtt === 0 || subflow.tcb.srtt >= blocker.tcb.srtt) continue;
    if (faster === null || subflow.tcb.srtt < faster.tcb.srtt) faster = subflow;
  }
  if (faster === null) return;
  const position = connection.dataUna;
  // Once per byte and subflow: what it has had already is on its way.
  if (opportunisticRetransmission && faster.copiedHead < end) {
    const taken = sendAgain(connection, faster, position, Math.min(end - position, faster.tcb.mss), now);
    if (taken > 0) {
      faster.copiedHead = position + taken;
      connection.host.emit({
        type: 'opportunistic-retransmission',
        time: now,
        connection: connection.id,
        from: blocker.id,
        to: faster.id,
        position,
        length: taken,
      });
    }
  }
  if (penalisation && blocker.penalisedUntil <= now) {
    const { tcb } = blocker;
    blocker.penalisedUntil = now + tcb.srtt;
    tcb.cwnd = Math.max(tcb.cwnd / 2, 2 * tcb.mss);
    tcb.ssthresh = Math.max(Math.min(tcb.ssthresh, tcb.cwnd), 2 * tcb.mss);
    connection.host.emit({ type: 'penalisation', time: now, connection: connection.id, subflow: blocker.id, cwnd: Math.round(tcb.cwnd) });
  }
}

/** The subflow whose oldest unacknowledged record holds the first unacknowledged byte of the stream, and where that record ends. */
function holderOfHead(connection: Connection): { blocker: Subflow; end: number } | null {
  const head = connection.dataUna;
  let found: { blocker: Subflow; end: number } | null = null;
  for (const subflow of connection.subflows) {
    const record = subflow.tcb.head;
    if (record === null || !(record.tag instanceof Mapping)) continue;
    const start = record.tag.dataPosition + (record.position - record.tag.position);
    const end = start + (record.end - record.position);
    if (start > head || end <= head) continue;
    // A second copy is under way already.
    if (found !== null) return null;
    found = { blocker: subflow, end };
  }
  return found;
}
