/** The papers' tables and figures, each run in virtual time: same seed, same figures. */
import { SCHEDULERS } from '@subflow/stack';
import type { HostOptions } from '@subflow/stack';
import { bars, lines } from './plot.ts';
import { sharedBottleneck } from './shared-bottleneck.ts';
import { transfer } from './world.ts';
import type { PaperPath } from './world.ts';

/** One table of the report. */
export interface Table {
  id: string;
  title: string;
  /** Where the published figures come from, and what we had to assume. */
  source: string;
  head: string[];
  rows: string[][];
  /** Sentences about what must hold, with the figures. */
  checks: { text: string; good: boolean }[];
  svg: string;
}

const SIZE = 16_777_216;
/** rate1, rate2 (Mbit/s), delay1, delay2 (ms), queue1, queue2 (packets): Linux, tools/testing/selftests/net/mptcp/simult_flows.sh. */
export const KERNEL_ROWS = [
  [10, 10, 0, 0, 20, 20],
  [10, 10, 1, 25, 20, 50],
  [10, 3, 0, 0, 30, 20],
  [10, 3, 1, 25, 40, 30],
  [10, 3, 25, 1, 50, 30],
] as const;

type KernelRow = (typeof KERNEL_ROWS)[number];

function pathsOf([r1, r2, d1, d2, q1, q2]: KernelRow): [PaperPath, PaperPath] {
  return [
    { rate: r1, delay: d1, queue: q1 },
    { rate: r2, delay: d2, queue: q2 },
  ];
}

/** The kernel's own limit for a row, milliseconds. */
export function kernelLimit(row: KernelRow): number {
  return (1000 * SIZE * 8 * 10) / ((row[0] + row[1]) * 9e6) + 400;
}

export function simultaneousFlows(): Table {
  const rows: string[][] = [];
  const aggregations: number[] = [];
  const equal: number[] = [];
  let passed = 0;
  const times: number[] = [];
  const limits: number[] = [];
  const labels: string[] = [];
  for (const row of KERNEL_ROWS) {
    const paths = pathsOf(row);
    for (const direction of ['up', 'down'] as const) {
      const single = paths.map((path) => transfer({ paths: [path], size: SIZE, direction, plain: true }).goodput);
      const both = transfer({ paths, size: SIZE, direction });
      const limit = kernelLimit(row);
      const aggregation = both.goodput / (single[0]! + single[1]!);
      aggregations.push(aggregation);
      if (row[2] === row[3] && row[0] === row[1]) equal.push(aggregation);
      if (both.milliseconds <= limit) passed++;
      times.push(both.milliseconds);
      limits.push(limit);
      labels.push(`${row[0]}/${row[1]} ${row[2]}/${row[3]} ${direction}`);
      rows.push([
        `(${row.join(', ')})`,
        direction,
        limit.toFixed(0),
        both.milliseconds.toFixed(0),
        `${single[0]!.toFixed(2)} + ${single[1]!.toFixed(2)}`,
        both.goodput.toFixed(2),
        aggregation.toFixed(3),
      ]);
    }
  }
  return {
    id: 'simultaneous-flows',
    title: "The kernel's simultaneous flows: 16,777,216 bytes over two paths",
    source:
      'Limit: Linux, simult_flows.sh: ms ≤ 1000 · size · 8 · 10 / ((r1 + r2) · 9e6) + 400. Aggregation: goodput over both paths divided by the sum of plain TCP on each alone, same run. Default settings.',
    head: ['row', 'direction', 'limit ms', 'ours ms', 'TCP alone Mbit/s', 'ours Mbit/s', 'aggregation'],
    rows,
    checks: [
      { text: `${passed} of ${rows.length} rows within the kernel's limit`, good: passed === rows.length },
      { text: `smallest aggregation ${Math.min(...aggregations).toFixed(3)}, at least 0.90 wanted`, good: Math.min(...aggregations) >= 0.9 },
      { text: `equal paths ${Math.min(...equal).toFixed(3)}, at least 0.95 wanted`, good: Math.min(...equal) >= 0.95 },
    ],
    svg: bars('Simultaneous flows: time against the kernel’s limit', 'ms', labels, [
      { name: 'limit', values: limits },
      { name: 'ours', values: times },
    ]),
  };
}

