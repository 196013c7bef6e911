/** CUBIC (RFC 8312 §4, with the byte-wise Reno-friendly estimate of RFC 9438 §4.3). */
import { HyStart } from './hystart.ts';
import type { CongestionControl, CongestionView } from './types.ts';

/** RFC 8312 §5.1. */
const C = 0.4;
const BETA = 0.7;
const ALPHA = (3 * (1 - BETA)) / (1 + BETA);

export class Cubic implements CongestionControl {
  readonly name = 'cubic';
  private wMax = 0;
  /** Window at the last loss, segments. */
  private prior = 0;
  private epochStart = 0;
  private k = 0;
  private origin = 0;
  private wEst = 0;
  private readonly hystart = new HyStart();

  onAck(view: CongestionView, acked: number, now: number): void {
    if (view.cwnd < view.ssthresh) {
      this.hystart.onAck(view, acked);
      return;
    }
    const segments = view.cwnd / view.mss;
    if (this.epochStart === 0) {
      this.epochStart = now;
      this.wEst = segments;
      if (segments < this.wMax) {
        this.k = Math.cbrt((this.wMax - segments) / C);
        this.origin = this.wMax;
      } else {
        this.k = 0;
        this.origin = segments;
      }
    }
    // W_cubic one round trip ahead (RFC 8312 §4.1), seconds and segments.
    const t = (now - this.epochStart + view.srtt) / 1e6 - this.k;
    const target = Math.min(this.origin + C * t * t * t, 1.5 * segments);
    // As Reno above the window of the last loss (RFC 9438 §4.3).
    this.wEst += ((this.wEst >= this.prior ? 1 : ALPHA) * acked) / view.cwnd;
    const goal = Math.max(target, this.wEst);
    if (goal > segments) view.cwnd += ((goal - segments) / segments) * acked;
    else view.cwnd += (0.01 / segments) * acked;
  }

  onLoss(view: CongestionView, _now: number): number {
    const segments = view.cwnd / view.mss;
    this.prior = segments;
    // Fast convergence (RFC 8312 §4.6).
    this.wMax = segments < this.wMax ? (segments * (1 + BETA)) / 2 : segments;
    this.epochStart = 0;
    return Math.max(view.cwnd * BETA, 2 * view.mss);
  }

  onTimeout(view: CongestionView, now: number): number {
    this.hystart.reset();
    return this.onLoss(view, now);
  }
}
