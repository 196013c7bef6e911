/**
 * `Socket`: node:net's own, on another handle. Everything that node:net does (buffering, half-open, timeouts, events,
 * errors) is node:net's code; what is ours is the handle below it, how it finds the peer, and `multipath`.
 */
import { lookup as systemLookup } from 'node:dns';
import type { LookupAddress, LookupOptions } from 'node:dns';
import { isIP, Socket as NodeSocket } from 'node:net';
import type { SocketConstructorOpts, TcpNetConnectOpts, IpcNetConnectOpts, NetConnectOpts } from 'node:net';
import { endpointText } from './addresses.ts';
import type { Alternative, Backend, MultipathSettings } from './backend.ts';
import { defaultBackend } from './default-backend.ts';
import { race } from './happy-eyeballs.ts';
import type { Attempt, Candidate, Race } from './happy-eyeballs.ts';
import type { Multipath } from './multipath.ts';
import { replaceHandle, TCP, TCPConnectWrap } from './node-internals.ts';
import type { Request, SocketHandle } from './node-internals.ts';
import { StackHandle, systemError } from './stack/handle.ts';

export interface MultipathOptions extends MultipathSettings {
  /** Default: {@link defaultBackend}. */
  backend?: Backend;
}

export type SocketOptions = SocketConstructorOpts & MultipathOptions;
export type ConnectOptions = NetConnectOpts & MultipathOptions;

/** The latest handle, for facts after the end. */
const kHandle = Symbol('subflow handle');
const kBackend = Symbol('subflow backend');
const kSettings = Symbol('subflow settings');
const kMultipath = Symbol('subflow multipath');
const kOurs = new WeakSet<object>();

interface Hidden {
  [kHandle]?: SocketHandle | null;
  [kBackend]?: Backend;
  [kSettings]?: MultipathSettings;
  [kMultipath]?: Multipath | null;
  _handle: SocketHandle | null;
  _pendingData: unknown;
  _pendingEncoding: string;
  _unrefTimer(): void;
  _reset(): void;
  _writeGeneric(writev: boolean, data: unknown, encoding: BufferEncoding, callback: (error?: Error | null) => void): void;
}

function hidden(socket: NodeSocket): Hidden {
  return socket as unknown as Hidden;
}

const { _writeGeneric: nodeWriteGeneric } = NodeSocket.prototype as unknown as Hidden;

export class Socket extends NodeSocket {
  constructor(options: SocketOptions = {}) {
    super(options);
    const { backend, settings } = split(options);
    if (backend !== undefined) hidden(this)[kBackend] = backend;
    hidden(this)[kSettings] = settings;
  }

  /**
   * Multipath TCP's facts, events and controls; null before `connect` is called and on Unix sockets. It stays readable
   * after the end.
   */
  get multipath(): Multipath | null {
    const own = hidden(this);
    const handle = own._handle ?? own[kHandle];
    if (handle !== null && handle !== undefined) own[kMultipath] ??= (own[kBackend] ?? defaultBackend()).multipath(handle);
    return own[kMultipath] ?? null;
  }

  override connect(...args: unknown[]): this {
    const [options, listener] = normalize(args);
    const own = hidden(this);
    const picked = split(options as MultipathOptions);
    if (picked.backend !== undefined) own[kBackend] = picked.backend;
    own[kSettings] = { ...own[kSettings], ...picked.settings };
    if (this.destroyed) {
      own[kMultipath] = null;
      own[kHandle] = null;
    }
    // Unknown names are the caller's mistake and are told at once.
    if ('path' in options && options.path !== undefined) return super.connect(options as IpcNetConnectOpts, listener);
    this.once('connect', () => own[kMultipath]?.connected());
    const tcp = options as TcpNetConnectOpts;
    const host = tcp.host ?? 'localhost';
    const oneAttempt = isIP(host) !== 0 || tcp.autoSelectFamily === false || (tcp.lookup !== undefined && typeof tcp.lookup !== 'function');
    if (oneAttempt) return super.connect({ ...tcp, autoSelectFamily: false } as TcpNetConnectOpts, listener);
    return this.connectByName(tcp, host, listener);
  }

  override resetAndDestroy(): this {
    const own = hidden(this);
    if (!(own._handle instanceof StackHandle)) return super.resetAndDestroy();
    if (this.connecting) this.once('connect', () => own._reset());
    else own._reset();
    return this;
  }

