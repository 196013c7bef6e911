/** `npm run fuzz [-- --executions 50000000] [--seed N] [--target wire|live|trace|probe] [--write]`: the long campaign; `--write` keeps what reached new code. */
import { parseArgs } from 'node:util';
import { campaign, readCorpus, writeCorpus } from './campaign.ts';
import { loadInstrumented } from './instrument.ts';
import { liveTarget } from './live-target.ts';
import { probeTarget } from './probe-target.ts';
import { captureSeeds, packetSeeds, programSeeds } from './seeds.ts';
import { traceTarget } from './trace-target.ts';
import { wireTarget } from './wire-target.ts';

const { values } = parseArgs({
  options: {
    executions: { type: 'string', default: '50000000' },
    seed: { type: 'string', default: process.env['SUBFLOW_SEED'] ?? '1' },
    target: { type: 'string' },
    write: { type: 'boolean', default: false },
    help: { type: 'boolean', default: false },
  },
});
const total = Number(values.executions);
if (values.help || !Number.isInteger(total) || total < 1 || (values.target !== undefined && !['wire', 'live', 'trace', 'probe'].includes(values.target))) {
  console.log(
    'npm run fuzz -- [--executions 50000000] [--seed 1] [--target wire|live|trace|probe] [--write]\n\nWithout --target, seven of ten executions go to the codec, one each to a live connection, the trace analyzer and the prober.',
  );
  process.exit(values.help ? 0 : 2);
}
const loaded = await loadInstrumented(
  values.target === 'trace' ? ['wire', 'trace'] : values.target === 'probe' ? ['wire', 'probe'] : ['wire', 'stack', 'trace', 'probe'],
);
let bad = 0;
for (const [name, make, seeds, share] of [
  ['wire', wireTarget, packetSeeds, 0.7],
  ['live', liveTarget, programSeeds, 0.1],
  ['trace', traceTarget, captureSeeds, 0.1],
  ['probe', probeTarget, packetSeeds, 0.1],
] as const) {
  if (values.target !== undefined && values.target !== name) continue;
  const executions = values.target === undefined ? Math.ceil(total * share) : total;
  loaded.coverage.hits.fill(0);
  const result = campaign(make(loaded), loaded.coverage, [...readCorpus(name), ...seeds()], {
    executions,
    seed: Number(values.seed),
    onProgress: (done, reached, corpus) => process.stderr.write(`${name}: ${(done / 1e6).toFixed(1)} million, ${reached} branches, ${corpus} inputs kept\n`),
  });
  console.log(
    `${name}: ${result.executions} executions in ${result.seconds.toFixed(1)} s (${(result.executions / result.seconds / 1000).toFixed(1)} thousand a second), ${result.reached} of ${result.points} branches, ${result.corpus.length} inputs kept, heap ${(result.heapBefore / 1e6).toFixed(1)} → ${(result.heapAfter / 1e6).toFixed(1)} MB, slowest sampled ${result.slowestMicroseconds.toFixed(0)} µs, ${result.findings.length} findings`,
  );
  for (const finding of result.findings.slice(0, 5)) console.log(`  input ${Buffer.from(finding.input).toString('hex')}\n  ${finding.error}`);
  bad += result.findings.length;
  if (values.write) writeCorpus(name, result.corpus);
}
process.exit(bad > 0 ? 1 : 0);
