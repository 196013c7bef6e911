/** The mappings of one direction of one subflow (RFC 8684 §3.3): from subflow positions to data positions and back, in bounded memory. */

/** Mappings remembered for segments that carry none of their own. */
const RECENT = 32;
const EMPTY = new Float64Array(0);
/** Runs of contiguous bytes remembered to say which subflow carried a byte. */
const RUNS = 1024;

export class Mappings {
  /** The latest mappings, in a ring. */
  private ssn: Float64Array = EMPTY;
  private data: Float64Array = EMPTY;
  private length: Float64Array = EMPTY;
  private count = 0;
  /** From this subflow position on, bytes follow one another without further mappings (RFC 8684 §3.7). */
  infiniteFrom = -1;
  private infiniteData = 0;

  /** End of the highest data byte that went out here. A sender gives new data to a subflow in order: what goes back below this is a reinjection. */
  highest = 0;
  private runData: Float64Array | null = null;
  private runEnd: Float64Array | null = null;
  private runSubflow: Float64Array | null = null;
  private runCount = 0;

  /** Learns a mapping. Returns whether it is new. */
  learn(ssn: number, data: number, length: number): boolean {
    const newest = (this.count - 1) & (RECENT - 1);
    if (this.count > 0 && this.ssn[newest] === ssn && this.data[newest] === data && this.length[newest] === length) return false;
    if (length === 0) {
      this.infiniteFrom = ssn;
      this.infiniteData = data;
      return true;
    }
    if (this.ssn === EMPTY) {
      this.ssn = new Float64Array(RECENT);
      this.data = new Float64Array(RECENT);
      this.length = new Float64Array(RECENT);
    }
    const at = this.count++ & (RECENT - 1);
    this.ssn[at] = ssn;
    this.data[at] = data;
    this.length[at] = length;
    return true;
  }

  /** Data position of the byte at a subflow position; NaN when no mapping covers it. */
  positionOf(position: number): number {
    for (let i = this.count - 1, stop = Math.max(0, this.count - RECENT); i >= stop; i--) {
      const at = i & (RECENT - 1);
      const offset = position - this.ssn[at]!;
      if (offset >= 0 && offset < this.length[at]!) return this.data[at]! + offset;
    }
    return this.infiniteFrom >= 0 && position >= this.infiniteFrom ? this.infiniteData + (position - this.infiniteFrom) : Number.NaN;
  }

  /** Data position up to which this subflow carried what lies nearest below `data`; -1 without. */
  nearestBelow(data: number): number {
    if (this.runData === null) return -1;
    const mask = this.runData.length - 1;
    for (let i = this.runCount - 1, stop = Math.max(0, this.runCount - this.runData.length); i >= stop; i--)
      if (this.runEnd![i & mask]! <= data) return this.runEnd![i & mask]!;
    return -1;
  }

  /** Remembers that the bytes from a data position on went out at a subflow position. */
  carried(data: number, position: number, length: number): void {
    if (data + length > this.highest) this.highest = data + length;
    if (this.runData === null) {
      this.runData = new Float64Array(16);
      this.runEnd = new Float64Array(16);
      this.runSubflow = new Float64Array(16);
    }
    const last = (this.runCount - 1) & (this.runData.length - 1);
    if (this.runCount > 0) {
      if (this.runEnd![last] === data && this.runSubflow![last]! + (data - this.runData[last]!) === position) {
        this.runEnd![last] = data + length;
        return;
      }
      // Runs stay sorted; what goes back is a reinjection and belongs to the subflow that had it first.
      if (data < this.runEnd![last]!) return;
    }
    if (this.runCount >= this.runData.length && this.runData.length < RUNS) this.grow();
    const at = this.runCount++ & (this.runData.length - 1);
    this.runData[at] = data;
    this.runEnd![at] = data + length;
    this.runSubflow![at] = position;
  }

  /** Subflow position at which the byte at a data position went out; -1 when it did not, or too long ago. */
  carrierOf(data: number): number {
    if (this.runData === null) return -1;
    const mask = this.runData.length - 1;
    let low = Math.max(0, this.runCount - this.runData.length);
    let high = this.runCount;
    while (low < high) {
      const middle = (low + high) >>> 1;
      if (this.runEnd![middle & mask]! <= data) low = middle + 1;
      else high = middle;
    }
    if (low === this.runCount) return -1;
    const at = low & mask;
    return this.runData[at]! <= data ? this.runSubflow![at]! + (data - this.runData[at]!) : -1;
  }

  private grow(): void {
    const size = this.runData!.length;
    const widen = (old: Float64Array): Float64Array => {
      const larger = new Float64Array(size * 2);
      for (let i = this.runCount - size; i < this.runCount; i++) larger[i & (size * 2 - 1)] = old[i & (size - 1)]!;
      return larger;
    };
    this.runData = widen(this.runData!);
    this.runEnd = widen(this.runEnd!);
    this.runSubflow = widen(this.runSubflow!);
  }
}
