/** Middleboxes drawn for random scenarios, and what may be expected of a connection through them. */
import {
  acknowledgeProactively,
  clearOptions,
  coalesceSegments,
  dropHoles,
  dropUnknownOptions,
  injectReset,
  reflectOptions,
  resizePayload,
  rewritePayload,
  rewriteSequence,
  splitSegments,
  stripOptions,
  swapOptions,
  translateAddresses,
  transparentProxy,
} from '@subflow/emulator';
import type { MiddleboxFactory, Random } from '@subflow/emulator';

export interface DrawnBox {
  name: string;
  /** For a path whose client has this address. */
  make(client: Uint8Array): MiddleboxFactory;
  /** Every byte must get through this box as if it were not there. */
  harmless: boolean;
  /** Whether it changes payload: not at all, bytes only, or the length. */
  rewrites: 'no' | 'bytes' | 'length';
}

const SECOND = 1_000_000;

export function drawBox(draw: Random, random: Random): DrawnBox {
  const where = draw.pick(['syn', 'synack', 'after-handshake', 'all'] as const);
  const size = draw.integer(200, 1200);
  const count = draw.integer(2, 40);
  const timeout = draw.chance(0.5) ? 3600 * SECOND : draw.integer(SECOND, 20 * SECOND);
  const change = draw.pick([-7, -1, 1, 4, 100]);
  const after = draw.integer(1, 20_000);
  const plain = (name: string, factory: MiddleboxFactory, harmless = false, rewrites: DrawnBox['rewrites'] = 'no'): DrawnBox => ({
    name,
    make: () => factory,
    harmless,
    rewrites,
  });
  const boxes: (() => DrawnBox)[] = [
    () => plain(`strip ${where} both`, stripOptions(where, draw.pick(['forward', 'backward', 'both'] as const))),
    () => plain(`drop unknown ${where}`, dropUnknownOptions(where)),
    () => plain(`clear ${where}`, clearOptions(where)),
    () => plain('swap options', swapOptions(), true),
    () => plain('reflect', reflectOptions(), true),
    () => plain(`split ${size}`, splitSegments(size, 'all'), true),
    () => plain(`split ${size} first`, splitSegments(size, 'first')),
    () => plain('coalesce', coalesceSegments(4000)),
    () => plain('drop holes', dropHoles()),
    () => ({ name: `nat ${timeout / SECOND}`, make: (client) => translateAddresses(outsideOf(client), timeout), harmless: false, rewrites: 'no' }),
    () => plain('rewrite sequence', rewriteSequence(draw.integer(1, 2_000_000_000)), true),
    () => plain(`rewrite payload ${count}`, rewritePayload(count), false, 'bytes'),
    () => plain(`resize ${change} after ${after}`, resizePayload(change, after), false, 'length'),
    () => plain(`reset after ${count}`, injectReset(count, draw.integer(1, 3))),
    () => plain('proactive ack', acknowledgeProactively()),
    () => plain('proxy', transparentProxy(random.fork('proxy'))),
  ];
  return draw.pick(boxes)();
}

/** Another address of the client's network. */
function outsideOf(client: Uint8Array): Uint8Array {
  const outside = client.slice();
  outside[outside.length - 1] = outside[outside.length - 1]! + 2;
  return outside;
}
