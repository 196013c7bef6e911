/** BALIA, balanced linked adaptation (Peng, Walid, Hwang and Low, IEEE/ACM ToN 2016; draft-walid-mptcp-congestion-control-04). */
import { Growth } from './group.ts';
import type { CoupledGroup } from './group.ts';
import type { CongestionControl, CongestionView } from '../../tcp/congestion/types.ts';

export class Balia implements CongestionControl {
  readonly name = 'balia';
  private readonly group: CoupledGroup;
  private readonly growth = new Growth();

  constructor(group: CoupledGroup) {
    this.group = group;
  }

  onAck(view: CongestionView, acked: number, _now: number): void {
    if (view.cwnd < view.ssthresh) {
      view.cwnd += acked;
      return;
    }
    if (view.srtt === 0) return;
    const { own, best, sum } = this.rates(view);
    const alpha = best / own;
    // Per acknowledged segment: x / (rtt * (sum of x)^2) * (1 + alpha) / 2 * (4 + alpha) / 5 (§3 of the draft).
    const step = (own / (view.srtt * sum * sum)) * ((1 + alpha) / 2) * ((4 + alpha) / 5);
    this.growth.add(view, step * acked);
  }

  /** Decrease by w / 2 * min(alpha, 1.5). */
  onLoss(view: CongestionView, _now: number): number {
    if (view.srtt === 0) return Math.max(view.cwnd / 2, 2 * view.mss);
    const { own, best } = this.rates(view);
    return Math.max(view.cwnd - (view.cwnd / 2) * Math.min(best / own, 1.5), 2 * view.mss);
  }

  onTimeout(view: CongestionView, now: number): number {
    return this.onLoss(view, now);
  }

  /** Rates in segments per microsecond: this subflow's, the largest, their sum. */
  private rates(view: CongestionView): { own: number; best: number; sum: number } {
    const rate = (other: CongestionView): number => other.cwnd / other.mss / other.srtt;
    let best = 0;
    let sum = 0;
    for (const other of this.group.views) {
      if (other.srtt === 0) continue;
      best = Math.max(best, rate(other));
      sum += rate(other);
    }
    return { own: rate(view), best, sum };
  }
}
