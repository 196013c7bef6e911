/** `subflow bench-path`: real boxes between namespaces, and what the prober says of them. */
import { fileURLToPath } from 'node:url';
import { Command } from 'commander';
import { MIDDLEBOXES, Random } from '@subflow/emulator';
import { removeLeftovers } from '@subflow/link';
import { EXPECTED } from '@subflow/probe';
import { PathBench, realisationsOf } from '@subflow/probe/node';
import type { BoxKind } from '@subflow/probe/node';
import { numberOf, UsageError } from '../errors.ts';

const EXAMPLES = `
Examples:
  subflow bench-path --list                        rows of the catalogue, and how each can be built
  subflow bench-path --box strip-synack            one box at a random hop; is it named, and where?
  subflow bench-path --box strip-syn --kind nft --at 3
  subflow bench-path --box drop-syn --kind tc-bpf
  subflow bench-path --all --seed 7 --json         every row in every way, a line of JSON each
  subflow bench-path --none                        the clean path

Client, five routers (kernels in namespaces) and an echo server, joined by emulated links; root is needed. The boxes are nft rules,
iptables' TCPOPTSTRIP, a BPF program in tc, or the emulator's boxes on a TUN link. Everything is removed at the end.`;

interface Flags {
  box: string[];
  kind?: string;
  at?: string;
  hops: string;
  delay: string;
  seed: string;
  all?: boolean;
  none?: boolean;
  list?: boolean;
  json?: boolean;
}

interface Row {
  box: string;
  kind: BoxKind | 'none';
  at: number;
}

export interface BenchRow extends Row {
  expected: string[];
  found: { behaviour: string; direction: string; from: number; to: number; certainty: string }[];
  named: boolean;
  placed: boolean;
  verdict: string[];
}

export function benchPathCommand(): Command {
  return new Command('bench-path')
    .description('put real middleboxes on a path between namespaces and probe it')
    .option('--box <name>', 'a row of the catalogue; may be repeated', (value: string, all: string[]) => [...all, value], [] as string[])
    .option('--kind <how>', 'userspace, nft, iptables or tc-bpf; default: every way the row can be built')
    .option('--at <hop>', 'the box stands behind this hop; drawn by default')
    .option('--hops <n>', 'routers', '5')
    .option('--delay <ms>', 'of each link', '1')
    .option('--seed <n>', 'for what is drawn', '1')
    .option('--all', 'every row of the catalogue')
    .option('--none', 'no box at all')
    .option('--list', 'name the rows and end')
    .option('--json', 'a line of JSON for each run')
    .addHelpText('after', EXAMPLES)
    .action(benchPath);
}

function waysOf(name: string): BoxKind[] {
  return ['userspace', ...(Object.keys(realisationsOf(name)) as BoxKind[])];
}

async function benchPath(flags: Flags): Promise<void> {
  if (flags.list === true) {
    for (const [name, row] of Object.entries(MIDDLEBOXES))
      process.stdout.write(`${name.padEnd(20)} ${waysOf(name).join(', ').padEnd(24)} ${row.description}\n`);
    return;
  }
  const hops = numberOf('--hops', flags.hops, 1, 20);
  const rows = rowsOf(flags, hops, new Random(numberOf('--seed', flags.seed, 0, 2 ** 31)));
  removeLeftovers();
  const bench = new PathBench({ routers: hops, delay: numberOf('--delay', flags.delay, 0, 1000) * 1000 });
  let wrong = 0;
  try {
    const cli = fileURLToPath(new URL('../../bin/subflow.mjs', import.meta.url));
    await bench.startAndWait(bench.server, process.execPath, [cli, 'probe', '--serve', '8443']);
    for (const row of rows) {
      if (process.stderr.isTTY) process.stderr.write(`\r\x1b[2K${row.box} (${row.kind}) behind hop ${row.at} …`);
      const result = await run(bench, cli, row);
      if (!result.named || !result.placed) wrong++;
      if (process.stderr.isTTY) process.stderr.write('\r\x1b[2K');
      process.stdout.write(flags.json === true ? `${JSON.stringify(result)}\n` : `${textOf(result)}\n`);
    }
  } finally {
    bench.remove();
  }
  if (flags.json !== true) process.stdout.write(`${rows.length - wrong} of ${rows.length} named and placed rightly\n`);
  // The links' timers would keep the process alive.
  process.exit(wrong === 0 ? 0 : 1);
}

