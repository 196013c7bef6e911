/**
 * A proxy between Multipath TCP and TCP, in either direction: a fixed target (in front of a server), SOCKS5, HTTP CONNECT
 * and the Convert protocol. Both sides are sockets of any backend and service type.
 */
import { EventEmitter } from 'node:events';
import { lookup as systemLookup } from 'node:dns';
import type { LookupAddress } from 'node:dns';
import { isIP } from 'node:net';
import type { ListenOptions } from 'node:net';
import { Server } from '../server.ts';
import { Socket } from '../socket.ts';
import type { ConnectOptions, MultipathOptions } from '../socket.ts';
import { AccessList } from './access.ts';
import { connectThroughConverter, ConvertCookies, readConvert } from './convert.ts';
import { CONVERT_VERSION } from './convert-messages.ts';
import { ProxyError } from './errors.ts';
import { HandshakeReader } from './handshake-reader.ts';
import { readHttpConnect } from './http-connect.ts';
import { proxyHeader, readProxyHeader } from './proxy-protocol.ts';
import { relay } from './relay.ts';
import type { RelayResult } from './relay.ts';
import { ProxyCredentials } from './request.ts';
import type { ProxyRequest } from './request.ts';
import { readSocks, SOCKS_VERSION } from './socks.ts';

export type ProxyProtocol = ProxyRequest['protocol'];

export interface ProxyOptions {
  /** What clients speak. `forward` stands alone and needs `target`. */
  accept: readonly ProxyProtocol[];
  target?: { host: string; port: number };
  /** How clients' connections are taken, and how servers are reached; default: the default backend, Multipath TCP. */
  from?: MultipathOptions;
  to?: MultipathOptions;
  /** Reach servers through this converter (RFC 8803). */
  converter?: { host: string; port: number };
  /** Who may connect; default loopback only. */
  allow?: readonly string[];
  /** Where clients may go; default anywhere. */
  destinations?: readonly string[];
  /** User names and passwords for SOCKS and HTTP. */
  users?: Readonly<Record<string, string>>;
  /** Converter: ask for cookies (RFC 8803 §6.2.7). */
  cookies?: boolean;
  /** Send, and expect, PROXY headers of version 2. */
  sendProxyHeader?: boolean;
  expectProxyHeader?: boolean;
  limits?: { connections?: number; perSource?: number };
  /** Milliseconds. */
  timeouts?: { handshake?: number; connect?: number; idle?: number };
}

/** One line of a log. */
export interface ProxyRecord {
  protocol: ProxyProtocol | null;
  client: string;
  target: string | null;
  /** Multipath TCP on the client's side and on the server's; null when there was none. */
  clientMultipath: boolean | null;
  serverMultipath: boolean | null;
  milliseconds: number;
  bytesUp: number;
  bytesDown: number;
  /** `normal`, `reset`, `idle`, or a code of {@link ProxyError} or the system. */
  end: string;
  message: string | null;
}

export interface ProxyEvents {
  record: [record: ProxyRecord];
  error: [error: Error];
}

/** Numbers for metrics; everything since the start but `open`. */
export interface ProxyCounters {
  accepted: number;
  open: number;
  relayed: number;
  bytesUp: number;
  bytesDown: number;
  multipathClients: number;
  multipathServers: number;
  /** By how it ended: `normal`, `reset`, `idle`, or an error's code. */
  ends: Map<string, number>;
}

/** Only clients on this machine may have servers on this machine (RFC 8803 §6.2.5 would have none). */
const LOOPBACK = new AccessList(['loopback']);
const DEFAULTS = { connections: 20_000, perSource: 20_000, handshake: 10_000, connect: 15_000, idle: 600_000 };

export class ProxyServer extends EventEmitter<ProxyEvents> {
  readonly counters: ProxyCounters = {
    accepted: 0,
    open: 0,
    relayed: 0,
    bytesUp: 0,
    bytesDown: 0,
    multipathClients: 0,
    multipathServers: 0,
    ends: new Map(),
  };
  private readonly options: ProxyOptions;
  private readonly server: Server;
  private readonly allow: AccessList;
  private readonly destinations: AccessList;
  private readonly credentials: ProxyCredentials | null;
  private readonly cookies: ConvertCookies | null;
  private readonly perSource = new Map<string, number>();
  private readonly sockets = new Set<Socket>();

