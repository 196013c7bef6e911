/** `npm run bench [-- --only NAME] [--json FILE] [--against CHECKOUT]`: medians of interleaved runs, ratios against peers measured in the same run, or against another checkout. */
import { writeFileSync } from 'node:fs';
import { cpus } from 'node:os';
import { parseArgs } from 'node:util';
import { COMPARED, compare } from './against.ts';
import { attacks } from './attacks.ts';
import { balancer } from './balancer.ts';
import { codec } from './codec.ts';
import { handover } from './handover.ts';
import { memory, shortConnections, throughput } from './in-process.ts';
import { net } from './net.ts';
import { packets } from './packets.ts';
import { probe } from './probe.ts';
import { planes } from './planes.ts';
import { print } from './rows.ts';
import type { Benchmark, Row } from './rows.ts';
import { services } from './services.ts';
import { trace } from './trace.ts';
import { tun } from './tun.ts';

const benchmarks: Record<string, Benchmark> = {
  codec,
  throughput,
  'short-connections': shortConnections,
  memory,
  tun,
  handover,
  net,
  services,
  trace,
  probe,
  balancer,
  planes,
  attacks,
  packets,
};

const { values } = parseArgs({
  options: {
    only: { type: 'string' },
    json: { type: 'string' },
    against: { type: 'string' },
    rounds: { type: 'string', default: '5' },
    help: { type: 'boolean', default: false },
  },
});
if (values.help) {
  console.log(
    `npm run bench -- [--only ${Object.keys(benchmarks).join('|')}] [--json FILE]\nnpm run bench -- --against CHECKOUT [--rounds 5] [--only ...]   with its packages and ours in turn: ${COMPARED.join(', ')}`,
  );
  process.exit(0);
}
if (values.only !== undefined && benchmarks[values.only] === undefined) {
  console.error(`BAD_ARGUMENT: --only "${values.only}"; expected one of ${Object.keys(benchmarks).join(', ')}`);
  process.exit(2);
}
const rounds = Number(values.rounds);
if (!Number.isInteger(rounds) || rounds < 1) {
  console.error(`BAD_ARGUMENT: --rounds "${values.rounds}"; expected a whole number from 1`);
  process.exit(2);
}
console.log(`Node ${process.versions.node}, ${cpus().length} × ${cpus()[0]?.model ?? 'unknown'}; median of the runs in brackets`);
if (values.against !== undefined) {
  try {
    compare(values.against, values.only === undefined ? COMPARED : [values.only], rounds);
  } catch (error) {
    console.error(`${(error as { code?: string }).code ?? 'FAILED'}: ${(error as Error).message}`);
    process.exit(1);
  }
  process.exit(0);
}
const rows: Row[] = [];
for (const [name, benchmark] of Object.entries(benchmarks)) {
  if (values.only !== undefined && values.only !== name) continue;
  try {
    const got = await benchmark();
    rows.push(...got);
    print(got);
  } catch (error) {
    console.error(`${(error as { code?: string }).code ?? 'FAILED'}: ${name}: ${(error as Error).message}`);
    process.exitCode = 1;
  }
}
if (values.json !== undefined) writeFileSync(values.json, `${JSON.stringify(rows, null, 2)}\n`);
process.exit();