function rowsOf(flags: Flags, hops: number, random: Random): Row[] {
  const kinds: readonly string[] = ['userspace', 'nft', 'iptables', 'tc-bpf'];
  if (flags.kind !== undefined && !kinds.includes(flags.kind)) throw new UsageError('BAD_ARGUMENT', `--kind "${flags.kind}"; expected ${kinds.join(', ')}`);
  const unknown = flags.box.find((name) => MIDDLEBOXES[name] === undefined);
  if (unknown !== undefined) throw new UsageError('UNKNOWN_BOX', `--box "${unknown}"; expected one of ${Object.keys(MIDDLEBOXES).join(', ')}`);
  const names = flags.all === true ? Object.keys(MIDDLEBOXES) : flags.box;
  if (names.length === 0 && flags.none !== true) throw new UsageError('BAD_ARGUMENT', 'no box; expected --box NAME, --all, --none or --list');
  const at = flags.at === undefined ? null : numberOf('--at', flags.at, 0, hops);
  const rows: Row[] = flags.none === true ? [{ box: 'none', kind: 'none', at: 0 }] : [];
  for (const box of names) {
    const ways = waysOf(box).filter((kind) => flags.kind === undefined || kind === flags.kind);
    if (ways.length === 0) {
      if (flags.all === true) continue;
      throw new UsageError('BAD_ARGUMENT', `--box ${box} cannot be built with ${flags.kind}; expected ${waysOf(box).join(', ')}`);
    }
    // Rules stand in a router: behind hop 0 there is none.
    for (const kind of ways) rows.push({ box, kind, at: at ?? random.integer(kind === 'userspace' ? 0 : 1, hops) });
  }
  return rows;
}

async function run(bench: PathBench, cli: string, row: Row): Promise<BenchRow> {
  if (row.kind === 'none') bench.clear();
  else bench.box(row.box, row.kind, row.at);
  const { stdout, stderr } = await bench.run(bench.client, process.execPath, [cli, 'probe', `${bench.serverAddress}:8443`, '--path-only', '--json']);
  bench.clear();
  let report: { verdict: string[]; path: { findings: BenchRow['found'] } };
  try {
    report = JSON.parse(stdout) as typeof report;
  } catch {
    throw new UsageError('PROBE_FAILED', `the prober said nothing about ${row.box}: ${stderr.trim()}`);
  }
  const found = report.path.findings.map(({ behaviour, direction, from, to, certainty }) => ({ behaviour, direction, from, to, certainty }));
  const expected = row.kind === 'none' ? [] : [...EXPECTED[row.box]!].sort();
  return {
    ...row,
    expected,
    found,
    named:
      found
        .map((one) => `${one.behaviour} ${one.direction}`)
        .sort()
        .join() === expected.join(),
    // Rules stand in the router itself: what it does to packets shows behind it in their direction.
    placed: found.every((one) => one.from <= row.at && one.to >= (row.kind === 'userspace' ? row.at + 1 : row.at)),
    verdict: report.verdict,
  };
}

function textOf(row: BenchRow): string {
  const mark = row.named && row.placed ? '✓' : '✗';
  const found = row.found.map((one) => `${one.behaviour} ${one.direction} between ${one.from} and ${one.to}, ${one.certainty}`).join('; ');
  return `${mark} ${row.box} (${row.kind}) behind hop ${row.at}: ${found === '' ? 'nothing' : found}\n    ${row.verdict.join('\n    ')}`;
}