  /** Throws {@link ProxyError} `BAD_ACCESS_LIST`, `BAD_TARGET`. */
  constructor(options: ProxyOptions) {
    super();
    if (options.accept.length === 0) throw new ProxyError('BAD_TARGET', 'the proxy accepts nothing; expected forward, socks, http or convert');
    if (options.accept.includes('forward') && (options.target === undefined || options.accept.length > 1))
      throw new ProxyError('BAD_TARGET', 'forward stands alone and needs a target');
    this.options = options;
    this.allow = new AccessList(options.allow ?? ['loopback']);
    this.destinations = new AccessList(options.destinations ?? ['any']);
    this.credentials = options.users === undefined ? null : new ProxyCredentials(options.users);
    this.cookies = options.cookies === true ? new ConvertCookies() : null;
    this.server = new Server({ ...options.from, allowHalfOpen: true, noDelay: true, pauseOnConnect: true }, (socket) => void this.serve(socket));
    this.server.on('error', (error) => this.emit('error', error));
  }

  listen(options: ListenOptions, listening?: () => void): this {
    this.server.listen(options, listening);
    return this;
  }

  address(): ReturnType<Server['address']> {
    return this.server.address();
  }

  /** Takes no more connections; `open` ones are reset unless `gently`. */
  close(gently = false, done?: () => void): void {
    this.server.close(() => done?.());
    if (!gently) for (const socket of this.sockets) socket.resetAndDestroy();
  }

  private async serve(client: Socket): Promise<void> {
    const started = performance.now();
    const source = client.remoteAddress ?? '';
    const { counters } = this;
    counters.accepted++;
    counters.open++;
    this.perSource.set(source, (this.perSource.get(source) ?? 0) + 1);
    this.sockets.add(client);
    client.on('error', () => undefined);
    const record: ProxyRecord = {
      protocol: null,
      client: `${source}:${client.remotePort ?? 0}`,
      target: null,
      clientMultipath: null,
      serverMultipath: null,
      milliseconds: 0,
      bytesUp: 0,
      bytesDown: 0,
      end: 'normal',
      message: null,
    };
    try {
      const result = await this.connect(client, source, record);
      if (result !== null) {
        record.end = result.end;
        record.bytesUp = result.there;
        record.bytesDown = result.back;
      }
    } catch (error) {
      const { code, message } = error as NodeJS.ErrnoException;
      record.end = code ?? 'INTERNAL';
      record.message = message;
      // What was said (an error message of the protocol) still goes out; nothing more is read.
      client.resume();
      if (client.writableEnded) setTimeout(() => client.destroy(), this.timeout('handshake')).unref();
      else client.resetAndDestroy();
    }
    this.sockets.delete(client);
    counters.open--;
    const left = (this.perSource.get(source) ?? 1) - 1;
    if (left === 0) this.perSource.delete(source);
    else this.perSource.set(source, left);
    counters.bytesUp += record.bytesUp;
    counters.bytesDown += record.bytesDown;
    counters.ends.set(record.end, (counters.ends.get(record.end) ?? 0) + 1);
    record.milliseconds = performance.now() - started;
    this.emit('record', record);
  }

  private async connect(client: Socket, source: string, record: ProxyRecord): Promise<RelayResult | null> {
    const { options } = this;
    if (!this.allow.allows(source)) throw new ProxyError('NOT_ALLOWED', `${source} is not on the access list (${this.allow.entries.join(', ')})`);
    this.checkLimits(source);
    record.clientMultipath = client.multipath?.info()?.multipath ?? null;
    if (record.clientMultipath === true) this.counters.multipathClients++;
    const forward = options.accept[0] === 'forward';
    const reader = forward && options.expectProxyHeader !== true ? null : new HandshakeReader(client, this.timeout('handshake'));
    let request: ProxyRequest | null;
    let peer = { source, sourcePort: client.remotePort ?? 0, destination: client.localAddress ?? '', destinationPort: client.localPort ?? 0 };
    try {
      if (reader !== null) client.resume();
      if (options.expectProxyHeader === true) peer = (await readProxyHeader(reader!)) ?? peer;
      request = forward ? this.forward(client) : await this.read(client, reader!);
    } finally {
      reader?.release();
    }
    if (request === null) return null;
    record.protocol = request.protocol;
    record.target = `${request.host}:${request.port}`;
    let upstream: Socket;
    try {
      // What goes first: who the client is, then what it has said already.
      const prelude = [
        ...(options.sendProxyHeader === true ? [proxyHeader(peer)] : []),
        ...(forward ? [(client.read() as Buffer | null) ?? Buffer.alloc(0)] : []),
      ];
      upstream = await this.reach(request, client, prelude.length > 0 ? Buffer.concat(prelude) : null);
    } catch (error) {
      request.refused(error as NodeJS.ErrnoException);
      throw error;
    }
    this.sockets.add(upstream);
    try {
      record.serverMultipath = upstream.multipath?.info()?.multipath ?? null;
      if (record.serverMultipath === true) this.counters.multipathServers++;
      this.counters.relayed++;
      request.granted(upstream);
      return await relay(client, upstream, this.timeout('idle'));
    } finally {
      this.sockets.delete(upstream);
    }
  }

  private forward(client: Socket): ProxyRequest {
    return { protocol: 'forward', ...this.options.target!, granted: () => undefined, refused: () => client.resetAndDestroy() };
  }

