/** Segments in flight, oldest first, as numbers in typed arrays that grow with the flight and no further than a bound. */

const FIRST = 16;
const EMPTY = new Float64Array(0);
const NONE = new Uint8Array(0);
/** Past this many the oldest is forgotten: a capture without acknowledgements must not cost memory. */
const MOST = 1 << 16;

export class Flight {
  private ends: Float64Array = EMPTY;
  private times: Float64Array = EMPTY;
  /** How often each was sent again. */
  private again: Uint8Array = NONE;
  private head = 0;
  length = 0;
  /** Time of the newest taken off by {@link acknowledge}; NaN when any of them had been sent more than once (Karn), for then the newest may have waited for it. */
  sampled = Number.NaN;

  /** When the oldest segment in flight was sent; NaN when there is none. */
  get oldest(): number {
    return this.length === 0 ? Number.NaN : this.times[this.head]!;
  }

  push(end: number, time: number): void {
    if (this.length === this.ends.length) {
      if (this.length >= MOST) {
        this.head = (this.head + 1) & (MOST - 1);
        this.length--;
      } else {
        this.grow();
      }
    }
    const at = (this.head + this.length) & (this.ends.length - 1);
    this.ends[at] = end;
    this.times[at] = time;
    this.again[at] = 0;
    this.length++;
  }

  /** Takes off everything that ends at or before `position`; returns how many. */
  acknowledge(position: number): number {
    const mask = this.ends.length - 1;
    let taken = 0;
    let clean = true;
    this.sampled = Number.NaN;
    while (this.length > 0 && this.ends[this.head]! <= position) {
      if (this.again[this.head] !== 0) clean = false;
      this.sampled = this.times[this.head]!;
      this.head = (this.head + 1) & mask;
      this.length--;
      taken++;
    }
    if (!clean) this.sampled = Number.NaN;
    return taken;
  }

  /** Marks the segment that covers `position` as sent again at `time`. Returns when it was sent before; NaN when it is not in flight. */
  resend(position: number, time: number): number {
    const mask = this.ends.length - 1;
    let low = 0;
    let high = this.length;
    while (low < high) {
      const middle = (low + high) >>> 1;
      if (this.ends[(this.head + middle) & mask]! <= position) low = middle + 1;
      else high = middle;
    }
    if (low === this.length) return Number.NaN;
    const at = (this.head + low) & mask;
    const before = this.times[at]!;
    this.times[at] = time;
    if (this.again[at]! < 255) this.again[at]!++;
    return before;
  }

  private grow(): void {
    const size = this.ends.length;
    const larger = Math.max(FIRST, size * 2);
    const ends = new Float64Array(larger);
    const times = new Float64Array(larger);
    const again = new Uint8Array(larger);
    for (let i = 0; i < size; i++) {
      const at = (this.head + i) & (size - 1);
      ends[i] = this.ends[at]!;
      times[i] = this.times[at]!;
      again[i] = this.again[at]!;
    }
    this.ends = ends;
    this.times = times;
    this.again = again;
    this.head = 0;
  }
}
