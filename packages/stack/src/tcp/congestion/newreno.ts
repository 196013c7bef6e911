/** NewReno: slow start and congestion avoidance with byte counting (RFC 5681 §3.1, RFC 3465). */
import type { CongestionControl, CongestionView } from './types.ts';

export class NewReno implements CongestionControl {
  readonly name = 'newreno';
  private counted = 0;

  onAck(view: CongestionView, acked: number, _now: number): void {
    if (view.cwnd < view.ssthresh) {
      view.cwnd += acked;
      return;
    }
    this.counted += acked;
    if (this.counted >= view.cwnd) {
      this.counted -= view.cwnd;
      view.cwnd += view.mss;
    }
  }

  onLoss(view: CongestionView, _now: number): number {
    this.counted = 0;
    return Math.max(view.cwnd / 2, 2 * view.mss);
  }

  onTimeout(view: CongestionView, _now: number): number {
    this.counted = 0;
    return Math.max(view.cwnd / 2, 2 * view.mss);
  }
}
