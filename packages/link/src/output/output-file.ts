/**
 * Where output goes whose path a person named. A regular file is replaced whole or not at all: written beside and renamed. What is
 * not a regular file is never replaced: devices, FIFOs, sockets and open descriptors (`-`, /dev/stdout, a shell's `>(command)`) are
 * written to. Symbolic links are followed, dangling ones too. An existing file keeps its permissions, its owner and its other names.
 */
import { closeSync, constants, fstatSync, openSync } from 'node:fs';
import { connect, Socket } from 'node:net';
import { Writable } from 'node:stream';
import { outputError, telling } from './error.ts';
import { DescriptorSink, StreamSink } from './sink.ts';
import type { Sink } from './sink.ts';
import { StagedFile } from './staged.ts';
import { outputTarget } from './target.ts';
import type { OutputTarget } from './target.ts';

export interface OutputOptions {
  /**
   * What happens to a regular file: `replace` (default) puts the new one in its place when it is whole; `grow` empties it and shows
   * what has come so far, as a capture does; `append` keeps what is there.
   */
  how?: 'replace' | 'grow' | 'append';
  /** Permissions of a new file, less the umask; 0o666 by default. */
  mode?: number;
  /** On the disk before {@link OutputFile.finish} returns. */
  durable?: boolean;
}

/** Milliseconds between looks for the reader of a FIFO. */
const LOOK_FOR_READER = 25;
/** Small writes to a file that nobody sees yet are collected. */
const PIECE = 1 << 16;

export class OutputFile {
  /** As it was named. */
  readonly path: string;
  /** It is this process's standard output: notes belong elsewhere. */
  readonly isStandardOutput: boolean;
  private readonly sink: Sink;
  private readonly staged: StagedFile | null;
  private readonly durable: boolean;
  private pending: Uint8Array[] = [];
  private pendingBytes = 0;
  private ended = false;

  private constructor(path: string, opened: Opened, durable: boolean) {
    this.path = path;
    this.isStandardOutput = opened.isStandardOutput;
    this.sink = opened.sink;
    this.staged = opened.staged;
    this.durable = durable;
  }

  /**
   * Opens at once, for what is written before the event loop turns, or grows. Throws {@link OutputError}; also for a FIFO that
   * nobody reads and for sockets, which {@link OutputFile.open} waits for.
   */
  static openSync(path: string, options: OutputOptions = {}): OutputFile {
    return OutputFile.openTarget(path, outputTarget(path), options, false);
  }

  /** Opens; waits for the reader of a FIFO. Throws {@link OutputError}. */
  static async open(path: string, options: OutputOptions = {}): Promise<OutputFile> {
    for (;;) {
      const target = outputTarget(path);
      if (target.kind === 'socket') {
        const socket = await connected(target.path).catch((error: unknown) => {
          throw outputError(path, error);
        });
        return new OutputFile(path, { sink: new StreamSink(socket, true), staged: null, isStandardOutput: false }, false);
      }
      try {
        return OutputFile.openTarget(path, target, options, true);
      } catch (error) {
        if (target.kind !== 'fifo' || ((error as Error).cause as NodeJS.ErrnoException | undefined)?.code !== 'ENXIO') throw error;
        await new Promise((resolve) => setTimeout(resolve, LOOK_FOR_READER));
      }
    }
  }

  private static openTarget(path: string, target: OutputTarget, options: OutputOptions, guarded: boolean): OutputFile {
    const opened = telling(path, () => openTarget(target, options, guarded));
    return new OutputFile(path, opened, options.durable === true);
  }

  /** Writes at once, or queues for a slow reader ({@link OutputFile.drained}). Throws {@link OutputError}. */
  write(data: string | Uint8Array): void {
    const bytes = typeof data === 'string' ? Buffer.from(data) : data;
    if (this.staged === null || bytes.length >= PIECE) {
      this.flush();
      telling(this.path, () => this.sink.write(bytes));
      return;
    }
    // The caller may use its array again.
    this.pending.push(typeof data === 'string' ? bytes : new Uint8Array(bytes));
    this.pendingBytes += bytes.length;
    if (this.pendingBytes >= PIECE) this.flush();
  }

  /** Resolves when a slow reader has taken what was written. Rejects with {@link OutputError}. */
  async drained(): Promise<void> {
    await this.send(new Uint8Array(0));
  }

  /** A stream into it; its end finishes, its destruction discards. */
  stream(): Writable {
    return new Writable({
      write: (chunk: Uint8Array, _encoding, done) => void this.send(chunk).then(() => done(), done),
      final: (done) => void this.finish().then(() => done(), done),
      destroy: (error, done) => {
        this.discard();
        done(error);
      },
    });
  }

  /** It is whole: a regular file appears now. Throws {@link OutputError}, and discards. */
  async finish(): Promise<void> {
    if (this.ended) return;
    await this.attempt(async () => {
      this.flush();
      this.staged?.seal(this.durable);
      await this.sink.end();
      this.staged?.place(this.durable);
    });
    this.ended = true;
  }