export function schedulersOnRows(): Table {
  const names = Object.keys(SCHEDULERS);
  const variants: { name: string; options: Partial<HostOptions> }[] = names.map((name) => ({ name, options: { mptcp: { scheduler: SCHEDULERS[name]! } } }));
  const rows: string[][] = [];
  let worst = 0;
  let worstName = '';
  for (const row of KERNEL_ROWS) {
    const paths = pathsOf(row);
    const single = Math.min(...paths.map((path) => transfer({ paths: [path], size: SIZE, direction: 'down', plain: true }).milliseconds));
    const cells = variants.map((variant) => {
      const { milliseconds } = transfer({ paths, size: SIZE, direction: 'down', options: variant.options });
      const ratio = milliseconds / single;
      if (ratio > worst) {
        worst = ratio;
        worstName = `${variant.name} on (${row.join(', ')})`;
      }
      return milliseconds;
    });
    rows.push([`(${row.join(', ')})`, single.toFixed(0), ...cells.map((cell) => cell.toFixed(0))]);
  }
  return {
    id: 'schedulers-rows',
    title: 'Every scheduler on the same rows, milliseconds',
    source:
      'Downloads. Best single path: plain TCP on the faster one. Redundant sends everything twice and cannot beat it; interactive waits for the faster path when that is the quicker way.',
    head: ['row', 'best single path', ...names],
    rows,
    checks: [{ text: `slowest against the best single path: ${worst.toFixed(3)} (${worstName}), at most 1.05 wanted`, good: worst <= 1.05 }],
    svg: bars(
      'Schedulers on the kernel’s rows',
      'ms',
      KERNEL_ROWS.map((row) => `${row[0]}/${row[1]} ${row[2]}/${row[3]}`),
      names.map((name, i) => ({ name, values: rows.map((cells) => Number(cells[i + 2])) })),
    ),
  };
}

export function aggregation(): Table {
  // Link rates that give plain TCP the published single-path goodputs: payload is 1448 of 1500 bytes.
  const rate = (goodput: number): number => (goodput * 1500) / 1448;
  const rows: string[][] = [];
  const shares: number[] = [];
  for (const [name, d1, d2] of [
    ['equal RTT (20 ms)', 10, 10],
    ['second path twice the RTT (20 and 40 ms)', 10, 20],
    ['first path twice the RTT (40 and 20 ms)', 20, 10],
  ] as const) {
    const paths = [
      { rate: rate(135.5), delay: d1, queue: 250 },
      { rate: rate(146.5), delay: d2, queue: 250 },
    ];
    const size = 200_000_000;
    const single = paths.map((path) => transfer({ paths: [path], size: size / 2, direction: 'down', plain: true }).goodput);
    const both = transfer({ paths, size, direction: 'down' });
    const share = both.goodput / (single[0]! + single[1]!);
    shares.push(share);
    rows.push([
      name,
      name.startsWith('equal') ? '135.5 + 146.5 → 269.4 (95.5 %)' : '-',
      `${single[0]!.toFixed(1)} + ${single[1]!.toFixed(1)} → ${both.goodput.toFixed(1)}`,
      `${(100 * share).toFixed(1)} %`,
    ]);
  }
  return {
    id: 'aggregation',
    title: 'Aggregation of two fast paths',
    source:
      'Published: 135.5 + 146.5 → 269.4 Mbit/s, 95.5 % (as quoted in issue 3). The paper’s RTT and buffers are not known to us: 20 ms and 250 packets assumed, 200 MB.',
    head: ['paths', 'published Mbit/s', 'ours Mbit/s', 'share'],
    rows,
    checks: [{ text: `equal RTT ${(100 * shares[0]!).toFixed(1)} %, at least 95 % wanted`, good: shares[0]! >= 0.95 }],
    svg: bars('Aggregation', '% of the sum', ['equal RTT', 'second twice', 'first twice'], [{ name: 'ours', values: shares.map((share) => 100 * share) }]),
  };
}

