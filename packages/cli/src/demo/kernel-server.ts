/** The kernel's side of the demonstration: Node's HTTP server on an IPPROTO_MPTCP socket, run inside the server's namespace. */
import { createHash } from 'node:crypto';
import { createServer } from 'node:http';
import { parseAddress } from '@subflow/wire';
import { kernelListener, mptcpInfo } from '@subflow/link';
import { payload } from './payload.ts';

const [address, port, size, seed] = process.argv.slice(2);

function tell(message: object): void {
  process.stdout.write(`${JSON.stringify(message)}\n`);
}

try {
  const body = payload(Number(size), Number(seed));
  const digest = createHash('sha256').update(body).digest('hex');
  const server = createServer((request, response) => {
    const { socket } = request;
    const finish = (): void => {
      const info = mptcpInfo(socket);
      tell({ op: 'info', info });
    };
    if (request.method === 'PUT') {
      const hash = createHash('sha256');
      request.on('data', (chunk: Buffer) => hash.update(chunk));
      request.on('end', () => {
        finish();
        response.writeHead(200, { 'content-length': 0, 'x-sha256': hash.digest('hex'), connection: 'close' });
        response.end();
      });
      return;
    }
    response.writeHead(200, { 'content-length': body.length, 'x-sha256': digest, connection: 'close' });
    response.end(body);
    socket.once('drain', finish);
    response.once('finish', finish);
  });
  // BBR, the default here, crawls over short queues; Reno is the one other controller that namespaces may use.
  server.listen({ fd: kernelListener(parseAddress(address!), Number(port), { congestion: 'reno' }) }, () => tell({ op: 'listening', digest }));
} catch (error) {
  tell({ op: 'error', code: (error as { code?: string }).code ?? 'INTERNAL', message: (error as Error).message });
  process.exit(1);
}