  /** The same without waiting for a slow reader. */
  finishSync(): void {
    if (this.ended) return;
    try {
      this.flush();
      this.staged?.seal(this.durable);
      this.sink.endNow();
      this.staged?.place(this.durable);
      this.ended = true;
    } catch (error) {
      this.discard();
      throw outputError(this.path, error);
    }
  }

  /** It will never be whole: a regular file stays as it was. Idempotent. */
  discard(): void {
    if (this.ended) return;
    this.ended = true;
    this.pending = [];
    this.sink.destroy();
    this.staged?.remove();
  }

  private async send(bytes: Uint8Array): Promise<void> {
    await this.attempt(async () => {
      this.flush();
      await this.sink.send(bytes);
    });
  }

  private async attempt(step: () => Promise<void>): Promise<void> {
    try {
      await step();
    } catch (error) {
      this.discard();
      throw outputError(this.path, error);
    }
  }

  private flush(): void {
    if (this.pendingBytes === 0) return;
    const bytes = Buffer.concat(this.pending);
    this.pending = [];
    this.pendingBytes = 0;
    telling(this.path, () => this.sink.write(bytes));
  }
}

/** Opens, lets `work` write, finishes; discards when it fails. */
export async function withOutput<T>(path: string, options: OutputOptions, work: (output: OutputFile) => Promise<T> | T): Promise<T> {
  const output = await OutputFile.open(path, options);
  try {
    const result = await work(output);
    await output.finish();
    return result;
  } finally {
    output.discard();
  }
}

/** Writes the whole content. Throws {@link OutputError}. */
export async function writeOutput(path: string, data: string | Uint8Array, options: OutputOptions = {}): Promise<void> {
  const { kind } = outputTarget(path);
  if (kind === 'file' || kind === 'absent') writeOutputSync(path, data, options);
  else await withOutput(path, options, (output) => output.write(data));
}

/** The same at once, as {@link OutputFile.openSync}. */
export function writeOutputSync(path: string, data: string | Uint8Array, options: OutputOptions = {}): void {
  const output = OutputFile.openSync(path, options);
  try {
    output.write(data);
    output.finishSync();
  } finally {
    output.discard();
  }
}

interface Opened {
  sink: Sink;
  staged: StagedFile | null;
  isStandardOutput: boolean;
}

function openTarget(target: OutputTarget, options: OutputOptions, guarded: boolean): Opened {
  const how = options.how ?? 'replace';
  const mode = options.mode ?? 0o666;
  switch (target.kind) {
    case 'descriptor':
      return { sink: descriptorSink(target.fd), staged: null, isStandardOutput: target.fd === 1 };
    case 'socket':
      throw Object.assign(new Error('is a socket; expected a file, a FIFO or a device'), { code: 'ESOCKET' });
    case 'fifo': {
      // Blocking would hold up every timer and signal of this process until somebody reads.
      const fd = opened(target.path, constants.O_WRONLY | constants.O_NONBLOCK, (stat) => stat.isFIFO());
      return { sink: new StreamSink(new Socket({ fd, readable: false, writable: true }), true), staged: null, isStandardOutput: false };
    }
    case 'device': {
      // Neither created nor emptied: what is there is meant, and only that.
      const fd = opened(target.path, constants.O_WRONLY | constants.O_NOCTTY, () => true);
      return { sink: new DescriptorSink(fd, true), staged: null, isStandardOutput: false };
    }
    default: {
      if (how === 'replace') {
        const staged = new StagedFile(target, { mode, guarded });
        return { sink: new DescriptorSink(staged.fd, true), staged, isStandardOutput: false };
      }
      const flags = constants.O_WRONLY | constants.O_CREAT | (how === 'grow' ? constants.O_TRUNC : constants.O_APPEND);
      return { sink: new DescriptorSink(openSync(target.path, flags, mode), true), staged: null, isStandardOutput: false };
    }
  }
}

/** Something else may have taken the name since it was looked at. */
function opened(path: string, flags: number, expected: (stat: ReturnType<typeof fstatSync>) => boolean): number {
  const fd = openSync(path, flags);
  if (expected(fstatSync(fd))) return fd;
  closeSync(fd);
  throw Object.assign(new Error('something else has taken the place of this file'), { code: 'CHANGED' });
}

function descriptorSink(fd: number): Sink {
  if (fd === 1) return new StreamSink(process.stdout, false);
  if (fd === 2) return new StreamSink(process.stderr, false);
  const stat = fstatSync(fd);
  return stat.isFIFO() || stat.isSocket() ? new StreamSink(new Socket({ fd, readable: false, writable: true }), true) : new DescriptorSink(fd, false);
}

function connected(path: string): Promise<Socket> {
  return new Promise((resolve, reject) => {
    const socket = connect({ path, allowHalfOpen: true }, () => {
      socket.removeListener('error', reject);
      resolve(socket);
    });
    socket.once('error', reject);
  });
}
