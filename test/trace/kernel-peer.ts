/** Kernel peers that tell what they know: `server PORT BYTES` sends, `client HOST PORT` receives; JSON on standard output. */
import { once } from 'node:events';
import { monitorEventLoopDelay } from 'node:perf_hooks';
import { connect, createServer, kernelBackend } from '@subflow/net';
import { readMptcpInfo, readSubflows } from '@subflow/link/kernel';

const [, , role, first, second] = process.argv;
const now = (): number => performance.timeOrigin + performance.now();
const descriptor = (socket: object): number => (socket as { _handle?: { fd: number } })._handle?.fd ?? -1;

if (role === 'server') {
  const size = Number(second);
  const server = createServer({ backend: kernelBackend }, (socket) => {
    const fd = descriptor(socket);
    let info = readMptcpInfo(fd);
    const subflows = new Map<number, { sent: number; again: number }>();
    const look = (): void => {
      info = readMptcpInfo(fd) ?? info;
      // A subflow that is gone is no longer told of: its last figures are kept.
      for (const one of readSubflows(fd) ?? []) subflows.set(one.id, { sent: one.tcp.bytesSent, again: one.tcp.bytesRetransmitted });
    };
    const timer = setInterval(look, 2);
    socket.on('error', () => undefined);
    socket.once('data', () => {
      const chunk = Buffer.alloc(65_536, 'x');
      let left = size;
      const write = (): void => {
        while (left > 0) {
          const piece = chunk.subarray(0, Math.min(left, chunk.length));
          left -= piece.length;
          if (!socket.write(piece)) {
            socket.once('drain', write);
            return;
          }
        }
        socket.end();
      };
      write();
    });
    socket.once('close', () => {
      clearInterval(timer);
      process.stdout.write(`${JSON.stringify({ ...info, subflows: [...subflows.values()] })}\n`);
      server.close();
    });
  });
  server.listen(Number(first), '0.0.0.0', () => process.stdout.write('listening\n'));
} else {
  // How late this process was told of anything, on a busy machine.
  const late = monitorEventLoopDelay({ resolution: 1 });
  late.enable();
  const socket = connect({ host: first!, port: Number(second), backend: kernelBackend });
  await once(socket, 'connect');
  socket.write('go');
  let received = 0;
  let last = now();
  const gaps: { from: number; to: number }[] = [];
  socket.on('data', (chunk: Buffer) => {
    const at = now();
    if (received > 0 && at - last > 30) gaps.push({ from: last, to: at });
    last = at;
    received += chunk.length;
  });
  socket.on('end', () => socket.end());
  await once(socket, 'close');
  process.stdout.write(`${JSON.stringify({ received, gaps, late: late.max / 1e6 })}\n`);
}
