/** The application's two queues: what it wrote and is not yet acknowledged, and what arrived and is not yet read. */

/** What every buffer has that nothing was written to. Never changed. */
const NO_SLICES: Uint8Array[] = [];
const NO_STARTS: number[] = [];

/** Written bytes by position; slices are kept by reference until acknowledged. Positions start at 1. */
export class SendBuffer {
  private slices: Uint8Array[] = NO_SLICES;
  private starts: number[] = NO_STARTS;
  private head = 0;
  /** Index near the last lookup: scheduling walks forward. */
  private cursor = 0;
  /** Position of the first byte kept, and of the byte after the last. */
  start = 1;
  end = 1;

  get length(): number {
    return this.end - this.start;
  }

  append(bytes: Uint8Array): void {
    if (bytes.length === 0) return;
    if (this.slices === NO_SLICES) {
      this.slices = [];
      this.starts = [];
    }
    this.slices.push(bytes);
    this.starts.push(this.end);
    this.end += bytes.length;
  }

  /** Forgets everything before `position`. */
  release(position: number): void {
    if (position <= this.start) return;
    this.start = Math.min(position, this.end);
    while (this.head < this.slices.length && this.starts[this.head]! + this.slices[this.head]!.length <= position) {
      this.slices[this.head] = EMPTY;
      this.head++;
    }
    if (this.head === this.slices.length) {
      this.slices = [];
      this.starts = [];
      this.head = 0;
      this.cursor = 0;
    } else if (this.head > 256 && this.head * 2 > this.slices.length) {
      this.slices.splice(0, this.head);
      this.starts.splice(0, this.head);
      this.cursor = Math.max(0, this.cursor - this.head);
      this.head = 0;
    }
  }

  /** References to the bytes [position, position + length). */
  gather(position: number, length: number): Uint8Array[] {
    let i = this.find(position);
    const out: Uint8Array[] = [];
    let left = length;
    let skip = position - this.starts[i]!;
    while (left > 0) {
      const slice = this.slices[i]!;
      const take = Math.min(left, slice.length - skip);
      out.push(skip === 0 && take === slice.length ? slice : slice.subarray(skip, skip + take));
      left -= take;
      skip = 0;
      if (left > 0) i++;
    }
    this.cursor = i;
    return out;
  }

  private find(position: number): number {
    let i = this.cursor;
    if (i < this.head || i >= this.starts.length || this.starts[i]! > position) {
      let low = this.head;
      let high = this.starts.length - 1;
      while (low < high) {
        const middle = (low + high + 1) >>> 1;
        if (this.starts[middle]! <= position) low = middle;
        else high = middle - 1;
      }
      i = low;
    }
    while (position >= this.starts[i]! + this.slices[i]!.length) i++;
    return i;
  }
}

const EMPTY = new Uint8Array(0);

/**
 * Chunk sizes. A queue begins with a small one, so that a connection that gets a message now and then holds little, and
 * goes on with larger ones: a fresh array for every segment was a third of the cost of one without offload.
 */
const SMALL_CHUNK = 2048;
const MEDIUM_CHUNK = 16_384;
const LARGE_CHUNK = 65_536;
/** Chunks of each size kept for use: some megabytes in all. */
const POOLED = { small: 1024, medium: 128, large: 64 } as const;

/**
 * Recycles chunks, last in first out: the chunk just read is written again while it is still in the cache, which is
 * worth a factor of two for bulk transfers.
 */
export class ChunkPool {
  private readonly small: Uint8Array[] = [];
  private readonly medium: Uint8Array[] = [];
  private readonly large: Uint8Array[] = [];

  /** The smallest chunk of at least `size` bytes, or the largest there is. */
  take(size: number): Uint8Array {
    if (size <= SMALL_CHUNK) return this.small.pop() ?? new Uint8Array(SMALL_CHUNK);
    if (size <= MEDIUM_CHUNK) return this.medium.pop() ?? new Uint8Array(MEDIUM_CHUNK);
    return this.large.pop() ?? new Uint8Array(LARGE_CHUNK);
  }

