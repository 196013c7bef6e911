/**
 * Bytes that arrived ahead of order. They lie in small blocks by position, so that what is held costs the span it covers
 * and not an object for each segment; which bytes are there is a list of joined intervals. Both are counted against the
 * buffer the application was given (CVE-2018-5390: one-octet segments must not cost kilobytes).
 */
import type { ChunkPool } from '../buffers.ts';
import { addInterval, IntervalList } from '../intervals.ts';
import type { Interval } from '../intervals.ts';

/** Sizes of blocks, as the pool has them: small ones where the buffer is small. */
const SMALL_BLOCK = 2048;
const LARGE_BLOCK = 16_384;
/** From this buffer on large blocks: their objects cost a fiftieth of what they hold and not a seventh. */
const LARGE_BUFFER = 131_072;
/** The object of a block and its place in the table; an interval, whose positions may need objects of their own, and its place. */
const BLOCK_OBJECT = 300;
const INTERVAL_COST = 96;
/** The blocks that SACK reports from: the most recent arrivals (RFC 2018 §4). */
const RECENT = 4;

export class OutOfOrder {
  private readonly pool: ChunkPool;
  private readonly blockSize: number;
  private readonly intervals = new IntervalList<Interval>();
  private readonly blocks = new Map<number, Uint8Array>();
  /** Positions of the latest arrivals, the latest first. */
  private readonly recent: number[] = [];
  /** Bytes of data held. */
  bytes = 0;

  /** `buffer`: the bytes of data it may come to hold. */
  constructor(pool: ChunkPool, buffer: number) {
    this.pool = pool;
    this.blockSize = buffer >= LARGE_BUFFER ? LARGE_BLOCK : SMALL_BLOCK;
  }

  /** Memory held: blocks and intervals. */
  get cost(): number {
    return this.blocks.size * (this.blockSize + BLOCK_OBJECT) + this.intervals.length * INTERVAL_COST;
  }

  /** Holes are one fewer than these. */
  get pieces(): number {
    return this.intervals.length;
  }

  get first(): Readonly<Interval> | null {
    return this.intervals.first;
  }

  get last(): Readonly<Interval> | null {
    return this.intervals.last;
  }

  /** What {@link cost} grows by at most when [position, position + length) is added. */
  costOf(position: number, length: number): number {
    const size = this.blockSize;
    let blocks = 0;
    for (let i = Math.floor(position / size); i * size < position + length; i++) if (!this.blocks.has(i)) blocks++;
    return blocks * (size + BLOCK_OBJECT) + INTERVAL_COST;
  }

  /** Copies bytes in; what is held already stays as it is. Returns the bytes added. */
  insert(bytes: Uint8Array, offset: number, length: number, position: number): number {
    const end = position + length;
    for (let at = position; at < end;) {
      const held = this.intervals.after(at);
      if (held !== null && held.position <= at) {
        at = held.end;
        continue;
      }
      const stop = held === null ? end : Math.min(end, held.position);
      this.copyIn(bytes, offset + (at - position), stop - at, at);
      at = stop;
    }
    const added = addInterval(this.intervals, position, end);
    this.bytes += added;
    this.remember(position);
    return added;
  }

  /** The bytes at `position`, up to the end of a block or of what is held; null when they are not there. In place, until {@link release}. */
  peek(position: number): Uint8Array | null {
    const held = this.intervals.first;
    if (held === null || held.position > position || held.end <= position) return null;
    const size = this.blockSize;
    const index = Math.floor(position / size);
    return this.blocks.get(index)!.subarray(position - index * size, Math.min(held.end - index * size, size));
  }

  /** Drops everything before `position`. */
  release(position: number): void {
    const size = this.blockSize;
    for (let first = this.intervals.first; first !== null && first.position < position; first = this.intervals.first) {
      const end = Math.min(first.end, position);
      // Blocks of which nothing behind `position` is held.
      const lastIndex = Math.floor((end - 1) / size);
      for (let i = Math.floor(first.position / size); i <= lastIndex; i++) {
        if (i < lastIndex || !this.heldFrom(Math.max(end, i * size), (i + 1) * size)) this.drop(i);
      }
      this.bytes -= end - first.position;
      if (first.end <= position) this.intervals.shift();
      else first.position = position;
    }
  }

  clear(): void {
    for (const index of [...this.blocks.keys()]) this.drop(index);
    this.intervals.clear();
    this.bytes = 0;
  }

  /** Up to `limit` intervals: those of the latest arrivals first (RFC 2018 §4), then the first ones. */
  report(limit: number): Readonly<Interval>[] {
    const out: Interval[] = [];
    for (const position of this.recent) {
      const held = this.intervals.after(position);
      if (out.length < limit && held !== null && held.position <= position && !out.includes(held)) out.push(held);
    }
    for (let next = this.intervals.first; out.length < limit && next !== null; next = this.intervals.after(next.end)) if (!out.includes(next)) out.push(next);
    return out;
  }

  /** Whether anything of [position, end) is held. */
  private heldFrom(position: number, end: number): boolean {
    const next = this.intervals.after(position);
    return next !== null && Math.max(next.position, position) < end;
  }

  private copyIn(bytes: Uint8Array, offset: number, length: number, position: number): void {
    const size = this.blockSize;
    let at = position;
    let from = offset;
    while (at < position + length) {
      const index = Math.floor(at / size);
      let block = this.blocks.get(index);
      if (block === undefined) this.blocks.set(index, (block = this.pool.take(size)));
      const skip = at - index * size;
      const take = Math.min(position + length - at, size - skip);
      if (take === 1) block[skip] = bytes[from]!;
      else block.set(bytes.subarray(from, from + take), skip);
      at += take;
      from += take;
    }
  }

  private drop(index: number): void {
    const block = this.blocks.get(index);
    if (block === undefined) return;
    this.pool.give(block);
    this.blocks.delete(index);
  }

  private remember(position: number): void {
    const { recent } = this;
    const held = this.intervals.after(position);
    for (let i = recent.length - 1; i >= 0; i--) {
      // Same interval as the new arrival, or gone: its place is free.
      const other = this.intervals.after(recent[i]!);
      if (other === held || other === null || other.position > recent[i]!) recent.splice(i, 1);
    }
    recent.unshift(position);
    if (recent.length > RECENT) recent.length = RECENT;
  }
}
