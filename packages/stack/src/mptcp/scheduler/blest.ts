/**
 * BLEST, blocking estimation (Ferlin, Alay, Mehani and Boreli, IFIP Networking 2016): the slower subflow is used only
 * when that will not block the faster one by filling the shared window before its data arrives.
 */
import { fastest, fastestWithRoom, preferred } from './types.ts';
import type { RoomOf, ScheduledSubflow, Scheduler, SchedulerFactory, SchedulingRequest } from './types.ts';

/** Bounds of lambda, and its step per round trip, as in the authors' kernel module (there scaled by 10). */
const LAMBDA_START = 1.2;
const LAMBDA_MAX = 1.3;
const LAMBDA_MIN = 1;
const LAMBDA_STEP = 0.01;

class Blest implements Scheduler {
  readonly name = 'blest';
  private lambda = LAMBDA_START;
  private adjustedAt = 0;
  private blocked = false;

  select(subflows: readonly ScheduledSubflow[], request: SchedulingRequest, roomOf: RoomOf): ScheduledSubflow | null {
    const usable = preferred(subflows, request.avoid);
    const best = fastest(usable);
    const chosen = fastestWithRoom(usable, roomOf);
    if (best === null || chosen === null || chosen === best || best.tcb.srtt === 0 || request.window === Number.POSITIVE_INFINITY) return chosen;
    this.adapt(best, request);
    return this.wouldBlock(best, chosen, request) ? null : chosen;
  }

  /** Bytes the fast subflow sends while one round trip of the slow one passes, its window growing by a segment each time. */
  private wouldBlock(fast: ScheduledSubflow, slow: ScheduledSubflow, request: SchedulingRequest): boolean {
    const rounds = slow.tcb.srtt / fast.tcb.srtt;
    const { cwnd, mss } = fast.tcb;
    const bytes = (cwnd + (mss * (rounds - 1)) / 2) * rounds;
    const left = request.window - slow.tcb.mss;
    const blocks = bytes * this.lambda > left;
    if (blocks && left < bytes) this.blocked = true;
    return blocks;
  }

  private adapt(fast: ScheduledSubflow, request: SchedulingRequest): void {
    if (request.now - this.adjustedAt < fast.tcb.srtt) return;
    this.lambda = Math.min(LAMBDA_MAX, Math.max(LAMBDA_MIN, this.lambda + (this.blocked ? LAMBDA_STEP : -LAMBDA_STEP)));
    this.blocked = false;
    this.adjustedAt = request.now;
  }
}

export const blest: SchedulerFactory = () => new Blest();