  give(chunk: Uint8Array): void {
    switch (chunk.length) {
      case SMALL_CHUNK:
        if (this.small.length < POOLED.small) this.small.push(chunk);
        break;
      case MEDIUM_CHUNK:
        if (this.medium.length < POOLED.medium) this.medium.push(chunk);
        break;
      case LARGE_CHUNK:
        if (this.large.length < POOLED.large) this.large.push(chunk);
        break;
      default:
        break;
    }
  }
}

/** Bytes that arrived in order and wait for the application. */
export class ReceiveQueue {
  private readonly pool: ChunkPool;
  /** The first chunk, and those behind it; null when there are none. */
  private first: Uint8Array | null = null;
  private more: Uint8Array[] | null = null;
  /** The last chunk, which is written to. */
  private last: Uint8Array | null = null;
  private readOffset = 0;
  private writeOffset = 0;
  length = 0;

  constructor(pool: ChunkPool) {
    this.pool = pool;
  }

  /** Copies bytes to the end. */
  append(bytes: Uint8Array, offset: number, length: number): void {
    let at = offset;
    let left = length;
    this.length += length;
    while (left > 0) {
      let { last } = this;
      if (last === null || this.writeOffset === last.length) last = this.extend(left);
      const room = last.length - this.writeOffset;
      const take = left < room ? left : room;
      if (at === 0 && take === bytes.length) last.set(bytes, this.writeOffset);
      else last.set(bytes.subarray(at, at + take), this.writeOffset);
      this.writeOffset += take;
      at += take;
      left -= take;
    }
  }

  /** The next run of bytes, in place: valid until {@link consume} takes its last byte. Null when empty. */
  peek(): Uint8Array | null {
    const { first } = this;
    if (this.length === 0 || first === null) return null;
    return first.subarray(this.readOffset, first === this.last ? this.writeOffset : first.length);
  }

  /** Shows every run of bytes in order, in place; nothing is dropped. */
  each(visit: (chunk: Uint8Array) => void): void {
    const { first, last } = this;
    if (this.length === 0 || first === null || last === null) return;
    visit(first.subarray(this.readOffset, first === last ? this.writeOffset : first.length));
    for (const chunk of this.more ?? []) visit(chunk === last ? chunk.subarray(0, this.writeOffset) : chunk);
  }

  /** Drops `count` bytes from the front; at most {@link length}. */
  consume(count: number): void {
    this.length -= count;
    let left = count;
    for (let { first } = this; left > 0 && first !== null; first = this.first) {
      const end = first === this.last ? this.writeOffset : first.length;
      const take = Math.min(left, end - this.readOffset);
      this.readOffset += take;
      left -= take;
      if (this.readOffset === end && (first !== this.last || this.length === 0)) this.dropFirst(first);
    }
  }

  clear(): void {
    if (this.length > 0) this.consume(this.length);
  }

  /** A further chunk at the end, for at least some of `wanted` bytes: the larger, the more there are. */
  private extend(wanted: number): Uint8Array {
    const behind = this.first === null ? 0 : 1 + (this.more?.length ?? 0);
    const chunk = this.pool.take(behind === 0 ? wanted : Math.max(wanted, behind === 1 ? MEDIUM_CHUNK : LARGE_CHUNK));
    if (this.first === null) {
      this.first = chunk;
      this.readOffset = 0;
    } else {
      (this.more ??= []).push(chunk);
    }
    this.last = chunk;
    this.writeOffset = 0;
    return chunk;
  }

  private dropFirst(first: Uint8Array): void {
    this.pool.give(first);
    this.readOffset = 0;
    this.first = this.more?.shift() ?? null;
    if (this.first !== null) return;
    this.more = this.last = null;
    this.writeOffset = 0;
  }
}
