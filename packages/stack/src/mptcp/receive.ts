/** Payload from subflows to the application's stream: mapping, checksum, reordering across subflows (RFC 8684 §3.3.1, §3.3.4). */
import { addOdd, dssPseudoHeader, fold, sum } from '@subflow/wire';
import { insertRun } from '../tcp/reassembly.ts';
import { MODE } from './connection.ts';
import type { Connection } from './connection.ts';
import { mappingAt, VOID } from './mapping.ts';
import type { ReceivedMapping } from './mapping.ts';
import type { Subflow } from './subflow.ts';
import { remoteFinReached } from './close.ts';
import { checksumFailed, unmappedData } from './fallback.ts';

/** Payload of a checksummed mapping, held until the mapping is complete. */
export interface PendingMapping {
  mapping: ReceivedMapping;
  parts: Uint8Array[];
  received: number;
}

/** In-order payload of one subflow. */
export function deliverFromSubflow(subflow: Subflow, bytes: Uint8Array, offset: number, length: number, position: number, now: number): void {
  const { connection } = subflow;
  let at = position;
  let from = offset;
  let left = length;
  subflow.bytesReceived += length;
  while (left > 0) {
    if (connection.mode === MODE.tcp) {
      const late = subflow.peerMaps ? mappingAt(subflow, at) : null;
      const size = late === null ? left : Math.min(left, late.end - at);
      if (late !== null) connection.receiveDelta = late.dataPosition - late.position;
      receiveData(connection, subflow, bytes, from, size, at + connection.receiveDelta, now);
      at += size;
      from += size;
      left -= size;
      continue;
    }
    if (subflow.closed) return;
    const mapping = mappingAt(subflow, at);
    if (mapping === null) {
      const next = subflow.mappings?.[0];
      const size = next === undefined ? left : Math.min(left, next.position - at);
      if (!unmappedData(subflow, at, now)) return;
      if ((connection.mode as string) === MODE.tcp) continue;
      at += size;
      from += size;
      left -= size;
      continue;
    }
    const size = Math.min(left, mapping.end - at);
    if (mapping.dataPosition === VOID) {
      at += size;
      from += size;
      left -= size;
      continue;
    }
    if (connection.checksum) takeChecksummed(subflow, mapping, bytes, from, size, now);
    else receiveData(connection, subflow, bytes, from, size, mapping.dataPosition + (at - mapping.position), now);
    at += size;
    from += size;
    left -= size;
  }
}

/** Nothing of a mapping may be used before its checksum is verified (RFC 8684 §3.3.1, §3.7). */
function takeChecksummed(subflow: Subflow, mapping: ReceivedMapping, bytes: Uint8Array, offset: number, length: number, now: number): void {
  subflow.pendingMapping ??= { mapping, parts: [], received: 0 };
  const pending = subflow.pendingMapping;
  pending.received += length;
  const whole = mapping.end - mapping.position;
  const single = pending.parts.length === 0 && length === whole;
  if (!single) pending.parts.push(bytes.slice(offset, offset + length));
  if (pending.received < whole) return;
  subflow.pendingMapping = null;
  let total = dssPseudoHeader(mapping.dsnHigh, mapping.dsnLow, (mapping.position - subflow.receiveOffset) | 0, mapping.dataLength) + mapping.checksum;
  if (single) {
    total += sum(bytes, offset, length);
  } else {
    let odd = false;
    for (const part of pending.parts) {
      const piece = sum(part, 0, part.length);
      total = odd ? addOdd(total, piece) : total + piece;
      if ((part.length & 1) !== 0) odd = !odd;
    }
  }
  const { connection } = subflow;
  // A mapping without the negotiated checksum counts as one with a wrong checksum.
  if (mapping.checksum < 0 || fold(total) !== 0xffff) {
    const payload = single ? [bytes.slice(offset, offset + length)] : pending.parts;
    if (!checksumFailed(subflow, mapping, now)) return;
    // Fallen back on the only subflow: what is here is the stream now (RFC 8684 §3.7).
    let at = mapping.position + connection.receiveDelta;
    for (const part of payload) {
      receiveData(connection, subflow, part, 0, part.length, at, now);
      at += part.length;
    }
    return;
  }
  if (single) {
    receiveData(connection, subflow, bytes, offset, length, mapping.dataPosition, now);
    return;
  }
  let at = mapping.dataPosition;
  for (const part of pending.parts) {
    receiveData(connection, subflow, part, 0, part.length, at, now);
    at += part.length;
  }
}

/** Data [position, position + length) of the stream, from any subflow. */
export function receiveData(connection: Connection, subflow: Subflow, bytes: Uint8Array, offset: number, length: number, position: number, now: number): void {
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

function countOutOfOrder(connection: Connection, position: number): void {
  const runs = connection.outOfOrder!;
  const last = runs[runs.length - 1];
  connection.host.mib(last === undefined || position >= last.end ? 'OFOQueueTail' : 'OFOQueue');
  if (last !== undefined && last.end === position) connection.host.mib('OFOMerge');
}

function append(connection: Connection, bytes: Uint8Array, offset: number, length: number): void {
  connection.dataRcvNxt += length;
  connection.received.append(bytes, offset, length);
}

function drainOutOfOrder(connection: Connection): void {
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
