/** `subflow web`: the page's files, and what this machine's connections do, for whoever has the token. */
import { randomBytes, timingSafeEqual } from 'node:crypto';
import { existsSync } from 'node:fs';
import { createServer } from 'node:http';
import type { IncomingMessage, Server, ServerResponse } from 'node:http';
import type { AddressInfo } from 'node:net';
import { dirname, join } from 'node:path';
import { fileURLToPath } from 'node:url';
import sirv from 'sirv';
import { ENDPOINT_FLAG, kernelMptcpObstacle, LinkError, MptcpNetlink } from '@subflow/link';
import type { KernelEvent } from '@subflow/link';
import { kernelSnapshot, RateMeter, stackSnapshots } from '@subflow/net';
import type { StatusSnapshot } from '@subflow/net';
import { parseAddress } from '@subflow/wire';

export interface PageOptions {
  host: string;
  port: number;
  /** Made when missing. */
  token?: string;
  /** Milliseconds between looks. */
  interval?: number;
}

/** The page cannot be served: a stable code, what is missing. */
export class PageError extends Error {
  readonly code: 'NOT_BUILT' | 'PORT_IN_USE';

  constructor(code: PageError['code'], message: string) {
    super(message);
    this.code = code;
  }
}

const POLICY =
  "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' blob: data:; connect-src 'self'; worker-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'";
const MOST_BODY = 4096;
const MOST_WATCHERS = 20;
const KEPT_EVENTS = 100;
const obstacle = process.platform === 'linux' ? kernelMptcpObstacle() : new LinkError('NO_KERNEL_MPTCP', 'only Linux has Multipath TCP in its kernel');

/** Where the built page lies. */
export function pageFolder(): string {
  let folder = dirname(fileURLToPath(import.meta.url));
  while (!existsSync(join(folder, 'package.json'))) folder = dirname(folder);
  return join(folder, 'dist', 'page');
}

export interface RunningPage {
  url: string;
  token: string;
  close(): void;
}

/** Throws {@link PageError}. */
export async function startPage(options: PageOptions): Promise<RunningPage> {
  const folder = pageFolder();
  if (!existsSync(join(folder, 'index.html'))) throw new PageError('NOT_BUILT', `${folder} has no page; expected it built (npm run build:page)`);
  const token = options.token ?? randomBytes(18).toString('base64url');
  const files = sirv(folder, { etag: true, dev: false });
  const machine = new Machine(options.interval ?? 500);
  const server = createServer((request, response) => {
    response.setHeader('content-security-policy', POLICY);
    response.setHeader('x-content-type-options', 'nosniff');
    response.setHeader('referrer-policy', 'no-referrer');
    // A name that somebody else's DNS turns into this address is no name of ours.
    if (!isOurs(request.headers.host ?? '', options.host)) {
      refuse(response, 403, 'WRONG_HOST', 'this name does not belong to the page');
      return;
    }
    if (request.url?.startsWith('/api/') === true) void machine.answer(request, response, token);
    else files(request, response, () => refuse(response, 404, 'NOT_FOUND', 'no such file'));
  });
  await new Promise<void>((resolve, reject) => {
    server.once('error', (error: NodeJS.ErrnoException) =>
      reject(error.code === 'EADDRINUSE' ? new PageError('PORT_IN_USE', `port ${options.port} is in use; expected a free one (--port)`) : error),
    );
    server.listen(options.port, options.host, resolve);
  });
  const { port } = server.address() as AddressInfo;
  const host = options.host.includes(':') ? `[${options.host}]` : options.host;
  return { url: `http://${host}:${port}/`, token, close: () => close(server, machine) };
}

function close(server: Server, machine: Machine): void {
  machine.stop();
  server.close();
  server.closeAllConnections();
}

function isOurs(host: string, listening: string): boolean {
  const name = host.replace(/:\d+$/, '').replace(/^\[(.*)\]$/, '$1');
  return name === 'localhost' || /^127\.\d+\.\d+\.\d+$/.test(name) || name === '::1' || name === listening || /^[\d.]+$/.test(name) || name.includes(':');
}

function refuse(response: ServerResponse, status: number, code: string, message: string): void {
  response.writeHead(status, { 'content-type': 'application/json' }).end(JSON.stringify({ error: { code, message } }));
}

/** Looks at this machine while somebody watches. */
class Machine {
  private readonly watchers = new Set<ServerResponse>();
  private readonly meter = new RateMeter();
  private readonly interval: number;
  private timer: NodeJS.Timeout | null = null;
  private readonly netlink: MptcpNetlink | null;
  private readonly events: { time: number; text: string }[] = [];
  private stopEvents = (): void => {};

  constructor(interval: number) {
    this.interval = interval;
    this.netlink = obstacle === null ? new MptcpNetlink() : null;
    try {
      const group = this.netlink?.events((event) => this.hear(event));
      if (group !== undefined) this.stopEvents = () => group.close();
    } catch {
      // Events are root's; the rest is for all.
    }
  }

  stop(): void {
    if (this.timer !== null) clearTimeout(this.timer);
    this.stopEvents();
    this.netlink?.close();
  }

