/** BBR, version 1 (draft-cardwell-iccrg-bbr-congestion-control-00): models the path by bottleneck rate and propagation time. */
import type { CongestionControl, CongestionView, RateSample } from './types.ts';

const HIGH_GAIN = 2.885;
const CYCLE = [1.25, 0.75, 1, 1, 1, 1, 1, 1] as const;
/** Rounds over which the largest rate counts (§4.1.1.3). */
const RATE_ROUNDS = 10;
const RTT_WINDOW = 10_000_000;
const PROBE_RTT_TIME = 200_000;
const MIN_SEGMENTS = 4;
/** The pipe counts as full after three rounds without a quarter more (§4.3.2.1). */
const FULL_GROWTH = 1.25;
const FULL_ROUNDS = 3;
/** Paced a little below the estimate, so that no queue grows from rounding. */
const PACING_MARGIN = 0.99;

type State = 'startup' | 'drain' | 'probe-bandwidth' | 'probe-rtt';

export class Bbr implements CongestionControl {
  readonly name = 'bbr';
  state: State = 'startup';
  private readonly rates: { round: number; rate: number }[] = [];
  private minRtt = 0;
  private minRttAt = 0;
  private round = 0;
  private nextRound = 0;
  private roundStart = false;
  private fullRate = 0;
  private fullCount = 0;
  private full = false;
  private pacingGain = HIGH_GAIN;
  private cwndGain = HIGH_GAIN;
  private cycle = 0;
  private cycleAt = 0;
  private probeRttDone = 0;
  private probeRttRound = 0;
  private priorCwnd = 0;
  /** Bytes delivered when recovery began: for one round the window follows what is acknowledged. */
  private conserveUntil = -1;

  onAck(): void {
    // Everything happens in onSample.
  }

  onLoss(view: CongestionView): number {
    this.priorCwnd = Math.max(this.priorCwnd, view.cwnd);
    this.conserveUntil = view.sndNxt;
    return view.ssthresh;
  }

  onTimeout(view: CongestionView): number {
    this.priorCwnd = Math.max(this.priorCwnd, view.cwnd);
    this.conserveUntil = view.sndNxt;
    return view.ssthresh;
  }

  onSample(view: CongestionView, sample: RateSample, now: number): void {
    this.updateRound(sample);
    this.updateRate(sample);
    this.updateCycle(view, now);
    this.checkFull(sample);
    this.checkDrain(view, now);
    this.updateMinRtt(view, sample, now);
    this.setPacing(view);
    this.setWindow(view, sample);
  }

  /** Bottleneck rate estimate, bytes per microsecond; 0 while unknown. */
  get rate(): number {
    let best = 0;
    for (const one of this.rates) if (one.rate > best) best = one.rate;
    return best;
  }

  private updateRound(sample: RateSample): void {
    this.roundStart = sample.priorDelivered >= this.nextRound;
    if (!this.roundStart) return;
    this.nextRound = sample.total;
    this.round++;
  }

  private updateRate(sample: RateSample): void {
    while (this.rates.length > 0 && this.rates[0]!.round < this.round - RATE_ROUNDS) this.rates.shift();
    if (sample.delivered === 0 || sample.interval <= 0) return;
    const rate = sample.delivered / sample.interval;
    if (sample.appLimited && rate < this.rate) return;
    // A decreasing queue: smaller older values can never be the maximum again.
    while (this.rates.length > 0 && this.rates[this.rates.length - 1]!.rate <= rate) this.rates.pop();
    this.rates.push({ round: this.round, rate });
  }

  private updateCycle(view: CongestionView, now: number): void {
    if (this.state !== 'probe-bandwidth') return;
    const elapsed = now - this.cycleAt > this.minRtt;
    const gain = CYCLE[this.cycle]!;
    const next =
      gain === 1 ? elapsed : gain > 1 ? elapsed && view.inFlight >= this.target(gain, view) - view.mss : elapsed || view.inFlight <= this.target(1, view);
    if (!next) return;
    this.cycle = (this.cycle + 1) % CYCLE.length;
    this.cycleAt = now;
    this.pacingGain = CYCLE[this.cycle]!;
  }

