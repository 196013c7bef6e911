/**
 * 10,000 connections through a proxy at once: this process has the clients, a child the target, two children the proxy
 * (its workers: one process may not have more than 20,000 descriptors here). Run it in a namespace of its own.
 */
import { fork } from 'node:child_process';
import type { ChildProcess } from 'node:child_process';
import { readdirSync } from 'node:fs';
import { connect, createServer } from 'node:net';
import type { Socket } from 'node:net';
import { fileURLToPath } from 'node:url';
import { ProxyServer } from '@subflow/net';

const BATCH = 200;
const PROXY_PORT = 7100;
const TARGET_PORT = 7101;
const WORKERS = 2;

interface ProxyFacts {
  open: number;
  heap: number;
  rss: number;
  descriptors: number;
}

interface TargetFacts {
  halfClosed: number;
  resetSeen: number;
}

const roles: Record<string, () => void> = { proxy: proxyRole, target: targetRole };
await (roles[process.argv[2] ?? ''] ?? (() => main(Number(process.argv[2] ?? 10_000))))();

function proxyRole(): void {
  const proxy = new ProxyServer({
    accept: ['forward'],
    target: { host: '127.0.0.1', port: TARGET_PORT },
    from: { reusePort: true },
    to: { service: 'none' },
    limits: { connections: 50_000, perSource: 50_000 },
  });
  proxy.listen({ port: PROXY_PORT, host: '127.0.0.1', backlog: 4096 }, () => process.send!('ready'));
  process.on('message', () => {
    globalThis.gc?.();
    const { heapUsed, rss } = process.memoryUsage();
    process.send!({ open: proxy.counters.open, heap: heapUsed, rss, descriptors: readdirSync('/proc/self/fd').length } satisfies ProxyFacts);
  });
}

function targetRole(): void {
  const facts: TargetFacts = { halfClosed: 0, resetSeen: 0 };
  const server = createServer({ allowHalfOpen: true }, (socket) => {
    socket.on('data', (chunk: Buffer) => socket.write(chunk));
    socket.on('end', () => {
      facts.halfClosed++;
      socket.end('!');
    });
    socket.on('error', (error: NodeJS.ErrnoException) => {
      if (error.code === 'ECONNRESET') facts.resetSeen++;
    });
  });
  server.listen({ port: TARGET_PORT, host: '127.0.0.1', backlog: 4096 }, () => process.send!('ready'));
  process.on('message', () => process.send!(facts));
}

async function main(count: number): Promise<void> {
  const target = start('target');
  const proxies = Array.from({ length: WORKERS }, () => start('proxy'));
  await Promise.all([target, ...proxies].map((child) => next(child)));
  const proxyFacts = async (): Promise<ProxyFacts> => {
    const all = await Promise.all(proxies.map((child) => ask<ProxyFacts>(child)));
    return all.reduce((a, b) => ({ open: a.open + b.open, heap: a.heap + b.heap, rss: a.rss + b.rss, descriptors: a.descriptors + b.descriptors }));
  };
  // One round to warm up, so that what is compared is the steady state.
  await each(await openAll(500), async (socket) => {
    await say(socket, 'warm');
    socket.destroy();
  });
  await pause(500);
  const before = await proxyFacts();
  const counted = await ask<TargetFacts>(target);
  const started = performance.now();
  const sockets = await openAll(count);
  let echoed = 0;
  await each(sockets, async (socket) => {
    if (String(await say(socket, 'ping')) === 'ping') echoed++;
  });
  const during = await proxyFacts();
  let answered = 0;
  await each(sockets, async (socket, i) => {
    if (i % 2 === 0) {
      const last = new Promise<Buffer>((resolve) => socket.once('data', resolve));
      socket.end();
      if (String(await last) === '!') answered++;
    } else socket.resetAndDestroy();
  });
  await pause(2000);
  const after = await proxyFacts();
  const seen = await ask<TargetFacts>(target);
  const report = {
    opened: during.open,
    echoed,
    halfClosed: seen.halfClosed - counted.halfClosed,
    answered,
    resetSeen: seen.resetSeen - counted.resetSeen,
    openAfter: after.open,
    descriptorsLeft: Math.max(0, after.descriptors - before.descriptors),
    heapDuringPerConnection: Math.round((during.heap - before.heap) / count),
    heapGrowthPerConnection: Math.round((after.heap - before.heap) / count),
    megabytesDuring: Math.round(during.rss / 1e6),
    seconds: Math.round((performance.now() - started) / 100) / 10,
  };
  process.stdout.write(`${JSON.stringify(report)}\n`);
  for (const child of [target, ...proxies]) child.kill();
  process.exit(0);
}

function start(role: string): ChildProcess {
  return fork(fileURLToPath(import.meta.url), [role], { execArgv: process.execArgv });
}

function next<T>(child: ChildProcess): Promise<T> {
  return new Promise((resolve) => child.once('message', (message) => resolve(message as T)));
}

function ask<T>(child: ChildProcess): Promise<T> {
  const answer = next<T>(child);
  child.send('facts');
  return answer;
}

async function openAll(count: number): Promise<Socket[]> {
  const out: Socket[] = [];
  while (out.length < count) {
    const batch = Array.from({ length: Math.min(BATCH, count - out.length) }, (_, i) => openOne(out.length + i));
    out.push(...(await Promise.all(batch)));
  }
  return out;
}

function openOne(i: number): Promise<Socket> {
  return new Promise((resolve, reject) => {
    // Many local addresses: one has too few ports.
    const socket = connect({ port: PROXY_PORT, host: '127.0.0.1', allowHalfOpen: true, localAddress: `127.0.0.${1 + (i % 8)}` });
    socket.once('error', reject);
    socket.once('connect', () => {
      socket.off('error', reject);
      socket.on('error', () => undefined);
      resolve(socket);
    });
  });
}

async function each(sockets: readonly Socket[], action: (socket: Socket, i: number) => Promise<void>): Promise<void> {
  for (let i = 0; i < sockets.length; i += BATCH) await Promise.all(sockets.slice(i, i + BATCH).map((socket, k) => action(socket, i + k)));
}

function say(socket: Socket, text: string): Promise<Buffer> {
  const answer = new Promise<Buffer>((resolve) => socket.once('data', resolve));
  socket.write(text);
  return answer;
}

function pause(milliseconds: number): Promise<void> {
  return new Promise((resolve) => setTimeout(resolve, milliseconds));
}