  async answer(request: IncomingMessage, response: ServerResponse, token: string): Promise<void> {
    const given = /^Bearer (\S+)$/.exec(request.headers.authorization ?? '')?.[1] ?? '';
    if (!same(given, token)) {
      refuse(response, 401, 'NO_TOKEN', 'expected the token that `subflow web` has printed');
      return;
    }
    try {
      if (request.method === 'GET' && request.url === '/api/live') await this.watch(response);
      else if (request.method === 'POST' && request.url === '/api/change') {
        this.change(await body(request));
        response.writeHead(200, { 'content-type': 'application/json' }).end('{}');
      } else refuse(response, 404, 'NOT_FOUND', 'expected GET /api/live or POST /api/change');
    } catch (error) {
      refuse(response, 400, (error as { code?: string }).code ?? 'BAD_REQUEST', (error as Error).message);
    }
  }

  private async watch(response: ServerResponse): Promise<void> {
    if (this.watchers.size >= MOST_WATCHERS) {
      refuse(response, 429, 'TOO_MANY', `${MOST_WATCHERS} pages watch already`);
      return;
    }
    response.writeHead(200, { 'content-type': 'text/event-stream', 'cache-control': 'no-store' });
    this.watchers.add(response);
    response.on('close', () => this.watchers.delete(response));
    if (this.timer === null) await this.look();
  }

  private async look(): Promise<void> {
    this.timer = null;
    if (this.watchers.size === 0) return;
    const snapshots: StatusSnapshot[] = [...(obstacle === null ? [kernelSnapshot()] : []), ...(await stackSnapshots())];
    const view = this.meter.update(snapshots);
    const message = {
      ...view,
      counters: {},
      obstacle: obstacle?.message ?? null,
      endpoints: this.endpoints(),
      limits: this.limits(),
      events: this.events,
      mayChange: process.getuid?.() === 0,
    };
    const line = `data: ${JSON.stringify(message)}\n\n`;
    for (const one of this.watchers) one.write(line);
    this.timer = setTimeout(() => void this.look(), this.interval);
    this.timer.unref();
  }

  private endpoints(): object[] {
    try {
      return (this.netlink?.endpoints() ?? []).map((one) => ({
        ...one,
        flagNames: Object.entries(ENDPOINT_FLAG).flatMap(([name, bit]) => ((one.flags & bit) === 0 ? [] : [name])),
      }));
    } catch {
      return [];
    }
  }

  private limits(): object | null {
    try {
      return this.netlink?.limits() ?? null;
    } catch {
      return null;
    }
  }

  private hear(event: KernelEvent): void {
    const { type, token, local, localPort } = event;
    this.events.push({
      time: Date.now(),
      text: `${type.replaceAll('-', ' ')} 0x${(token >>> 0).toString(16)}${local === null ? '' : ` ${local}${localPort === null ? '' : `:${localPort}`}`}`,
    });
    if (this.events.length > KEPT_EVENTS) this.events.shift();
  }

  private change(wish: unknown): void {
    const { netlink } = this;
    if (netlink === null) throw new LinkError('NO_KERNEL_MPTCP', obstacle!.message);
    const from = (typeof wish === 'object' && wish !== null ? wish : {}) as Record<string, unknown>;
    const number = (key: string, low: number, high: number): number => {
      const value = from[key];
      if (typeof value !== 'number' || !Number.isInteger(value) || value < low || value > high)
        throw new LinkError('SYSTEM_CALL', `${key} ${JSON.stringify(value)}; expected ${low} to ${high}`);
      return value;
    };
    switch (from['do']) {
      case 'limits':
        netlink.setLimits({ subflows: number('subflows', 0, 8), addressesAccepted: number('addressesAccepted', 0, 8) });
        return;
      case 'remove-endpoint':
        netlink.removeEndpoint(number('id', 1, 255));
        return;
      case 'add-endpoint': {
        let address: Uint8Array;
        try {
          address = parseAddress(String(from['address']));
        } catch {
          throw new LinkError('SYSTEM_CALL', `"${String(from['address']).slice(0, 60)}" is no address; expected IPv4 or IPv6`);
        }
        const names = Array.isArray(from['flags']) ? from['flags'] : [];
        const flags = names.reduce((sum: number, name: unknown) => sum | ((ENDPOINT_FLAG as Record<string, number>)[String(name)] ?? 0), 0);
        netlink.addEndpoint(address, flags);
        return;
      }
      default:
        throw new LinkError('SYSTEM_CALL', `"${String(from['do']).slice(0, 40)}"; expected limits, add-endpoint or remove-endpoint`);
    }
  }
}

function same(a: string, b: string): boolean {
  const [left, right] = [Buffer.from(a), Buffer.from(b)];
  return left.length === right.length && timingSafeEqual(left, right);
}

async function body(request: IncomingMessage): Promise<unknown> {
  const chunks: Buffer[] = [];
  let size = 0;
  for await (const chunk of request as AsyncIterable<Buffer>) {
    size += chunk.length;
    if (size > MOST_BODY) throw new LinkError('SYSTEM_CALL', `a request of more than ${MOST_BODY} octets`);
    chunks.push(chunk);
  }
  return JSON.parse(Buffer.concat(chunks).toString());
}
