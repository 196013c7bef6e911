/**
 * What a full receive window costs when one subflow holds up its first byte, and what helps: opportunistic
 * retransmission and penalisation (Raiciu et al., "How hard can it be?", NSDI 2012, §4.2).
 */
import { sendAgain } from './assign.ts';
import { Mapping } from './mapping.ts';
import type { ConnectionState, SubflowState } from './state.ts';
import { maySend } from './wake.ts';

/** A window that is still being tuned looks full as well: only a path this much slower is penalised. */
const PENALTY_RATIO = 2;
/** A copy must be expected to save this many round trips of the faster path. */
const GAIN = 2;
/** Records looked at in one go. */
const MAX_STEPS = 32;

/** The shared window is full although a subflow could send: send what blocks it again there, slow down who blocks it. */
export function unblockWindow(connection: ConnectionState, now: number): void {
  const { opportunisticRetransmission, penalisation } = connection.host.mptcp;
  if ((!opportunisticRetransmission && !penalisation) || now < connection.unblockAt) return;
  const blocker = holderOf(connection, connection.dataUna, null)?.subflow ?? null;
  if (blocker === null) return;
  const faster = fasterThan(connection, blocker);
  if (faster === null) return;
  // Looking for the bytes walks the queues: a few times per round trip is enough, however many ACKs come.
  connection.unblockAt = now + faster.tcb.srtt / 8;
  if (opportunisticRetransmission) retransmit(connection, faster, now);
  const { tcb } = blocker;
  if (!penalisation || blocker.penalisedUntil > now || tcb.srtt < PENALTY_RATIO * faster.tcb.srtt) return;
  blocker.penalisedUntil = now + tcb.srtt;
  // In slow start the threshold stays: the path is not known to be full (as in multipath-tcp.org's kernel).
  if (tcb.cwnd >= tcb.ssthresh) tcb.ssthresh = Math.max(tcb.ssthresh / 2, 2 * tcb.mss);
  tcb.cwnd = Math.max(tcb.cwnd / 2, 2 * tcb.mss);
  connection.host.emit({ type: 'penalisation', time: now, connection: connection.id, subflow: blocker.id, cwnd: Math.round(tcb.cwnd) });
}

/** The subflow with the smallest RTT that may send and is faster than the blocking one. */
function fasterThan(connection: ConnectionState, blocker: SubflowState): SubflowState | null {
  let faster: SubflowState | null = null;
  for (const subflow of connection.subflows) {
    if (subflow === blocker || !maySend(subflow) || subflow.stale || subflow.backup !== blocker.backup) continue;
    if (subflow.tcb.srtt === 0 || subflow.tcb.srtt >= blocker.tcb.srtt) continue;
    if (faster === null || subflow.tcb.srtt < faster.tcb.srtt) faster = subflow;
  }
  return faster;
}

/** From the head on, what only slower subflows hold, as far as the faster one has room; nothing twice. */
function retransmit(connection: ConnectionState, faster: SubflowState, now: number): void {
  let position = Math.max(connection.dataUna, faster.copiedHead);
  for (let i = 0; i < MAX_STEPS && position < connection.dataNxt; i++) {
    const own = holderOf(connection, position, faster);
    if (own !== null) {
      position = own.end;
      continue;
    }
    const held = holderOf(connection, position, null);
    if (held === null || held.subflow.tcb.srtt <= faster.tcb.srtt) return;
    // It will have arrived on its own before a copy could.
    if (held.sentAt + held.subflow.tcb.srtt <= now + GAIN * faster.tcb.srtt) {
      position = held.end;
      continue;
    }
    const taken = sendAgain(connection, faster, position, held.end - position, now);
    if (taken === 0) return;
    connection.host.emit({
      type: 'opportunistic-retransmission',
      time: now,
      connection: connection.id,
      from: held.subflow.id,
      to: faster.id,
      position,
      length: taken,
    });
    position += taken;
    faster.copiedHead = position;
    // The next record waits for the next poll: a subflow takes one at a time.
  }
}

/** A subflow (or `only` this one) that has a byte of the stream in its queue, and where the record ends. */
function holderOf(connection: ConnectionState, position: number, only: SubflowState | null): { subflow: SubflowState; end: number; sentAt: number } | null {
  for (const subflow of only === null ? connection.subflows : [only]) {
    for (const record of subflow.tcb.queue) {
      if (!(record.tag instanceof Mapping)) continue;
      const start = record.tag.dataPosition + (record.position - record.tag.position);
      const end = start + (record.end - record.position);
      if (start <= position && position < end) return { subflow, end, sentAt: record.sentAt };
    }
  }
  return null;
}
