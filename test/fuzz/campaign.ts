/** The loop: pick an input that found something, change it, run it, keep it when it reaches new code. */
import { createHash } from 'node:crypto';
import { mkdirSync, readdirSync, readFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import type { CoverageMap } from './instrument.ts';
import { mutate } from './mutate.ts';
import { FuzzRandom } from './random.ts';
import type { Target } from './wire-target.ts';

const CORPUS = fileURLToPath(new URL('./corpus/', import.meta.url));
const MAX_INPUT = 2048;

export interface Finding {
  input: Uint8Array;
  error: string;
}

export interface CampaignResult {
  executions: number;
  seconds: number;
  reached: number;
  points: number;
  corpus: Uint8Array[];
  findings: Finding[];
  /** Bytes of heap at the start and at the end, after a collection when the collector is exposed. */
  heapBefore: number;
  heapAfter: number;
  slowestMicroseconds: number;
}

export function readCorpus(name: string): Uint8Array[] {
  const folder = join(CORPUS, name);
  try {
    return readdirSync(folder)
      .sort()
      .map((file) => new Uint8Array(readFileSync(join(folder, file))));
  } catch {
    return [];
  }
}

/** Keeps inputs as files named by their hash. */
export function writeCorpus(name: string, inputs: readonly Uint8Array[]): void {
  const folder = join(CORPUS, name);
  mkdirSync(folder, { recursive: true });
  for (const input of inputs) writeFileSync(join(folder, createHash('sha256').update(input).digest('hex').slice(0, 16)), input);
}

export function campaign(
  target: Target,
  coverage: CoverageMap,
  seeds: readonly Uint8Array[],
  options: { executions: number; seed: number; onProgress?: (executions: number, reached: number, corpus: number) => void },
): CampaignResult {
  const random = new FuzzRandom(options.seed);
  const corpus: Uint8Array[] = [];
  const findings: Finding[] = [];
  const buffer = new Uint8Array(MAX_INPUT);
  let reached = 0;
  let slowest = 0;
  const run = (length: number): void => {
    coverage.fresh = false;
    try {
      target(buffer, length);
    } catch (error) {
      if (findings.length < 20) findings.push({ input: buffer.slice(0, length), error: (error as Error).stack ?? String(error) });
      return;
    }
    if (!coverage.fresh) return;
    corpus.push(buffer.slice(0, length));
  };
  const heap = (): number => {
    (globalThis as { gc?: () => void }).gc?.();
    return process.memoryUsage().heapUsed;
  };
  for (const seed of seeds) {
    const length = Math.min(seed.length, MAX_INPUT);
    buffer.set(seed.subarray(0, length));
    run(length);
    if (corpus.length === 0) corpus.push(seed.slice(0, length));
  }
  const pool = corpus.length > 0 ? corpus : [new Uint8Array(64)];
  const heapBefore = heap();
  const started = process.hrtime.bigint();
  for (let i = 0; i < options.executions && findings.length < 20; i++) {
    const source = pool[random.below(pool.length)]!;
    const length = mutate(source, pool[random.below(pool.length)]!, buffer, random);
    if ((i & 1023) === 0) {
      const before = performance.now();
      run(length);
      slowest = Math.max(slowest, (performance.now() - before) * 1000);
    } else {
      run(length);
    }
    if ((i & 0xfffff) === 0xfffff) options.onProgress?.(i + 1, count(coverage), pool.length);
  }
  const seconds = Number(process.hrtime.bigint() - started) / 1e9;
  reached = count(coverage);
  return {
    executions: options.executions,
    seconds,
    reached,
    points: coverage.points,
    corpus,
    findings,
    heapBefore,
    heapAfter: heap(),
    slowestMicroseconds: slowest,
  };
}

function count(coverage: CoverageMap): number {
  let total = 0;
  for (const hit of coverage.hits) total += hit;
  return total;
}
