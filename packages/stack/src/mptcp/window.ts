/** The receive window shared by all subflows (RFC 8684 §3.3.4), its silly-window avoidance and auto-tuning. */
import { PHASE } from './state.ts';
import type { ConnectionState } from './state.ts';
import { maySend } from './wake.ts';

/** Auto-tuning interval when no RTT is known, microseconds. */
const DEFAULT_INTERVAL = 100_000;

/** Bytes to advertise now, relative to the next data expected; moves the right edge, never to the left. */
export function receiveWindow(connection: ConnectionState, segment: number): number {
  const free = connection.receiveLimit - connection.received.length;
  const edge = connection.dataRcvNxt + Math.max(0, free);
  const offered = connection.dataRcvEdge - connection.dataRcvNxt;
  // RFC 9293 §3.8.6.2.2: move the edge only by a segment or half the buffer.
  if (edge - connection.dataRcvEdge >= Math.min(segment, connection.receiveLimit / 2) || offered >= segment) {
    if (edge > connection.dataRcvEdge) connection.dataRcvEdge = edge;
  }
  return Math.max(0, connection.dataRcvEdge - connection.dataRcvNxt);
}

/** The application has read: grow the buffer if it reads fast, tell the peer if the window opens by much. */
export function noteConsumed(connection: ConnectionState, count: number, now: number): void {
  connection.consumed += count;
  tuneReceiveBuffer(connection, now);
  if (connection.receiveEnded || connection.phase === PHASE.closed) return;
  const offered = connection.dataRcvEdge - connection.dataRcvNxt;
  const free = connection.receiveLimit - connection.received.length;
  // A window update when the window was all but closed, or has doubled.
  if (free - offered < 2 * 1460 || (offered > connection.receiveLimit / 2 && free < 2 * offered)) {
    if (!(offered < 1460 && free >= Math.min(1460, connection.receiveLimit / 2))) return;
  }
  for (const subflow of connection.subflows) if (subflow.established && (maySend(subflow) || subflow.tcb.finQueued)) subflow.requestAck();
}

/** Dynamic right-sizing: the buffer is at least twice what the application read in the last round trip. */
function tuneReceiveBuffer(connection: ConnectionState, now: number): void {
  if (connection.tuneAt === 0) {
    connection.tuneAt = now;
    connection.tuneBytes = connection.consumed;
    return;
  }
  let rtt = 0;
  for (const subflow of connection.subflows) if (subflow.established) rtt = Math.max(rtt, subflow.tcb.srtt);
  if (rtt === 0) rtt = DEFAULT_INTERVAL;
  if (now - connection.tuneAt < rtt) return;
  // Twice what was read in a round trip, and as much again in proportion while the rate still grows, as Linux does.
  // A larger window would only let the sender queue more, which it sends again when it gives a subflow up.
  const copied = connection.consumed - connection.tuneBytes;
  let wanted = 2 * copied + 16 * 1460;
  if (connection.tuneLast > 0 && copied > connection.tuneLast) wanted += (2 * wanted * (copied - connection.tuneLast)) / connection.tuneLast;
  // Data that waits out of order is part of what the paths hold in flight.
  wanted = Math.min(connection.host.tcp.maxReceiveBuffer, wanted + connection.outOfOrderBytes);
  if (wanted > connection.receiveLimit) connection.receiveLimit = wanted;
  connection.tuneLast = Math.max(copied, connection.tuneLast);
  connection.tuneAt = now;
  connection.tuneBytes = connection.consumed;
}
