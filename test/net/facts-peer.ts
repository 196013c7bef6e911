/** A kernel client that tells what its socket says, for the facts test; runs inside a namespace: HOST PORT. */
import { once } from 'node:events';
import { MptcpNetlink } from '@subflow/link';
import { connect, kernelBackend, kernelSnapshot } from '@subflow/net';
import type { MultipathInfo } from '@subflow/net';

const [host, port] = process.argv.slice(2);
const out: Record<string, unknown> = {};
const socket = connect({ host: host!, port: Number(port), backend: kernelBackend, congestion: 'reno' });
await once(socket, 'connect');
const multipath = socket.multipath!;
const events: string[] = [];
multipath.on('subflow-established', ({ local }) => events.push(`up ${local.replace(/:\d+$/, '')}`));
multipath.on('subflow-closed', ({ local }) => events.push(`down ${local.replace(/:\d+$/, '')}`));
const info = (): MultipathInfo => multipath.info()!;
const until = async (condition: () => boolean): Promise<boolean> => {
  for (let i = 0; i < 400 && !condition(); i++) await new Promise((resolve) => setTimeout(resolve, 5));
  return condition();
};
socket.write('x'.repeat(100_000));
let echoed = 0;
socket.on('data', (chunk: Buffer) => (echoed += chunk.length));
await until(() => echoed === 100_000);
out['joined'] = await until(() => info().subflows.filter((one) => one.state === 'ESTABLISHED').length === 2);
out['info'] = info();
out['snapshot'] = kernelSnapshot();
const netlink = new MptcpNetlink();
out['limits'] = netlink.limits();
out['endpoints'] = netlink.endpoints().map((one) => ({ id: one.id, address: [...one.address].join('.'), flags: one.flags }));
multipath.setBackup('192.0.2.5', true);
out['backup'] = await until(() => info().subflows.some((one) => one.localAddress === '192.0.2.5' && one.backup === true));
multipath.removeAddress('192.0.2.5');
out['removed'] = await until(() => info().subflows.filter((one) => one.state === 'ESTABLISHED').length === 1);
multipath.addAddress('192.0.2.5', { subflow: true });
out['added'] = await until(() => info().subflows.filter((one) => one.state === 'ESTABLISHED').length === 2);
netlink.setLimits({ addressesAccepted: 3, subflows: 5 });
out['newLimits'] = netlink.limits();
const codes: unknown[] = [];
for (const act of [
  () => multipath.setScheduler('redundant'),
  () => multipath.setService('interactive'),
  () => multipath.setBackup('203.0.113.1', true),
  () => multipath.setCongestion('reno'),
  () => connect({ host: host!, port: 1, backend: kernelBackend, versions: [0] }),
  () => connect({ host: host!, port: 1, backend: kernelBackend, congestion: 'nonsense' }),
]) {
  try {
    act();
    codes.push('no error');
  } catch (error) {
    codes.push((error as NodeJS.ErrnoException).code);
  }
}
out['codes'] = codes;
await new Promise((resolve) => setTimeout(resolve, 100));
out['events'] = events;
socket.destroy();
await once(socket, 'close');
out['after'] = multipath.info() !== null;
process.stdout.write(`${JSON.stringify(out)}\n`);
process.exit(0);
