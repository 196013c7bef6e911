/** Bytes over time in bins that widen as time goes on: a throughput curve in bounded memory. */

const FIRST = 32;
const MOST = 512;
const EMPTY = new Float64Array(0);

export class Series {
  /** Width of a bin in microseconds. */
  width: number;
  /** Time of the first bin's beginning. */
  origin = Number.NaN;
  bins: Float64Array = EMPTY;
  /** Bins in use. */
  used = 0;

  constructor(width = 10_000) {
    this.width = width;
  }

  add(time: number, amount: number): void {
    if (Number.isNaN(this.origin)) this.origin = Math.floor(time / this.width) * this.width;
    // A packet older than the first (merged captures): it belongs to the beginning.
    let at = Math.max(0, Math.floor((time - this.origin) / this.width));
    while (at >= MOST) {
      this.halve();
      at = Math.floor((time - this.origin) / this.width);
    }
    if (at >= this.bins.length) {
      const larger = new Float64Array(Math.min(MOST, Math.max(FIRST, this.bins.length * 2, at + 1)));
      larger.set(this.bins);
      this.bins = larger;
    }
    this.bins[at]! += amount;
    if (at >= this.used) this.used = at + 1;
  }

  /** Amounts per bin of `width` microseconds from `from`, `count` of them: for drawing several series on one axis. */
  resampled(from: number, width: number, count: number): number[] {
    const out = Array.from({ length: count }, () => 0);
    for (let i = 0; i < this.used; i++) {
      // An amount is spread evenly over the bins that its own bin covers.
      const start = (this.origin + i * this.width - from) / width;
      const end = start + this.width / width;
      for (let k = Math.max(0, Math.floor(start)); k < Math.min(count, Math.ceil(end)); k++) {
        const part = Math.min(end, k + 1) - Math.max(start, k);
        if (part > 0) out[k]! += (this.bins[i]! * part) / (end - start);
      }
    }
    return out;
  }

  private halve(): void {
    const { bins } = this;
    const shift = Math.floor(this.origin / this.width) % 2 === 0 ? 0 : 1;
    const half = new Float64Array(bins.length);
    for (let i = 0; i < this.used; i++) half[(i + shift) >> 1]! += bins[i]!;
    this.bins = half;
    this.used = (this.used + shift + 1) >> 1;
    this.origin -= shift * this.width;
    this.width *= 2;
  }
}
