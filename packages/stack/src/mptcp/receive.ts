/** Payload from subflows to the application's stream: mapping, checksum, reordering across subflows (RFC 8684 §3.3.1, §3.3.4). */
import { dssPseudoHeader, fold, RESET_REASON, sum, sumSlices } from '@subflow/wire';
import { ReceiveQueue } from '../buffers.ts';
import { resetSubflow } from './close.ts';
import { deliverHeld, receiveData } from './data-in.ts';
import { checksumFailed, unmappedData } from './fallback.ts';
import { mappingAt, VOID } from './mapping.ts';
import { MODE } from './state.ts';
import type { ReceivedMapping, SubflowState } from './state.ts';
import { memoryLimit } from './window.ts';

/** In-order payload of one subflow. */
// oxlint-disable-next-line max-params -- a call for every packet: an object for its arguments costs as much as the work
export function deliverFromSubflow(subflow: SubflowState, bytes: Uint8Array, offset: number, length: number, position: number, now: number): void {
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
      const next = subflow.mappings?.first ?? null;
      const size = next === null ? left : Math.min(left, next.position - at);
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
// oxlint-disable-next-line max-params -- a call for every packet: an object for its arguments costs as much as the work
function takeChecksummed(subflow: SubflowState, mapping: ReceivedMapping, bytes: Uint8Array, offset: number, length: number, now: number): void {
  const { connection } = subflow;
  const whole = mapping.end - mapping.position;
  const header = dssPseudoHeader(mapping.dsnHigh, mapping.dsnLow, (mapping.position - subflow.receiveOffset) | 0, mapping.dataLength) + mapping.checksum;
  if (subflow.pendingMapping === null && length === whole) {
    // All of it in one segment: nothing is copied before it is known to be right.
    if (mapping.checksum >= 0 && fold(sum(bytes, offset, length, header)) === 0xffff) {
      receiveData(connection, subflow, bytes, offset, length, mapping.dataPosition, now);
    } else if (checksumFailed(subflow, mapping, now)) {
      receiveData(connection, subflow, bytes, offset, length, mapping.position + connection.receiveDelta, now);
    }
    return;
  }
  const pending = (subflow.pendingMapping ??= { mapping, received: new ReceiveQueue(connection.host.chunks) });
  const { received } = pending;
  received.append(bytes, offset, length);
  if (received.length > memoryLimit(connection)) {
    // A mapping that no window of ours could hold: its sender does not keep to it.
    connection.host.count('mptcp-mapping-beyond-buffer');
    resetSubflow(subflow, RESET_REASON.resources, true, now);
    return;
  }
  if (received.length < whole) return;
  subflow.pendingMapping = null;
  const chunks: Uint8Array[] = [];
  received.each((chunk) => chunks.push(chunk));
  // A mapping without the negotiated checksum counts as one with a wrong checksum. After fallback, on the only subflow, what
  // is here is the stream all the same (RFC 8684 §3.7).
  const right = mapping.checksum >= 0 && fold(sumSlices(chunks, chunks.length, header)) === 0xffff;
  if (right || checksumFailed(subflow, mapping, now)) {
    deliverHeld(subflow, received, right ? mapping.dataPosition : mapping.position + connection.receiveDelta, now);
  } else {
    received.clear();
  }
}
