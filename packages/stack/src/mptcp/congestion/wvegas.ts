/**
 * Weighted Vegas (Cao, Xu and Fu, "Delay-based congestion control for multipath TCP", ICNP 2012): each subflow keeps its
 * share of a total number of queued segments, so that traffic moves to the paths with the shorter queues.
 */
import { halved } from './group.ts';
import type { CoupledGroup } from './group.ts';
import type { CongestionControl, CongestionView } from '../../tcp/congestion/types.ts';

/** Segments that may wait in queues, over all subflows; when slow start ends (the paper's total alpha and gamma). */
const TOTAL_ALPHA = 10;
const GAMMA = 1;
const MIN_ALPHA = 2;
/** Fewer RTT samples than this in a round say nothing about the queue. */
const MIN_SAMPLES = 3;

export class WVegas implements CongestionControl {
  readonly name = 'wvegas';
  /** Segments per microsecond at the last adjustment of the weight. */
  rate = 0;
  private readonly group: CoupledGroup;
  private alpha = MIN_ALPHA;
  private roundEnd = 0;
  private samples = 0;
  private sum = 0;
  private baseRtt = 0;
  private queueing = 0;

  constructor(group: CoupledGroup) {
    this.group = group;
  }

  onAck(view: CongestionView, acked: number, _now: number): void {
    const rtt = view.lastRtt;
    if (rtt > 0) {
      this.samples++;
      this.sum += rtt;
      if (this.baseRtt === 0 || rtt < this.baseRtt) this.baseRtt = rtt;
    }
    if (view.sndUna < this.roundEnd) {
      if (view.cwnd < view.ssthresh) view.cwnd += acked;
      return;
    }
    this.roundEnd = view.sndNxt;
    if (this.samples >= MIN_SAMPLES) this.adjust(view, this.sum / this.samples, acked);
    else view.cwnd += view.cwnd < view.ssthresh ? acked : view.mss;
    this.samples = 0;
    this.sum = 0;
    view.cwnd = Math.max(view.cwnd, 2 * view.mss);
  }

  onLoss(view: CongestionView, _now: number): number {
    return halved(view);
  }

  onTimeout(view: CongestionView, _now: number): number {
    this.samples = this.sum = 0;
    return halved(view);
  }

  /** Once a round trip: compares the segments waiting in the queue with this subflow's share. */
  private adjust(view: CongestionView, rtt: number, acked: number): void {
    const window = view.cwnd / view.mss;
    const queued = (window * (rtt - this.baseRtt)) / rtt;
    if (view.cwnd < view.ssthresh) {
      if (queued > GAMMA) {
        view.cwnd = Math.min(view.cwnd, ((window * this.baseRtt) / rtt + 1) * view.mss);
        view.ssthresh = Math.max(2 * view.mss, view.cwnd - view.mss);
      } else {
        view.cwnd += acked;
      }
      return;
    }
    if (queued >= this.alpha) {
      this.rate = window / rtt;
      this.alpha = Math.max(MIN_ALPHA, this.weight() * TOTAL_ALPHA);
    }
    if (queued > this.alpha) view.cwnd -= view.mss;
    else if (queued < this.alpha) view.cwnd += view.mss;
    // Drain the queue when it has doubled, so that the base RTT stays visible.
    const delay = rtt - this.baseRtt;
    if (this.queueing === 0 || delay < this.queueing) this.queueing = delay;
    if (this.queueing > 0 && delay >= 2 * this.queueing) {
      view.cwnd = Math.max(2 * view.mss, (view.cwnd * this.baseRtt) / (2 * rtt));
      this.queueing = 0;
    }
  }

  private weight(): number {
    let total = 0;
    for (const other of this.group.views) if (other.congestion instanceof WVegas) total += other.congestion.rate;
    return total === 0 ? 1 : this.rate / total;
  }
}
