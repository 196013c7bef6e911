/** Bulk transfer over TUN with offload against the kernel's Multipath TCP and TCP over veth; iperf3 is the peer everywhere. */
import { parseAddress } from '@subflow/wire';
import { Namespace, vethPair } from '@subflow/link';
import { addressesOf, Bench } from '../test/interop/bench.ts';
import { iperfClient } from '../test/interop/iperf-client.ts';
import { row, Runs } from './rows.ts';
import type { Row } from './rows.ts';

const RUNS = 5;
const SIZE = 2_000_000_000;

export async function tun(): Promise<Row[]> {
  const [send, receive, mptcp, tcp] = [new Runs(), new Runs(), new Runs(), new Runs()];
  for (let i = 0; i < RUNS; i++) {
    await send.take(() => ours(false));
    await mptcp.take(() => kernel(true));
    await receive.take(() => ours(true));
    await tcp.take(() => kernel(false));
  }
  return [
    row('TUN: we receive', 'Gbit/s', receive, 'kernel Multipath TCP over veth', mptcp),
    row('TUN: we receive', 'Gbit/s', receive, 'kernel TCP over veth', tcp),
    row('TUN: we send', 'Gbit/s', send, 'kernel Multipath TCP over veth', mptcp),
    row('TUN: we send', 'Gbit/s', send, 'kernel TCP over veth', tcp),
  ];
}

async function ours(reverse: boolean): Promise<number> {
  const bench = new Bench({ label: 'bench', paths: [{ family: 4 }], offload: true });
  try {
    bench.namespace.start('mptcpize', ['run', 'iperf3', '-s', '-B', addressesOf(4, 0).kernel, '-p', '5201', '-1']);
    await new Promise((resolve) => setTimeout(resolve, 400));
    const result = await iperfClient(bench.runner, parseAddress(addressesOf(4, 0).kernel), 5201, SIZE, reverse);
    if (result.modes[1] !== 'mptcp') throw new Error('fell back');
    return (SIZE * 8) / result.seconds / 1e9;
  } finally {
    bench.remove();
  }
}

async function kernel(multipath: boolean): Promise<number> {
  const a = new Namespace('va');
  const b = new Namespace('vb');
  try {
    vethPair(a, 'veth0', '192.0.2.1/24', b, 'veth1', '192.0.2.2/24');
    const run = multipath ? ['run', 'iperf3'] : [];
    b.start(multipath ? 'mptcpize' : 'iperf3', [...run, '-s', '-p', '5201', '-1']);
    await new Promise((resolve) => setTimeout(resolve, 400));
    const out = a.run(multipath ? 'mptcpize' : 'iperf3', ...run, '-c', '192.0.2.2', '-p', '5201', '-n', String(SIZE), '-C', 'reno', '-J');
    return (JSON.parse(out) as { end: { sum_received: { bits_per_second: number } } }).end.sum_received.bits_per_second / 1e9;
  } finally {
    a.remove();
    b.remove();
  }
}
