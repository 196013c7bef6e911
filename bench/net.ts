/** Sockets of the net package: the kernel backend beside node:net on the same descriptors, the stack backend beside node:net over kernel Multipath TCP. */
import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { fileURLToPath } from 'node:url';
import { Namespace, vethPair } from '@subflow/link';
import { row, Runs, within } from './rows.ts';
import type { Row } from './rows.ts';

const RUNS = 7;
const SIZE = 2_000_000_000;
const PORT = 9000;
const peer = fileURLToPath(new URL('./net-peer.ts', import.meta.url));

type Variant = 'node' | 'kernel' | 'stack';

export async function net(): Promise<Row[]> {
  const a = new Namespace('neta');
  const b = new Namespace('netb');
  try {
    vethPair(a, 'veth0', '192.0.2.1/24', b, 'veth1', '192.0.2.2/24');
    const server = b.start(process.execPath, ['--import', 'tsx', peer, 'serve', String(PORT)], { stdio: ['ignore', 'pipe', 'inherit'] });
    await once(server.stdout!, 'data');
    const runs: Record<string, Runs> = {};
    for (let i = 0; i < RUNS; i++) {
      for (const direction of ['up', 'down'] as const) {
        // The order turns, so that nobody always runs first.
        const variants = (['node', 'kernel', 'stack'] as const).map((_, k, all) => all[(k + i) % all.length]!);
        for (const variant of variants) {
          await (runs[`${variant} ${direction}`] ??= new Runs()).take(() => transfer(a, b, variant, direction));
        }
      }
    }
    return (['up', 'down'] as const).flatMap((direction) => {
      const of = (variant: Variant): Runs => runs[`${variant} ${direction}`]!;
      const base = of('node');
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

/** One transfer. The kernel stalls at times (packet-io.md of the facts). */
async function transfer(a: Namespace, b: Namespace, variant: Variant, direction: 'up' | 'down'): Promise<number> {
  const host = variant === 'stack' ? '198.51.100.2' : '192.0.2.2';
  const args = ['--import', 'tsx', peer, variant, host, String(PORT), direction, String(SIZE), b.name];
  // The stack lives outside of both namespaces: its TUN device is in the server's.
  const child =
    variant === 'stack'
      ? spawn(process.execPath, args, { stdio: ['ignore', 'pipe', 'inherit'] })
      : a.start(process.execPath, args, { stdio: ['ignore', 'pipe', 'inherit'] });
  let text = '';
  child.stdout!.on('data', (chunk: Buffer) => (text += String(chunk)));
  await within(`the transfer by ${variant}, ${direction},`, once(child, 'close'), () => child.kill('SIGKILL'));
  if (text === '') throw new Error(`${variant}, ${direction}: ended without a figure`);
  return (JSON.parse(text) as { gigabits: number }).gigabits;
}
