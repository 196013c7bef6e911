/** "Am I using Multipath TCP?": answers each request by what its own connection says. */
import { createServer as createHttpServer } from 'node:http';
import type { IncomingMessage, ServerResponse } from 'node:http';
import { createServer as createHttpsServer } from 'node:https';
import type { ListenOptions, Server as NodeServer } from 'node:net';
import { LinkError, SynObserver } from '@subflow/link';
import { multipathOf, serve } from '@subflow/net';
import type { MultipathOptions, Server } from '@subflow/net';
import { Countries } from './geo.ts';
import { statisticsPage, verdictPage, verdictText } from './pages.ts';
import { Statistics } from './statistics.ts';
import { verdictOf } from './verdict.ts';
import type { Verdict } from './verdict.ts';

/** Milliseconds between writes to the disk, and until a client must have said what it wants. */
const FLUSH_INTERVAL = 5000;
const HEAD_TIMEOUT = 10_000;
const MOST_CONNECTIONS = 5000;

export interface SiteOptions {
  multipath: MultipathOptions;
  listen: ListenOptions & { port: number };
  /** Directory of the statistics; null: none are kept. */
  store: string | null;
  /** GeoIP country database (.mmdb). */
  geoip?: string;
  tls?: { cert: string; key: string };
  /** Milliseconds in which a client must have said what it wants; default 10,000. */
  headTimeout?: number;
  /** Look at SYNs by a packet socket, to tell where the option was lost. Default: where that is permitted. */
  observe?: boolean;
  onVisit?(visit: { address: string; verdict: Verdict }): void;
}

export interface Site {
  server: Server;
  /** Why SYNs are not looked at; null when they are. */
  blind: string | null;
  close(): void;
}

/** Starts the site. Throws {@link SiteError}, and the system's errors of the store. */
export function startSite(options: SiteOptions, listening: (site: Site) => void): Site {
  const statistics = options.store === null ? null : new Statistics(options.store, Date.now());
  const countries = options.geoip === undefined ? null : new Countries(options.geoip);
  let observer: SynObserver | null = null;
  const handle = (request: IncomingMessage, response: ServerResponse): void => {
    const path = (request.url ?? '/').split('?')[0];
    if (request.method !== 'GET' && request.method !== 'HEAD') {
      send(response, 405, 'text/plain', 'only GET\n', { allow: 'GET, HEAD' });
      return;
    }
    if (path === '/stats' || path === '/stats.json') {
      const days = statistics?.all() ?? [];
      if (path === '/stats') send(response, 200, 'text/html', statisticsPage(days, countries !== null));
      else send(response, 200, 'application/json', `${JSON.stringify({ days })}\n`);
      return;
    }
    if (path !== '/' && path !== '/json' && path !== '/text') {
      send(response, 404, 'text/plain', 'not found; expected /, /text, /json, /stats or /stats.json\n');
      return;
    }
    const { socket } = request;
    const address = socket.remoteAddress ?? '';
    const syn = observer?.synOf(address, socket.remotePort ?? 0) ?? null;
    const verdict = verdictOf(multipathOf(socket)?.info() ?? null, syn);
    statistics?.record(address, verdict, countries?.of(address) ?? null, Date.now());
    options.onVisit?.({ address, verdict });
    if (path === '/json') send(response, 200, 'application/json', `${JSON.stringify(verdict)}\n`);
    else if (path === '/text' || !wantsHtml(request)) send(response, 200, 'text/plain', verdictText(verdict));
    else send(response, 200, 'text/html', verdictPage(verdict));
  };
  const headersTimeout = options.headTimeout ?? HEAD_TIMEOUT;
  const limits = { headersTimeout, requestTimeout: 2 * headersTimeout, keepAliveTimeout: 5000, connectionsCheckingInterval: Math.min(1000, headersTimeout) };
  const http: NodeServer = options.tls === undefined ? createHttpServer(limits, handle) : createHttpsServer({ ...limits, ...options.tls }, handle);
  // A visitor who breaks off is nobody's error.
  http.on('clientError', (_error, socket: { destroy(): void }) => socket.destroy());
  const flush = setInterval(() => statistics?.flush(), FLUSH_INTERVAL);
  flush.unref();
  const site: Site = {
    server: serve(http, options.listen, options.multipath, () => {
      const { port } = site.server.address() as { port: number };
      if (options.observe === false) site.blind = 'not asked for';
      else {
        try {
          observer = new SynObserver(port);
        } catch (error) {
          if (!(error instanceof LinkError)) throw error;
          site.blind = error.message;
        }
      }
      listening(site);
    }),
    blind: null,
    close: () => {
      clearInterval(flush);
      observer?.close();
      statistics?.close();
      site.server.close();
      (http as NodeServer & { closeAllConnections(): void }).closeAllConnections();
    },
  };
  site.server.maxConnections = MOST_CONNECTIONS;
  return site;
}

function wantsHtml(request: IncomingMessage): boolean {
  return /\btext\/html\b/.test(request.headers.accept ?? '');
}

function send(response: ServerResponse, status: number, type: string, body: string, fields: Record<string, string> = {}): void {
  response.writeHead(status, {
    'content-type': `${type}; charset=utf-8`,
    'content-length': Buffer.byteLength(body),
    'cache-control': 'no-store',
    'content-security-policy': "default-src 'none'; style-src 'unsafe-inline'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'",
    'x-content-type-options': 'nosniff',
    'referrer-policy': 'no-referrer',
    ...fields,
  });
  response.end(body);
}
