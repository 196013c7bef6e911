/**
 * Noticing a dead path. A sender notices by timeouts; a receiver only by silence: when one subflow receives and
 * another one, that had received, does not, the silent one is probed with keepalives and given up when nobody answers.
 */
import { abortConnection, closeSubflow } from './close.ts';
import type { ConnectionState, SubflowState } from './state.ts';
import { STATE } from '../tcp/state.ts';
import { earlier } from '../tcp/timers.ts';

/** Starts watching as soon as there are two subflows to compare. */
export function watchSilence(connection: ConnectionState, now: number): void {
  const { silenceTimeout } = connection.host.mptcp;
  // Only the side that can open the subflow again may give it up: the other one could cut off its last working path.
  if (!connection.active || silenceTimeout === 0 || connection.silenceAt !== 0 || connection.subflows.length < 2) return;
  connection.silenceAt = now + silenceTimeout / 2;
  connection.reschedule();
}

/** Compares the subflows and probes those that have fallen silent. */
export function checkSilence(connection: ConnectionState, now: number): void {
  const { silenceTimeout, silenceProbes, silenceProbeInterval } = connection.host.mptcp;
  let heard = 0;
  for (const subflow of connection.subflows) if (subflow.established) heard = Math.max(heard, subflow.tcb.lastReceivedAt);
  // Nobody hears anything: nothing to compare with. Idle connections need no timer.
  const idle = now - heard > silenceTimeout;
  for (const subflow of connection.subflows.slice()) {
    const { tcb } = subflow;
    if (!subflow.established || !subflow.active || subflow.closing || tcb.state !== STATE.established) continue;
    const since = Math.max(tcb.lastReceivedAt, subflow.probedFrom);
    const patience = Math.max(silenceTimeout, 4 * tcb.srtt);
    if (tcb.lastReceivedAt > subflow.probedFrom && subflow.silenceProbes > 0) subflow.silenceProbes = 0;
    if (idle || heard - tcb.lastReceivedAt < patience) continue;
    if (!subflow.carriedData) continue;
    const interval = Math.max(silenceProbeInterval, 2 * tcb.srtt);
    if (subflow.silenceProbes > 0 && now - since < interval) continue;
    if (subflow.silenceProbes >= silenceProbes) {
      closeSubflow(subflow, 'timeout', now);
      continue;
    }
    subflow.silenceProbes++;
    subflow.probedFrom = now;
    tcb.probePending = true;
    connection.host.wake(tcb);
  }
  connection.silenceAt = idle || connection.subflows.length < 2 ? 0 : now + Math.min(silenceTimeout, silenceProbeInterval) / 2;
}

/** Deadlines a subflow has besides those of its TCP. */
export function subflowDeadline(subflow: SubflowState): number {
  return earlier(earlier(subflow.joinAckAt, subflow.condemnedAt), subflow.failUntil);
}

export function fireSubflowTimers(subflow: SubflowState, now: number): void {
  if (subflow.joinAckAt !== 0 && subflow.joinAckAt <= now) {
    // The third ACK of a join is sent again until the fourth arrives (RFC 8684 §3.2).
    subflow.joinAckTries++;
    if (subflow.joinAckTries > subflow.tcb.context.tcp.synRetries) {
      closeSubflow(subflow, 'timeout', now);
      return;
    }
    subflow.joinAckAt = now + subflow.tcb.rto * 2 ** subflow.joinAckTries;
    subflow.requestAck();
  }
  if (subflow.condemnedAt !== 0 && subflow.condemnedAt <= now) {
    // REMOVE_ADDR and no answer to the keepalive (RFC 8684 §3.4.2).
    subflow.condemnedAt = 0;
    subflow.connection.host.mib('RmSubflow');
    closeSubflow(subflow, 'reset', now);
    return;
  }
  if (subflow.failUntil !== 0 && subflow.failUntil <= now) {
    // MP_FAIL and no reaction: the streams of the two ends may differ (Linux resets as well, after 120 s).
    subflow.failUntil = 0;
    subflow.connection.host.count('mptcp-fail-timeout');
    abortConnection(subflow.connection, 'aborted', now);
  }
}
