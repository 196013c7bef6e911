/** Sending data again on another subflow (RFC 8684 §3.3.6). */
import { IntervalList } from '../intervals.ts';
import { Mapping } from './mapping.ts';
import type { ConnectionState, ReinjectionRange, SubflowState } from './state.ts';
import { wakeSenders } from './wake.ts';

export type ReinjectionCause = 'timeout' | 'closed' | 'data-timeout';

/** Queues everything a subflow has not had acknowledged, as far as it is not acknowledged at the data level. */
export function reinjectSubflow(subflow: SubflowState, cause: ReinjectionCause, now: number): void {
  const { connection, tcb } = subflow;
  for (const record of tcb.queue) {
    if (!(record.tag instanceof Mapping)) continue;
    const start = record.tag.dataPosition + (record.position - record.tag.position);
    addRange(connection, start, start + (record.end - record.position), cause === 'closed' ? null : subflow);
  }
  if (connection.reinjections === null) return;
  wakeSenders(connection);
  const { first, last } = connection.reinjections;
  if (first === null || last === null) return;
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
  return connection.reinjections !== null || headHeld(connection);
}

/** Nothing that is queued waits for another subflow any more. */
export function reinjectAnywhere(connection: ConnectionState): void {
  const { reinjections } = connection;
  if (reinjections === null) return;
  for (const range of reinjections) range.avoid = null;
}

/** Whether a subflow still has the first unacknowledged byte to deliver. */
export function headHeld(connection: ConnectionState): boolean {
  const head = connection.dataUna;
  for (const subflow of connection.subflows) {
    for (const record of subflow.tcb.queue) {
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
  for (let first = ranges.first; first !== null; first = ranges.first) {
    if (first.position < connection.dataUna) first.position = Math.min(connection.dataUna, first.end);
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
  const ranges = (connection.reinjections ??= new IntervalList<ReinjectionRange>());
  while (position < end) {
    const next = ranges.after(position);
    if (next !== null && next.position <= position) {
      // Queued: on any subflow, when one of the two who want it does not care.
      if (avoid === null) next.avoid = null;
      position = next.end;
      continue;
    }
    const gapEnd = next === null ? end : Math.min(end, next.position);
    const before = ranges.before(position);
    if (before !== null && before.end === position && before.avoid === avoid) before.end = gapEnd;
    else ranges.insert({ position, end: gapEnd, avoid });
    position = gapEnd;
  }
}
