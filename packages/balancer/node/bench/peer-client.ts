/**
 * The kernel client of the bench: opens connections and says what became of them. A line of JSON in, a line of JSON out.
 */
import { createInterface } from 'node:readline';
import type { Socket } from 'node:net';
import { kernelConnect, mptcpInfo, readSubflows } from '@subflow/link';
import { parseAddress } from '@subflow/wire';

/** What the client is told to do. */
export type ClientCommand =
  | { do: 'open'; count: number; address: string; port: number; multipath?: boolean; atOnce?: number }
  /** Asks every connection for an echo: who answers within the time is alive. */
  | { do: 'check'; timeout: number }
  | { do: 'facts' }
  | { do: 'close' }
  /** Opens, asks and closes, one after the other in `atOnce` lanes, for so long. */
  | { do: 'short'; seconds: number; address: string; port: number; multipath?: boolean; atOnce?: number }
  /** Echoes a megabyte at a time over every connection for so long; breaks are those that died. */
  | { do: 'load'; seconds: number };

export interface ClientFacts {
  connections: number;
  alive: number;
  failed: number;
  /** Connections by who answered. */
  servers: Record<string, number>;
  /** Connections that are Multipath TCP, and those with more than one subflow. */
  multipath: number;
  joined: number;
  /** Established subflows of all connections. */
  subflows: number;
  /** Where additional subflows go: address and port, with their number. */
  targets: Record<string, number>;
}

interface Connection {
  socket: Socket;
  server: string;
  alive: boolean;
  echoed: number;
  wake: (() => void) | null;
}

const GREETING_TIME = 8000;
const MEGABYTE = Buffer.alloc(1 << 18, 7);

let connections: Connection[] = [];
let failed = 0;

function open(address: Uint8Array, port: number, multipath: boolean): Promise<Connection | null> {
  return new Promise((resolve) => {
    let socket: Socket;
    try {
      socket = kernelConnect(address, port, { multipath, congestion: 'reno' });
    } catch {
      resolve(null);
      return;
    }
    const connection: Connection = { socket, server: '', alive: true, echoed: 0, wake: null };
    const timer = setTimeout(() => socket.destroy(), GREETING_TIME);
    let head = '';
    socket.on('data', (chunk: Buffer) => {
      if (connection.server !== '') {
        connection.echoed += chunk.length;
        connection.wake?.();
        return;
      }
      head += chunk.toString('latin1');
      const end = head.indexOf('\n');
      if (end < 0) return;
      connection.server = head.slice(0, end);
      connection.echoed += head.length - end - 1;
      clearTimeout(timer);
      socket.setKeepAlive(true, 1000);
      resolve(connection);
    });
    const over = (): void => {
      clearTimeout(timer);
      connection.alive = false;
      connection.wake?.();
      resolve(connection.server === '' ? null : connection);
    };
    socket.on('error', over);
    socket.on('close', over);
  });
}

/** Sends bytes and waits for as many to come back. */
function echo(connection: Connection, data: Uint8Array, timeout: number): Promise<boolean> {
  const { socket } = connection;
  if (!connection.alive) return Promise.resolve(false);
  const wanted = connection.echoed + data.length;
  return new Promise((resolve) => {
    const done = (good: boolean): void => {
      clearTimeout(timer);
      connection.wake = null;
      resolve(good);
    };
    const timer = setTimeout(() => done(false), timeout);
    connection.wake = () => {
      if (!connection.alive) done(false);
      else if (connection.echoed >= wanted) done(true);
    };
    socket.write(data);
  });
}

async function lanes(count: number, atOnce: number, work: () => Promise<boolean>): Promise<void> {
  let left = count;
  await Promise.all(
    Array.from({ length: Math.min(atOnce, count) }, async () => {
      while (left-- > 0) if (!(await work())) return;
    }),
  );
}

function facts(): ClientFacts {
  const servers: Record<string, number> = {};
  const targets: Record<string, number> = {};
  let multipath = 0;
  let joined = 0;
  let subflows = 0;
  const alive = connections.filter((one) => one.alive);
  for (const { socket, server } of alive) {
    servers[server] = (servers[server] ?? 0) + 1;
    const fd = (socket as unknown as { _handle: { fd: number } | null })._handle?.fd ?? -1;
    const info = mptcpInfo(socket);
    if (info === null || info.fallback) {
      subflows++;
      continue;
    }
    multipath++;
    const up = (readSubflows(fd) ?? []).filter((one) => one.tcp.state === 'ESTABLISHED');
    subflows += up.length;
    if (up.length > 1) joined++;
    for (const one of up.slice(1)) {
      const target = `${one.remote} ${one.remotePort}`;
      targets[target] = (targets[target] ?? 0) + 1;
    }
  }
  return { connections: connections.length, alive: alive.length, failed, servers, multipath, joined, subflows, targets };
}

async function perform(command: ClientCommand): Promise<object> {
  switch (command.do) {
    case 'open': {
      const address = parseAddress(command.address);
      await lanes(command.count, command.atOnce ?? 16, async () => {
        const connection = await open(address, command.port, command.multipath ?? true);
        if (connection === null) failed++;
        else connections.push(connection);
        return true;
      });
      return facts();
    }
    case 'check': {
      const results = await Promise.all(connections.map((one) => echo(one, Buffer.from('are you there?'), command.timeout)));
      return { alive: results.filter(Boolean).length, of: connections.length };
    }
    case 'facts':
      return facts();
    case 'close':
      for (const { socket } of connections) socket.destroy();
      connections = [];
      failed = 0;
      return {};
    case 'short': {
      const address = parseAddress(command.address);
      const end = performance.now() + command.seconds * 1000;
      let count = 0;
      let lost = 0;
      await lanes(Number.MAX_SAFE_INTEGER, command.atOnce ?? 32, async () => {
        const connection = await open(address, command.port, command.multipath ?? true);
        if (connection === null) lost++;
        else {
          count++;
          connection.socket.resetAndDestroy();
        }
        return performance.now() < end;
      });
      return { count, lost, perSecond: Math.round(count / command.seconds) };
    }
    case 'load': {
      const end = performance.now() + command.seconds * 1000;
      let bytes = 0;
      let broken = 0;
      let longest = 0;
      await Promise.all(
        connections.map(async (one) => {
          while (performance.now() < end) {
            const began = performance.now();
            if (!(await echo(one, MEGABYTE, 20_000))) {
              broken++;
              return;
            }
            longest = Math.max(longest, performance.now() - began);
            bytes += MEGABYTE.length;
          }
        }),
      );
      return { bytes, broken, longest: Math.round(longest) };
    }
  }
}

createInterface({ input: process.stdin }).on('line', (line) => {
  perform(JSON.parse(line) as ClientCommand).then(
    (answer) => process.stdout.write(`${JSON.stringify(answer)}\n`),
    (error: Error) => process.stdout.write(`${JSON.stringify({ error: error.message })}\n`),
  );
});
process.stdin.on('end', () => process.exit(0));
process.stdout.write('ready\n');
