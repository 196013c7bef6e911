/** `subflow proxy`: Multipath TCP for programs and machines that cannot, in either direction. */
import { spawn } from 'node:child_process';
import { createServer as createHttpServer } from 'node:http';
import type { AddressInfo } from 'node:net';
import { Command, Option } from 'commander';
import { Counter, Gauge, Registry } from 'prom-client';
import { CONVERT_PORT, parseTarget, ProxyServer } from '@subflow/net';
import type { MultipathOptions, ProxyProtocol, ProxyRecord } from '@subflow/net';
import { fail, readText, UsageError } from '../errors.ts';
import { BACKEND_HELP, openBackend, parsePort, withBackend } from '../network/backend-options.ts';
import type { BackendFlags } from '../network/backend-options.ts';
import { endpoint } from '../network/facts.ts';

const PROTOCOLS: readonly ProxyProtocol[] = ['forward', 'socks', 'http', 'convert'];

const EXAMPLES = `
Examples:
  subflow proxy --listen 0.0.0.0:443 --to 127.0.0.1:8443 --to-over tcp --allow any
        terminates Multipath TCP in front of a TCP server
  subflow proxy --listen 127.0.0.1:1080 --accept socks,http --from-over tcp
        TCP in, Multipath TCP out; for browsers and curl: curl -x socks5h://127.0.0.1:1080 URL
  subflow proxy --listen [::]:${CONVERT_PORT} --accept convert --to-over tcp --allow 192.0.2.0/24
        a converter (RFC 8803); the other side:
  subflow proxy --listen 127.0.0.1:1080 --accept socks --from-over tcp --converter 192.0.2.7:${CONVERT_PORT}
  subflow proxy … --send-proxy                 tells the server who the client is (PROXY protocol v2)
${BACKEND_HELP}

Only loopback may connect unless --allow says otherwise. --json prints a line for each connection that ended;
--metrics PORT serves /metrics for Prometheus.`;

interface Flags extends BackendFlags {
  listen: string;
  accept?: string;
  to?: string;
  fromOver: 'mptcp' | 'tcp';
  toOver: 'mptcp' | 'tcp';
  converter?: string;
  allow: string[];
  destinations: string[];
  users?: string;
  cookies: boolean;
  sendProxy: boolean;
  expectProxy: boolean;
  maxConnections: string;
  maxPerSource: string;
  handshakeTimeout: string;
  connectTimeout: string;
  idleTimeout: string;
  workers: string;
  metrics?: string;
  json: boolean;
  quiet: boolean;
}

const collect = (value: string, all: string[]): string[] => [...all, ...value.split(',')];

export function proxyCommand(): Command {
  return withBackend(new Command('proxy'))
    .description('Multipath TCP for those that cannot: forwarding, SOCKS5, HTTP CONNECT, Convert (RFC 8803)')
    .option('--listen <address>', '[ADDRESS:]PORT to listen on', '127.0.0.1:1080')
    .option('--accept <protocols>', `what clients speak, with commas: ${PROTOCOLS.join(', ')}; default: forward with --to, else socks,http`)
    .option('--to <host:port>', 'forward every connection to this server')
    .addOption(new Option('--from-over <protocol>', 'towards clients').choices(['mptcp', 'tcp']).default('mptcp'))
    .addOption(new Option('--to-over <protocol>', 'towards servers').choices(['mptcp', 'tcp']).default('mptcp'))
    .option('--converter <host:port>', 'reach servers through this converter (RFC 8803)')
    .option('--allow <networks>', 'who may connect: addresses, networks, loopback, any; default: loopback', collect, [] as string[])
    .option('--destinations <networks>', 'where clients may go; default: any', collect, [] as string[])
    .option('--users <file>', 'NAME:PASSWORD lines: SOCKS and HTTP clients must log in')
    .option('--cookies', 'converter: clients must show a cookie', false)
    .option('--send-proxy', 'send a PROXY header (version 2) to the server', false)
    .option('--expect-proxy', 'clients begin with a PROXY header (version 2)', false)
    .option('--max-connections <number>', 'connections at once', '20000')
    .option('--max-per-source <number>', 'connections at once from one address', '20000')
    .option('--handshake-timeout <seconds>', 'for what the client says first', '10')
    .option('--connect-timeout <seconds>', 'for reaching the server', '15')
    .option('--idle-timeout <seconds>', 'without a byte in either direction; 0: none', '600')
    .option('--workers <number>', 'processes that share the port (kernel backend)', '1')
    .option('--metrics <port>', 'serve /metrics for Prometheus on loopback')
    .option('--json', 'a line of JSON for each connection', false)
    .option('--quiet', 'no line for each connection', false)
    .addHelpText('after', EXAMPLES)
    .action((flags: Flags) => run(flags));
}

