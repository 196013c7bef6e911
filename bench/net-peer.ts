/** One end of the throughput benchmark of sockets; runs inside a namespace. `serve PORT`, or `VARIANT HOST PORT up|down BYTES [NAMESPACE]`. */
import type { Socket } from 'node:net';
import { command, kernelConnect, kernelServer, Tun } from '@subflow/link';
import { connect, kernelBackend, openStack } from '@subflow/net';
import { parseAddress } from '@subflow/wire';

const PIECE = Buffer.alloc(65536, 'subflow ');
const [role, host, port, direction, bytes, namespace] = process.argv.slice(2);

if (role === 'serve') {
  const server = kernelServer(parseAddress('0.0.0.0'), Number(host), { congestion: 'reno' });
  (server as unknown as { allowHalfOpen: boolean }).allowHalfOpen = true;
  server.on('connection', (socket) => {
    socket.once('data', (chunk: Buffer) => {
      const [what, size] = String(chunk).split(' ');
      if (what === 'down') send(socket, Number(size));
      else {
        let received = chunk.length - String(chunk).indexOf('\n') - 1;
        socket.on('data', (more: Buffer) => (received += more.length));
        socket.on('end', () => socket.end(`${received}\n`));
      }
    });
    socket.on('error', () => undefined);
  });
  server.on('listening', () => process.stdout.write('serving\n'));
} else {
  const socket = await open();
  const size = Number(bytes);
  // An eighth goes before the clock starts, for everybody: congestion windows open, code is compiled.
  const warm = Math.floor(size / 8 / PIECE.length) * PIECE.length;
  let started = 0;
  // The request goes alone: the server reads the first chunk as a line.
  socket.write(`${direction} ${size}\n`);
  let received = 0;
  socket.on('data', (chunk: Buffer) => {
    received += chunk.length;
    if (direction === 'down' && started === 0 && received >= warm) started = performance.now();
  });
  if (direction === 'up')
    setTimeout(
      () =>
        send(socket, size, (left) => {
          if (started === 0 && size - left >= warm) started = performance.now();
        }),
      50,
    );
  await new Promise((resolve) => socket.on('end', resolve));
  const seconds = (performance.now() - started) / 1000;
  if (direction === 'down' && received !== size) throw new Error(`${received} of ${size} bytes`);
  const cpu = process.cpuUsage();
  process.stdout.write(`${JSON.stringify({ gigabits: (8 * (size - warm)) / seconds / 1e9, cpu: (cpu.user + cpu.system) / 1e6 })}\n`);
  process.exit(0);
}

async function open(): Promise<Socket> {
  let socket: Socket;
  if (role === 'node') socket = kernelConnect(parseAddress(host!), Number(port), { congestion: 'reno' });
  else if (role === 'kernel') socket = connect({ host: host!, port: Number(port), backend: kernelBackend, congestion: 'reno', allowHalfOpen: true });
  else {
    const tun = new Tun(`sfn${process.pid % 10000}`);
    command('ip', ['link', 'set', tun.name, 'netns', namespace!]);
    command('ip', ['-n', namespace!, 'address', 'add', '198.51.100.2/24', 'dev', tun.name]);
    command('ip', ['-n', namespace!, 'link', 'set', tun.name, 'up']);
    const stack = openStack({ interfaces: [{ name: 'tun', port: tun, addresses: ['198.51.100.1/24'] }] });
    socket = connect({ host: host!, port: Number(port), backend: stack, allowHalfOpen: true });
  }
  (socket as unknown as { allowHalfOpen: boolean }).allowHalfOpen = true;
  if (role !== 'node') await new Promise((resolve, reject) => void socket.once('connect', resolve).once('error', reject));
  return socket;
}

function send(socket: Socket, size: number, onPiece: (left: number) => void = () => undefined): void {
  let left = size;
  const more = (): void => {
    while (left > 0) {
      const piece = left < PIECE.length ? PIECE.subarray(0, left) : PIECE;
      left -= piece.length;
      onPiece(left);
      if (!socket.write(piece)) {
        socket.once('drain', more);
        return;
      }
    }
    socket.end();
  };
  more();
}
