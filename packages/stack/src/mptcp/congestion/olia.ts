/** OLIA, opportunistic linked increases (Khalili, Gast, Popovic and Le Boudec, CoNEXT 2012): Pareto-optimal and still responsive. */
import { Growth, halved } from './group.ts';
import type { CoupledGroup } from './group.ts';
import type { CongestionControl, CongestionView } from '../../tcp/congestion/types.ts';

export class Olia implements CongestionControl {
  readonly name = 'olia';
  private readonly group: CoupledGroup;
  private readonly growth = new Growth();
  /** Bytes acknowledged between the last two losses, and since the last one. */
  private before = 0;
  private since = 0;

  constructor(group: CoupledGroup) {
    this.group = group;
  }

  /** The paper's l: the smoothed inverse of the loss rate. */
  get interval(): number {
    return Math.max(this.before, this.since);
  }

  onAck(view: CongestionView, acked: number, _now: number): void {
    this.since += acked;
    if (view.cwnd < view.ssthresh) {
      view.cwnd += acked;
      return;
    }
    if (view.srtt === 0) return;
    let rate = 0;
    for (const other of this.group.views) if (other.srtt > 0) rate += other.cwnd / other.mss / other.srtt;
    const window = view.cwnd / view.mss;
    // Per acknowledged segment: w / rtt^2 / (sum of w / rtt)^2 + alpha / w (equation 5).
    const step = window / (view.srtt * view.srtt) / (rate * rate) + this.alpha(view) / window;
    this.growth.add(view, step * acked);
  }

  onLoss(view: CongestionView, _now: number): number {
    this.before = this.since;
    this.since = 0;
    return halved(view);
  }

  onTimeout(view: CongestionView, now: number): number {
    return this.onLoss(view, now);
  }

  /** Moves window from the paths with the largest window to the best ones that have less (equation 6). */
  private alpha(view: CongestionView): number {
    const views = this.group.views.filter((other) => other.srtt > 0 && other.congestion instanceof Olia);
    const quality = (other: CongestionView): number => (other.congestion as Olia).interval ** 2 / other.srtt;
    const bestQuality = Math.max(...views.map(quality));
    const largest = Math.max(...views.map((other) => other.cwnd));
    const collected = views.filter((other) => quality(other) === bestQuality && other.cwnd < largest);
    if (collected.length === 0) return 0;
    if (collected.includes(view)) return 1 / (views.length * collected.length);
    const biggest = views.filter((other) => other.cwnd === largest);
    return biggest.includes(view) ? -1 / (views.length * biggest.length) : 0;
  }
}