/** Set in the processes that share the work. */
const WORKER = 'SUBFLOW_PROXY_WORKER';

function run(flags: Flags): void {
  const listen = parseListen(flags.listen);
  const workers = count('--workers', flags.workers);
  if (workers > 1 && flags.backend === 'stack') throw new UsageError('BAD_ARGUMENT', '--workers needs the kernel backend: a stack lives in one process');
  if (workers > 1 && listen.port === 0) throw new UsageError('BAD_ARGUMENT', '--workers needs a port: workers cannot share one that each finds for itself');
  if (workers > 1 && flags.metrics !== undefined) throw new UsageError('BAD_ARGUMENT', '--metrics needs --workers 1: each worker counts for itself');
  if (workers > 1 && process.env[WORKER] === undefined) {
    startWorkers(workers);
    return;
  }
  const target = flags.to === undefined ? null : requireTarget('--to', flags.to);
  const accept = flags.accept === undefined ? (target === null ? (['socks', 'http'] as const) : (['forward'] as const)) : parseAccept(flags.accept);
  const base = openBackend(flags);
  const over = (protocol: 'mptcp' | 'tcp'): MultipathOptions => (protocol === 'tcp' ? { backend: base.backend, service: 'none' } : base);
  const seconds = (name: string, text: string): number => {
    const value = Number(text);
    if (!(value >= 0)) throw new UsageError('BAD_ARGUMENT', `${name} "${text}"; expected a number of seconds`);
    return value * 1000;
  };
  const proxy = new ProxyServer({
    accept,
    ...(target === null ? {} : { target }),
    from: { ...over(flags.fromOver), ...(workers > 1 ? { reusePort: true } : {}) },
    to: over(flags.toOver),
    ...(flags.converter === undefined ? {} : { converter: requireTarget('--converter', flags.converter) }),
    ...(flags.allow.length === 0 ? {} : { allow: flags.allow }),
    ...(flags.destinations.length === 0 ? {} : { destinations: flags.destinations }),
    ...(flags.users === undefined ? {} : { users: readUsers(flags.users) }),
    cookies: flags.cookies,
    sendProxyHeader: flags.sendProxy,
    expectProxyHeader: flags.expectProxy,
    limits: { connections: count('--max-connections', flags.maxConnections), perSource: count('--max-per-source', flags.maxPerSource) },
    timeouts: {
      handshake: seconds('--handshake-timeout', flags.handshakeTimeout),
      connect: seconds('--connect-timeout', flags.connectTimeout),
      idle: seconds('--idle-timeout', flags.idleTimeout),
    },
  });
  proxy.on('error', fail);
  proxy.on('record', (record) => {
    if (!flags.quiet) process.stdout.write(flags.json ? `${JSON.stringify(record)}\n` : line(record));
  });
  proxy.listen(listen, () => {
    const { address, port } = proxy.address() as AddressInfo;
    process.stdout.write(`proxy (${accept.join(', ')}) on ${endpoint(address, port)}\n`);
  });
  if (flags.metrics !== undefined) serveProxyMetrics(proxy, parsePort(flags.metrics, 0));
  // The first Ctrl-C lets open connections finish; the second does not.
  let stopping = false;
  process.on('SIGINT', () => {
    if (stopping) process.exit(130);
    stopping = true;
    process.stderr.write('no more connections; Ctrl-C again ends those that are open\n');
    proxy.close(true, () => process.exit(0));
  });
  process.on('SIGTERM', () => {
    proxy.close();
    process.exit(143);
  });
}

/** The same command several times; when one ends, all do. */
function startWorkers(workers: number): void {
  const children = Array.from({ length: workers }, () =>
    spawn(process.execPath, process.argv.slice(1), { stdio: 'inherit', env: { ...process.env, [WORKER]: '1' } }),
  );
  for (const signal of ['SIGTERM', 'SIGHUP'] as const) process.on(signal, () => children.forEach((one) => one.kill(signal)));
  // Ctrl-C reaches the workers by itself.
  process.on('SIGINT', () => undefined);
  for (const child of children) {
    child.on('exit', (code) => {
      for (const other of children) other.kill();
      process.exitCode = code ?? 1;
    });
  }
}

