/** Ending: DATA_FIN (RFC 8684 §3.3.3), MP_FASTCLOSE (§3.5), subflow resets (§3.6), and what is left when all subflows are gone. */
import { RESET_REASON } from '@subflow/wire';
import { MODE, PHASE } from './state.ts';
import type { ConnectionState, SubflowState } from './state.ts';
import { abort, closeSend, orphan } from '../tcp/close.ts';
import type { CloseReason } from '../tcp/state.ts';

/** Subflows get this long to finish their FIN exchanges after both DATA_FINs are acknowledged. */
const LINGER = 10_000_000;
/** RFC 8684 §3.5 recommends three retransmissions of MP_FASTCLOSE. */
const FASTCLOSE_TRIES = 3;

/** All data up to the peer's DATA_FIN has arrived. */
export function remoteFinReached(connection: ConnectionState, now: number): void {
  if (connection.receiveEnded) return;
  connection.receiveEnded = true;
  if (connection.mode === MODE.mptcp) connection.dataRcvNxt++;
  connection.outOfOrder?.clear();
  connection.outOfOrder = null;
  connection.host.emit({ type: 'connection-end', time: now, connection: connection.id });
  for (const subflow of connection.subflows) if (subflow.established) subflow.requestAck();
  finishIfDone(connection, now);
}

/** Closes the subflows once both directions are finished (RFC 8684 §3.3.3). */
export function finishIfDone(connection: ConnectionState, now: number): void {
  if (connection.mode !== MODE.mptcp || connection.phase === PHASE.closed) return;
  if (!connection.finAcknowledged || !connection.receiveEnded) return;
  connection.finAt = 0;
  connection.dataRetransmitAt = 0;
  for (const subflow of connection.subflows.slice()) {
    if (subflow.established) {
      closeSend(subflow.tcb, now);
      orphan(subflow.tcb, now);
    } else {
      abort(subflow.tcb, 'aborted', now);
    }
  }
  closed(connection, 'normal', now);
  if (connection.subflows.length > 0) {
    connection.closeAt = now + LINGER;
    connection.reschedule();
  }
}

/** Nobody will read any more: a peer that never ends its side must not hold the connection for ever (as FIN-WAIT-2, at both levels). */
export function abandon(connection: ConnectionState, now: number): void {
  connection.abandoned = true;
  for (const { tcb } of connection.subflows) orphan(tcb, now);
  limitHalfClose(connection, now);
}

/** The peer has all of our data, and its DATA_FIN is what is waited for. */
export function limitHalfClose(connection: ConnectionState, now: number): void {
  if (!connection.abandoned || !connection.finAcknowledged || connection.receiveEnded || connection.mode !== MODE.mptcp || connection.closeAt !== 0) return;
  connection.closeAt = now + connection.host.tcp.finWait2;
  connection.reschedule();
}

/** The application's connection is over; subflows may still be saying goodbye. */
export function closed(connection: ConnectionState, reason: CloseReason, now: number): void {
  if (connection.phase === PHASE.closed) return;
  connection.phase = PHASE.closed;
  connection.closeReason = reason;
  if (connection.mode === MODE.mptcp && connection.wasOpen) connection.host.mib('MPCurrEstab', -1);
  connection.pathManager?.onClosed?.(connection, now);
  connection.finAt = connection.dataRetransmitAt = connection.silenceAt = 0;
  connection.reinjections = null;
  connection.outOfOrder?.clear();
  connection.outOfOrder = null;
  connection.announcements = null;
  connection.sendBuffer.release(connection.sendBuffer.end);
  connection.host.emit({ type: 'connection-closed', time: now, connection: connection.id, reason });
  connection.host.released(connection);
  connection.reschedule();
}

