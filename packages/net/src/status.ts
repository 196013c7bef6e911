/** Snapshots of all Multipath TCP connections: the kernel's by netlink, our stacks' by a Unix socket that each process offers. */
import { chmodSync, existsSync, mkdirSync, readdirSync, readFileSync, rmSync } from 'node:fs';
import { connect as nodeConnect, createServer } from 'node:net';
import { networkInterfaces } from 'node:os';
import { join } from 'node:path';
import { diagnoseConnections, diagnoseSubflows } from '@subflow/link';
import { connectionInfo } from '@subflow/stack';
import { endpointText } from './addresses.ts';
import type { SubflowFacts } from './multipath.ts';
import type { StackBackend } from './stack/backend.ts';
import { factsOf } from './stack/multipath.ts';

export interface ConnectionStatus {
  /** Unique within the source while it lives. */
  key: string;
  local: string;
  remote: string;
  state: string;
  version: 0 | 1 | null;
  fallback: string | null;
  localToken: number | null;
  bytesReinjected: number;
  subflows: SubflowFacts[];
}

export interface InterfaceStatus {
  name: string;
  bytesReceived: number;
  bytesSent: number;
}

export interface StatusSnapshot {
  /** `kernel`, or `stack PID`. */
  source: string;
  /** Milliseconds since the epoch. */
  time: number;
  connections: ConnectionStatus[];
  interfaces: InterfaceStatus[];
  /** Linux's MPTcpExt table. */
  counters: Record<string, number>;
}

const DIRECTORY =
  process.env['SUBFLOW_RUNTIME_DIR'] ??
  (process.getuid?.() === 0 ? '/run/subflow' : join(process.env['XDG_RUNTIME_DIR'] ?? `/tmp/subflow-${process.getuid?.() ?? 0}`, 'subflow'));
const SOCKET_NAME = /^stack-(\d+)\.sock$/;
const ANSWER_LIMIT = 64 << 20;

/** The kernel's connections of this namespace. Throws {@link LinkError}. */
export function kernelSnapshot(): StatusSnapshot {
  const names = new Map<string, string>();
  for (const [name, addresses] of Object.entries(networkInterfaces())) for (const one of addresses ?? []) names.set(one.address, name);
  const bare = (address: string): string => address.replace(/^::ffff:/, '');
  const byToken = new Map<number, SubflowFacts[]>();
  for (const subflow of diagnoseSubflows()) {
    const { tcp } = subflow;
    const list = byToken.get(subflow.localToken) ?? [];
    list.push({
      id: subflow.localId,
      localAddress: bare(subflow.local),
      localPort: subflow.localPort,
      remoteAddress: bare(subflow.remote),
      remotePort: subflow.remotePort,
      interface: names.get(bare(subflow.local)) ?? null,
      state: subflow.state,
      backup: subflow.backupLocal || subflow.backupRemote,
      srtt: tcp?.srtt ?? 0,
      rttvar: tcp?.rttvar ?? 0,
      minRtt: tcp?.minRtt ?? 0,
      rto: tcp?.rto ?? 0,
      cwnd: tcp?.cwnd ?? 0,
      ssthresh: tcp?.ssthresh ?? 0,
      inFlight: (tcp?.unacked ?? 0) * (tcp?.mss ?? 0),
      bytesSent: tcp?.bytesSent ?? 0,
      bytesAcknowledged: tcp?.bytesAcknowledged ?? 0,
      bytesReceived: tcp?.bytesReceived ?? 0,
      bytesRetransmitted: tcp?.bytesRetransmitted ?? 0,
      retransmissions: tcp?.retransmissions ?? 0,
      congestion: subflow.congestion,
    });
    byToken.set(subflow.localToken, list);
  }
  return {
    source: 'kernel',
    time: Date.now(),
    connections: diagnoseConnections().map(({ info, ...socket }) => {
      const fallback = info === null || info.fallback;
      return {
        key:
          info === null || info.token === 0
            ? `${socket.local}/${socket.localPort}/${socket.remote}/${socket.remotePort}`
            : info.token.toString(16).padStart(8, '0'),
        local: endpointText(bare(socket.local), socket.localPort),
        remote: endpointText(bare(socket.remote), socket.remotePort),
        state: socket.state,
        version: fallback ? null : 1,
        fallback: fallback ? 'fallback' : null,
        localToken: info?.token ?? null,
        bytesReinjected: info?.bytesRetransmitted ?? 0,
        subflows: info === null ? [] : (byToken.get(info.token) ?? []),
      };
    }),
    interfaces: interfaceCounters(),
    counters: mptcpCounters(),
  };
}

