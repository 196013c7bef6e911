/**
 * Interactive: the lowest latency for small messages. Data goes where it is expected to arrive first, counting what
 * already waits on a path; when the best path turns doubtful, what it holds, if it is little, is sent again on the
 * next best one at once.
 */
import type { Connection } from '../connection.ts';
import type { Subflow } from '../subflow.ts';
import { reinjectSubflow } from '../reinjection.ts';
import { preferred } from './types.ts';
import type { RoomOf, Scheduler, SchedulerFactory, SchedulingRequest } from './types.ts';

/** "Small": what fits into an initial window. More than that is bulk, for which a copy would only cost capacity. */
const SMALL = 14_600;

class Interactive implements Scheduler {
  readonly name = 'interactive';

  select(subflows: readonly Subflow[], request: SchedulingRequest, roomOf: RoomOf): Subflow | null {
    let best: Subflow | null = null;
    let bestArrival = Number.POSITIVE_INFINITY;
    let bestWaits = false;
    for (const subflow of preferred(subflows, request.avoid)) {
      const room = roomOf(subflow);
      const arrival = expectedArrival(subflow, request.length, room > 0);
      if (arrival >= bestArrival) continue;
      best = subflow;
      bestArrival = arrival;
      bestWaits = room <= 0;
    }
    // Waiting for the faster path beats using the slower one now.
    return bestWaits ? null : best;
  }

  onDoubt(connection: Connection, subflow: Subflow, now: number): void {
    const { tcb } = subflow;
    if (connection.subflows.length > 1 && tcb.inFlight + tcb.lostBytes <= SMALL) reinjectSubflow(subflow, 'timeout', now);
  }
}

/** Time until `length` bytes handed over now have arrived: half a round trip, and a round for each window they fill. */
function expectedArrival(subflow: Subflow, length: number, hasRoom: boolean): number {
  const { srtt, rttvar, cwnd } = subflow.tcb;
  const rounds = Math.floor(Math.min(length, SMALL) / cwnd);
  return srtt / 2 + rttvar + rounds * srtt + (hasRoom ? 0 : srtt / 2);
}

export const interactive: SchedulerFactory = () => new Interactive();
