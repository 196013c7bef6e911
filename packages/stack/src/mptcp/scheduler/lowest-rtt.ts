/**
 * Lowest RTT first (the default of the Linux kernels): among the subflows with room, the one with the smallest smoothed
 * RTT. Backup subflows get data only while no other subflow works (RFC 8684 §3.3.8).
 */
import type { Subflow } from '../subflow.ts';
import type { Scheduler, SchedulerFactory, SchedulingRequest } from './types.ts';

class LowestRtt implements Scheduler {
  readonly name = 'lowest-rtt';

  select(subflows: readonly Subflow[], request: SchedulingRequest, roomOf: (subflow: Subflow) => number): Subflow | null {
    let best: Subflow | null = null;
    let regularWorks = false;
    for (const subflow of subflows) {
      if (subflow.backup || subflow.stale || subflow === request.avoid) continue;
      regularWorks = true;
      if (roomOf(subflow) > 0 && (best === null || subflow.tcb.srtt < best.tcb.srtt)) best = subflow;
    }
    if (best !== null || regularWorks) return best;
    for (const subflow of subflows) {
      if (subflow === request.avoid || (subflow.stale && !subflow.backup && subflows.length > 1)) continue;
      if (roomOf(subflow) > 0 && (best === null || subflow.tcb.srtt < best.tcb.srtt)) best = subflow;
    }
    return best;
  }
}

export const lowestRtt: SchedulerFactory = () => new LowestRtt();
