/** Many seeds over several processes: chunks are handed out as processes become free; one that hangs or dies costs its seed only. */
import { fork } from 'node:child_process';
import type { ChildProcess } from 'node:child_process';
import { fileURLToPath } from 'node:url';
import type { SeedResult } from './run-seed.ts';

export type SeedReport = Omit<SeedResult, 'events'>;

const WORKER = fileURLToPath(new URL('./worker.ts', import.meta.url));
/** Seeds that a process takes at a time: small beside the whole, large beside the cost of a message. */
const CHUNK = 50;
/** A seed takes some milliseconds; one that takes this long hangs. */
const PATIENCE = 120_000;

/** Runs seeds `first` to `first + count - 1`; `report` gets each, in no particular order. */
export async function runSeeds(first: number, count: number, jobs: number, report: (result: SeedReport) => void): Promise<void> {
  const end = first + count;
  let next = first;
  const take = (): [number, number] | null => {
    if (next >= end) return null;
    const chunk: [number, number] = [next, Math.min(CHUNK, end - next)];
    next += chunk[1];
    return chunk;
  };
  await Promise.all(Array.from({ length: Math.min(jobs, Math.ceil(count / CHUNK)) }, () => runChunks(take, report)));
}

async function runChunks(take: () => [number, number] | null, report: (result: SeedReport) => void): Promise<void> {
  let child = fork(WORKER);
  for (let chunk = take(); chunk !== null; chunk = take()) {
    for (let [seed, left] = chunk; left > 0;) {
      const { done, ended } = await runChunk(child, seed, left, report);
      seed += done;
      left -= done;
      if (ended === null) continue;
      report({ seed, problems: [ended], summary: 'unknown', bytes: 0, virtualSeconds: 0 });
      seed++;
      left--;
      child = fork(WORKER);
    }
  }
  child.disconnect();
}

/** Resolves when the seeds are done, or when the process has ended before. */
function runChunk(child: ChildProcess, first: number, count: number, report: (result: SeedReport) => void): Promise<{ done: number; ended: string | null }> {
  return new Promise((resolve) => {
    let done = 0;
    let hangs = false;
    const watch = setTimeout(() => {
      hangs = true;
      child.kill('SIGKILL');
    }, PATIENCE);
    const finish = (ended: string | null): void => {
      clearTimeout(watch);
      child.off('message', take).off('exit', gone);
      resolve({ done, ended });
    };
    const take = (message: unknown): void => {
      report(message as SeedReport);
      watch.refresh();
      if (++done === count) finish(null);
    };
    const gone = (code: number | null, signal: string | null): void =>
      finish(hangs ? `took more than ${PATIENCE / 1000} s: a loop within one event` : `ended the process (${signal ?? `exit code ${code}`})`);
    child.on('message', take).on('exit', gone);
    child.send([first, count]);
  });
}
