/** The one timer table of a host: a binary heap of everything that has a deadline, updated lazily. */

/** Something with a deadline. `timerIndex` is its place in the heap (-1: none), `timerAt` the time it is filed under. */
export interface Timed {
  timerIndex: number;
  timerAt: number;
}

export class TimerTable<T extends Timed> {
  private readonly heap: T[] = [];

  get size(): number {
    return this.heap.length;
  }

  /** Earliest filed time, or Infinity. An entry filed too early is harmless: it is filed again when it is popped. */
  get next(): number {
    return this.heap[0]?.timerAt ?? Number.POSITIVE_INFINITY;
  }

  /**
   * Files an entry under `at` (0: never). A later deadline than the filed one is left alone, because retransmission
   * timers move later with every ACK and a heap operation per ACK would be wasted.
   */
  file(entry: T, at: number): void {
    if (at === 0) {
      if (entry.timerIndex >= 0) this.remove(entry);
      return;
    }
    if (entry.timerIndex < 0) {
      entry.timerAt = at;
      entry.timerIndex = this.heap.length;
      this.heap.push(entry);
      this.up(entry.timerIndex);
    } else if (at < entry.timerAt) {
      entry.timerAt = at;
      this.up(entry.timerIndex);
    }
  }

  remove(entry: T): void {
    const index = entry.timerIndex;
    if (index < 0) return;
    entry.timerIndex = -1;
    const last = this.heap.pop()!;
    if (last === entry) return;
    this.heap[index] = last;
    last.timerIndex = index;
    this.up(index);
    this.down(last.timerIndex);
  }

  /** Removes and returns an entry filed at or before `now`, or null. */
  pop(now: number): T | null {
    const first = this.heap[0];
    if (first === undefined || first.timerAt > now) return null;
    this.remove(first);
    return first;
  }

  private up(index: number): void {
    const entry = this.heap[index]!;
    let i = index;
    while (i > 0) {
      const parent = (i - 1) >>> 1;
      const above = this.heap[parent]!;
      if (above.timerAt <= entry.timerAt) break;
      this.heap[i] = above;
      above.timerIndex = i;
      i = parent;
    }
    this.heap[i] = entry;
    entry.timerIndex = i;
  }

  private down(index: number): void {
    const entry = this.heap[index]!;
    let i = index;
    for (;;) {
      let child = 2 * i + 1;
      if (child >= this.heap.length) break;
      if (child + 1 < this.heap.length && this.heap[child + 1]!.timerAt < this.heap[child]!.timerAt) child++;
      const below = this.heap[child]!;
      if (below.timerAt >= entry.timerAt) break;
      this.heap[i] = below;
      below.timerIndex = i;
      i = child;
    }
    this.heap[i] = entry;
    entry.timerIndex = i;
  }
}
