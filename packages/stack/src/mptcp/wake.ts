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
