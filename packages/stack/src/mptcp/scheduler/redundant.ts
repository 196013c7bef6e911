/**
 * Redundant: every byte goes out on every subflow, each subflow at its own pace, and what is acknowledged meanwhile is
 * skipped (Frömmgen et al., "ReMP TCP", ICC 2016). Costs capacity, gives the lowest latency and no handover gap.
 */
import { fastestWithRoom, preferred } from './types.ts';
import type { RoomOf, ScheduledSubflow, Scheduler, SchedulerFactory, SchedulingRequest } from './types.ts';

class Redundant implements Scheduler {
  readonly name = 'redundant';
  readonly redundant = true;

  select(subflows: readonly ScheduledSubflow[], request: SchedulingRequest, roomOf: RoomOf): ScheduledSubflow | null {
    return fastestWithRoom(preferred(subflows, request.avoid), roomOf);
  }
}

export const redundant: SchedulerFactory = () => new Redundant();
