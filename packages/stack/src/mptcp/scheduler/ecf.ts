/**
 * ECF, earliest completion first (Lim, Nahum, Towsley and Gibbens, CoNEXT 2017): when the fastest subflow is full,
 * waits for it if it would finish the waiting data sooner than the slower one could.
 */
import { fastest, fastestWithRoom, preferred } from './types.ts';
import type { RoomOf, ScheduledSubflow, Scheduler, SchedulerFactory, SchedulingRequest } from './types.ts';

/** Hysteresis: having decided to wait, wait a little longer than the first comparison asked for (the paper's beta). */
const BETA = 0.25;

class Ecf implements Scheduler {
  readonly name = 'ecf';
  private waiting = false;

  select(subflows: readonly ScheduledSubflow[], request: SchedulingRequest, roomOf: RoomOf): ScheduledSubflow | null {
    const usable = preferred(subflows, request.avoid);
    const best = fastest(usable);
    const chosen = fastestWithRoom(usable, roomOf);
    if (best === null || chosen === null || chosen === best || best.tcb.srtt === 0) {
      if (chosen === best) this.waiting = false;
      return chosen;
    }
    const fast = best.tcb;
    const slow = chosen.tcb;
    const margin = Math.max(fast.rttvar, slow.rttvar);
    const rounds = 1 + request.length / fast.cwnd;
    if (rounds * fast.srtt < (1 + (this.waiting ? BETA : 0)) * (slow.srtt + margin)) {
      const slowRounds = Math.max(1, request.length / slow.cwnd);
      if (slowRounds * slow.srtt >= 2 * fast.srtt + margin) {
        this.waiting = true;
        return null;
      }
    } else {
      this.waiting = false;
    }
    return chosen;
  }
}

export const ecf: SchedulerFactory = () => new Ecf();
