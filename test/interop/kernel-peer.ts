/** The kernel's side of the interop tests: runs inside a namespace, on IPPROTO_MPTCP sockets, and obeys JSON lines. */
import { createHash } from 'node:crypto';
import { createInterface } from 'node:readline';
import type { Server, Socket } from 'node:net';
import { parseAddress } from '@subflow/wire';
import { kernelConnect, kernelServer, mptcpInfo } from '@subflow/link';
import { CLIENT_SEED, pattern, READY, SERVER_SEED } from './protocol.ts';
import type { Header, PeerAnswer, PeerCommand, Report } from './protocol.ts';

// Namespaces may not use cubic here; the system's default, BBR, crawls over such links.
const CONGESTION = 'reno';
let server: Server | null = null;
let current: Socket | null = null;

function answer(message: PeerAnswer): void {
  process.stdout.write(`${JSON.stringify(message)}\n`);
}

/** Waits until the connection has its further subflows, at most two seconds. */
async function waitForSubflows(socket: Socket, extra: number): Promise<void> {
  for (let i = 0; i < 400 && (mptcpInfo(socket)?.subflows ?? extra) < extra; i++) await new Promise((resolve) => setTimeout(resolve, 5));
  // Linux counts a join before it is established and drops it when the socket is shut down meanwhile.
  if (extra > 0) await new Promise((resolve) => setTimeout(resolve, 50));
}

function transfer(socket: Socket, header: Header, isClient: boolean, first: Buffer | null): void {
  const sends = header.direction === 'both' || (header.direction === 'up') === isClient;
  const receives = header.direction === 'both' || (header.direction === 'up') !== isClient;
  const hash = createHash('sha256');
  const report: Report = { received: 0, hash: '', sent: 0, error: null, info: null };
  let ended = !receives;
  let finished = !sends;
  let reported = false;
  const take = (chunk: Buffer): void => {
    report.received += chunk.length;
    hash.update(chunk);
    if (report.received === header.size) note();
  };
  const note = (): void => {
    const info = mptcpInfo(socket);
    report.info ??=
      info === null ? { subflows: 0, fallback: true, checksum: false } : { subflows: info.subflows, fallback: info.fallback, checksum: info.checksum };
  };
  const maybeDone = (): void => {
    if (reported || !ended || !finished) return;
    reported = true;
    report.hash = hash.digest('hex');
    answer({ op: 'done', report });
  };
  if (first !== null && first.length > 0) take(first);
  socket.on('data', take);
  socket.on('end', () => {
    ended = true;
    maybeDone();
  });
  socket.on('error', (error) => {
    report.error = error.message;
    ended = finished = true;
    maybeDone();
  });
  socket.on('close', () => {
    ended = finished = true;
    maybeDone();
  });
  const body = Buffer.from(pattern(isClient ? CLIENT_SEED : SERVER_SEED));
  const send = (): void => {
    while (report.sent < header.size) {
      const at = report.sent % body.length;
      const piece = body.subarray(at, Math.min(body.length, at + Math.min(65536, header.size - report.sent)));
      report.sent += piece.length;
      if (!socket.write(piece)) {
        socket.once('drain', send);
        return;
      }
    }
    note();
    socket.end(() => {
      finished = true;
      maybeDone();
    });
  };
  void waitForSubflows(socket, header.extraSubflows).then(() => {
    if (sends) send();
    else socket.end();
  });
}

function listen(address: string, port: number): void {
  server?.close();
  const made = kernelServer(parseAddress(address), port, { congestion: CONGESTION });
  server = made;
  made.on('listening', () => answer({ op: 'listening' }));
  (made as Server & { allowHalfOpen: boolean }).allowHalfOpen = true;
  made.on('connection', (socket) => {
    current = socket;
    let line = Buffer.alloc(0);
    const onHeader = (chunk: Buffer): void => {
      line = Buffer.concat([line, chunk]);
      const end = line.indexOf(10);
      if (end < 0) return;
      socket.off('data', onHeader);
      const header = JSON.parse(line.subarray(0, end).toString()) as Header;
      socket.write(READY);
      transfer(socket, header, false, line.subarray(end + 1));
    };
    socket.on('data', onHeader);
    socket.on('error', () => undefined);
  });
}

function connect(address: string, port: number, header: Header, mapped: boolean, fastOpen: boolean): void {
  const socket = kernelConnect(parseAddress(mapped ? `::ffff:${address}` : address), port, { congestion: CONGESTION, fastOpen });
  current = socket;
  (socket as Socket & { allowHalfOpen: boolean }).allowHalfOpen = true;
  socket.setNoDelay(true);
  let line = Buffer.alloc(0);
  const onReady = (chunk: Buffer): void => {
    line = Buffer.concat([line, chunk]);
    const end = line.indexOf(10);
    if (end < 0) return;
    socket.off('data', onReady);
    transfer(socket, header, true, line.subarray(end + 1));
  };
  socket.on('data', onReady);
  socket.on('error', () => undefined);
  socket.once('error', (error) => answer({ op: 'error', message: error.message }));
  socket.write(`${JSON.stringify(header)}\n`);
}

createInterface({ input: process.stdin })
  .on('line', (line) => {
    const message = JSON.parse(line) as PeerCommand;
    try {
      if (message.op === 'listen') listen(message.address, message.port);
      else if (message.op === 'connect') connect(message.address, message.port, message.header, message.mapped, message.fastOpen ?? false);
      else if (message.op === 'reset') current?.resetAndDestroy();
      else {
        current?.destroy();
        server?.close();
        server = null;
      }
    } catch (error) {
      answer({ op: 'error', message: (error as Error).message });
    }
  })
  .on('close', () => process.exit(0));
answer({ op: 'ready' });
