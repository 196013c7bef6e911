/**
 * Memory for what applications write. The stack keeps bytes by reference until they are acknowledged, the application may
 * change its buffer once the write is done: so they are copied. Into fresh memory that costs 40 µs for 64 KB (page
 * faults, then collection), into memory that was just used 5.
 */
export const CHUNK = 65536;
/** 32 MB, twice the largest send buffer. */
const MOST = 512;

export class SendChunks {
  private readonly free: Uint8Array[] = [];

  take(): Uint8Array {
    return this.free.pop() ?? new Uint8Array(CHUNK);
  }

  give(chunk: Uint8Array): void {
    if (this.free.length < MOST) this.free.push(chunk);
  }
}
