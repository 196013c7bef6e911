/** Payload from subflows to the application's stream: mapping, checksum, reordering across subflows (RFC 8684 §3.3.1, §3.3.4). */
import { dssPseudoHeader, fold, sum, sumSlices } from '@subflow/wire';
import { receiveData } from './data-in.ts';
import { checksumFailed, unmappedData } from './fallback.ts';
import { mappingAt, VOID } from './mapping.ts';
import { MODE } from './state.ts';
import type { ReceivedMapping, SubflowState } from './state.ts';

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
  subflow.pendingMapping ??= { mapping, parts: [], received: 0 };
  const pending = subflow.pendingMapping;
  pending.received += length;
  const whole = mapping.end - mapping.position;
  const single = pending.parts.length === 0 && length === whole;
  if (!single) pending.parts.push(bytes.slice(offset, offset + length));
  if (pending.received < whole) return;
  subflow.pendingMapping = null;
  const header = dssPseudoHeader(mapping.dsnHigh, mapping.dsnLow, (mapping.position - subflow.receiveOffset) | 0, mapping.dataLength) + mapping.checksum;
  const total = single ? sum(bytes, offset, length, header) : sumSlices(pending.parts, pending.parts.length, header);
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
