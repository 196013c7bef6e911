/**
 * Lowest RTT first (the default of the Linux kernels): among the subflows with room, the one with the smallest smoothed
 * RTT. Backup subflows get data only while no other subflow works (RFC 8684 §3.3.8).
 */
import { fastestWithRoom, preferred } from './types.ts';
import type { RoomOf, ScheduledSubflow, Scheduler, SchedulerFactory, SchedulingRequest } from './types.ts';

class LowestRtt implements Scheduler {
  readonly name = 'lowest-rtt';

  select(subflows: readonly ScheduledSubflow[], request: SchedulingRequest, roomOf: RoomOf): ScheduledSubflow | null {
    return fastestWithRoom(preferred(subflows, request.avoid), roomOf);
  }
}

export const lowestRtt: SchedulerFactory = () => new LowestRtt();
