/** Spreading data over subflows: scheduling, Nagle at the connection level, the shared window (RFC 8684 §3.3.4, §3.3.5). */
import { assign, noteReinjected, roomFor } from './assign.ts';
import { sendDataFin } from './data-fin.ts';
import { Mapping } from './mapping.ts';
import { unblockWindow } from './opportunistic.ts';
import { nextReinjection } from './reinjection.ts';
import type { ScheduledSubflow } from './scheduler/types.ts';
import { MODE, PHASE } from './state.ts';
import type { ConnectionState, SchedulingRound, SubflowState } from './state.ts';
import { isHeldBack, maySend, windowProber } from './wake.ts';
import { closeSend } from '../tcp/close.ts';

/** Hands waiting data to subflows until nothing waits or no subflow has room. */
export function schedule(connection: ConnectionState, now: number): void {
  if (connection.phase === PHASE.opening || connection.phase === PHASE.closed) return;
  if (connection.reinjections !== null) scheduleReinjections(connection, now);
  const allAssigned = scheduleNew(connection, now);
  if (connection.scheduler?.redundant === true && connection.mode === MODE.mptcp) scheduleCopies(connection, now);
  if (!allAssigned) return;
  // The send buffer is full of what one subflow holds up: the same blocking, seen from the other side.
  if (connection.wantsWritable && connection.mode === MODE.mptcp && connection.subflows.length > 1) unblockWindow(connection, now);
  if (connection.sendClosed && !connection.finSent) {
    connection.finSent = true;
    if (connection.mode === MODE.mptcp) sendDataFin(connection, now);
    else for (const subflow of connection.subflows) closeSend(subflow.tcb, now);
  }
}

/** Assigns what waits; returns whether nothing is left. */
function scheduleNew(connection: ConnectionState, now: number): boolean {
  while (connection.dataNxt < connection.sendBuffer.end) {
    const waiting = connection.sendBuffer.end - connection.dataNxt;
    const window = connection.mode === MODE.mptcp ? connection.dataWndEdge - connection.dataNxt : waiting;
    const length = Math.min(waiting, window);
    if (length <= 0 || (length < waiting && connection.mode === MODE.mptcp && isHeldBack(connection))) {
      waitForWindow(connection);
      if (connection.mode === MODE.mptcp && connection.subflows.length > 1) unblockWindow(connection, now);
      return false;
    }
    const round = roundOf(connection, length, now);
    round.window = window;
    round.held = length === waiting && !connection.noDelay && !connection.sendClosed && connection.dataNxt > connection.dataUna;
    const subflow = select(connection, round);
    if (subflow === null) return false;
    // Copies first: a subflow that took new data would count everything before as copied.
    if (connection.scheduler?.redundant === true && subflow.copied < connection.dataNxt && connection.mode === MODE.mptcp) {
      const { copied } = subflow;
      scheduleCopies(connection, now);
      // They may have taken the room.
      if (subflow.copied > copied) continue;
    }
    const taken = assign(connection, subflow, connection.dataNxt, length, now);
    connection.dataNxt += taken;
    subflow.copied = connection.dataNxt;
  }
  return true;
}

function scheduleReinjections(connection: ConnectionState, now: number): void {
  for (;;) {
    const range = nextReinjection(connection);
    if (range === null) return;
    const length = range.end - range.position;
    const round = roundOf(connection, length, now);
    round.avoid = range.avoid;
    const subflow = select(connection, round);
    if (subflow === null) return;
    const taken = assign(connection, subflow, range.position, length, now);
    range.position += taken;
    noteReinjected(connection, subflow, taken);
  }
}

/** Redundant scheduling: every subflow works through the stream at its own pace, skipping what is acknowledged. */
function scheduleCopies(connection: ConnectionState, now: number): void {
  for (const subflow of connection.subflows) {
    if (!maySend(subflow) || subflow.stale) continue;
    for (;;) {
      const position = Math.max(subflow.copied, connection.dataUna);
      const length = connection.dataNxt - position;
      if (length <= 0) break;
      if (roomFor(subflow, length, false) <= 0) break;
      const taken = assign(connection, subflow, position, length, now);
      subflow.copied = position + taken;
      noteReinjected(connection, subflow, taken);
    }
  }
}

function roundOf(connection: ConnectionState, length: number, now: number): SchedulingRound {
  const round = (connection.round ??= new Round());
  round.length = length;
  round.avoid = null;
  round.window = Number.POSITIVE_INFINITY;
  round.now = now;
  round.held = false;
  return round;
}

class Round implements SchedulingRound {
  length = 0;
  avoid: SubflowState | null = null;
  window = 0;
  now = 0;
  held = false;
  // One closure for the life of the connection: a fresh one for each question costs as much as a small packet.
  readonly roomOf = (subflow: ScheduledSubflow): number => roomFor(subflow as SubflowState, this.length, this.held);
}

function select(connection: ConnectionState, round: SchedulingRound): SubflowState | null {
  const { subflows } = connection;
  if (connection.mode === MODE.tcp) {
    const only = subflows[0];
    return only !== undefined && maySend(only) && roomFor(only, round.length, round.held) > 0 ? only : null;
  }
  let usable: readonly SubflowState[] = subflows;
  for (const subflow of subflows) {
    if (maySend(subflow)) continue;
    usable = subflows.filter(maySend);
    break;
  }
  // A scheduler picks among those it is given.
  return connection.scheduler === null ? null : (connection.scheduler.select(usable, round, round.roomOf) as SubflowState | null);
}

/** What waits is probed for only when nothing is out at the data level whose acknowledgement could open the window: one subflow does it. */
function waitForWindow(connection: ConnectionState): void {
  if (connection.dataNxt > connection.dataUna) return;
  const prober = windowProber(connection);
  if (prober === null || prober.tcb.persistAt !== 0) return;
  connection.host.mib('WinProbe');
  connection.host.wake(prober.tcb);
}

/**
 * The lowest data position that may still be sent: what is not acknowledged, and what a subflow keeps for its own
 * retransmissions although the data arrived by another one. 0 after fallback, where records have no mappings.
 */
export function lowestReference(connection: ConnectionState): number {
  let lowest = connection.dataUna;
  for (const { tcb } of connection.subflows) {
    for (const record of tcb.queue) {
      if (record.slices.length === 0) continue;
      if (!(record.tag instanceof Mapping)) return 0;
      if (record.tag.dataPosition < lowest) lowest = record.tag.dataPosition;
    }
  }
  return lowest;
}