export function receiveBuffers(): Table {
  // NSDI 2012, figure 4: Wi-Fi with 80 ms of buffer, 3G with 2 s of buffer.
  const wifi: PaperPath = { rate: 8, delay: 10, queue: 53 };
  const mobile: PaperPath = { rate: 2, delay: 75, queue: 333 };
  const buffers = [50, 100, 150, 200, 300, 400, 500, 700, 1000].map((kilobytes) => kilobytes * 1000);
  const duration = 60_000_000;
  const run = (paths: PaperPath[], buffer: number, plain: boolean, helped: boolean): number =>
    transfer({
      paths,
      size: 1_000_000_000,
      direction: 'down',
      plain,
      duration,
      options: {
        tcp: { receiveBuffer: buffer, maxReceiveBuffer: buffer, sendBuffer: buffer, maxSendBuffer: buffer },
        mptcp: { opportunisticRetransmission: helped, penalisation: helped },
      },
    }).goodput;
  const rows: string[][] = [];
  const series: Record<'wifi' | 'mobile' | 'without' | 'with', number[]> = { wifi: [], mobile: [], without: [], with: [] };
  for (const buffer of buffers) {
    series.wifi.push(run([wifi], buffer, true, false));
    series.mobile.push(run([mobile], buffer, true, false));
    series.without.push(run([wifi, mobile], buffer, false, false));
    series.with.push(run([wifi, mobile], buffer, false, true));
    const i = series.wifi.length - 1;
    rows.push([`${buffer / 1000} kB`, ...[series.wifi, series.mobile, series.without, series.with].map((values) => values[i]!.toFixed(2))]);
  }
  const gain = series.with.map((value, i) => value / series.without[i]!);
  const ratio = series.with.map((value, i) => value / series.wifi[i]!);
  return {
    id: 'receive-buffers',
    title: 'Receive buffer: Wi-Fi 8 Mbit/s, 20 ms and 3G 2 Mbit/s, 150 ms',
    source:
      'Raiciu et al., "How hard can it be?", NSDI 2012, figure 4: without help Multipath TCP stays below TCP over Wi-Fi until about 400 kB; with opportunistic retransmission and penalisation it is at least as good at every size. Goodput in Mbit/s over 60 s. Our window counts only what the application has not read, so small buffers hurt less than in the paper.',
    head: ['buffer', 'TCP over Wi-Fi', 'TCP over 3G', 'without help', 'with opportunistic retransmission and penalisation'],
    rows,
    checks: [
      {
        text: `with help at least ${Math.min(...ratio.slice(1)).toFixed(2)} of TCP over Wi-Fi from 100 kB on (0.95 wanted; ${ratio[0]!.toFixed(2)} with 50 kB)`,
        good: Math.min(...ratio.slice(1)) >= 0.95,
      },
      { text: `help changes goodput by a factor of ${Math.min(...gain).toFixed(2)} to ${Math.max(...gain).toFixed(2)}`, good: true },
    ],
    svg: lines(
      'Goodput over the receive buffer',
      'Mbit/s',
      buffers.map((buffer) => `${buffer / 1000} kB`),
      [
        { name: 'TCP over Wi-Fi', values: series.wifi },
        { name: 'TCP over 3G', values: series.mobile },
        { name: 'without help', values: series.without },
        { name: 'with help', values: series.with },
      ],
    ),
  };
}

