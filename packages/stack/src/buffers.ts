/** The application's two queues: what it wrote and is not yet acknowledged, and what arrived and is not yet read. */

/** Written bytes by position; slices are kept by reference until acknowledged. Positions start at 1. */
export class SendBuffer {
  private slices: Uint8Array[] = [];
  private starts: number[] = [];
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

/** Chunk sizes: small ones for messages, large ones for bulk. */
const SMALL_CHUNK = 2048;
const LARGE_CHUNK = 65536;
const POOLED = 64;

/**
 * Recycles chunks, last in first out: the chunk just read is written again while it is still in the cache, which is
 * worth a factor of two for bulk transfers.
 */
export class ChunkPool {
  private readonly small: Uint8Array[] = [];
  private readonly large: Uint8Array[] = [];

  take(size: number): Uint8Array {
    if (size <= SMALL_CHUNK) return this.small.pop() ?? new Uint8Array(SMALL_CHUNK);
    return this.large.pop() ?? new Uint8Array(LARGE_CHUNK);
  }

  give(chunk: Uint8Array): void {
    const pool = chunk.length === SMALL_CHUNK ? this.small : chunk.length === LARGE_CHUNK ? this.large : null;
    if (pool !== null && pool.length < POOLED) pool.push(chunk);
  }
}

/** Bytes that arrived in order and wait for the application. */
export class ReceiveQueue {
  private readonly pool: ChunkPool;
  private chunks: Uint8Array[] | null = null;
  private head = 0;
  private readOffset = 0;
  private writeOffset = 0;
  length = 0;

  constructor(pool: ChunkPool) {
    this.pool = pool;
  }

  /** Copies bytes to the end. */
  append(bytes: Uint8Array, offset: number, length: number): void {
    this.chunks ??= [];
    let at = offset;
    let left = length;
    this.length += length;
    while (left > 0) {
      let tail = this.chunks[this.chunks.length - 1];
      if (tail === undefined || this.writeOffset === tail.length) {
        tail = this.pool.take(left);
        this.chunks.push(tail);
        this.writeOffset = 0;
        if (this.chunks.length === this.head + 1) this.readOffset = 0;
      }
      const take = Math.min(left, tail.length - this.writeOffset);
      if (at === 0 && take === bytes.length) tail.set(bytes, this.writeOffset);
      else tail.set(bytes.subarray(at, at + take), this.writeOffset);
      this.writeOffset += take;
      at += take;
      left -= take;
    }
  }

  /** The next run of bytes, in place: valid until {@link consume} takes its last byte. Null when empty. */
  peek(): Uint8Array | null {
    if (this.length === 0) return null;
    const chunk = this.chunks![this.head]!;
    const end = this.head === this.chunks!.length - 1 ? this.writeOffset : chunk.length;
    return chunk.subarray(this.readOffset, end);
  }

  /** Drops `count` bytes from the front; at most {@link length}. */
  consume(count: number): void {
    this.length -= count;
    let left = count;
    while (left > 0) {
      const chunk = this.chunks![this.head]!;
      const last = this.head === this.chunks!.length - 1;
      const end = last ? this.writeOffset : chunk.length;
      const take = Math.min(left, end - this.readOffset);
      this.readOffset += take;
      left -= take;
      if (this.readOffset === end && (!last || this.length === 0)) {
        this.pool.give(chunk);
        this.head++;
        this.readOffset = 0;
      }
    }
    if (this.length === 0) {
      this.chunks = null;
      this.head = 0;
      this.readOffset = this.writeOffset = 0;
    } else if (this.head > 64) {
      this.chunks!.splice(0, this.head);
      this.head = 0;
    }
  }

  clear(): void {
    if (this.length > 0) this.consume(this.length);
  }
}
