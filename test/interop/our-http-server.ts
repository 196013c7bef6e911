/** A small HTTP server on our stack, for programs that download. */
import type { Connection } from '@subflow/stack';
import { now as clock } from '@subflow/link';
import type { Runner } from './stack-peer.ts';

export interface Served {
  mode: string;
  subflowsSeen: number;
}

/** Serves `body` to every GET once the connection has `subflows` subflows (or after half a second). */
export function ourHttpServer(runner: Runner, port: number, body: Uint8Array, subflows: number): { connections: Served[] } {
  const { host } = runner;
  host.listen({ port });
  const connections: Served[] = [];
  const states = new Map<number, { connection: Connection; head: string; sent: number; served: Served }>();
  runner.onEvent = (event, now) => {
    if (!('connection' in event)) return;
    if (event.type === 'connection-accepted') {
      const connection = host.connections.get(event.connection)!;
      const served = { mode: connection.mode, subflowsSeen: 1 };
      connections.push(served);
      states.set(event.connection, { connection, head: '', sent: -1, served });
    }
    const state = states.get(event.connection);
    if (state === undefined) return;
    const { connection } = state;
    if (event.type === 'subflow-established' && event.subflow > 0) state.served.subflowsSeen++;
    for (let chunk = connection.peek(); chunk !== null; chunk = connection.peek()) {
      state.head += Buffer.from(chunk).toString('latin1');
      connection.consume(chunk.length, now);
    }
    if (state.sent < 0 && state.head.includes('\r\n\r\n')) {
      state.sent = 0;
      connection.write(new TextEncoder().encode(`HTTP/1.1 200 OK\r\nContent-Length: ${body.length}\r\nConnection: close\r\n\r\n`), now);
      // The first bytes bring the join about; the rest waits for it.
      let tries = 0;
      const begin = (): void => {
        if (state.served.subflowsSeen < subflows && ++tries < 100) setTimeout(begin, 5);
        else {
          send(state, body);
          runner.pump();
        }
      };
      begin();
    }
    if (event.type === 'connection-writable' && state.sent > 0) send(state, body);
    state.served.mode = connection.mode;
    runner.pump();
  };
  const send = (state: { connection: Connection; sent: number }, bytes: Uint8Array): void => {
    const now = clock();
    while (state.sent < bytes.length) {
      const piece = bytes.subarray(state.sent, state.sent + 65536);
      if (!state.connection.write(piece, now)) return;
      state.sent += piece.length;
    }
    state.connection.shutdown(now);
  };
  return { connections };
}
