/**
 * The prober: targets a second of a scan in the emulator and the memory it takes, the time of a whole conversation on a path
 * of 20 ms, and of a path's verdict. The peer of the scan is the farm alone: bare SYNs, answers counted, nothing kept.
 */
import { spawn } from 'node:child_process';
import { fileURLToPath } from 'node:url';
import { converse, inVirtualTime, ProbeWorld, WORLD_PORT } from '@subflow/probe';
import { median, row } from './rows.ts';
import type { Row } from './rows.ts';

const ROUNDS = 5;

const PEER = fileURLToPath(new URL('./scan-peer.ts', import.meta.url));

interface Measured {
  perSecond: number;
  megabytes: number;
  wrong: number;
  open: number;
}

export async function probe(): Promise<Row[]> {
  const scans: Measured[] = [];
  const bare: Measured[] = [];
  for (let i = 0; i < ROUNDS; i++) {
    scans.push(await peer('scan'));
    bare.push(await peer('bare'));
  }
  const conversations: number[] = [];
  for (let seed = 1; seed <= ROUNDS; seed++) {
    const world = new ProbeWorld({ seed, routers: 3, link: { delay: 2_500 } });
    const result = await inVirtualTime(world.agenda, converse(world.hub, { address: world.target, port: WORLD_PORT, closedPort: 1 }));
    conversations.push(result.microseconds / 1e6);
  }
  const of = (list: readonly Measured[], field: keyof Measured): number[] => list.map((one) => one[field]);
  return [
    row('scan, targets a second', '/s', of(scans, 'perSecond'), 'aim', 2_000),
    row('scan, beside bare SYNs that are only counted', '/s', of(scans, 'perSecond'), 'bare SYNs', median(of(bare, 'perSecond'))),
    row('scan, peak memory', 'MB', of(scans, 'megabytes'), 'limit', 200, true),
    row('scan, targets told wrongly', '', of(scans, 'wrong'), null, null),
    row('scan, connections left open', '', of(scans, 'open'), null, null),
    row('conversation on a 20 ms path, emulated', 's', conversations, 'limit', 5, true),
  ];
}

function peer(kind: string): Promise<Measured> {
  return new Promise((resolve, reject) => {
    const child = spawn(process.execPath, ['--max-semi-space-size=4', '--import', 'tsx', PEER, kind], { stdio: ['ignore', 'pipe', 'inherit'] });
    let text = '';
    child.stdout.on('data', (chunk: Buffer) => (text += String(chunk)));
    child.once('close', (code) => {
      if (code === 0) resolve(JSON.parse(text) as Measured);
      else reject(new Error(`scan-peer ended with ${code}`));
    });
  });
}
