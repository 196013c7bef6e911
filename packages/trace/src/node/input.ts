/** Captures from files and pipes: compressed or not, several merged by time, growing while they are read. */
import { closeSync, fstatSync, openSync, readSync } from 'node:fs';
import { createGunzip } from 'node:zlib';
import { Readable } from 'node:stream';
import { CaptureReader } from '@subflow/wire';
import { Decompress } from 'fzstd';
import { TraceError } from '../errors.ts';

const PIECE = 1 << 20;
const FOLLOW_EVERY = 100;

export interface InputOptions {
  /** Wait for more at the end, as tail -f does, until the signal. */
  follow?: boolean;
  signal?: AbortSignal;
}

/** One capture. */
export class CaptureInput {
  readonly name: string;
  readonly reader: CaptureReader = new CaptureReader();
  /** Bytes of the file; NaN when it is a pipe. */
  readonly size: number;
  /** Bytes read of it. */
  read = 0;
  private readonly fd: number;
  private chunks: AsyncIterator<Uint8Array> | null = null;
  private started = false;
  private ended = false;
  private readonly options: InputOptions;

  /** Opens a file; `-` is standard input. Throws {@link TraceError} `FILE_NOT_READ`, `IS_DIRECTORY`, `EMPTY_FILE`. */
  constructor(name: string, options: InputOptions = {}) {
    this.name = name;
    this.options = options;
    try {
      this.fd = name === '-' ? 0 : openSync(name, 'r');
    } catch (error) {
      throw new TraceError('FILE_NOT_READ', `${name}: ${(error as Error).message}`, error);
    }
    const facts = fstatSync(this.fd);
    if (facts.isDirectory()) {
      closeSync(this.fd);
      throw new TraceError('IS_DIRECTORY', `${name} is a directory; expected a capture file (pcap, pcapng, also .gz or .zst)`);
    }
    if (facts.isFile() && facts.size === 0 && options.follow !== true) {
      closeSync(this.fd);
      throw new TraceError('EMPTY_FILE', `${name} is empty; expected a capture file (pcap, pcapng, also .gz or .zst)`);
    }
    this.size = facts.isFile() ? facts.size : Number.NaN;
    // A pipe may be silent for long: Ctrl-C does not wait for it.
    if (name === '-') options.signal?.addEventListener('abort', () => process.stdin.destroy(new Error('interrupted')));
  }

  /** Reads on. True when bytes came; false at the end. A promise only where waiting is needed. */
  fill(): boolean | Promise<boolean> {
    if (this.ended) return false;
    if (!this.started) {
      this.started = true;
      return this.start();
    }
    if (this.chunks !== null) return this.fillFromStream(this.chunks);
    const room = this.reader.room(PIECE);
    const count = readSync(this.fd, room, 0, room.length, null);
    this.read += count;
    this.reader.filled(count);
    return count > 0 ? true : this.atEnd();
  }

  close(): void {
    this.ended = true;
    if (this.chunks !== null) void this.chunks.return?.();
    if (this.fd > 2) {
      try {
        closeSync(this.fd);
      } catch {
        // The stream over it has closed it.
      }
    }
  }

  /** Looks at the first bytes: compressed, or not. */
  private async start(): Promise<boolean> {
    const piece = await this.chunk();
    if (piece === null) return this.atEnd();
    const gzip = piece[0] === 0x1f && piece[1] === 0x8b;
    const zstd = piece[0] === 0x28 && piece[1] === 0xb5 && piece[2] === 0x2f && piece[3] === 0xfd;
    if (!gzip && !zstd) {
      this.reader.push(piece);
      if (Number.isNaN(this.size)) this.chunks = this.raw()[Symbol.asyncIterator]();
      return true;
    }
    const source = this.raw(piece);
    this.chunks = (gzip ? gunzipped(source, this.name) : unzstd(source, this.name))[Symbol.asyncIterator]();
    return this.fillFromStream(this.chunks);
  }

  private async fillFromStream(chunks: AsyncIterator<Uint8Array>): Promise<boolean> {
    const next = await chunks.next();
    if (next.done === true) {
      this.finish();
      return false;
    }
    this.reader.push(next.value);
    return true;
  }

  private atEnd(): boolean | Promise<boolean> {
    if (this.options.follow !== true || this.options.signal?.aborted === true) {
      this.finish();
      return false;
    }
    return new Promise((resolve) => setTimeout(() => resolve(this.fill()), FOLLOW_EVERY));
  }

  private finish(): void {
    this.ended = true;
    // Interrupted is not damaged: a record may be half written yet.
    if (this.options.signal?.aborted !== true) this.reader.finish();
    if (this.fd > 2) closeSync(this.fd);
  }

  /** A piece of the file as it lies there; null at its end. */
  private async chunk(): Promise<Uint8Array | null> {
    if (this.fd === 0) {
      try {
        for await (const piece of process.stdin.iterator({ destroyOnReturn: false })) return piece as Buffer;
      } catch (error) {
        if (this.options.signal?.aborted !== true) throw error;
      }
      return null;
    }
    const piece = new Uint8Array(PIECE);
    const count = readSync(this.fd, piece, 0, PIECE, null);
    this.read += count;
    return count === 0 ? null : piece.subarray(0, count);
  }

  private async *raw(first?: Uint8Array): AsyncGenerator<Uint8Array> {
    if (first !== undefined) yield first;
    for (;;) {
      const piece = await this.chunk();
      if (piece === null) {
        if (this.options.follow !== true || this.options.signal?.aborted === true || this.fd === 0) return;
        await new Promise((resolve) => setTimeout(resolve, FOLLOW_EVERY));
        continue;
      }
      yield piece;
    }
  }
}

async function* gunzipped(source: AsyncGenerator<Uint8Array>, name: string): AsyncGenerator<Uint8Array> {
  const gunzip = createGunzip();
  const input = Readable.from(source);
  input.on('error', (error) => gunzip.destroy(error));
  input.pipe(gunzip);
  try {
    for await (const piece of gunzip) yield piece as Buffer;
  } catch (error) {
    throw new TraceError('BAD_COMPRESSION', `${name}: the gzip stream is damaged (${(error as Error).message}); what came before was read`, error);
  }
}

async function* unzstd(source: AsyncGenerator<Uint8Array>, name: string): AsyncGenerator<Uint8Array> {
  const out: Uint8Array[] = [];
  const decompress = new Decompress((piece) => out.push(piece));
  try {
    for await (const piece of source) {
      decompress.push(piece);
      yield* out.splice(0);
    }
    decompress.push(new Uint8Array(0), true);
    yield* out.splice(0);
  } catch (error) {
    yield* out.splice(0);
    throw new TraceError('BAD_COMPRESSION', `${name}: the zstd stream is damaged (${(error as Error).message}); what came before was read`, error);
  }
}
