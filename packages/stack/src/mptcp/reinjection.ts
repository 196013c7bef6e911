/** Sending data again on another subflow (RFC 8684 §3.3.6). */
import { Mapping } from './mapping.ts';
import type { ConnectionState, ReinjectionRange, SubflowState } from './state.ts';
import { wakeSenders } from './wake.ts';

export type ReinjectionCause = 'timeout' | 'closed' | 'data-timeout';

/** Queues everything a subflow has not had acknowledged, as far as it is not acknowledged at the data level. */
export function reinjectSubflow(subflow: SubflowState, cause: ReinjectionCause, now: number): void {
  const { connection, tcb } = subflow;
  for (let record = tcb.head; record !== null; record = record.next) {
    if (!(record.tag instanceof Mapping)) continue;
    const start = record.tag.dataPosition + (record.position - record.tag.position);
    addRange(connection, start, start + (record.end - record.position), cause === 'closed' ? null : subflow);
  }
  if (connection.reinjections === null) return;
  wakeSenders(connection);
  const first = connection.reinjections[0]!;
  const last = connection.reinjections[connection.reinjections.length - 1]!;
  connection.host.emit({
    type: 'reinjection',
    time: now,
    connection: connection.id,
    from: subflow.id,
    position: first.position,
    length: last.end - first.position,
    cause,
  });
}

/** Queues data that no subflow holds any more: acknowledged below, never acknowledged at the data level. */
export function reinjectHead(connection: ConnectionState, length: number, now: number): void {
  const end = Math.min(connection.dataUna + length, connection.dataNxt);
  addRange(connection, connection.dataUna, end, null);
  if (connection.reinjections === null) return;
  connection.host.emit({
    type: 'reinjection',
    time: now,
    connection: connection.id,
    from: -1,
    position: connection.dataUna,
    length: end - connection.dataUna,
    cause: 'data-timeout',
  });
  wakeSenders(connection);
}

/** Bytes sent again at the head when nobody holds them. */
export const REINJECTED_HEAD = 65536;

/** Whether some subflow still works on the first unacknowledged byte. */
export function headInFlight(connection: ConnectionState): boolean {
  const head = connection.dataUna;
  if (connection.reinjections !== null) return true;
  for (const subflow of connection.subflows) {
    for (let record = subflow.tcb.head; record !== null; record = record.next) {
      if (!(record.tag instanceof Mapping)) continue;
      const start = record.tag.dataPosition + (record.position - record.tag.position);
      if (start <= head && head < start + (record.end - record.position)) return true;
    }
  }
  return false;
}

/** The next range to send again, cut to what is still unacknowledged; null when there is none. */
export function nextReinjection(connection: ConnectionState): ReinjectionRange | null {
  const ranges = connection.reinjections;
  if (ranges === null) return null;
  while (ranges.length > 0) {
    const first = ranges[0]!;
    if (first.position < connection.dataUna) first.position = connection.dataUna;
    if (first.avoid !== null && first.avoid.closed) first.avoid = null;
    if (first.position < first.end) return first;
    ranges.shift();
  }
  connection.reinjections = null;
  return null;
}

/** Adds a range in order, without what is queued already. */
function addRange(connection: ConnectionState, start: number, end: number, avoid: SubflowState | null): void {
  let position = Math.max(start, connection.dataUna);
  if (position >= end) return;
  connection.reinjections ??= [];
  const ranges = connection.reinjections;
  let i = 0;
  while (i < ranges.length && position < end) {
    const range = ranges[i]!;
    if (range.end <= position) {
      i++;
      continue;
    }
    if (range.position > position) {
      const gapEnd = Math.min(end, range.position);
      ranges.splice(i, 0, { position, end: gapEnd, avoid });
      position = gapEnd;
    } else {
      if (avoid === null) range.avoid = null;
      position = range.end;
    }
    i++;
  }
  if (position < end) {
    const last = ranges[ranges.length - 1];
    if (last !== undefined && last.end === position && last.avoid === avoid) last.end = end;
    else ranges.push({ position, end, avoid });
  }
}
