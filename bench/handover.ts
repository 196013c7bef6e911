/**
 * Our client and the kernel's, one after the other, over the same emulated Wi-Fi and LTE from the same kernel server:
 * aggregation of undisturbed paths, and the longest gap after Wi-Fi is cut without a word.
 */
import { spawn } from 'node:child_process';
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { createInterface } from 'node:readline';
import { fileURLToPath } from 'node:url';
import { parseScenario } from '@subflow/emulator';
import type { Scenario } from '@subflow/emulator';
import { Namespace, RealTimeNetwork, Tun } from '@subflow/link';
import { row, Runs, within } from './rows.ts';
import type { Row } from './rows.ts';
import { ipVersion } from '@subflow/wire';

const RUNS = 5;
const path = (file: string): string => fileURLToPath(new URL(file, import.meta.url));
const BIN = path('../packages/cli/bin/subflow.mjs');
const SERVER = path('../packages/cli/dist/demo/kernel-server.js');
const CLIENT = path('./kernel-download.ts');
const PORT = '8080';
/** 40 MB over 30 Mbit/s are 11 s; a client that uses one path only needs 32. */
const TRANSFER = 60_000;

const PATHS = `
  - { name: wifi, rate: 20 Mbit/s, delay: 15 ms, queue: { time: 100 ms } }
  - { name: lte, rate: 10 Mbit/s, delay: 30 ms, loss: LOSS, queue: { time: 100 ms } }`;
const AGGREGATION = `paths:${PATHS}\ntransfer: { size: 40 MB }\n`;
const CUT = `paths:${PATHS}\ntransfer: { size: 12 MB }\ntimeline: [{ at: 2 s, path: wifi, up: false }]\n`;

interface Outcome {
  seconds: number;
  gap: number;
}

export async function handover(): Promise<Row[]> {
  const rows: Row[] = [];
  for (const [name, loss] of [
    ['LTE without loss', '0'],
    ['LTE with 0.1 % loss', '0.1 %'],
  ] as const) {
    const { ours, kernel } = await compare(AGGREGATION.replace('LOSS', loss), (one) => (40e6 * 8) / one.seconds / 30e6);
    rows.push(row(`aggregation, ${name}`, 'of sum', ours, 'kernel client', kernel));
  }
  const { ours, kernel } = await compare(CUT.replace('LOSS', '0.1 %'), (one) => one.gap);
  rows.push(row('longest gap after the silent cut', 's', ours, 'kernel client', kernel, true));
  return rows;
}

async function compare(text: string, figure: (outcome: Outcome) => number): Promise<{ ours: Runs; kernel: Runs }> {
  const ours = new Runs();
  const kernel = new Runs();
  for (let i = 0; i < RUNS; i++) {
    const seeded = `seed: ${i + 1}\n${text}`;
    await ours.take(async () => figure(await ourClient(seeded)));
    await kernel.take(async () => figure(await kernelClient(parseScenario(seeded))));
  }
  return { ours, kernel };
}

function output(child: ReturnType<typeof spawn>): Promise<string> {
  let out = '';
  let err = '';
  child.stdout!.on('data', (chunk: Buffer) => (out += chunk.toString()));
  child.stderr!.on('data', (chunk: Buffer) => (err += chunk.toString()));
  const done = new Promise<string>((resolve, reject) =>
    child.once('close', (code) => (code === 0 ? resolve(out) : reject(new Error(err || `exit code ${code}`)))),
  );
  return within('the transfer', done, () => child.kill('SIGKILL'), TRANSFER);
}

async function ourClient(text: string): Promise<Outcome> {
  const directory = mkdtempSync(join(tmpdir(), 'subflow-bench-'));
  try {
    writeFileSync(join(directory, 'scenario.yaml'), text);
    const out = await output(
      spawn(process.execPath, [BIN, 'demo', '--mode', 'kernel', '--json', '--scenario', join(directory, 'scenario.yaml'), '--out', directory]),
    );
    const summary = JSON.parse(out) as { correct: boolean; seconds: number; longestGapSeconds: number };
    if (!summary.correct) throw new Error('wrong bytes');
    return { seconds: summary.seconds, gap: summary.longestGapSeconds };
  } finally {
    rmSync(directory, { recursive: true, force: true });
  }
}

async function kernelClient(scenario: Scenario): Promise<Outcome> {
  const server = new Namespace('ks');
  const client = new Namespace('kc');
  const network = new RealTimeNetwork(scenario.seed);
  const tuns: Tun[] = [];
  try {
    for (const one of [server, client]) {
      one.sysctl('net.ipv4.conf.all.rp_filter', 0);
      one.sysctl('net.ipv4.conf.default.rp_filter', 0);
      one.mptcpLimits(8, 8);
    }
    const links = scenario.paths.map((entry, i) => {
      const near = new Tun(`sfk${process.pid % 10000}c${i}`, { offload: false });
      const far = new Tun(`sfk${process.pid % 10000}s${i}`, { offload: false });
      tuns.push(near, far);
      client.adopt(near.name, `192.0.2.${4 * i + 1}/30`);
      server.adopt(far.name, `192.0.2.${4 * i + 2}/30`);
      client.ip('route', 'add', '192.0.2.2/32', 'dev', near.name, 'metric', String(100 + i));
      if (i > 0) client.mptcpEndpoint(`192.0.2.${4 * i + 1}`, near.name, 'subflow');
      return network.link(network.portEnd(near), network.portEnd(far), entry.link, entry.link);
    });
    const serving = server.start(process.execPath, [SERVER, '192.0.2.2', PORT, String(scenario.transfer.size), '1']);
    const ready = new Promise((resolve) => createInterface({ input: serving.stdout! }).once('line', resolve));
    await within('the server', ready, () => serving.kill('SIGKILL'));
    const child = client.start(process.execPath, ['--import', 'tsx', CLIENT, '192.0.2.2', PORT]);
    const done = output(child);
    // The transfer starts when the first packet enters the wifi path.
    const begun = new Promise<void>((resolve) => {
      links[0]!.forward.tap = (packet) => {
        if (packet.length > 80 && ipVersion(packet) === 4) resolve();
      };
    });
    await Promise.race([begun, done]);
    for (const step of scenario.timeline) {
      setTimeout(() => {
        const link = links[scenario.paths.findIndex((entry) => entry.name === step.path)]!;
        link.forward.setUp(step.up ?? true);
        link.backward.setUp(step.up ?? true);
      }, step.at / 1000);
    }
    const result = JSON.parse(await done) as {
      seconds: number;
      longestGapSeconds: number;
      sha256: string;
      claimed: string;
      fallback: boolean;
      subflows: number;
    };
    if (result.sha256 !== result.claimed || result.fallback) throw new Error(`kernel client: ${JSON.stringify(result)}`);
    return { seconds: result.seconds, gap: result.longestGapSeconds };
  } finally {
    network.stop();
    for (const tun of tuns) tun.close();
    client.remove();
    server.remove();
  }
}