function line(record: ProxyRecord): string {
  const kind = (multipath: boolean | null): string => (multipath === null ? '?' : multipath ? 'MPTCP' : 'TCP');
  const size = `${record.bytesUp} bytes up, ${record.bytesDown} down`;
  return `${new Date().toISOString()} ${record.client} ${kind(record.clientMultipath)} → ${record.target ?? '-'} ${kind(record.serverMultipath)} ${record.end} ${(record.milliseconds / 1000).toFixed(2)} s ${size}${record.message === null ? '' : ` (${record.message})`}\n`;
}

function serveProxyMetrics(proxy: ProxyServer, port: number): void {
  const registry = new Registry();
  const registers = [registry];
  new Gauge({ name: 'subflow_proxy_open', help: 'Connections open now', registers, collect: gauge(() => proxy.counters.open) });
  for (const [name, help, read] of [
    ['accepted', 'Connections accepted', () => proxy.counters.accepted],
    ['relayed', 'Connections that reached their server', () => proxy.counters.relayed],
    ['bytes_up', 'Bytes from clients to servers', () => proxy.counters.bytesUp],
    ['bytes_down', 'Bytes from servers to clients', () => proxy.counters.bytesDown],
    ['multipath_clients', 'Connections whose client side is Multipath TCP', () => proxy.counters.multipathClients],
    ['multipath_servers', 'Connections whose server side is Multipath TCP', () => proxy.counters.multipathServers],
  ] as const) {
    new Counter({ name: `subflow_proxy_${name}_total`, help, registers, collect: counter(read) });
  }
  const ends = new Counter({ name: 'subflow_proxy_ended_total', help: 'Connections that ended, by how', labelNames: ['end'], registers });
  const server = createHttpServer((request, response) => {
    if (request.url !== '/metrics') {
      response.writeHead(404, { 'content-type': 'text/plain' }).end('expected /metrics\n');
      return;
    }
    ends.reset();
    for (const [end, value] of proxy.counters.ends) ends.inc({ end }, value);
    void registry.metrics().then((text) => response.writeHead(200, { 'content-type': registry.contentType }).end(text));
  });
  server.on('error', fail);
  server.listen(port, '127.0.0.1', () => process.stdout.write(`metrics on http://127.0.0.1:${(server.address() as AddressInfo).port}/metrics\n`));
}

function gauge(read: () => number): (this: Gauge) => void {
  return function () {
    this.set(read());
  };
}

function counter(read: () => number): (this: Counter) => void {
  return function () {
    this.reset();
    this.inc(read());
  };
}

function parseListen(text: string): { host: string; port: number } {
  if (/^\d+$/.test(text)) return { host: '127.0.0.1', port: parsePort(text, 0) };
  const match = /^(.*):(\d+)$/.exec(text);
  if (match === null) throw new UsageError('BAD_ADDRESS', `--listen "${text}"; expected [ADDRESS:]PORT`);
  return { host: match[1]!.replace(/^\[|\]$/g, ''), port: parsePort(match[2]!, 0) };
}

function requireTarget(flag: string, text: string): { host: string; port: number } {
  const target = parseTarget(text);
  if (target === null) throw new UsageError('BAD_ADDRESS', `${flag} "${text}"; expected HOST:PORT`);
  return target;
}

function parseAccept(text: string): ProxyProtocol[] {
  return text.split(',').map((name) => {
    if (!(PROTOCOLS as readonly string[]).includes(name)) throw new UsageError('UNKNOWN_PROTOCOL', `--accept "${name}"; expected ${PROTOCOLS.join(', ')}`);
    return name as ProxyProtocol;
  });
}

function count(flag: string, text: string): number {
  const value = Number(text);
  if (!Number.isInteger(value) || value < 1) throw new UsageError('BAD_ARGUMENT', `${flag} "${text}"; expected a whole number above 0`);
  return value;
}

function readUsers(file: string): Record<string, string> {
  const text = readText(file);
  const users: Record<string, string> = {};
  text.split('\n').forEach((row, i) => {
    if (row.trim() === '' || row.startsWith('#')) return;
    const at = row.indexOf(':');
    if (at <= 0) throw new UsageError('BAD_USERS', `${file}, line ${i + 1}: expected NAME:PASSWORD`);
    users[row.slice(0, at)] = row.slice(at + 1);
  });
  return users;
}