  private async read(client: Socket, reader: HandshakeReader): Promise<ProxyRequest | null> {
    const { accept } = this.options;
    const first = await reader.peek();
    const upper = first >= 0x41 && first <= 0x5a;
    if (accept.includes('socks') && (first === SOCKS_VERSION || accept.length === 1)) return readSocks(client, reader, this.credentials);
    if (accept.includes('http') && (upper || accept.length === 1)) return readHttpConnect(client, reader, this.credentials);
    if (accept.includes('convert') && (first === CONVERT_VERSION || accept.length === 1))
      return readConvert(client, reader, {
        cookies: this.cookies,
        allowLoopback: LOOPBACK.allows(client.remoteAddress ?? ''),
        multipath: this.options.to?.service !== 'none',
      });
    if (accept.includes('http')) return readHttpConnect(client, reader, this.credentials);
    throw new ProxyError('NOT_SUPPORTED', `the first byte is 0x${first.toString(16)}; expected one of ${accept.join(', ')}`);
  }

  private checkLimits(source: string): void {
    const { connections = DEFAULTS.connections, perSource = DEFAULTS.perSource } = this.options.limits ?? {};
    if (this.counters.open > connections) throw new ProxyError('TOO_MANY', `${connections} connections are open already`);
    if ((this.perSource.get(source) ?? 0) > perSource) throw new ProxyError('TOO_MANY', `${source} has ${perSource} connections already`);
  }

  /** A connection to the server; given up when the client goes away meanwhile. */
  private reach(request: ProxyRequest, client: Socket, early: Buffer | null): Promise<Socket> {
    const { options } = this;
    const to: MultipathOptions = {
      ...options.to,
      ...(request.multipath === true && options.to?.service === undefined ? { service: 'aggregate' as const } : {}),
    };
    if (options.converter !== undefined) return this.throughConverter(options.converter, request, to, early);
    return new Promise((resolve, reject) => {
      if (isIP(request.host) !== 0 && !this.destinations.allows(request.host)) {
        reject(new ProxyError('NOT_ALLOWED', `${request.host} is not among the destinations allowed`));
        return;
      }
      const upstream = new Socket({ ...to, allowHalfOpen: true } as ConstructorParameters<typeof Socket>[0]);
      const timer = setTimeout(
        () => fail(new ProxyError('CONNECT_TIMEOUT', `no connection to ${request.host}:${request.port} in time`)),
        this.timeout('connect'),
      );
      const gone = (): void => fail(new ProxyError('HANDSHAKE_CUT', 'the client went away while its server was being reached'));
      const fail = (error: Error): void => {
        clearTimeout(timer);
        client.off('close', gone);
        upstream.on('error', () => undefined);
        upstream.destroy();
        reject(error);
      };
      client.once('close', gone);
      upstream.once('error', fail);
      upstream.once('connect', () => {
        clearTimeout(timer);
        client.off('close', gone);
        upstream.off('error', fail);
        resolve(upstream);
      });
      upstream.setNoDelay(true);
      upstream.connect({ ...to, host: request.host, port: request.port, allowHalfOpen: true, lookup: this.lookup } as unknown as ConnectOptions);
      if (early !== null) upstream.write(early);
    });
  }

  private async throughConverter(
    converter: { host: string; port: number },
    request: ProxyRequest,
    to: MultipathOptions,
    early: Buffer | null,
  ): Promise<Socket> {
    const address = isIP(request.host) !== 0 ? request.host : await firstAddress(request.host);
    if (!this.destinations.allows(address)) throw new ProxyError('NOT_ALLOWED', `${address} is not among the destinations allowed`);
    return connectThroughConverter({ converter: { ...to, ...converter }, address, port: request.port, early, timeout: this.timeout('connect') });
  }

  /** The system's resolver, less the addresses nobody may go to. */
  private readonly lookup = (host: string, options: object, callback: (error: NodeJS.ErrnoException | null, addresses: LookupAddress[]) => void): void => {
    systemLookup(host, { ...options, all: true }, (error, addresses) => {
      if (error !== null) {
        callback(error, []);
        return;
      }
      const allowed = addresses.filter((one) => this.destinations.allows(one.address));
      if (addresses.length > 0 && allowed.length === 0)
        callback(new ProxyError('NOT_ALLOWED', `${host} (${addresses.map((one) => one.address).join(', ')}) is not among the destinations allowed`), []);
      else callback(null, allowed);
    });
  };

  private timeout(which: 'handshake' | 'connect' | 'idle'): number {
    return this.options.timeouts?.[which] ?? DEFAULTS[which];
  }
}

function firstAddress(host: string): Promise<string> {
  return new Promise((resolve, reject) => systemLookup(host, (error, address) => (error === null ? resolve(address) : reject(error))));
}
