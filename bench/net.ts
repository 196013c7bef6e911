/** Sockets of the net package: the kernel backend beside node:net on the same descriptors, the stack backend beside node:net over kernel Multipath TCP. */
import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { fileURLToPath } from 'node:url';
import { Namespace, vethPair } from '@subflow/link';
import { median, row } from './rows.ts';
import type { Row } from './rows.ts';

const RUNS = 7;
const SIZE = 2_000_000_000;
const PORT = 9000;
const TIMEOUT = 30_000;
const peer = fileURLToPath(new URL('./net-peer.ts', import.meta.url));

type Variant = 'node' | 'kernel' | 'stack';

export async function net(): Promise<Row[]> {
  const a = new Namespace('neta');
  const b = new Namespace('netb');
  try {
    vethPair(a, 'veth0', '192.0.2.1/24', b, 'veth1', '192.0.2.2/24');
    const server = b.start(process.execPath, ['--import', 'tsx', peer, 'serve', String(PORT)], { stdio: ['ignore', 'pipe', 'inherit'] });
    await once(server.stdout!, 'data');
    const runs: Record<string, number[]> = {};
    for (let i = 0; i < RUNS; i++) {
      for (const direction of ['up', 'down'] as const) {
        // The order turns, so that nobody always runs first.
        const variants = (['node', 'kernel', 'stack'] as const).map((_, k, all) => all[(k + i) % all.length]!);
        for (const variant of variants) {
          const value = await transfer(a, b, variant, direction);
          if (value !== null) (runs[`${variant} ${direction}`] ??= []).push(value);
        }
      }
    }
    return (['up', 'down'] as const).flatMap((direction) => {
      const of = (variant: Variant): number[] => runs[`${variant} ${direction}`] ?? [0];
      const base = median(of('node'));
      return [
        row(`kernel backend, ${direction === 'up' ? 'sends' : 'receives'}`, 'Gbit/s', of('kernel'), 'node:net on kernel Multipath TCP', base),
        row(`stack backend, ${direction === 'up' ? 'sends' : 'receives'}`, 'Gbit/s', of('stack'), 'node:net on kernel Multipath TCP', base),
      ];
    });
  } finally {
    a.remove();
    b.remove();
  }
}

/** One transfer; null when the kernel stalled for longer than the limit (it does at times; packet-io.md of the facts). */
async function transfer(a: Namespace, b: Namespace, variant: Variant, direction: 'up' | 'down'): Promise<number | null> {
  const host = variant === 'stack' ? '198.51.100.2' : '192.0.2.2';
  const args = ['--import', 'tsx', peer, variant, host, String(PORT), direction, String(SIZE), b.name];
  // The stack lives outside of both namespaces: its TUN device is in the server's.
  const child =
    variant === 'stack'
      ? spawn(process.execPath, args, { stdio: ['ignore', 'pipe', 'inherit'] })
      : a.start(process.execPath, args, { stdio: ['ignore', 'pipe', 'inherit'] });
  const timer = setTimeout(() => child.kill('SIGKILL'), TIMEOUT);
  let text = '';
  child.stdout!.on('data', (chunk: Buffer) => (text += String(chunk)));
  await once(child, 'close');
  clearTimeout(timer);
  return text === '' ? null : (JSON.parse(text) as { gigabits: number }).gigabits;
}
