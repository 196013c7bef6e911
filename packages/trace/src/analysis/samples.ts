/** Distributions in bounded memory: exact minimum, maximum and mean, quantiles from bins of 5 %, and RFC 6298's smoothed value. */

const BINS = 512;
/** Bins grow by this factor: quantiles are right to about 2.5 %. */
const GROWTH = Math.log(1.05);

export interface Distribution {
  count: number;
  min: number;
  mean: number;
  median: number;
  p95: number;
  max: number;
  /** SRTT after the last sample (RFC 6298 §2). */
  smoothed: number;
}

/** Times in microseconds. */
export class Samples {
  count = 0;
  min = Number.POSITIVE_INFINITY;
  max = 0;
  smoothed = 0;
  private total = 0;
  private bins: Uint32Array | null = null;

  add(value: number): void {
    if (value < 0) return;
    this.bins ??= new Uint32Array(BINS);
    this.smoothed = this.count === 0 ? value : this.smoothed + (value - this.smoothed) / 8;
    this.count++;
    this.total += value;
    if (value < this.min) this.min = value;
    if (value > this.max) this.max = value;
    this.bins[value < 1 ? 0 : Math.min(BINS - 1, 1 + Math.floor(Math.log(value) / GROWTH))]!++;
  }

  quantile(share: number): number {
    if (this.bins === null) return Number.NaN;
    let left = share * this.count;
    for (let i = 0; i < BINS; i++) {
      left -= this.bins[i]!;
      if (left <= 0) return Math.min(this.max, Math.max(this.min, i === 0 ? 0 : Math.exp((i - 0.5) * GROWTH)));
    }
    return this.max;
  }

  /** Null without samples. */
  distribution(): Distribution | null {
    if (this.count === 0) return null;
    return {
      count: this.count,
      min: this.min,
      mean: this.total / this.count,
      median: this.quantile(0.5),
      p95: this.quantile(0.95),
      max: this.max,
      smoothed: this.smoothed,
    };
  }
}
