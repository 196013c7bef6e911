/** `subflow lb --config`: the controller with what stands around it: data plane, store, control socket, metrics. */
import { existsSync, mkdirSync, readdirSync, rmSync } from 'node:fs';
import { createServer as createHttpServer } from 'node:http';
import type { Server as HttpServer } from 'node:http';
import { connect, createServer } from 'node:net';
import type { Server } from 'node:net';
import { dirname, join } from 'node:path';
import { removeLeftovers } from '@subflow/link';
import { objectIn, onLines } from '../lines.ts';
import { instanceOf } from '../config.ts';
import type { LbConfig } from '../config.ts';
import { NftablesPlane } from '../nftables-plane.ts';
import type { DataPlane } from '../plan.ts';
import { endOf, openStore } from '../store/open.ts';
import type { OpenStore } from '../store/open.ts';
import { UserspacePlane } from '../userspace-plane.ts';
import { XdpPlane } from '../xdp/plane.ts';
import { Controller } from './controller.ts';
import type { ControllerEvent, Report } from './controller.ts';
import { explain, packetOf } from './explain.ts';
import type { Explanation } from './explain.ts';
import { metricsText } from './metrics.ts';
import { plansOf } from './state.ts';
import type { StateChange } from './state.ts';

/** Something in the way of a balancer: a stable code, what is there, what was expected. */
export class DaemonError extends Error {
  readonly code: 'ALREADY_RUNNING' | 'NOT_RUNNING' | 'REFUSED';

  constructor(code: DaemonError['code'], message: string) {
    super(message);
    this.code = code;
  }
}

export type ControlRequest = StateChange | { do: 'status' } | { do: 'explain'; packet: string };

export interface ControlAnswer {
  error?: { code: string; message: string };
  generation?: number;
  report?: Report;
  explanation?: Explanation;
}

const DIRECTORY = '/run/subflow';
const ANSWER_TIME = 15_000;
const MOST_LINE = 4 << 20;

export function controlPath(config: Pick<LbConfig, 'name' | 'instance' | 'control'>): string {
  return config.control ?? join(DIRECTORY, `lb-${instanceOf(config)}.sock`);
}

function planeOf(config: LbConfig): DataPlane {
  const { flows } = config;
  const name = instanceOf(config);
  switch (config.dataPlane) {
    case 'xdp':
      return new XdpPlane({ name, device: config.interface!, mode: config.mode, flows });
    case 'nftables':
      return new NftablesPlane({ name, device: config.interface! });
    case 'userspace':
      return new UserspacePlane({ name, flows });
  }
}

export class Daemon {
  readonly controller: Controller;
  private readonly store: OpenStore;
  private readonly control: Server;
  private readonly metrics: HttpServer | null;
  private readonly path: string;

  private constructor(controller: Controller, store: OpenStore, control: Server, metrics: HttpServer | null, path: string) {
    this.controller = controller;
    this.store = store;
    this.control = control;
    this.metrics = metrics;
    this.path = path;
  }

  /** Throws {@link DaemonError}, {@link StoreError}, {@link PlaneError}, {@link LinkError}: then nothing is left behind. */
  static async start(config: LbConfig, onEvent: (event: ControllerEvent) => void): Promise<Daemon> {
    removeLeftovers();
    await liveSockets();
    const path = controlPath(config);
    if (existsSync(path) && (await answers(path)))
      throw new DaemonError('ALREADY_RUNNING', `a balancer listens at ${path}; expected none (another "name" in the configuration)`);
    const store = await openStore(config);
    let plane: DataPlane | null = null;
    try {
      plane = planeOf(config);
      const controller = new Controller(config, plane, store.store, onEvent);
      await controller.start();
      mkdirSync(dirname(path), { recursive: true });
      rmSync(path, { force: true });
      const control = await listen(path, (request) => answer(controller, request));
      const metrics = config.metrics === undefined ? null : await serveMetrics(controller, ...endOf(config.metrics));
      return new Daemon(controller, store, control, metrics, path);
    } catch (error) {
      plane?.close();
      await store.close();
      throw error;
    }
  }