/** The connections of a stack in this process. */
export function stackSnapshot(backend: StackBackend): StatusSnapshot {
  const interfaces = new Map<string, InterfaceStatus>();
  const connections = [...backend.host.connections.values()].map((connection) => {
    const info = connectionInfo(connection);
    const facts = factsOf(info);
    const [first] = facts.subflows;
    return {
      key: `${connection.id}`,
      local: first === undefined ? `port ${connection.localPort}` : endpointText(first.localAddress, first.localPort),
      remote: endpointText(first?.remoteAddress ?? '', connection.remotePort),
      state: info.phase,
      version: facts.version,
      fallback: facts.fallback,
      localToken: facts.localToken,
      bytesReinjected: facts.bytesReinjected,
      subflows: facts.subflows,
    };
  });
  for (const one of backend.host.interfaces) interfaces.set(one.name, { name: one.name, bytesReceived: one.bytesReceived, bytesSent: one.bytesSent });
  return {
    source: `stack ${process.pid}`,
    time: Date.now(),
    connections,
    interfaces: [...interfaces.values()],
    counters: Object.fromEntries(Object.entries(backend.host.mptcpCounters).filter(([, value]) => value !== 0)),
  };
}

/** Lets `subflow monitor` see a stack: a Unix socket that only this user may open. Returns how to stop. */
export function publishStatus(backend: StackBackend): () => void {
  mkdirSync(DIRECTORY, { recursive: true, mode: 0o700 });
  const path = join(DIRECTORY, `stack-${process.pid}.sock`);
  rmSync(path, { force: true });
  const server = createServer((socket) => {
    socket.on('error', () => undefined);
    socket.end(`${JSON.stringify(stackSnapshot(backend))}\n`);
  });
  server.on('error', () => undefined);
  server.listen(path, () => chmodSync(path, 0o600));
  server.unref();
  const stop = (): void => {
    server.close();
    rmSync(path, { force: true });
  };
  process.once('exit', stop);
  return stop;
}

/** Snapshots of all stacks that offer one; sockets that dead processes left are removed. */
export async function stackSnapshots(): Promise<StatusSnapshot[]> {
  if (!existsSync(DIRECTORY)) return [];
  const found = await Promise.all(
    readdirSync(DIRECTORY)
      .filter((name) => SOCKET_NAME.test(name))
      .map((name) => ask(join(DIRECTORY, name))),
  );
  return found.filter((one) => one !== null);
}

function ask(path: string): Promise<StatusSnapshot | null> {
  return new Promise((resolve) => {
    let text = '';
    const socket = nodeConnect(path);
    socket.setTimeout(2000, () => socket.destroy());
    socket.setEncoding('utf8');
    socket.on('data', (chunk: string) => {
      text += chunk;
      if (text.length > ANSWER_LIMIT) socket.destroy();
    });
    socket.on('error', (error: NodeJS.ErrnoException) => {
      if (error.code === 'ECONNREFUSED') rmSync(path, { force: true });
      resolve(null);
    });
    socket.on('close', () => {
      try {
        resolve(JSON.parse(text) as StatusSnapshot);
      } catch {
        resolve(null);
      }
    });
  });
}

/** Bytes of every interface, from /proc/net/dev. */
function interfaceCounters(): InterfaceStatus[] {
  return readFileSync('/proc/self/net/dev', 'utf8')
    .split('\n')
    .slice(2)
    .flatMap((line) => {
      const match = /^\s*([^:]+):\s*(.+)$/.exec(line);
      if (match === null) return [];
      const fields = match[2]!.trim().split(/\s+/).map(Number);
      return [{ name: match[1]!, bytesReceived: fields[0] ?? 0, bytesSent: fields[8] ?? 0 }];
    });
}

/** The MPTcpExt table of /proc/net/netstat, without zeros. */
function mptcpCounters(): Record<string, number> {
  const lines = readFileSync('/proc/self/net/netstat', 'utf8').split('\n');
  const at = lines.findIndex((line) => line.startsWith('MPTcpExt:'));
  if (at < 0) return {};
  const names = lines[at]!.split(/\s+/).slice(1);
  const values = lines[at + 1]!.split(/\s+/).slice(1).map(Number);
  return Object.fromEntries(names.flatMap((name, i) => (name !== '' && (values[i] ?? 0) !== 0 ? [[name, values[i]!]] : [])));
}
