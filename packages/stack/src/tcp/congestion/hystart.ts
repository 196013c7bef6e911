/** HyStart++ (RFC 9406): leaves slow start when the round-trip time rises, before the queue overflows. */
import type { CongestionView } from './types.ts';

const MIN_RTT_THRESHOLD = 4_000;
const MAX_RTT_THRESHOLD = 16_000;
const SAMPLES = 8;
const CSS_DIVISOR = 4;
const CSS_ROUNDS = 5;

export class HyStart {
  private roundEnd = 0;
  private lastRoundMin = 0;
  private roundMin = 0;
  private samples = 0;
  private cssBaseline = 0;
  private cssRounds = 0;
  private conservative = false;

  /** Grows `cwnd` by slow start; sets `ssthresh` when slow start is over. */
  onAck(view: CongestionView, acked: number): void {
    if (view.sndUna >= this.roundEnd) this.newRound(view);
    const rtt = view.lastRtt;
    if (rtt > 0 && (this.roundMin === 0 || rtt < this.roundMin)) this.roundMin = rtt;
    this.samples++;
    view.cwnd += this.conservative ? acked / CSS_DIVISOR : acked;
    if (this.samples < SAMPLES || this.lastRoundMin === 0 || this.roundMin === 0) return;
    if (this.conservative) {
      if (this.roundMin < this.cssBaseline) this.conservative = false;
      return;
    }
    const threshold = Math.min(MAX_RTT_THRESHOLD, Math.max(MIN_RTT_THRESHOLD, this.lastRoundMin / 8));
    if (this.roundMin >= this.lastRoundMin + threshold) {
      this.conservative = true;
      this.cssBaseline = this.roundMin;
      this.cssRounds = 0;
    }
  }

  reset(): void {
    this.roundEnd = this.lastRoundMin = this.roundMin = this.samples = this.cssRounds = 0;
    this.conservative = false;
  }

  private newRound(view: CongestionView): void {
    this.lastRoundMin = this.roundMin;
    this.roundMin = 0;
    this.samples = 0;
    this.roundEnd = view.sndNxt;
    if (this.conservative && ++this.cssRounds >= CSS_ROUNDS) view.ssthresh = view.cwnd;
  }
}
