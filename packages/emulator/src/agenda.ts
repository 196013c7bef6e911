/** Events in virtual time: a binary heap of actions, first filed first done at equal times. */
interface Entry {
  at: number;
  order: number;
  action: (now: number) => void;
}

export class Agenda {
  private readonly heap: Entry[] = [];
  private order = 0;
  /** Current virtual time, microseconds. */
  now: number;

  constructor(start = 0) {
    this.now = start;
  }

  get size(): number {
    return this.heap.length;
  }

  /** Time of the next action, or Infinity. */
  get next(): number {
    return this.heap[0]?.at ?? Number.POSITIVE_INFINITY;
  }

  /** Files an action; a time in the past means now. */
  at(time: number, action: (now: number) => void): void {
    const entry: Entry = { at: Math.max(time, this.now), order: this.order++, action };
    let i = this.heap.length;
    this.heap.push(entry);
    while (i > 0) {
      const parent = (i - 1) >>> 1;
      if (!before(entry, this.heap[parent]!)) break;
      this.heap[i] = this.heap[parent]!;
      i = parent;
    }
    this.heap[i] = entry;
  }

  /** Does the next action, if it is due by `limit`. Returns whether there was one. */
  step(limit = Number.POSITIVE_INFINITY): boolean {
    const first = this.heap[0];
    if (first === undefined || first.at > limit) return false;
    this.pop();
    this.now = first.at;
    first.action(first.at);
    return true;
  }

  /** Does everything due by `time` and moves the clock there. */
  runUntil(time: number): void {
    while (this.step(time));
    if (time > this.now) this.now = time;
  }

  private pop(): void {
    const last = this.heap.pop()!;
    if (this.heap.length === 0) return;
    let i = 0;
    for (;;) {
      let child = 2 * i + 1;
      if (child >= this.heap.length) break;
      if (child + 1 < this.heap.length && before(this.heap[child + 1]!, this.heap[child]!)) child++;
      if (!before(this.heap[child]!, last)) break;
      this.heap[i] = this.heap[child]!;
      i = child;
    }
    this.heap[i] = last;
  }
}

function before(a: Entry, b: Entry): boolean {
  return a.at < b.at || (a.at === b.at && a.order < b.order);
}
