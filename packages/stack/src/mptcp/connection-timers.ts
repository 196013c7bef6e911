/** The timers of a connection: data-level retransmission, DATA_FIN, announcements, silence, path manager, close. */
import { announcementDeadline, repeatAnnouncements } from './address.ts';
import { abortConnection, closed, repeatFastclose } from './close.ts';
import { armDataRetransmission } from './data-ack.ts';
import { sendDataFin } from './data-fin.ts';
import { dataLevelStalled } from './fallback.ts';
import { checkSilence, fireSubflowTimers, subflowDeadline } from './liveness.ts';
import { headHeld, reinjectAnywhere, REINJECTED_HEAD, reinjectHead } from './reinjection.ts';
import { PHASE } from './state.ts';
import type { ConnectionState } from './state.ts';
import { wakeSenders } from './wake.ts';
import { abort } from '../tcp/close.ts';
import { earlier } from '../tcp/timers.ts';

export function connectionDeadline(connection: ConnectionState): number {
  let at = earlier(connection.dataRetransmitAt, connection.finAt);
  at = earlier(at, connection.closeAt);
  if (connection.phase === PHASE.closed) return earlier(connection.closeAt, connection.fastcloseAt);
  at = earlier(at, connection.silenceAt);
  at = earlier(at, announcementDeadline(connection));
  for (const subflow of connection.subflows) at = earlier(at, subflowDeadline(subflow));
  if (connection.pathManager !== null) at = earlier(at, connection.pathManager.deadline?.() ?? 0);
  return at;
}

export function fireConnectionTimers(connection: ConnectionState, now: number): void {
  if (due(connection.closeAt, now)) {
    connection.closeAt = 0;
    for (const subflow of connection.subflows.slice()) abort(subflow.tcb, 'timeout', now);
    closed(connection, connection.closeReason ?? 'timeout', now);
    return;
  }
  if (due(connection.fastcloseAt, now)) repeatFastclose(connection, now);
  if (connection.phase === PHASE.closed) return;
  if (due(connection.finAt, now)) {
    // Data before it has limits of its own, and a peer may keep its window closed for as long as it answers (RFC 9293 §3.8.6.1).
    const alone = connection.dataUna === connection.sendBuffer.end;
    if (alone && connection.finTries > connection.host.mptcp.maxDataRetransmits) {
      abortConnection(connection, 'timeout', now);
      return;
    }
    sendDataFin(connection, now);
  }
  if (due(connection.dataRetransmitAt, now)) dataTimeout(connection, now);
  if (connection.closed) return;
  repeatAnnouncements(connection, now);
  for (const subflow of connection.subflows.slice()) fireSubflowTimers(subflow, now);
  if (connection.closed) return;
  if (due(connection.silenceAt, now)) checkSilence(connection, now);
  if (connection.closed) return;
  const manager = connection.pathManager;
  if (manager !== null && due(manager.deadline?.() ?? 0, now)) manager.onTimer?.(connection, now);
}

function due(at: number, now: number): boolean {
  return at !== 0 && at <= now;
}

/** No data-level progress for a while (RFC 8684 §3.3.6). */
function dataTimeout(connection: ConnectionState, now: number): void {
  connection.dataRetransmitAt = 0;
  const held = headHeld(connection);
  // What a subflow is still sending counts against that subflow's limit, which a closed window does not reach.
  if (!held && connection.subflows.length > 0 && connection.dataTimeouts >= connection.host.mptcp.maxDataRetransmits) {
    abortConnection(connection, 'timeout', now);
    return;
  }
  if (connection.subflows.length > 0) connection.dataTimeouts++;
  if (!held && connection.reinjections !== null) {
    // The subflow that was to be avoided has delivered its copy for nothing: where it is the only one, it sends another.
    reinjectAnywhere(connection);
    wakeSenders(connection);
  } else if (!held) {
    if (dataLevelStalled(connection, now)) return;
    connection.dataRecoveryPoint = connection.dataNxt;
    reinjectHead(connection, REINJECTED_HEAD, now);
  }
  armDataRetransmission(connection, now);
}