  private checkFull(sample: RateSample): void {
    if (this.full || !this.roundStart || sample.appLimited) return;
    const rate = this.rate;
    if (rate >= this.fullRate * FULL_GROWTH) {
      this.fullRate = rate;
      this.fullCount = 0;
      return;
    }
    this.full = ++this.fullCount >= FULL_ROUNDS;
  }

  private checkDrain(view: CongestionView, now: number): void {
    if (this.state === 'startup' && this.full) {
      this.state = 'drain';
      this.pacingGain = 1 / HIGH_GAIN;
      this.cwndGain = HIGH_GAIN;
    }
    if (this.state === 'drain' && view.inFlight <= this.target(1, view)) this.enterProbeBandwidth(now);
  }

  private enterProbeBandwidth(now: number): void {
    this.state = 'probe-bandwidth';
    this.cwndGain = 2;
    // Any phase but the draining one, different from flow to flow (§4.3.4.2).
    this.cycle = (2 + (Math.floor(now) % 7)) % CYCLE.length;
    if (this.cycle === 1) this.cycle = 2;
    this.pacingGain = CYCLE[this.cycle]!;
    this.cycleAt = now;
  }

  private updateMinRtt(view: CongestionView, sample: RateSample, now: number): void {
    const expired = this.minRttAt !== 0 && now > this.minRttAt + RTT_WINDOW;
    if (sample.rtt >= 0 && (this.minRtt === 0 || sample.rtt <= this.minRtt || expired)) {
      this.minRtt = Math.max(1, sample.rtt);
      this.minRttAt = now;
    }
    if (expired && this.state !== 'probe-rtt') {
      this.state = 'probe-rtt';
      this.pacingGain = 1;
      this.priorCwnd = Math.max(this.priorCwnd, view.cwnd);
      this.probeRttDone = 0;
    }
    if (this.state !== 'probe-rtt') return;
    if (this.probeRttDone === 0) {
      if (view.inFlight > MIN_SEGMENTS * view.mss) return;
      this.probeRttDone = now + PROBE_RTT_TIME;
      this.probeRttRound = this.round + 1;
      return;
    }
    if (now < this.probeRttDone || this.round < this.probeRttRound) return;
    this.minRttAt = now;
    view.cwnd = Math.max(view.cwnd, this.priorCwnd);
    this.priorCwnd = 0;
    if (this.full) {
      this.enterProbeBandwidth(now);
    } else {
      this.state = 'startup';
      this.pacingGain = this.cwndGain = HIGH_GAIN;
    }
  }

  private setPacing(view: CongestionView): void {
    const rate = this.rate;
    // The first rate is that of the initial window, not of the few bytes that may have been sent (§4.2.1).
    if (view.pacingRate === 0 && view.srtt > 0) view.pacingRate = (HIGH_GAIN * view.cwnd) / view.srtt;
    if (rate === 0) return;
    const wanted = this.pacingGain * rate * PACING_MARGIN;
    // Until the pipe is known to be full, never slower than before (§4.2.1).
    if (this.full || wanted > view.pacingRate) view.pacingRate = wanted;
  }

  private setWindow(view: CongestionView, sample: RateSample): void {
    const minimum = MIN_SEGMENTS * view.mss;
    if (this.conserveUntil >= 0) {
      if (view.sndUna >= this.conserveUntil) {
        this.conserveUntil = -1;
        view.cwnd = Math.max(view.cwnd, this.priorCwnd);
        this.priorCwnd = 0;
      } else {
        view.cwnd = Math.max(view.inFlight + sample.acked, minimum);
      }
    }
    if (this.conserveUntil < 0) {
      const target = this.target(this.cwndGain, view);
      if (this.full) view.cwnd = Math.min(view.cwnd + sample.acked, target);
      else if (view.cwnd < target || sample.total < 10 * view.mss) view.cwnd += sample.acked;
      view.cwnd = Math.max(view.cwnd, minimum);
    }
    if (this.state === 'probe-rtt') view.cwnd = Math.min(view.cwnd, minimum);
  }

  /** Bytes in flight for a gain over the bandwidth-delay product, with room for delayed and stretched ACKs (§4.2.3.2). */
  private target(gain: number, view: CongestionView): number {
    if (this.minRtt === 0 || this.rate === 0) return 10 * view.mss * gain;
    return Math.max(gain * this.rate * this.minRtt + 3 * view.mss, MIN_SEGMENTS * view.mss);
  }
}
