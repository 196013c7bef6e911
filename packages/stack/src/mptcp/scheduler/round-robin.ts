/**
 * Round-robin: subflows take turns, one mapping each (the `roundrobin` module of multipath-tcp.org's kernel with
 * cwnd_limited=1: a subflow whose window is full is passed over).
 */
import { preferred } from './types.ts';
import type { RoomOf, ScheduledSubflow, Scheduler, SchedulerFactory, SchedulingRequest } from './types.ts';

class RoundRobin implements Scheduler {
  readonly name = 'round-robin';
  private last = -1;

  select(subflows: readonly ScheduledSubflow[], request: SchedulingRequest, roomOf: RoomOf): ScheduledSubflow | null {
    const usable = preferred(subflows, request.avoid);
    const next = usable.find((subflow) => subflow.id > this.last && roomOf(subflow) > 0) ?? usable.find((subflow) => roomOf(subflow) > 0) ?? null;
    if (next !== null) this.last = next.id;
    return next;
  }
}

export const roundRobin: SchedulerFactory = () => new RoundRobin();
