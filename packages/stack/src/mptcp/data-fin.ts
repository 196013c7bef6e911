/** Signalling the end of our data stream (RFC 8684 §3.3.3). */
import type { ConnectionState } from './state.ts';
import { maySend } from './wake.ts';

const MIN_FIN_INTERVAL = 200_000;

/** Signals DATA_FIN on every usable subflow, and again until it is acknowledged. */
export function sendDataFin(connection: ConnectionState, now: number): void {
  let rto = connection.host.tcp.minRto;
  for (const subflow of connection.subflows) {
    if (!maySend(subflow)) continue;
    rto = Math.max(rto, subflow.tcb.rto);
    subflow.requestAck();
  }
  connection.finAt = now + Math.min(connection.host.tcp.maxRto, Math.max(MIN_FIN_INTERVAL, rto) * 2 ** connection.finTries);
  connection.finTries++;
  connection.reschedule();
}
