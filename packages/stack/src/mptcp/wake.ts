/** Which subflows may carry new data, and having the host poll them. */
import type { ConnectionState, SubflowState } from './state.ts';
import { STATE } from '../tcp/state.ts';

/** Makes the host poll the subflows that could carry waiting data. */
export function wakeSenders(connection: ConnectionState): void {
  for (const subflow of connection.subflows) if (maySend(subflow)) connection.host.wake(subflow.tcb);
}

/** Whether new data may go on this subflow at all. */
export function maySend(subflow: SubflowState): boolean {
  const { state, fin } = subflow.tcb;
  return subflow.established && !subflow.closing && fin === 'none' && (state === STATE.established || state === STATE.closeWait);
}

/**
 * Whether the shared window is closed, or open by less than is worth sending into (RFC 9293 §3.8.6.2.1), at the data level; the
 * override timeout of a subflow lets data in all the same.
 */
export function isHeldBack(connection: ConnectionState): boolean {
  const window = connection.dataWndEdge - connection.dataNxt;
  if (window <= 0) return true;
  let segment = Number.POSITIVE_INFINITY;
  for (const { tcb } of connection.subflows) {
    if (tcb.override) return false;
    segment = Math.min(segment, tcb.mss);
  }
  return window < Math.min(segment, connection.maxDataWnd / 2) && window < connection.sendBuffer.end - connection.dataNxt;
}

/** The subflow that probes a closed shared window: the fastest that works. */
export function windowProber(connection: ConnectionState): SubflowState | null {
  let best: SubflowState | null = null;
  for (const subflow of connection.subflows) {
    if (!maySend(subflow)) continue;
    if (best === null || (best.stale && !subflow.stale) || (best.stale === subflow.stale && subflow.tcb.srtt < best.tcb.srtt)) best = subflow;
  }
  return best;
}
