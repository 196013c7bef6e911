/** Health checks: a connection, a page, or a Multipath TCP handshake; a few in a row make up or down. */
import { connect } from 'node:net';
import type { Socket } from 'node:net';
import { get } from 'node:http';
import { kernelConnect, mptcpInfo } from '@subflow/link';
import { formatAddress } from '@subflow/wire';
import type { HealthConfig } from '../config.ts';

/** One check. Resolves to null when all is well, else to what is wrong. */
export function check(config: HealthConfig, address: Uint8Array, port: number): Promise<string | null> {
  switch (config.type) {
    case 'none':
      return Promise.resolve(null);
    case 'http':
      return checkHttp(config, address, port);
    case 'tcp':
    case 'mptcp':
      return checkConnection(config, address, port);
  }
}

function checkConnection(config: HealthConfig, address: Uint8Array, port: number): Promise<string | null> {
  return new Promise((resolve) => {
    let socket: Socket;
    try {
      socket = config.type === 'mptcp' ? kernelConnect(address, port) : connect({ host: formatAddress(address), port });
    } catch (error) {
      resolve((error as Error).message);
      return;
    }
    const end = (result: string | null): void => {
      clearTimeout(timer);
      socket.destroy();
      resolve(result);
    };
    const timer = setTimeout(() => end(`no answer in ${config.timeout} ms`), config.timeout);
    socket.once('error', (error) => end(error.message));
    const connected = (): void => {
      const info = config.type === 'mptcp' ? mptcpInfo(socket) : null;
      end(config.type === 'mptcp' && (info === null || info.fallback || !info.remoteKeyReceived) ? 'answers with plain TCP; expected Multipath TCP' : null);
    };
    if (config.type === 'tcp') socket.once('connect', connected);
    else waitConnected(socket, config.timeout, connected);
  });
}

/** A socket over a descriptor that connects says nothing when it is there: it becomes writable. */
function waitConnected(socket: Socket, timeout: number, done: () => void): void {
  const from = performance.now();
  const look = (): void => {
    if (socket.destroyed) return;
    const info = mptcpInfo(socket);
    if (info !== null && (info.remoteKeyReceived || info.fallback)) done();
    else if (performance.now() - from < timeout) setTimeout(look, 10);
  };
  look();
}

function checkHttp(config: HealthConfig, address: Uint8Array, port: number): Promise<string | null> {
  return new Promise((resolve) => {
    const request = get(
      { host: formatAddress(address), port, path: config.path, timeout: config.timeout, agent: false, headers: { 'user-agent': 'subflow-lb' } },
      (response) => {
        response.resume();
        const status = response.statusCode ?? 0;
        resolve(status >= 200 && status < 400 ? null : `status ${status}; expected 200 to 399`);
      },
    );
    const timer = setTimeout(() => request.destroy(new Error(`no answer in ${config.timeout} ms`)), config.timeout);
    request.once('error', (error) => resolve(error.message));
    request.once('close', () => clearTimeout(timer));
  });
}

interface Watched {
  healthy: boolean;
  inARow: number;
  timer: NodeJS.Timeout | null;
  last: string | null;
  stopped: boolean;
}

/** Checks servers again and again, and tells when one changes. */
export class HealthChecker {
  private readonly watched = new Map<string, Watched>();
  private readonly onChange: (key: string, healthy: boolean, why: string | null) => void;

  constructor(onChange: (key: string, healthy: boolean, why: string | null) => void) {
    this.onChange = onChange;
  }

  /** What was wrong at the last check, or null. */
  last(key: string): string | null {
    return this.watched.get(key)?.last ?? null;
  }

  /** These servers and no others; `healthy` is what is known of them so far. */
  set(servers: ReadonlyMap<string, { config: HealthConfig; address: Uint8Array; port: number; healthy: boolean }>): void {
    for (const [key, one] of this.watched) {
      if (servers.has(key)) continue;
      one.stopped = true;
      if (one.timer !== null) clearTimeout(one.timer);
      this.watched.delete(key);
    }
    for (const [key, { config, address, port, healthy }] of servers) {
      const known = this.watched.get(key);
      if (known !== undefined) {
        // Another balancer may have said so.
        known.healthy = healthy;
        continue;
      }
      if (config.type === 'none') continue;
      const one: Watched = { healthy, inARow: 0, timer: null, last: null, stopped: false };
      this.watched.set(key, one);
      const turn = async (): Promise<void> => {
        const problem = await check(config, address, port);
        if (one.stopped) return;
        one.last = problem;
        const well = problem === null;
        one.inARow = well === one.healthy ? 0 : one.inARow + 1;
        if (one.inARow >= (well ? config.rise : config.fall)) {
          one.inARow = 0;
          one.healthy = well;
          this.onChange(key, well, problem);
        }
        one.timer = setTimeout(() => void turn(), config.interval);
        one.timer.unref();
      };
      void turn();
    }
  }

  stop(): void {
    this.set(new Map());
  }
}
