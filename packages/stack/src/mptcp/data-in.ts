/** Data of any subflow into the application's stream: reordering across subflows (RFC 8684 §3.3.4). */
import type { ReceiveQueue } from '../buffers.ts';
import { remoteFinReached } from './close.ts';
import { MODE } from './state.ts';
import type { ConnectionState, SubflowState } from './state.ts';
import { memoryLimit } from './window.ts';
import { OutOfOrder } from '../tcp/out-of-order.ts';

/** Data [position, position + length) of the stream, from any subflow. */
// oxlint-disable-next-line max-params -- a call for every packet: an object for its arguments costs as much as the work
export function receiveData(
  connection: ConnectionState,
  subflow: SubflowState,
  bytes: Uint8Array,
  offset: number,
  length: number,
  position: number,
  now: number,
): void {
  const end = position + length;
  if (connection.host.traceData) connection.host.emit({ type: 'data-received', time: now, connection: connection.id, subflow: subflow.id, position, length });
  if (end <= connection.dataRcvNxt) {
    connection.duplicateBytes += length;
    if (connection.mode === MODE.mptcp) connection.host.mib('DuplicateData');
    return;
  }
  let at = position;
  let from = offset;
  if (at < connection.dataRcvNxt) {
    const skip = connection.dataRcvNxt - at;
    connection.duplicateBytes += skip;
    at += skip;
    from += skip;
  }
  let stop = end;
  if (connection.remoteFin >= 0 && stop > connection.remoteFin) stop = connection.remoteFin;
  // Beyond the window: the sender will have to send it again (RFC 8684 §3.3.2 allows to drop after subflow ACK).
  // Rounding of the window field lets a peer exceed the edge by less than the scaling unit.
  const edge = connection.dataRcvEdge + 16384;
  if (stop > edge) {
    connection.host.count('mptcp-data-beyond-window');
    connection.host.mib('NoDSSInWindow');
    stop = edge;
  }
  if (stop <= at) return;
  if (at > connection.dataRcvNxt) {
    holdAhead(connection, bytes, from, stop - at, at);
    return;
  }
  append(connection, bytes, from, stop - at);
  if (connection.outOfOrder !== null) drainOutOfOrder(connection, connection.outOfOrder);
  if (connection.remoteFin === connection.dataRcvNxt) remoteFinReached(connection, now);
  if (!connection.readableTold && connection.received.length > 0) {
    connection.readableTold = true;
    connection.host.emit({ type: 'connection-readable', time: now, connection: connection.id });
  }
}

/** Data that waits for earlier data of another subflow: bounded by what it costs, as everything a peer can make us hold. */
function holdAhead(connection: ConnectionState, bytes: Uint8Array, offset: number, length: number, position: number): void {
  const { host } = connection;
  const held = (connection.outOfOrder ??= new OutOfOrder(host.chunks, connection.receiveLimit));
  if (held.cost + held.costOf(position, length) > memoryLimit(connection)) {
    // The subflow has acknowledged it: it is sent again at the data level (RFC 8684 §3.3.2).
    host.count('mptcp-out-of-order-full');
    return;
  }
  const last = held.last;
  host.mib(last === null || position >= last.end ? 'OFOQueueTail' : 'OFOQueue');
  if (last !== null && last.end === position) host.mib('OFOMerge');
  held.insert(bytes, offset, length, position);
}

function append(connection: ConnectionState, bytes: Uint8Array, offset: number, length: number): void {
  connection.dataRcvNxt += length;
  connection.received.append(bytes, offset, length);
}

function drainOutOfOrder(connection: ConnectionState, held: OutOfOrder): void {
  const before = held.bytes;
  held.release(connection.dataRcvNxt);
  connection.duplicateBytes += before - held.bytes;
  for (let piece = held.peek(connection.dataRcvNxt); piece !== null; piece = held.peek(connection.dataRcvNxt)) {
    append(connection, piece, 0, piece.length);
    held.release(connection.dataRcvNxt);
  }
  if (held.first === null) connection.outOfOrder = null;
}

/** Hands on what was held of a mapping, and gives its memory back. */
export function deliverHeld(subflow: SubflowState, held: ReceiveQueue, position: number, now: number): void {
  let at = position;
  for (let chunk = held.peek(); chunk !== null; chunk = held.peek()) {
    const { length } = chunk;
    receiveData(subflow.connection, subflow, chunk, 0, length, at, now);
    at += length;
    held.consume(length);
  }
}