  private connectByName(options: TcpNetConnectOpts, host: string, listener: (() => void) | undefined): this {
    const { localAddress, localPort, lookup, family, hints, autoSelectFamilyAttemptTimeout } = options;
    const resolve = (lookup ?? systemLookup) as typeof systemLookup;
    let running: Race | null = null;
    this.once('close', () => running?.cancel());
    const find = (_host: string, _options: LookupOptions, callback: (error: Error | null, address?: string, family?: number) => void): void => {
      const winners = new Map<Candidate, SocketHandle>();
      running = race({
        families: family === 4 || family === 6 ? [family] : localAddress === undefined ? [6, 4] : [isIP(localAddress) === 6 ? 6 : 4],
        resolve: (one) => lookUp(resolve, host, one, hints),
        attempt: (candidate, done) => this.attempt(candidate, Number(options.port), localAddress, localPort, winners, done),
        ...(autoSelectFamilyAttemptTimeout === undefined ? {} : { attemptDelay: autoSelectFamilyAttemptTimeout }),
      });
      running.result.then(
        ({ winner, others }) => {
          this.install(winners.get(winner)!, others, Number(options.port));
          callback(null, winner.address, winner.family);
        },
        (error: Error) => {
          // node:net has its own words for what is no address.
          if (error instanceof NotAnAddress) callback(null, error.address, error.family);
          else callback(error);
        },
      );
    };
    return super.connect(
      {
        ...options,
        host,
        lookup: find as unknown as NonNullable<TcpNetConnectOpts['lookup']>,
        // Any other value is node:net's to refuse.
        ...(options.autoSelectFamily === true || options.autoSelectFamily === undefined || options.autoSelectFamily === null
          ? { autoSelectFamily: false }
          : {}),
      },
      listener,
    );
  }

  /** One attempt on a handle of its own. */
  private attempt(
    candidate: Candidate,
    port: number,
    localAddress: string | undefined,
    localPort: number | undefined,
    winners: Map<Candidate, SocketHandle>,
    done: (error: Error | null) => void,
  ): Attempt {
    const { address, family } = candidate;
    this.emit('connectionAttempt', address, port, family);
    const handle = makeHandle(this);
    const fail = (status: number, syscall: string): void => {
      handle.close();
      const error = systemError(status, syscall);
      error.message = `${error.message} ${endpointText(address, port)}`;
      this.emit('connectionAttemptFailed', address, port, family, error);
      done(Object.assign(error, { address, port }));
    };
    let status = 0;
    if (localAddress !== undefined || localPort !== undefined) {
      const from = localAddress ?? (family === 6 ? '::' : '0.0.0.0');
      status = family === 6 ? handle.bind6(from, localPort ?? 0) : handle.bind(from, localPort ?? 0);
      if (status !== 0) {
        setImmediate(() => fail(status, 'bind'));
        return { cancel: () => undefined };
      }
    }
    const request = new TCPConnectWrap();
    let cancelled = false;
    request.oncomplete = (result) => {
      if (cancelled) return;
      if (result !== 0) {
        fail(result, 'connect');
        return;
      }
      winners.set(candidate, handle);
      done(null);
    };
    status = family === 6 ? handle.connect6(request, address, port) : handle.connect(request, address, port);
    if (status !== 0) {
      setImmediate(() => {
        if (!cancelled) fail(status, 'connect');
      });
    }
    return {
      cancel: () => {
        if (cancelled) return;
        cancelled = true;
        handle.close();
        this.emit('connectionAttemptTimeout', address, port, family);
      },
    };
  }

  /** The winner's handle becomes this socket's; node:net then finds it connected already. */
  private install(handle: SocketHandle, others: readonly Candidate[], port: number): void {
    if (this.destroyed || !this.connecting) {
      handle.close();
      return;
    }
    const backend = hidden(this)[kBackend] ?? defaultBackend();
    const facts = hidden(this)[kMultipath];
    replaceHandle(this, handle);
    // Who has asked for the facts before is told of the winner.
    if (facts !== null && facts !== undefined) backend.multipath(handle, facts);
    const connected = (request: Request): number => {
      setImmediate(() => request.oncomplete(0, handle, request, true, true));
      return 0;
    };
    // It is bound already, if that was asked for.
    const bound = (): number => 0;
    Object.assign(handle, { connect: connected, connect6: connected, bind: bound, bind6: bound });
    const alternatives: Alternative[] = others.map(({ address }) => ({ address, port }));
    if (alternatives.length > 0) backend.offer(handle, alternatives);
  }
}

/** A handle of the socket's backend with its settings. */
function makeHandle(socket: Socket): SocketHandle {
  const own = hidden(socket);
  const handle = (own[kBackend] ?? defaultBackend()).socketHandle(own[kSettings] ?? {});
  kOurs.add(handle);
  return handle;
}

// node:net makes a plain TCP handle when it connects, and puts it here. A fresh one is exchanged for the backend's.
const { get: nodeHandle, set: setNodeHandle } = Object.getOwnPropertyDescriptor(NodeSocket.prototype, '_handle')!;
Object.defineProperty(Socket.prototype, '_handle', {
  configurable: true,
  get: nodeHandle!,
  set(this: Socket, handle: SocketHandle | null) {
    // Inside node:net's constructor (no settings yet) a fresh handle is about to be given a descriptor.
    const fresh = handle instanceof TCP && handle.fd < 0 && !kOurs.has(handle) && hidden(this)[kSettings] !== undefined;
    const next = fresh ? makeHandle(this) : handle;
    if (next !== null && next !== undefined) hidden(this)[kHandle] = next;
    setNodeHandle!.call(this, next);
  },
});

