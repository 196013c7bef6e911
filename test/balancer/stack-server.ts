/**
 * A server on our own stack behind a balancer: its keys and timestamps name it (design c).
 * Usage: stack-server NAME ID SERVICE PORT
 */
import { spawnSync } from 'node:child_process';
import { createServer, openStack } from '@subflow/net';

const [name, id, service, port] = process.argv.slice(2) as [string, string, string, string];
const bits = service.includes(':') ? 128 : 32;
const stack = openStack({ interfaces: [{ name: 'vip0', port: 'tun', addresses: [`${service}/${bits}`] }], mptcp: { serverId: Number(id) } });
for (const args of [
  ['link', 'set', 'vip0', 'up'],
  ['route', 'replace', `${service}/${bits}`, 'dev', 'vip0'],
])
  spawnSync('ip', args, { stdio: 'inherit' });
const server = createServer({ backend: stack }, (socket) => {
  socket.on('error', () => {});
  socket.write(`${name}\n`);
  socket.pipe(socket);
});
server.listen(Number(port), service, () => process.stdout.write('ready\n'));
