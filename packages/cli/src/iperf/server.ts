/** The server of the throughput test. */
import { createServer } from '@subflow/net';
import type { MultipathOptions, Server, Socket } from '@subflow/net';
import { count, firstLine, send } from './flow.ts';
import { LONGEST_LINE, parseRequest } from './protocol.ts';
import type { TestRequest } from './protocol.ts';

const HELLO_TIMEOUT = 10_000;
/** Tests at once; more are refused. */
const MOST_TESTS = 16;

interface Running {
  request: TestRequest;
  control: Socket;
  joined: number;
  finished: number;
  bytes: number;
  started: number;
}

export function iperfServer(options: MultipathOptions, onDone: (line: string) => void): Server {
  const tests = new Map<string, Running>();
  const server = createServer({ ...options, allowHalfOpen: true, noDelay: true }, (socket) => {
    socket.on('error', () => undefined);
    void firstLine(socket, LONGEST_LINE, HELLO_TIMEOUT).then((line) => {
      const known = line === null ? undefined : tests.get(line);
      if (known !== undefined) {
        void data(known, socket);
        return;
      }
      const request = line === null ? null : parseRequest(line);
      if (request === null) {
        socket.end(`${JSON.stringify({ error: 'BAD_REQUEST', message: 'the first line is no test request; expected a client of subflow iperf' })}\n`);
        return;
      }
      if (tests.size >= MOST_TESTS) {
        socket.end(`${JSON.stringify({ error: 'BUSY', message: `${tests.size} tests are running` })}\n`);
        return;
      }
      tests.set(request.id, { request, control: socket, joined: 0, finished: 0, bytes: 0, started: 0 });
      socket.on('close', () => tests.delete(request.id));
      socket.resume();
      socket.write(`${JSON.stringify({ id: request.id })}\n`);
    });
  });

  async function data(test: Running, socket: Socket): Promise<void> {
    const { request, control } = test;
    if (test.joined++ === 0) test.started = performance.now();
    if (request.reverse) {
      socket.resume();
      test.bytes += await send(socket, Math.ceil(request.bytes / request.connections), performance.now() + request.seconds * 1000);
    } else {
      socket.resume();
      await count(socket, (bytes) => (test.bytes += bytes));
      socket.end();
    }
    if (++test.finished < request.connections) return;
    const seconds = (performance.now() - test.started) / 1000;
    control.end(`${JSON.stringify({ id: request.id, bytes: test.bytes, seconds })}\n`);
    onDone(
      `${request.reverse ? 'sent' : 'received'} ${test.bytes} bytes in ${seconds.toFixed(2)} s from ${socket.remoteAddress ?? control.remoteAddress ?? '?'}`,
    );
  }
  return server;
}
