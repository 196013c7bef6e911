/**
 * The embedded store: an append-only log in a file, each line with a checksum, cut back to a snapshot now and then. A line is on
 * the disk before anybody is told of it; a half-written last line, as a crash leaves it, is taken away at the next start.
 */
import { appendFileSync, closeSync, fsyncSync, mkdirSync, openSync, readFileSync, truncateSync, writeSync } from 'node:fs';
import { createHash } from 'node:crypto';
import { dirname } from 'node:path';
import { OutputError, outputTarget, writeOutputSync } from '@subflow/link';
import { StoreError } from './store.ts';
import type { Entry, Store } from './store.ts';

/** Lines after which the log is written anew with only the latest values. */
const SNAPSHOT_EVERY = 256;

interface Line {
  revision: number;
  key: string;
  value: string;
}

export class LogStore implements Store {
  readonly file: string;
  private fd: number;
  private lines = 0;
  private revision = 0;
  private readonly entries = new Map<string, Entry>();
  private readonly listeners = new Map<string, Set<(entry: Entry) => void>>();

  /** Opens or makes the log. Throws {@link StoreError} `BAD_LOG`. */
  constructor(file: string) {
    this.file = file;
    mkdirSync(dirname(file), { recursive: true });
    const { kind } = outputTarget(file);
    if (kind !== 'file' && kind !== 'absent') throw new StoreError('BAD_LOG', `${file} is a ${kind}; expected a regular file, or none`);
    if (kind === 'file') this.load();
    this.fd = openSync(file, 'a', 0o600);
  }

  read(key: string): Promise<Entry | null> {
    return Promise.resolve(this.entries.get(key) ?? null);
  }

  write(key: string, value: Uint8Array, expected: number): Promise<number> {
    const known = this.entries.get(key)?.revision ?? 0;
    if (known !== expected) return Promise.reject(new StoreError('CONFLICT', `"${key}" has revision ${known}; expected ${expected}`));
    const entry = { value: value.slice(), revision: ++this.revision };
    try {
      writeSync(this.fd, encode({ revision: entry.revision, key, value: Buffer.from(value).toString('base64') }));
      fsyncSync(this.fd);
    } catch (error) {
      return Promise.reject(new StoreError('UNAVAILABLE', `${this.file}: ${(error as Error).message}`, { cause: error }));
    }
    this.entries.set(key, entry);
    if (++this.lines >= SNAPSHOT_EVERY) this.snapshot();
    for (const listener of this.listeners.get(key) ?? []) queueMicrotask(() => listener(entry));
    return Promise.resolve(entry.revision);
  }

  watch(key: string, from: number, listener: (entry: Entry) => void): () => void {
    const all = this.listeners.get(key) ?? new Set();
    this.listeners.set(key, all.add(listener));
    const entry = this.entries.get(key);
    if (entry !== undefined && entry.revision > from) queueMicrotask(() => listener(entry));
    return () => all.delete(listener);
  }

  close(): Promise<void> {
    closeSync(this.fd);
    return Promise.resolve();
  }

  private load(): void {
    const text = readFileSync(this.file, 'utf8');
    let good = 0;
    const all = text.split('\n');
    all.forEach((one, i) => {
      if (one === '') return;
      const line = decode(one);
      if (line === null) {
        // Only the last line may be broken: anything else is no crash of ours.
        if (all.slice(i + 1).some((later) => later !== ''))
          throw new StoreError('BAD_LOG', `${this.file}:${i + 1}: a broken line; expected one with its checksum`);
        return;
      }
      good += Buffer.byteLength(one) + 1;
      this.lines++;
      this.revision = Math.max(this.revision, line.revision);
      this.entries.set(line.key, { value: new Uint8Array(Buffer.from(line.value, 'base64')), revision: line.revision });
    });
    if (good < Buffer.byteLength(text)) truncateSync(this.file, good);
    // Only the end of the last line was lost.
    else if (good > Buffer.byteLength(text)) appendFileSync(this.file, '\n');
  }

  /** The new file takes the place of the old one in one step. A log that cannot be cut goes on growing until it can. */
  private snapshot(): void {
    const lines = [...this.entries].map(([key, { value, revision }]) => encode({ revision, key, value: Buffer.from(value).toString('base64') }));
    try {
      writeOutputSync(this.file, lines.join(''), { mode: 0o600, durable: true });
    } catch (error) {
      if (error instanceof OutputError) return;
      throw error;
    }
    closeSync(this.fd);
    this.fd = openSync(this.file, 'a', 0o600);
    this.lines = lines.length;
  }
}

function encode(line: Line): string {
  const body = JSON.stringify(line);
  return `${sumOf(body)} ${body}\n`;
}

function decode(text: string): Line | null {
  const body = text.slice(17);
  if (text.length < 18 || text[16] !== ' ' || sumOf(body) !== text.slice(0, 16)) return null;
  return JSON.parse(body) as Line;
}

function sumOf(body: string): string {
  return createHash('sha256').update(body).digest('hex').slice(0, 16);
}
