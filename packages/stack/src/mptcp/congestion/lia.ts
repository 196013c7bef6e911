/** The Linked Increases Algorithm (RFC 6356): subflows of one connection together take no more than one TCP on their best path. */
import { Growth, halved } from './group.ts';
import type { CoupledGroup } from './group.ts';
import type { CongestionControl, CongestionView } from '../../tcp/congestion/types.ts';

export class Lia implements CongestionControl {
  readonly name = 'lia';
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
    let total = 0;
    for (const other of this.group.views) total += other.cwnd;
    if (total === 0) return;
    // Increase by min(alpha * acked * MSS / total, acked * MSS / cwnd) (RFC 6356 §3).
    this.growth.add(view, Math.min((this.alpha(total) * acked * view.mss) / total, (acked * view.mss) / view.cwnd));
  }

  onLoss(view: CongestionView, _now: number): number {
    return halved(view);
  }

  onTimeout(view: CongestionView, _now: number): number {
    return halved(view);
  }

  /** alpha = total * max(cwnd_i / rtt_i^2) / (sum(cwnd_i / rtt_i))^2 (RFC 6356 §3, equation 2). */
  private alpha(total: number): number {
    let best = 0;
    let rate = 0;
    for (const view of this.group.views) {
      if (view.srtt === 0) continue;
      best = Math.max(best, view.cwnd / (view.srtt * view.srtt));
      rate += view.cwnd / view.srtt;
    }
    return rate === 0 ? 1 : (total * best) / (rate * rate);
  }
}
