/** Bytes into a descriptor or a stream: all of them, however often the system takes only a part. */
import { closeSync, write, writeSync } from 'node:fs';
import type { Socket } from 'node:net';
import type { Writable } from 'node:stream';

export interface Sink {
  /** At once, or into the stream's queue. Throws the system's error. */
  write(bytes: Uint8Array): void;
  /** Resolves when there is room for more. */
  send(bytes: Uint8Array): Promise<void>;
  /** Nothing more comes; what is queued goes out. */
  end(): Promise<void>;
  /** The same without waiting. */
  endNow(): void;
  /** What is queued is thrown away. */
  destroy(): void;
}

/** Milliseconds until a full pipe that does not block is tried again. */
const AGAIN = 2;

/** A regular file or a device: it takes what it is given, or fails. */
export class DescriptorSink implements Sink {
  private readonly fd: number;
  private owned: boolean;
  private writing: Promise<unknown> | null = null;

  /** `owned`: closed at the end. */
  constructor(fd: number, owned: boolean) {
    this.fd = fd;
    this.owned = owned;
  }

  write(bytes: Uint8Array): void {
    for (let at = 0; at < bytes.length;) {
      try {
        at += writeSync(this.fd, bytes, at);
      } catch (error) {
        if (!isBusy(error)) throw error;
        Atomics.wait(new Int32Array(new SharedArrayBuffer(4)), 0, 0, AGAIN);
      }
    }
  }

  send(bytes: Uint8Array): Promise<void> {
    const sent = this.sendAll(bytes).finally(() => (this.writing = null));
    this.writing = sent;
    return sent;
  }

  private async sendAll(bytes: Uint8Array): Promise<void> {
    for (let at = 0; at < bytes.length;) {
      const written = await new Promise<number>((resolve, reject) =>
        write(this.fd, bytes, at, (error, count) => (error === null ? resolve(count) : isBusy(error) ? resolve(0) : reject(error))),
      );
      if (written === 0) await new Promise((resolve) => setTimeout(resolve, AGAIN));
      at += written;
    }
  }

  end(): Promise<void> {
    this.endNow();
    return Promise.resolve();
  }

  endNow(): void {
    if (this.owned) closeSync(this.fd);
    this.owned = false;
  }

  destroy(): void {
    // Closed under a write, the number might be another file's by the time it is written to.
    const close = (): void => this.endNow();
    if (this.writing === null) close();
    else this.writing.then(close, close);
  }
}

/** A pipe, a socket, or the standard output: its reader may be slow. */
export class StreamSink implements Sink {
  private readonly stream: Writable;
  private readonly owned: boolean;
  private failure: Error | null = null;
  private readonly failed = (error: Error): void => void (this.failure = error);

  constructor(stream: Writable, owned: boolean) {
    this.stream = stream;
    this.owned = owned;
    // It stays after a failure: the event comes later than the answer to the write.
    stream.on('error', this.failed);
    // What a socket's other end says is of no interest, its end is.
    if (owned) (stream as Socket).resume();
  }

  write(bytes: Uint8Array): void {
    if (this.failure !== null) throw this.failure;
    // The caller may use its array again.
    this.stream.write(new Uint8Array(bytes));
  }

  async send(bytes: Uint8Array): Promise<void> {
    if (this.failure !== null) throw this.failure;
    await new Promise<void>((resolve, reject) => this.stream.write(bytes, (error) => (error ? reject(error) : resolve())));
  }

  async end(): Promise<void> {
    await this.send(new Uint8Array(0));
    if (this.owned) await new Promise<void>((resolve) => this.stream.end(resolve));
    else this.stream.removeListener('error', this.failed);
  }

  endNow(): void {
    if (this.owned) this.stream.end();
  }

  destroy(): void {
    if (this.owned) this.stream.destroy();
  }
}

function isBusy(error: unknown): boolean {
  const { code } = error as NodeJS.ErrnoException;
  return code === 'EAGAIN' || code === 'EINTR';
}
