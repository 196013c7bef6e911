/**
 * Bytes that arrived ahead of order. They lie in small blocks by position, so that what is held costs the span it covers
 * and not an object for each segment; which bytes are there is a list of joined intervals. Both are counted against the
 * buffer the application was given (CVE-2018-5390: one-octet segments must not cost kilobytes).
 */
import type { ChunkPool } from '../buffers.ts';
import { addInterval, IntervalList } from '../intervals.ts';
import type { Interval } from '../intervals.ts';

/** Size of a block: what the pool gives for small pieces; and what it costs with its object and its place in the table. */
const BLOCK = 2048;
const BLOCK_COST = BLOCK + 256;
/** An interval and its place in the list, bytes. */
const INTERVAL_COST = 64;
/** The blocks that SACK reports from: the most recent arrivals (RFC 2018 §4). */
const RECENT = 4;

export class OutOfOrder {
  private readonly pool: ChunkPool;
  private readonly intervals = new IntervalList<Interval>();
  private readonly blocks = new Map<number, Uint8Array>();
  /** Positions of the latest arrivals, the latest first. */
  private readonly recent: number[] = [];
  /** Bytes of data held. */
  bytes = 0;

  constructor(pool: ChunkPool) {
    this.pool = pool;
  }

  /** Memory held: blocks and intervals. */
  get cost(): number {
    return this.blocks.size * BLOCK_COST + this.intervals.length * INTERVAL_COST;
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
    let blocks = 0;
    for (let i = Math.floor(position / BLOCK); i * BLOCK < position + length; i++) if (!this.blocks.has(i)) blocks++;
    return blocks * BLOCK_COST + INTERVAL_COST;
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
    const index = Math.floor(position / BLOCK);
    return this.blocks.get(index)!.subarray(position - index * BLOCK, Math.min(held.end - index * BLOCK, BLOCK));
  }

  /** Drops everything before `position`. */
  release(position: number): void {
    for (let first = this.intervals.first; first !== null && first.position < position; first = this.intervals.first) {
      const end = Math.min(first.end, position);
      // Blocks of which nothing behind `position` is held.
      const lastIndex = Math.floor((end - 1) / BLOCK);
      for (let i = Math.floor(first.position / BLOCK); i <= lastIndex; i++) {
        if (i < lastIndex || !this.heldFrom(Math.max(end, i * BLOCK), (i + 1) * BLOCK)) this.drop(i);
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
    let at = position;
    let from = offset;
    while (at < position + length) {
      const index = Math.floor(at / BLOCK);
      let block = this.blocks.get(index);
      if (block === undefined) this.blocks.set(index, (block = this.pool.take(BLOCK)));
      const skip = at - index * BLOCK;
      const take = Math.min(position + length - at, BLOCK - skip);
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