// A write on the stack goes by the shortest way: through the native stream it would be copied and delayed by a turn.
Object.defineProperty(Socket.prototype, '_writeGeneric', {
  configurable: true,
  writable: true,
  value(this: Socket, writev: boolean, data: unknown, encoding: BufferEncoding, callback: (error?: Error | null) => void): void {
    const own = hidden(this);
    const handle = own._handle;
    if (this.connecting || !(handle instanceof StackHandle)) {
      nodeWriteGeneric.call(this, writev, data, encoding, callback);
      return;
    }
    own._pendingData = null;
    own._pendingEncoding = '';
    own._unrefTimer();
    const done = (status: number): void => callback(status === 0 ? undefined : systemError(status, 'write'));
    if (writev) writeAll(handle, data as readonly Chunk[], done);
    else if (typeof data === 'string') handle.enqueue(Buffer.from(data, encoding), done);
    else handle.enqueueCopy(data as Uint8Array, done);
  },
});

interface Chunk {
  chunk: string | Uint8Array;
  encoding: BufferEncoding;
}

/** Small chunks are joined, so that many of them become few segments; large ones go alone. */
const JOINED = 65536;

function writeAll(handle: StackHandle, chunks: readonly Chunk[], done: (status: number) => void): void {
  const groups: Uint8Array[][] = [];
  let size = Number.POSITIVE_INFINITY;
  for (const { chunk, encoding } of chunks) {
    const bytes = typeof chunk === 'string' ? Buffer.from(chunk, encoding) : chunk;
    size += bytes.length;
    if (size > JOINED) {
      groups.push([bytes]);
      size = bytes.length;
    } else groups.at(-1)!.push(bytes);
  }
  groups.forEach((group, i) => {
    // The first failure tells; what comes after it fails alike.
    const last = i === groups.length - 1 ? done : () => undefined;
    if (group.length === 1) handle.enqueueCopy(group[0]!, last);
    else handle.enqueue(Buffer.concat(group), last);
  });
}

/** Makes one of our sockets out of one that node:net made around a handle of a backend. */
export function adopt(socket: NodeSocket, backend: Backend, settings: MultipathSettings): Socket {
  const own = hidden(socket);
  own[kHandle] = own._handle;
  Object.setPrototypeOf(socket, Socket.prototype);
  own[kBackend] = backend;
  own[kSettings] = settings;
  return socket as Socket;
}

export function split(options: MultipathOptions): { backend: Backend | undefined; settings: MultipathSettings } {
  const { backend, service, scheduler, congestion, coupled, pathManager, versions, reusePort } = options;
  const settings = { service, scheduler, congestion, coupled, pathManager, versions, reusePort };
  return { backend, settings: Object.fromEntries(Object.entries(settings).filter(([, value]) => value !== undefined)) as MultipathSettings };
}

/** A resolver's answer that is no address. */
class NotAnAddress extends Error {
  readonly address: string;
  readonly family: number;

  constructor(address: string, family: number) {
    super(`not an address: ${address}`);
    this.address = address;
    this.family = family;
  }
}

function lookUp(resolve: typeof systemLookup, host: string, family: 4 | 6, hints: number | undefined): Promise<Candidate[]> {
  let succeed!: (found: Candidate[]) => void;
  let fail!: (error: Error) => void;
  const found = new Promise<Candidate[]>((yes, no) => {
    succeed = yes;
    fail = no;
  });
  // Outside the promise, so that what a resolver throws reaches the caller of `connect`.
  resolve(host, { family, all: true, ...(hints === undefined ? {} : { hints }) }, (error, answer: string | LookupAddress[], answered?: number) => {
    if (error !== null && error !== undefined) {
      fail(error);
      return;
    }
    // A lookup of the application's own may ignore `all` and `family`.
    const list = Array.isArray(answer) ? answer : [{ address: answer, family: answered ?? isIP(answer) }];
    const wrong = list.find((one) => isIP(one.address) === 0 || (one.family !== 4 && one.family !== 6));
    if (wrong !== undefined) fail(new NotAnAddress(wrong.address, wrong.family));
    else succeed(list.filter((one) => isIP(one.address) === family).map(({ address }) => ({ address, family })));
  });
  return found;
}

/** The argument forms of `net.connect`: (options), (port, host?), (path), each with a listener. */
function normalize(args: readonly unknown[]): [ConnectOptions, (() => void) | undefined] {
  // `createConnection` of node:net passes what it has normalized already.
  const made = Array.isArray(args[0]) && Object.getOwnPropertySymbols(args[0]).some((symbol) => symbol.description === 'normalizedArgs');
  const list = made ? (args[0] as unknown[]) : args;
  const last = list.at(-1);
  const listener = typeof last === 'function' ? (last as () => void) : undefined;
  const [first, second] = list;
  if (typeof first === 'object' && first !== null) return [first as ConnectOptions, listener];
  if (typeof first === 'string' && !/^\d+$/.test(first)) return [{ path: first }, listener];
  return [{ port: first as number, ...(typeof second === 'string' ? { host: second } : {}) }, listener];
}