/** Fast close (RFC 8684 §3.5): option R, MP_FASTCLOSE on a RST of every subflow; or option A, on an ACK of one that the peer answers with a RST. */
export function abortConnection(connection: ConnectionState, reason: CloseReason, now: number): void {
  if (connection.phase === PHASE.closed) return;
  const subflows = connection.subflows.slice();
  const asks =
    connection.mode === MODE.mptcp && connection.remote !== null && (connection.host.mptcp.fastclose === 'ack' || !connection.version.explainsResets);
  const asked = asks ? subflows.find((one) => one.established && !one.stale) : undefined;
  if (asked !== undefined) {
    asked.fastclose = true;
    closed(connection, reason, now);
    for (const subflow of subflows) {
      if (subflow === asked) continue;
      subflow.resetReason = RESET_REASON.unspecified;
      abort(subflow.tcb, 'aborted', now);
    }
    connection.fastcloseAt = now + asked.tcb.rto;
    asked.requestAck();
    connection.reschedule();
    return;
  }
  for (const subflow of subflows) {
    subflow.fastclose = connection.mode === MODE.mptcp && connection.remote !== null && subflow.established;
    subflow.resetReason = RESET_REASON.unspecified;
  }
  closed(connection, reason, now);
  for (const subflow of subflows) abort(subflow.tcb, 'aborted', now);
}

/** FASTCLOSE_WAIT: no RST came. Three times again, then a RST with MP_FASTCLOSE for the middleboxes (RFC 8684 §3.5). */
export function repeatFastclose(connection: ConnectionState, now: number): void {
  const subflow = connection.subflows[0];
  connection.fastcloseAt = 0;
  if (subflow === undefined) return;
  if (connection.fastcloseTries++ < FASTCLOSE_TRIES) {
    connection.fastcloseAt = now + subflow.tcb.rto * 2 ** connection.fastcloseTries;
    subflow.requestAck();
    connection.reschedule();
    return;
  }
  abort(subflow.tcb, 'aborted', now);
}

/** The peer fast-closed (RFC 8684 §3.5). `reset`: the subflow that was reset with it; a RST is never answered by a RST (RFC 9293 §3.10.7.1). */
export function receivedFastclose(connection: ConnectionState, reset: SubflowState | null, now: number): void {
  const subflows = connection.subflows.slice();
  closed(connection, 'reset', now);
  for (const subflow of subflows) {
    if (subflow === reset) continue;
    subflow.fastclose = false;
    subflow.resetReason = RESET_REASON.unspecified;
    abort(subflow.tcb, 'reset', now);
  }
}

/** Resets one subflow with a reason (RFC 8684 §3.6). */
export function resetSubflow(subflow: SubflowState, reason: number, transient: boolean, now: number): void {
  subflow.resetReason = reason;
  subflow.resetTransient = transient;
  abort(subflow.tcb, 'aborted', now);
}

/** Gives a silent or timed-out subflow up; the peer may try again. */
export function closeSubflow(subflow: SubflowState, reason: CloseReason, now: number): void {
  subflow.resetReason = RESET_REASON.performance;
  subflow.resetTransient = true;
  abort(subflow.tcb, reason, now);
}

/** No established subflow is left; attempts at new ones may be under way. `waits`: another is worth waiting for even when none is tried. */
export function lastSubflowGone(connection: ConnectionState, reason: CloseReason, waits: boolean, now: number): void {
  if (connection.mode === MODE.tcp || !connection.confirmed) {
    const done = reason === 'normal' || (connection.receiveEnded && connection.sendClosed && connection.dataUna === connection.sendBuffer.end);
    closed(connection, done ? 'normal' : reason, now);
    return;
  }
  const retries = connection.subflows.length > 0 || (connection.pathManager !== null && (connection.pathManager.deadline?.() ?? 0) !== 0);
  if (!waits && !retries && (connection.active || reason === 'normal' || reason === 'aborted')) {
    abortConnection(connection, reason === 'normal' ? 'reset' : reason, now);
    return;
  }
  // Break before make: wait for a new subflow, but not for ever (RFC 8684 §3.3.3).
  if (connection.closeAt !== 0) return;
  connection.closeAt = now + connection.host.mptcp.closeTimeout;
  connection.closeReason = reason;
  connection.reschedule();
}