  /** `keep`: the data plane goes on without us (xdp), for the next start. */
  async close(keep = false): Promise<void> {
    this.control.close();
    this.metrics?.close();
    rmSync(this.path, { force: true });
    await this.controller.close(keep);
    await this.store.close();
  }
}

/** Asks a running balancer. Throws {@link DaemonError}. */
export async function askDaemon(path: string, request: ControlRequest): Promise<ControlAnswer> {
  const answer = await new Promise<ControlAnswer>((resolve, reject) => {
    const socket = connect(path);
    const timer = setTimeout(() => socket.destroy(new Error('no answer')), ANSWER_TIME);
    socket.once('error', (error: NodeJS.ErrnoException) => {
      clearTimeout(timer);
      const refused = error.code === 'EACCES' ? 'may not be opened by you' : 'has nobody behind it';
      reject(new DaemonError('NOT_RUNNING', `${path} ${refused}; expected a running balancer (subflow lb --config FILE), or --control with its socket`));
    });
    onLines(socket, MOST_LINE, (line) => {
      clearTimeout(timer);
      socket.end();
      resolve(JSON.parse(line) as ControlAnswer);
    });
    socket.write(`${JSON.stringify(request)}\n`);
  });
  return answer;
}

/** Sockets of balancers that run on this machine; what a killed one left is taken away. */
export async function liveSockets(): Promise<string[]> {
  const found = existsSync(DIRECTORY) ? readdirSync(DIRECTORY).filter((name) => /^lb-.*\.sock$/.test(name)) : [];
  const live: string[] = [];
  for (const name of found) {
    const path = join(DIRECTORY, name);
    if (await answers(path)) live.push(path);
    else {
      try {
        rmSync(path, { force: true });
      } catch {
        // Somebody else's.
      }
    }
  }
  return live;
}

async function answers(path: string): Promise<boolean> {
  return new Promise((resolve) => {
    const socket = connect(path, () => {
      socket.destroy();
      resolve(true);
    });
    socket.once('error', () => resolve(false));
  });
}

async function answer(controller: Controller, request: ControlRequest): Promise<ControlAnswer> {
  switch (request.do) {
    case 'status':
      return { report: controller.report() };
    case 'explain': {
      const packet = packetOf(String(request.packet));
      return { explanation: explain(packet, plansOf(controller.config, controller.state!), controller.plane, Date.now() * 1000) };
    }
    case 'add':
    case 'drain':
    case 'undrain':
    case 'remove':
    case 'weight':
      return { generation: (await controller.change(request)).generation };
    default:
      throw new DaemonError('REFUSED', `unknown request "${String((request as { do: unknown }).do)}"`);
  }
}

function listen(path: string, handle: (request: ControlRequest) => Promise<ControlAnswer>): Promise<Server> {
  const server = createServer((socket) => {
    socket.on('error', () => {});
    onLines(socket, MOST_LINE, (line) => {
      const request = objectIn(line) as ControlRequest | null;
      if (request === null) {
        socket.destroy();
        return;
      }
      handle(request).then(
        (value) => socket.write(`${JSON.stringify(value)}\n`),
        (error: Error & { code?: string }) => socket.write(`${JSON.stringify({ error: { code: error.code ?? 'FAILED', message: error.message } })}\n`),
      );
    });
  });
  return new Promise((resolve, reject) => {
    server.once('error', reject);
    // Whoever may write to it commands the balancer.
    const mask = process.umask(0o177);
    server.listen(path, () => resolve(server));
    process.umask(mask);
  });
}

function serveMetrics(controller: Controller, host: string, port: number): Promise<HttpServer> {
  const server = createHttpServer((request, response) => {
    if (request.url !== '/metrics') {
      response.writeHead(404, { 'content-type': 'text/plain' }).end('expected /metrics\n');
      return;
    }
    metricsText(controller.report()).then(
      ({ type, text }) => response.writeHead(200, { 'content-type': type }).end(text),
      (error: Error) => response.writeHead(500, { 'content-type': 'text/plain' }).end(`${error.message}\n`),
    );
  });
  return new Promise((resolve, reject) => {
    server.once('error', reject);
    server.listen(port, host, () => resolve(server));
  });
}
