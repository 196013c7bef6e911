/**
 * Handover: one path at a time. A backup subflow (the cellular one, marked by the join's flag or MP_PRIO) carries data
 * only when the preferred path has failed (a retransmission timeout) or fades: it holds data and has been silent for
 * several round trips. When the preferred path answers again, data returns to it.
 */
import { fastestWithRoom } from './types.ts';
import type { RoomOf, ScheduledConnection, ScheduledSubflow, Scheduler, SchedulerFactory, SchedulingRequest } from './types.ts';

/** Silence, in smoothed round trips and at least this long, after which a path that holds data counts as fading. */
const FADING_ROUNDS = 4;
const FADING_MINIMUM = 100_000;

/** Whether a subflow waits for acknowledgements longer than it should. */
export function isFading(subflow: ScheduledSubflow, now: number): boolean {
  const { tcb } = subflow;
  if (subflow.stale) return true;
  if (tcb.inFlight + tcb.lostBytes === 0 || tcb.unackedSince === 0) return false;
  const since = Math.max(tcb.lastReceivedAt, tcb.unackedSince);
  return now - since > Math.max(FADING_MINIMUM, FADING_ROUNDS * tcb.srtt);
}

class Handover implements Scheduler {
  readonly name = 'handover';

  select(subflows: readonly ScheduledSubflow[], request: SchedulingRequest, roomOf: RoomOf): ScheduledSubflow | null {
    const primary = subflows.filter((subflow) => !subflow.backup && subflow !== request.avoid);
    const working = primary.filter((subflow) => !isFading(subflow, request.now));
    if (working.length > 0) return fastestWithRoom(working, roomOf);
    const backups = subflows.filter((subflow) => subflow.backup && subflow !== request.avoid && !isFading(subflow, request.now));
    if (backups.length > 0) return fastestWithRoom(backups, roomOf);
    return fastestWithRoom(
      subflows.filter((subflow) => subflow !== request.avoid),
      roomOf,
    );
  }

  /** The preferred path does not acknowledge in time: what it holds goes out on another one as well, so that no byte waits for a timeout. */
  onDoubt(connection: ScheduledConnection, subflow: ScheduledSubflow, now: number): void {
    if (connection.subflows.length > 1) connection.reinject(subflow, now);
  }
}

export const handover: SchedulerFactory = () => new Handover();
