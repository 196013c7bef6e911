/**
 * Intervals of positions, in order and without overlaps: the one structure behind out-of-order data, the retransmission
 * queue, mappings and reinjections. Search, insertion and removal cost the logarithm of the number of intervals plus one
 * short block, whatever order they come in, so that a peer cannot make work by choosing where its holes lie.
 */

/** Positions [position, end). */
export interface Interval {
  position: number;
  end: number;
}

/** Intervals of one block at most: a block is moved as a whole when one is inserted, and is found by binary search. */
const BLOCK = 64;

/** Of every list that nothing was entered into. Never changed. */
const NO_BLOCKS: never[][] = [];

export class IntervalList<T extends Interval> {
  /** Blocks in order, none empty; each holds intervals in order. */
  private blocks: T[][] = NO_BLOCKS;
  private count = 0;

  get length(): number {
    return this.count;
  }

  get first(): T | null {
    return this.count === 0 ? null : this.blocks[0]![0]!;
  }

  get last(): T | null {
    if (this.count === 0) return null;
    const block = this.blocks[this.blocks.length - 1]!;
    return block[block.length - 1]!;
  }

  /** Appends an interval that begins at or after the end of the last one. */
  push(item: T): void {
    const block = this.blocks[this.blocks.length - 1];
    if (block !== undefined && block.length < BLOCK) block.push(item);
    else if (block === undefined) this.blocks = [[item]];
    else this.blocks.push([item]);
    this.count++;
  }

  /** Inserts an interval that overlaps none. */
  insert(item: T): void {
    if (this.count === 0 || this.last!.end <= item.position) {
      this.push(item);
      return;
    }
    const b = this.blockAfter(item.position);
    const block = this.blocks[b]!;
    block.splice(indexAfter(block, item.position), 0, item);
    if (block.length > BLOCK) this.blocks.splice(b + 1, 0, block.splice(block.length >>> 1));
    this.count++;
  }

  /** Removes and returns the first interval; null when there is none. */
  shift(): T | null {
    const block = this.blocks[0];
    if (block === undefined || this.count === 0) return null;
    const item = block.shift()!;
    this.count--;
    // The last block stays although it is empty: a connection that sends one segment at a time would make one for each.
    if (block.length === 0 && this.count > 0) this.blocks.shift();
    return item;
  }

  /** Removes an interval of the list. */
  remove(item: T): void {
    if (this.count === 0 || this.last!.end <= item.position) return;
    const b = this.blockAfter(item.position);
    const block = this.blocks[b]!;
    const i = indexAfter(block, item.position);
    if (block[i] !== item) return;
    block.splice(i, 1);
    this.count--;
    if (block.length === 0 && this.blocks.length > 1) this.blocks.splice(b, 1);
  }

  /** The first interval that ends after `position`, or null. */
  after(position: number): T | null {
    if (this.count === 0 || this.last!.end <= position) return null;
    const block = this.blocks[this.blockAfter(position)]!;
    return block[indexAfter(block, position)]!;
  }

  /** The last interval that begins before `position`, or null. */
  before(position: number): T | null {
    if (this.count === 0 || this.blocks[0]![0]!.position >= position) return null;
    let low = 0;
    let high = this.blocks.length - 1;
    while (low < high) {
      const middle = (low + high + 1) >>> 1;
      if (this.blocks[middle]![0]!.position < position) low = middle;
      else high = middle - 1;
    }
    const block = this.blocks[low]!;
    let i = block.length - 1;
    while (block[i]!.position >= position) i--;
    return block[i]!;
  }

  clear(): void {
    this.blocks = NO_BLOCKS;
    this.count = 0;
  }

  /** In order. The list must not change meanwhile. */
  *[Symbol.iterator](): IterableIterator<T> {
    if (this.count > 0) for (const block of this.blocks) yield* block;
  }

  /** Index of the first block whose last interval ends after `position`; there is one. */
  private blockAfter(position: number): number {
    let low = 0;
    let high = this.blocks.length - 1;
    while (low < high) {
      const middle = (low + high) >>> 1;
      const block = this.blocks[middle]!;
      if (block[block.length - 1]!.end <= position) low = middle + 1;
      else high = middle;
    }
    return low;
  }
}

/** Index of the first interval of a block that ends after `position`; there is one. */
function indexAfter(block: readonly Interval[], position: number): number {
  let low = 0;
  let high = block.length - 1;
  while (low < high) {
    const middle = (low + high) >>> 1;
    if (block[middle]!.end <= position) low = middle + 1;
    else high = middle;
  }
  return low;
}

/**
 * Adds [position, end) to a set of plain intervals and joins it with its neighbours. Returns the positions that were not
 * there before.
 */
export function addInterval(set: IntervalList<Interval>, position: number, end: number): number {
  let added = end - position;
  let left = position;
  let right = end;
  for (let next = set.after(position - 1); next !== null && next.position <= right; next = set.after(position - 1)) {
    added -= Math.max(0, Math.min(next.end, end) - Math.max(next.position, position));
    left = Math.min(left, next.position);
    right = Math.max(right, next.end);
    // The common case, data that continues the last hole's other side, is a change in place.
    if (next.position <= position && next.end <= right && lastOfRun(set, next, right)) {
      next.end = right;
      return added;
    }
    set.remove(next);
  }
  set.insert({ position: left, end: right });
  return added;
}

/** Whether no other interval touches what `item` grows to when it ends at `end`. */
function lastOfRun(set: IntervalList<Interval>, item: Interval, end: number): boolean {
  const next = set.after(item.end);
  return next === null || next.position > end;
}
