/** The receive window shared by all subflows (RFC 8684 §3.3.4), its silly-window avoidance and auto-tuning. */
import { PHASE } from './state.ts';
import type { ConnectionState } from './state.ts';
import { maySend } from './wake.ts';

/** Auto-tuning interval when no RTT is known, microseconds. */
const DEFAULT_INTERVAL = 100_000;

/**
 * Receiver-side silly-window avoidance (RFC 9293 §3.8.6.2.2): the edge moves only by a segment or half the buffer. One rule
 * for the window that is sent and for whether sending it is worth an ACK.
 */
function edgeToOffer(connection: ConnectionState, segment: number): number {
  const edge = connection.dataRcvNxt + Math.max(0, connection.receiveLimit - connection.received.length);
  const offered = connection.dataRcvEdge - connection.dataRcvNxt;
  const enough = edge - connection.dataRcvEdge >= Math.min(segment, connection.receiveLimit / 2) || offered >= segment;
  return enough && edge > connection.dataRcvEdge ? edge : connection.dataRcvEdge;
}

/** Bytes to advertise now, relative to the next data expected; moves the right edge, never to the left. */
export function receiveWindow(connection: ConnectionState, segment: number): number {
  connection.dataRcvEdge = edgeToOffer(connection, segment);
  return Math.max(0, connection.dataRcvEdge - connection.dataRcvNxt);
}

/** The application has read: grow the buffer if it reads fast, tell the peer if the window opens by much. */
export function noteConsumed(connection: ConnectionState, count: number, now: number): void {
  connection.consumed += count;
  tuneReceiveBuffer(connection, now);
  if (connection.receiveEnded || connection.phase === PHASE.closed) return;
  const offered = connection.dataRcvEdge - connection.dataRcvNxt;
  for (const subflow of connection.subflows) {
    if (!subflow.established || !(maySend(subflow) || subflow.tcb.fin !== 'none')) continue;
    const segment = subflow.tcb.rcvMss;
    const fresh = edgeToOffer(connection, segment) - connection.dataRcvNxt;
    // A window update when the window was all but closed and opens, or has doubled.
    const opens = offered < segment && fresh > offered;
    const doubles = 2 * offered <= connection.receiveLimit && fresh >= 2 * offered && fresh - offered >= segment;
    if (opens || doubles) subflow.requestAck();
  }
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
  wanted = Math.floor(Math.min(connection.host.tcp.maxReceiveBuffer, wanted + connection.outOfOrderBytes));
  if (wanted > connection.receiveLimit) connection.receiveLimit = wanted;
  connection.tuneLast = Math.max(copied, connection.tuneLast);
  connection.tuneAt = now;
  connection.tuneBytes = connection.consumed;
}

/** Beyond the buffer: a few blocks, so that a small buffer too can hold a window with holes. */
const HOLDING_EXTRA = 16_384;

/** A remembered mapping and its place in the list, bytes. */
export const MAPPING_COST = 160;

/** A whole window in segments of 1,460, every 50th lost, costs up to 1.146 times its bytes in blocks, holes and mappings. */
const HOLDING_SHARE = 1.25;

/** Memory that data ahead of order may take at each level, everything counted, bytes. */
export function memoryLimit(connection: ConnectionState): number {
  return connection.receiveLimit * HOLDING_SHARE + HOLDING_EXTRA;
}

/** What the subflows may still hold: their data ahead of order, and mappings of data that is still to come. */
export function roomAhead(connection: ConnectionState): number {
  let room = memoryLimit(connection);
  for (const { tcb, mappings } of connection.subflows) {
    if (tcb.outOfOrder !== null) room -= tcb.outOfOrder.cost;
    if (mappings !== null) room -= mappings.length * MAPPING_COST;
  }
  return room;
}
