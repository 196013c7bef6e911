/** `npm run simulate -- --seeds 10000 [--from 1] [--jobs 2] [--seed N] [--verbose]`: random scenarios with invariants. */
import { availableParallelism } from 'node:os';
import { parseArgs } from 'node:util';
import { runSeeds } from './jobs.ts';
import type { SeedReport } from './jobs.ts';
import { runSeed } from './run-seed.ts';

const PROGRESS = 500;

const { values } = parseArgs({
  options: {
    seeds: { type: 'string', default: '300' },
    from: { type: 'string', default: '1' },
    jobs: { type: 'string', default: String(availableParallelism()) },
    seed: { type: 'string' },
    verbose: { type: 'boolean', default: false },
    help: { type: 'boolean', default: false },
  },
});
if (values.help) {
  console.log(
    'npm run simulate -- [--seeds N] [--from N] [--jobs N]   run N seeds in N processes (default: one for each core)\nnpm run simulate -- --seed N --verbose                  repeat one and print its events',
  );
  process.exit(0);
}
const single = values.seed === undefined ? null : Number(values.seed);
const first = single ?? Number(values.from);
const count = single === null ? Number(values.seeds) : 1;
const jobs = Number(values.jobs);
if (![first, count, jobs].every(Number.isInteger) || count < 1 || jobs < 1) {
  console.error(`BAD_ARGUMENT: --seeds "${values.seeds}" --from "${values.from}" --jobs "${values.jobs}": expected whole numbers`);
  process.exit(2);
}
const started = process.hrtime.bigint();
const total = { done: 0, failed: 0, bytes: 0, virtual: 0 };
if (single === null) {
  await runSeeds(first, count, jobs, take);
} else {
  const { events, ...result } = runSeed(single, { events: values.verbose });
  if (values.verbose) for (const event of events) console.log(JSON.stringify(event));
  take(result);
  if (result.problems.length === 0) console.log(`seed ${single} (${result.summary}): good`);
}
console.log(
  `${count} seeds, ${total.failed} failed, ${(total.bytes / 1e6).toFixed(1)} MB, ${Math.round(total.virtual)} s of virtual time in ${seconds().toFixed(1)} s`,
);
process.exit(total.failed > 0 ? 1 : 0);

function take({ seed, problems, summary, bytes, virtualSeconds }: SeedReport): void {
  total.done++;
  total.bytes += bytes;
  total.virtual += virtualSeconds;
  if (problems.length > 0) {
    total.failed++;
    clearProgress();
    console.log(`seed ${seed} (${summary}):`);
    for (const problem of problems) console.log(`  ${problem}`);
    console.log(`  repeat: npm run simulate -- --seed ${seed} --verbose`);
  }
  progress();
}

function seconds(): number {
  return Number(process.hrtime.bigint() - started) / 1e9;
}

/** On a terminal one line that is written over; else a line now and then. */
function progress(): void {
  if (total.done % PROGRESS !== 0 && !(process.stderr.isTTY && total.done % 10 === 0)) return;
  const left = ((count - total.done) * seconds()) / total.done;
  const line = `${total.done} of ${count} seeds, ${total.failed} failed, ${Math.ceil(left)} s left`;
  process.stderr.write(process.stderr.isTTY ? `\r\x1b[2K${line}` : `${line}\n`);
}

function clearProgress(): void {
  if (process.stderr.isTTY) process.stderr.write('\r\x1b[2K');
}
