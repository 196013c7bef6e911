/** Data of any subflow into the application's stream: reordering across subflows (RFC 8684 §3.3.4). */
import { remoteFinReached } from './close.ts';
import { MODE } from './state.ts';
import type { ConnectionState, SubflowState } from './state.ts';
import { insertRun } from '../tcp/reassembly.ts';

/** Data [position, position + length) of the stream, from any subflow. */
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
    connection.outOfOrder ??= [];
    countOutOfOrder(connection, at);
    connection.outOfOrderBytes += insertRun(connection.outOfOrder, bytes, from, stop - at, at);
    return;
  }
  append(connection, bytes, from, stop - at);
  if (connection.outOfOrder !== null) drainOutOfOrder(connection);
  if (connection.remoteFin === connection.dataRcvNxt) remoteFinReached(connection, now);
  if (!connection.readableTold && connection.received.length > 0) {
    connection.readableTold = true;
    connection.host.emit({ type: 'connection-readable', time: now, connection: connection.id });
  }
}

function countOutOfOrder(connection: ConnectionState, position: number): void {
  const runs = connection.outOfOrder!;
  const last = runs[runs.length - 1];
  connection.host.mib(last === undefined || position >= last.end ? 'OFOQueueTail' : 'OFOQueue');
  if (last !== undefined && last.end === position) connection.host.mib('OFOMerge');
}

function append(connection: ConnectionState, bytes: Uint8Array, offset: number, length: number): void {
  connection.dataRcvNxt += length;
  connection.received.append(bytes, offset, length);
}

function drainOutOfOrder(connection: ConnectionState): void {
  const runs = connection.outOfOrder!;
  let used = 0;
  while (used < runs.length && runs[used]!.position <= connection.dataRcvNxt) {
    const run = runs[used]!;
    used++;
    connection.outOfOrderBytes -= run.end - run.position;
    const skip = connection.dataRcvNxt - run.position;
    if (run.end <= connection.dataRcvNxt) {
      connection.duplicateBytes += run.end - run.position;
      continue;
    }
    connection.duplicateBytes += skip;
    append(connection, run.data, skip, run.data.length - skip);
  }
  if (used === runs.length) connection.outOfOrder = null;
  else if (used > 0) runs.splice(0, used);
}