export function fairness(): Table {
  const rows: string[][] = [];
  const ratios: { name: string; ratio: number }[] = [];
  for (const [name, coupled, congestion] of [
    ['uncoupled NewReno', 'none', 'newreno'],
    ['LIA', 'lia', 'newreno'],
    ['OLIA', 'olia', 'newreno'],
    ['BALIA', 'balia', 'newreno'],
    ['wVegas', 'wvegas', 'newreno'],
  ] as const) {
    const results = [1, 2, 3, 4, 5].map((seed) => sharedBottleneck({ coupled, congestion, seed, rate: 20, delay: 20, queue: 70, seconds: 180 }));
    const multipath = median(results.map((one) => one.multipath));
    const tcp = median(results.map((one) => one.tcp));
    const ratio = median(results.map((one) => one.multipath / one.tcp));
    ratios.push({ name, ratio });
    rows.push([name, multipath.toFixed(2), tcp.toFixed(2), ratio.toFixed(2)]);
  }
  const coupled = ratios.slice(1);
  const worst = coupled.reduce((a, b) => (b.ratio > a.ratio ? b : a));
  return {
    id: 'fairness',
    title: 'A shared bottleneck: one connection with two subflows against one TCP (NewReno)',
    source:
      'RFC 6356 §2, goal 2: no more than a TCP on the best path. 20 Mbit/s, RTT 40 ms, 70 packets, 180 s of which the first 30 are left out, median of 5 seeds. Published (Wischik et al., NSDI 2011; Khalili et al., CoNEXT 2012): uncoupled takes about 2, LIA and OLIA about 1. Delay-based wVegas yields to loss-based TCP, as Vegas does.',
    head: ['controller', 'Multipath TCP Mbit/s', 'TCP Mbit/s', 'ratio'],
    rows,
    checks: [{ text: `largest ratio of a coupled controller ${worst.ratio.toFixed(2)} (${worst.name}), at most 1.15 wanted`, good: worst.ratio <= 1.15 }],
    svg: bars(
      'Share at a common bottleneck',
      'Multipath TCP / TCP',
      ratios.map((one) => one.name),
      [{ name: 'ratio', values: ratios.map((one) => one.ratio) }],
    ),
  };
}

export function heterogeneous(): Table {
  const names = Object.keys(SCHEDULERS).filter((name) => name !== 'handover');
  const rows: string[][] = [];
  const delays = [10, 25, 50, 100, 200];
  const completion = new Map<string, number[]>(names.map((name) => [name, []]));
  for (const delay of delays) {
    const paths = [
      { rate: 20, delay: 10, queue: 100 },
      { rate: 10, delay, queue: 100 },
    ];
    const single = transfer({ paths: [paths[0]!], size: 2_000_000, direction: 'down', plain: true });
    const cells: string[] = [];
    for (const name of names) {
      const result = transfer({ paths, size: 2_000_000, direction: 'down', options: { mptcp: { scheduler: SCHEDULERS[name]! } } });
      completion.get(name)!.push(result.milliseconds);
      cells.push(`${result.milliseconds.toFixed(0)} (${result.outOfOrderDelay.toFixed(1)})`);
    }
    rows.push([`${delay} ms`, single.milliseconds.toFixed(0), ...cells]);
  }
  const best = rows.map((row) => Math.min(...row.slice(2).map((cell) => Number.parseFloat(cell))));
  return {
    id: 'heterogeneous',
    title: 'Schedulers over heterogeneous paths: completion time in ms (mean time a byte waits out of order, ms)',
    source:
      'As in Lim et al. (ECF, CoNEXT 2017) and Ferlin et al. (BLEST, Networking 2016): 2 MB over 20 Mbit/s with 10 ms and 10 Mbit/s with a growing one-way delay. Published: ECF and BLEST keep completion time and reordering low where lowest RTT does not.',
    head: ['delay of the second path', 'TCP on the first', ...names],
    rows,
    checks: [{ text: `best scheduler per delay: ${best.map((value) => value.toFixed(0)).join(', ')} ms`, good: true }],
    svg: lines(
      'Completion of 2 MB over unequal paths',
      'ms',
      delays.map((delay) => `${delay} ms`),
      names.map((name) => ({ name, values: completion.get(name)! })),
    ),
  };
}

function median(values: number[]): number {
  const sorted = [...values].sort((a, b) => a - b);
  return sorted[Math.floor(sorted.length / 2)]!;
}
