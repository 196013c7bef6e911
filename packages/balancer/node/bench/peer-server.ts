/**
 * A kernel server of the bench: says who it is, then sends back what it gets.
 * Usage: peer-server NAME PORT
 */
import { kernelServer, setCongestion } from '@subflow/link';
import type { Socket } from 'node:net';

const [name, port] = process.argv.slice(2) as [string, string];
// The wildcard of IPv6 takes IPv4 too; where there is no IPv6 the other one does.
for (const address of [new Uint8Array(16), new Uint8Array(4)]) {
  try {
    const server = kernelServer(address, Number(port), { multipath: true });
    server.maxConnections = 100_000;
    server.on('connection', (socket: Socket) => {
      setCongestion((socket as unknown as { _handle: { fd: number } })._handle.fd, 'reno');
      socket.setNoDelay(true);
      socket.on('error', () => {});
      socket.write(`${name}\n`);
      socket.pipe(socket);
    });
    server.on('error', () => {});
    break;
  } catch {
    // The next one.
  }
}
process.stdout.write('ready\n');
