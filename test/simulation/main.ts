/** `npm run simulate -- --seeds 10000 [--from 1] [--seed N] [--verbose]`: random scenarios with invariants. */
import { parseArgs } from 'node:util';
import { runSeed } from './run-seed.ts';

const { values } = parseArgs({
  options: {
    seeds: { type: 'string', default: '300' },
    from: { type: 'string', default: '1' },
    seed: { type: 'string' },
    verbose: { type: 'boolean', default: false },
    help: { type: 'boolean', default: false },
  },
});
if (values.help) {
  console.log('npm run simulate -- [--seeds N] [--from N]   run N seeds\nnpm run simulate -- --seed N --verbose     repeat one and print its events');
  process.exit(0);
}
const single = values.seed === undefined ? null : Number(values.seed);
const first = single ?? Number(values.from);
const count = single === null ? Number(values.seeds) : 1;
if (!Number.isInteger(first) || !Number.isInteger(count) || count < 1) {
  console.error(`BAD_ARGUMENT: --seeds "${values.seeds}" --from "${values.from}": expected whole numbers`);
  process.exit(2);
}
const started = process.hrtime.bigint();
let failed = 0;
let bytes = 0;
let virtual = 0;
for (let seed = first; seed < first + count; seed++) {
  const result = runSeed(seed, { events: values.verbose });
  bytes += result.bytes;
  virtual += result.virtualSeconds;
  if (values.verbose) for (const event of result.events) console.log(JSON.stringify(event));
  if (result.problems.length > 0) {
    failed++;
    console.log(`seed ${seed} (${result.summary}):`);
    for (const problem of result.problems) console.log(`  ${problem}`);
    console.log(`  repeat: npm run simulate -- --seed ${seed} --verbose`);
  } else if (single !== null) {
    console.log(`seed ${seed} (${result.summary}): good`);
  }
  if ((seed - first) % 500 === 499) console.log(`${seed - first + 1} seeds, ${failed} failed`);
}
const seconds = Number(process.hrtime.bigint() - started) / 1e9;
console.log(`${count} seeds, ${failed} failed, ${(bytes / 1e6).toFixed(1)} MB, ${Math.round(virtual)} s of virtual time in ${seconds.toFixed(1)} s`);
process.exit(failed > 0 ? 1 : 0);
