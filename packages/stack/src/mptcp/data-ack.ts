/** What a DATA_ACK does: frees data, grows the send buffer, guards what is not acknowledged (RFC 8684 §3.3.2, §3.3.6). */
import { headInFlight, REINJECTED_HEAD, reinjectHead } from './reinjection.ts';
import { MODE, PHASE } from './state.ts';
import type { ConnectionState } from './state.ts';

/** Send-buffer auto-tuning: room for this many congestion windows. */
const SEND_WINDOWS = 2;

/** Frees acknowledged data, grows the send buffer with the congestion windows, tells the application. */
export function dataAcknowledged(connection: ConnectionState, position: number, now: number): void {
  const end = connection.sendBuffer.end;
  if (connection.finSent && position === end + 1) connection.finAcknowledged = true;
  const data = Math.min(position, end);
  if (data > connection.dataUna) {
    connection.dataUna = data;
    connection.sendBuffer.release(data);
    connection.dataTimeouts = 0;
    if (connection.closeAt !== 0 && connection.phase === PHASE.open) connection.closeAt = now + connection.host.mptcp.closeTimeout;
    if (connection.host.traceData) connection.host.emit({ type: 'data-acknowledged', time: now, connection: connection.id, position: data });
    if (data < connection.dataRecoveryPoint && !headInFlight(connection)) reinjectHead(connection, REINJECTED_HEAD, now);
    growSendBuffer(connection);
    if (connection.wantsWritable && connection.writable > 0) {
      connection.wantsWritable = false;
      connection.host.emit({ type: 'connection-writable', time: now, connection: connection.id });
    }
  }
  if (connection.mode !== MODE.mptcp) return;
  if (connection.dataUna === connection.dataNxt) connection.dataRetransmitAt = 0;
  else armDataRetransmission(connection, now);
}

function growSendBuffer(connection: ConnectionState): void {
  let windows = 0;
  for (const subflow of connection.subflows) windows += subflow.tcb.cwnd;
  const wanted = Math.min(connection.host.tcp.maxSendBuffer, SEND_WINDOWS * windows);
  if (wanted > connection.sendLimit) connection.sendLimit = wanted;
}

/** Guards against data that is acknowledged below but never at the data level (RFC 8684 §3.3.6). */
export function armDataRetransmission(connection: ConnectionState, now: number): void {
  let rto = connection.host.tcp.minRto;
  for (const subflow of connection.subflows) if (subflow.established) rto = Math.max(rto, subflow.tcb.rto);
  connection.dataRetransmitAt = now + Math.min(connection.host.tcp.maxRto, 2 * rto * 2 ** connection.dataTimeouts);
  connection.reschedule();
}
