/** `npm run fuzz [-- --executions 50000000] [--seed N] [--target wire|live|trace|probe|states] [--write] [--input STATE:PACKETS]`: the long campaign; `--write` keeps what reached new code. */
import { parseArgs } from 'node:util';
import { campaign, readCorpus, writeCorpus } from './campaign.ts';
import { loadInstrumented } from './instrument.ts';
import { liveTarget } from './live-target.ts';
import { probeTarget } from './probe-target.ts';
import { StateCampaign } from './states/campaign.ts';
import { captureSeeds, packetSeeds, programSeeds } from './seeds.ts';
import { traceTarget } from './trace-target.ts';
import { wireTarget } from './wire-target.ts';

/** Of the executions of a campaign without a target. */
const SHARES = new Map([
  ['wire', 0.7],
  ['live', 0.1],
  ['trace', 0.1],
  ['probe', 0.08],
  ['states', 0.02],
]);

const { values } = parseArgs({
  options: {
    executions: { type: 'string', default: '50000000' },
    seed: { type: 'string', default: process.env['SUBFLOW_SEED'] ?? '1' },
    target: { type: 'string' },
    write: { type: 'boolean', default: false },
    input: { type: 'string' },
    help: { type: 'boolean', default: false },
  },
});
const total = Number(values.executions);
if (values.help || !Number.isInteger(total) || total < 1 || (values.target !== undefined && ![...SHARES.keys()].includes(values.target))) {
  console.log(
    `npm run fuzz -- [--executions 50000000] [--seed 1] [--target ${[...SHARES.keys()].join('|')}] [--write]\nnpm run fuzz -- --target states --input STATE:PACKET,PACKET   repeat one of its findings\n\nWithout --target, seven of ten executions go to the codec, one each to a live connection, the trace analyzer and the prober, and one in fifty to pairs and triples of hand-made packets in every state.`,
  );
  process.exit(values.help ? 0 : 2);
}
const loaded = await loadInstrumented(
  values.target === 'trace'
    ? ['wire', 'trace']
    : values.target === 'probe'
      ? ['wire', 'probe']
      : values.target === 'states'
        ? ['wire', 'stack']
        : ['wire', 'stack', 'trace', 'probe'],
);
let bad = 0;
const executionsOf = (name: string): number => (values.target === undefined ? Math.ceil(total * SHARES.get(name)!) : values.target === name ? total : 0);
for (const [name, make, seeds] of [
  ['wire', wireTarget, packetSeeds],
  ['live', liveTarget, programSeeds],
  ['trace', traceTarget, captureSeeds],
  ['probe', probeTarget, packetSeeds],
] as const) {
  const executions = executionsOf(name);
  if (executions === 0) continue;
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
if (executionsOf('states') > 0) bad += states(executionsOf('states'));
process.exit(bad > 0 ? 1 : 0);

/** Hand-made packets in every state; returns how many different failures there were. */
function states(executions: number): number {
  const campaign = new StateCampaign(loaded);
  if (values.input !== undefined) {
    console.log(campaign.stepsOf(values.input).join('\n  '));
    campaign.repeat(values.input);
    return 0;
  }
  const result = campaign.run({
    executions,
    seed: Number(values.seed),
    onProgress: (done, findings) => process.stderr.write(`states: ${(done / 1e6).toFixed(2)} million, ${findings} findings\n`),
  });
  console.log(
    `states: ${campaign.states.length} states, ${campaign.packets.length} packets; ${result.singles} singles, ${result.pairs} of ${result.allPairs} pairs, ${result.triples} triples in ${result.seconds.toFixed(1)} s, ${result.findings.length} findings`,
  );
  for (const { input, steps, error, times } of result.findings)
    console.log(
      `  ${steps.join('\n    ')}\n    ${error.split('\n').slice(0, 4).join('\n    ')}\n    ${times} times; repeat: npm run fuzz -- --target states --input ${input}`,
    );
  return result.findings.length;
}
