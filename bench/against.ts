/**
 * The same benchmarks with the packages of this checkout and with those of another: the bench files are this checkout's
 * for both, in processes of their own, in turn, so that a slow minute of the machine is everybody's.
 */
import { spawnSync } from 'node:child_process';
import { existsSync, mkdtempSync, readFileSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join, resolve } from 'node:path';
import { fileURLToPath } from 'node:url';
import { median } from './rows.ts';
import type { Row } from './rows.ts';

export const COMPARED = ['codec', 'throughput', 'short-connections', 'memory', 'tun', 'packets'] as const;
const AIM = 0.97;
const MAIN = fileURLToPath(new URL('./main.ts', import.meta.url));
const REGISTER = new URL('./against-register.mjs', import.meta.url).href;

interface Pair {
  unit: string;
  less: boolean;
  ours: number[];
  theirs: number[];
}

/** Prints the ratios; above 1 this checkout is better. Returns how many are below the aim. */
export function compare(directory: string, names: readonly string[], rounds: number): number {
  const other = resolve(directory);
  if (!existsSync(join(other, 'packages/stack/dist/index.js')))
    throw Object.assign(new Error(`${other} has no packages/stack/dist; expected a checkout of this project that is built`), { code: 'NOT_BUILT' });
  let below = 0;
  for (const name of names) {
    const pairs = new Map<string, Pair>();
    for (let round = 0; round < rounds; round++) {
      // Who is first changes from round to round.
      for (const mine of round % 2 === 0 ? [true, false] : [false, true]) collect(pairs, run(name, mine ? null : other), mine);
      if (process.stderr.isTTY) process.stderr.write(`\r\x1b[2K${name}: round ${round + 1} of ${rounds}`);
    }
    if (process.stderr.isTTY) process.stderr.write('\r\x1b[2K');
    for (const [title, pair] of pairs) below += show(title, pair);
  }
  console.log(`ratio of medians of ${rounds} runs each, and of the best, against ${other}; above 1 is better, aim ${AIM}; ${below} below`);
  return below;
}

/** Rows of one benchmark in a process of its own; none when it failed. */
function run(name: string, packages: string | null): Row[] {
  const folder = mkdtempSync(join(tmpdir(), 'subflow-bench-'));
  const file = join(folder, 'rows.json');
  try {
    const hook = packages === null ? [] : ['--import', REGISTER];
    const args = ['--import', 'tsx', ...hook, '--expose-gc', MAIN, '--only', name, '--json', file];
    const { status, stderr } = spawnSync(process.execPath, args, {
      stdio: ['ignore', 'ignore', 'pipe'],
      env: { ...process.env, SUBFLOW_BENCH_PACKAGES: packages ?? '' },
    });
    if (status !== 0) {
      console.error(`FAILED: ${name}${packages === null ? '' : ` with the packages of ${packages}`}: ${String(stderr).trim().split('\n').slice(-3).join(' ')}`);
      return [];
    }
    return JSON.parse(readFileSync(file, 'utf8')) as Row[];
  } finally {
    rmSync(folder, { recursive: true, force: true });
  }
}

function collect(pairs: Map<string, Pair>, rows: readonly Row[], mine: boolean): void {
  for (const [i, row] of rows.entries()) {
    // A measurement stands there once for each peer.
    if (String(row.runs) === String(rows[i - 1]?.runs) || Number.isNaN(row.value)) continue;
    const pair = pairs.get(row.name) ?? { unit: row.unit, less: row.less, ours: [], theirs: [] };
    pairs.set(row.name, pair);
    (mine ? pair.ours : pair.theirs).push(row.value);
  }
}

function show(title: string, { unit, less, ours, theirs }: Pair): number {
  if (ours.length === 0 || theirs.length === 0) {
    console.log(`${title.padEnd(48)} nothing to compare with: ${ours.length} and ${theirs.length} runs`);
    return 0;
  }
  const [a, b] = [median(ours), median(theirs)];
  const ratio = less ? b / a : a / b;
  // What a busy machine disturbs least.
  const best = less ? Math.min(...theirs) / Math.min(...ours) : Math.max(...ours) / Math.max(...theirs);
  const spread = [ours, theirs].map((values) => `${format(Math.min(...values))} to ${format(Math.max(...values))}`).join(' and ');
  const verdict = ratio < AIM ? '  below' : '';
  console.log(`${title.padEnd(48)} ${ratio.toFixed(3)}${verdict.padEnd(8)} best ${best.toFixed(3)}   ${format(a)} against ${format(b)} ${unit}   [${spread}]`);
  return ratio < AIM ? 1 : 0;
}

function format(value: number): string {
  return value >= 100 ? value.toFixed(0) : value.toFixed(2);
}
