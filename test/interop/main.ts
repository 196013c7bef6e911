/** `npm run interop -- [--filter TEXT] [--size MB] [--offload] [--capture DIR] [--disturb loss|cut|remove|strip-handshake|strip-data|strip-later] [--features]`: the matrix against the kernel. */
import { mkdirSync } from 'node:fs';
import { join } from 'node:path';
import { parseArgs } from 'node:util';
import { removeLeftovers } from '@subflow/link';
import { allCases, caseName, runCase } from './case.ts';
import { disturbances } from './disturb.ts';
import type { Disturbance } from './disturb.ts';
import { FEATURES, runFeature } from './features.ts';

const { values } = parseArgs({
  options: {
    filter: { type: 'string', default: '' },
    size: { type: 'string', default: '8' },
    offload: { type: 'boolean', default: false },
    capture: { type: 'string' },
    disturb: { type: 'string' },
    limit: { type: 'string' },
    features: { type: 'boolean', default: false },
  },
});
removeLeftovers();
if (values.features) {
  let bad = 0;
  for (const feature of FEATURES) {
    const name = `${feature.role}: ${feature.name}`;
    if (!name.includes(values.filter)) continue;
    const problems = await runFeature(feature);
    if (problems.length > 0) bad++;
    console.log(`${problems.length === 0 ? 'good' : 'BAD '} ${name}${problems.map((problem) => `\n     ${problem}`).join('')}`);
  }
  process.exit(bad > 0 ? 1 : 0);
}
let failed = 0;
let done = 0;
let number = 0;
if (values.capture !== undefined) mkdirSync(values.capture, { recursive: true });
for (const one of allCases()) {
  if (!caseName(one).includes(values.filter) || done >= Number(values.limit ?? 1000)) continue;
  const disturbance = values.disturb === undefined ? null : disturbances[values.disturb as Disturbance];
  if (
    disturbance !== null &&
    (one.subflows < disturbance.leastSubflows ||
      one.subflows > (disturbance.mostSubflows ?? 8) ||
      !(disturbance.directions ?? [one.direction]).includes(one.direction))
  )
    continue;
  const result = await runCase(one, {
    size: Number(values.size) * 1e6,
    offload: values.offload,
    ...(values.capture === undefined ? {} : { capture: join(values.capture, `case-${number++}.pcapng`) }),
    ...disturbance?.options(one),
  });
  const problems = [...result.problems, ...(disturbance?.check(one, result) ?? [])];
  done++;
  if (problems.length > 0) failed++;
  console.log(
    `${problems.length === 0 ? 'good' : 'BAD '} ${caseName(one)} ${Math.round(result.milliseconds)} ms${result.ours === null ? '' : ` [${[...result.ours.perSubflow.values()].map((s) => `${((s.sent + s.received) / 1e6).toFixed(1)}`).join(' ')} MB]`}${problems.length > 0 ? `\n     ${problems.join('\n     ')}` : ''}`,
  );
}
console.log(`${done - failed} passed, ${failed} failed`);
process.exit(failed > 0 ? 1 : 0);
