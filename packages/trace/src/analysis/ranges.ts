/** A set of half-open ranges, sorted and disjoint: what has arrived out of order, what is missing. */

export class Ranges {
  readonly starts: number[] = [];
  readonly ends: number[] = [];
  /** Sum of all lengths. */
  total = 0;
  private readonly most: number;

  constructor(most = 65_536) {
    this.most = most;
  }

  get count(): number {
    return this.starts.length;
  }

  /** Adds a range; returns how much of it was new. Past the bound the set stays as it is. */
  add(start: number, end: number): number {
    if (end <= start) return 0;
    const { starts, ends } = this;
    const last = starts.length - 1;
    // Most often at, or behind, the end.
    if (last >= 0 && start >= starts[last]! && start <= ends[last]!) {
      const fresh = Math.max(0, end - ends[last]!);
      ends[last] = Math.max(ends[last]!, end);
      this.total += fresh;
      return fresh;
    }
    let from = this.indexOf(start);
    if (from > 0 && ends[from - 1]! >= start) from--;
    let to = from;
    let covered = 0;
    let first = start;
    let final = end;
    while (to < starts.length && starts[to]! <= end) {
      covered += ends[to]! - starts[to]!;
      first = Math.min(first, starts[to]!);
      final = Math.max(final, ends[to]!);
      to++;
    }
    if (to === from && starts.length >= this.most) return 0;
    starts.splice(from, to - from, first);
    ends.splice(from, to - from, final);
    const fresh = final - first - covered;
    this.total += fresh;
    return fresh;
  }

  /** Takes away everything below `position`; when a range covers it, returns that range's end, else `position`. */
  advance(position: number): number {
    const { starts, ends } = this;
    let gone = 0;
    let edge = position;
    while (gone < starts.length && starts[gone]! <= edge) {
      this.total -= ends[gone]! - starts[gone]!;
      edge = Math.max(edge, ends[gone]!);
      gone++;
    }
    if (gone > 0) {
      starts.splice(0, gone);
      ends.splice(0, gone);
    }
    return edge;
  }

  /** Takes a range out of the set; returns how much of it was there. */
  remove(start: number, end: number): number {
    const { starts, ends } = this;
    let removed = 0;
    for (let i = Math.max(0, this.indexOf(start) - 1); i < starts.length && starts[i]! < end; i++) {
      const from = Math.max(start, starts[i]!);
      const to = Math.min(end, ends[i]!);
      if (to <= from) continue;
      removed += to - from;
      if (from === starts[i]! && to === ends[i]!) {
        starts.splice(i, 1);
        ends.splice(i, 1);
        i--;
      } else if (from === starts[i]!) {
        starts[i] = to;
      } else if (to === ends[i]!) {
        ends[i] = from;
      } else {
        starts.splice(i + 1, 0, to);
        ends.splice(i, 1, from, ends[i]!);
        break;
      }
    }
    this.total -= removed;
    return removed;
  }

  /** Index of the first range that starts at or after `position`. */
  private indexOf(position: number): number {
    let low = 0;
    let high = this.starts.length;
    while (low < high) {
      const middle = (low + high) >>> 1;
      if (this.starts[middle]! < position) low = middle + 1;
      else high = middle;
    }
    return low;
  }
}
