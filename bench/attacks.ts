/**
 * Attacks by segments of a peer that does not play fair, at full windows (CVE-2018-5390, CVE-2019-11478 and their kind):
 * what a packet costs, and what the host holds afterwards. Both stay the same from a thousand pieces to a million.
 */
import { CASES } from './attack-cases.ts';
import type { Attack, Case } from './attack-cases.ts';
import type { Slab } from './attack-victim.ts';
import { median, row } from './rows.ts';
import type { Row } from './rows.ts';

/** Microseconds for a packet, answers included. */
const AIM_TIME = 20;
/** Bytes held for a byte of payload; or what the buffer setting allows, when that is more. */
const AIM_HELD = 2;
/** The cost at most sizes against that of a thousand; below two microseconds, where the state of the caches shows, nothing counts. */
const AIM_GROWTH = 2;
const FLOOR = 2;
/** Milliseconds after which a run is stopped, and of a run that only warms up. */
const PATIENCE = 10_000;
const WARM_UP = 1000;
/** Runs shorter than this are repeated. */
const CHEAP = 500;
const RUNS = 5;
/** The clock is looked at after so many packets. */
const LOOK = 64;

interface Run {
  packets: number;
  milliseconds: number;
  held: number;
  stopped: boolean;
}

export function attacks(): Row[] {
  const rows: Row[] = [];
  const collect = (globalThis as { gc?: () => void }).gc;
  if (collect === undefined) throw new Error('attacks: run node with --expose-gc (npm run bench does)');
  for (const one of CASES) rows.push(...measure(one, collect));
  return rows;
}

export function measure({ name, sizes, make }: Case, collect: () => void): Row[] {
  const rows: Row[] = [];
  const medians: number[] = [];
  // Code that runs for the first time is not what a flood meets; and the collector throws compiled code away with the last
  // object it was compiled for, so that this victim stays until the end.
  const kept = [make(sizes[1] ?? sizes[0]!)];
  run(kept[0]!, collect, WARM_UP);
  for (const n of sizes) {
    const runs: Run[] = [];
    const held: number[] = [];
    let allowed = AIM_HELD;
    do {
      const attack = make(n);
      const one = run(attack, collect, PATIENCE);
      const payload = attack.payload[0] + attack.payload[1] * one.packets;
      runs.push(one);
      held.push(Math.max(0, one.held) / payload);
      allowed = Math.max(AIM_HELD, attack.limit / payload);
    } while (runs.length < RUNS && runs.at(-1)!.milliseconds < CHEAP);
    const { stopped, packets } = runs.at(-1)!;
    const title = `${name}, ${n.toLocaleString('en')}`;
    const time = runs.map((one) => (one.milliseconds * 1000) / one.packets);
    medians.push(median(time));
    rows.push(row(title, stopped ? `µs, stopped after ${packets.toLocaleString('en')}` : 'µs', time, 'aim', AIM_TIME, true));
    rows.push({ ...row(title, 'B/B', held, 'allowed', allowed, true), ratio: allowed / Math.max(median(held), 0.001) });
    if (process.stderr.isTTY) process.stderr.write(`\r\x1b[2K${title}: ${median(time).toFixed(1)} µs`);
    // What does not end at this size does not end at the next.
    if (stopped) break;
  }
  if (process.stderr.isTTY) process.stderr.write('\r\x1b[2K');
  const growth = Math.max(...medians, FLOOR) / Math.max(medians[0]!, FLOOR);
  kept.length = 0;
  rows.push(row(`${name}: from 1,000 to the most`, '×', [growth], 'flat', AIM_GROWTH, true));
  return rows;
}

function run(attack: Attack, collect: () => void, patience: number): Run {
  const before = used(collect);
  const built = { bytes: 0 };
  const total: Run = { packets: 0, milliseconds: 0, held: 0, stopped: false };
  for (let slab: Slab | null = attack.slab; slab !== null && !total.stopped; slab = attack.next?.() ?? null) {
    if (slab !== attack.slab) built.bytes = slab.bytes.length;
    attackWith(slab, attack, total, patience);
  }
  if (attack.after !== undefined) {
    const started = moment();
    attack.after();
    total.milliseconds += since(started);
  }
  total.held = used(collect) - before - built.bytes;
  return total;
}

function attackWith(slab: Slab, { victim, step }: Attack, total: Run, patience: number): void {
  const started = moment();
  const left = patience - total.milliseconds;
  let done = 0;
  let elapsed = 0;
  while (done < slab.count && elapsed < left) {
    const until = Math.min(slab.count, done + LOOK);
    for (; done < until; done++) victim.take(slab, done, step);
    elapsed = since(started);
  }
  total.packets += done;
  total.milliseconds += elapsed;
  total.stopped = elapsed >= left;
}

/** The processor time and the clock, milliseconds. */
interface Moment {
  cpu: number;
  wall: number;
}

function moment(): Moment {
  const { user, system } = process.cpuUsage();
  return { cpu: (user + system) / 1000, wall: performance.now() };
}

/**
 * Milliseconds of work since a moment: no more than the clock says (the processor time of a process counts its collector's
 * threads too), and no more than it has computed (the clock counts what others on the machine do meanwhile).
 */
function since(start: Moment): number {
  const now = moment();
  return Math.min(now.cpu - start.cpu, now.wall - start.wall);
}

/** Bytes in use, after a collection. */
function used(collect: () => void): number {
  collect();
  collect();
  const { heapUsed, external } = process.memoryUsage();
  return heapUsed + external;
}
