/**
 * The trace analyzer on a 500 MB capture of 128-byte packets: packets per second and peak memory of the summary and of the
 * full analysis, beside tcpdump and tshark in the same rounds; and memory again on a capture four times as long.
 */
import { spawn } from 'node:child_process';
import { mkdtempSync, readFileSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { writeBigCapture } from '../test/trace/big-capture.ts';
import { median, row, Runs, within } from './rows.ts';
import type { Row } from './rows.ts';

const SIZE = Number(process.env['SUBFLOW_TRACE_SIZE'] ?? 500e6);
const ROUNDS = 5;
/** tshark has needed 103 s for the whole. */
const READING = 300_000;
/** tshark takes minutes for the whole: it gets the beginning, which flatters it (its memory grows with every packet). */
const TSHARK_PACKETS = 600_000;
const CLI = fileURLToPath(new URL('../packages/cli/bin/subflow.mjs', import.meta.url));
const FIELDS = [
  'frame.number',
  'ip.src',
  'ip.dst',
  'tcp.srcport',
  'tcp.dstport',
  'tcp.stream',
  'tcp.seq',
  'tcp.ack',
  'tcp.len',
  'tcp.analysis.retransmission',
  'tcp.analysis.ack_rtt',
  'tcp.options.mptcp.subtype',
  'tcp.options.mptcp.rawdataseqno',
  'tcp.options.mptcp.rawdataack',
  'mptcp.stream',
];

export async function trace(): Promise<Row[]> {
  const directory = mkdtempSync(join(tmpdir(), 'subflow-bench-'));
  try {
    const file = join(directory, 'once.pcap');
    const { packets, connections } = writeBigCapture(file, SIZE);
    console.log(`${(SIZE / 1e6).toFixed(0)} MB, ${packets.toLocaleString('en')} packets, ${connections} connections`);
    const runs = { brief: [] as Run[], full: [] as Run[] };
    const peers = { tcpdump: new Runs(), tcpdumpMemory: new Runs(), tshark: new Runs(), tsharkMemory: new Runs() };
    for (let round = 0; round < ROUNDS; round++) {
      runs.brief.push(await run(process.execPath, [CLI, 'trace', file, '--top', '0', '--brief']));
      runs.full.push(await run(process.execPath, [CLI, 'trace', file, '--top', '0']));
      await takeBoth(peers.tcpdump, peers.tcpdumpMemory, packets, () => run('tcpdump', ['-r', file, '-n']));
      const fields = FIELDS.flatMap((field) => ['-e', field]);
      await takeBoth(peers.tshark, peers.tsharkMemory, TSHARK_PACKETS, () =>
        run('tshark', ['-r', file, '-n', '-c', String(TSHARK_PACKETS), '-T', 'fields', ...fields]),
      );
    }
    const rate = (name: keyof typeof runs): number[] => runs[name].map((one) => packets / one.seconds / 1e6);
    const memory = (name: keyof typeof runs): number[] => runs[name].map((one) => one.peak);
    const long = join(directory, 'four.pcap');
    const four = writeBigCapture(long, SIZE * 4);
    const briefLong = await run(process.execPath, [CLI, 'trace', long, '--top', '0', '--brief']);
    const fullLong = await run(process.execPath, [CLI, 'trace', long, '--top', '0']);
    return [
      row('trace summary (--brief)', 'M pkt/s', rate('brief'), 'tcpdump -n', peers.tcpdump),
      row('trace summary (--brief)', 'M pkt/s', rate('brief'), '1.5 M pkt/s', 1.5),
      row('trace full analysis', 'M pkt/s', rate('full'), 'tcpdump -n', peers.tcpdump),
      row('trace full analysis', 'M pkt/s', rate('full'), 'tshark -T fields', peers.tshark),
      row('trace summary, peak memory', 'MB', memory('brief'), '200 MB', 200, true),
      row('trace full analysis, peak memory', 'MB', memory('full'), '200 MB', 200, true),
      row(`tcpdump, peak memory`, 'MB', peers.tcpdumpMemory, null, null),
      row(`tshark, peak memory (${TSHARK_PACKETS.toLocaleString('en')} packets)`, 'MB', peers.tsharkMemory, null, null),
      row(`four times as long: summary (${(four.packets / 1e6).toFixed(1)} M packets)`, 'MB', [briefLong.peak], 'once', median(memory('brief')), true),
      row('four times as long: full analysis', 'MB', [fullLong.peak], 'once', median(memory('full')), true),
      row('four times as long: full analysis', 'M pkt/s', [four.packets / fullLong.seconds / 1e6], 'once', median(rate('full'))),
    ];
  } finally {
    rmSync(directory, { recursive: true, force: true });
  }
}

/** One run of a peer, which gives two figures; a stall is noted with both. */
async function takeBoth(rate: Runs, memory: Runs, packets: number, start: () => Promise<Run>): Promise<void> {
  const once = start();
  await rate.take(async () => packets / (await once).seconds / 1e6);
  await memory.take(async () => (await once).peak);
}

interface Run {
  seconds: number;
  /** MB. */
  peak: number;
}

/** Runs a program to its end, its output thrown away; the peak of its resident memory as the kernel counts it. */
async function run(program: string, args: readonly string[]): Promise<Run> {
  const started = performance.now();
  const child = spawn(program, args, { stdio: ['ignore', 'ignore', 'ignore'] });
  let peak = 0;
  const timer = setInterval(() => {
    try {
      const line = /VmHWM:\s+(\d+) kB/.exec(readFileSync(`/proc/${child.pid}/status`, 'utf8'));
      if (line !== null) peak = Number(line[1]) / 1000;
    } catch {
      // It has just ended.
    }
  }, 20);
  const ended = new Promise<number | null>((resolve, reject) => {
    child.once('error', reject);
    child.once('close', resolve);
  });
  const code = await within(program, ended, () => child.kill('SIGKILL'), READING).finally(() => clearInterval(timer));
  if (code !== 0) throw new Error(`${program} ended with ${code}`);
  return { seconds: (performance.now() - started) / 1000, peak };
}
