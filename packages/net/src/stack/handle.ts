/**
 * A connection of our stack as the handle of a net.Socket. It is a native stream fed from JavaScript, so that TLS and
 * HTTP/2, which attach to handles natively, work over it as over a kernel socket.
 */
import { constants } from 'node:os';
import { getSystemErrorName } from 'node:util';
import { formatAddress, sameAddress } from '@subflow/wire';
import { connectionInfo, StackError } from '@subflow/stack';
import type { CloseReason, Connection, ConnectionInfo, StackEvent } from '@subflow/stack';
import { parseIp } from '../addresses.ts';
import type { MultipathSettings } from '../backend.ts';
import { JSStream } from '../node-internals.ts';
import type { AddressOut, JsStream, Request, SocketHandle } from '../node-internals.ts';
import type { ConnectionUser, StackContext } from './context.ts';
import { CHUNK } from './send-chunks.ts';
import { connectOptions } from './settings.ts';
import { KeepAlive } from './keep-alive.ts';

const { errno } = constants;
/** How long a closed socket's connection may take to say goodbye before it is aborted; Linux's tcp_fin_timeout. */
const ORPHAN_LIMIT = 60_000;
/** How often a closed socket looks whether the peer has everything, milliseconds. */
const SEND_WATCH = 10;

const ERRNO_OF: Record<CloseReason, number> = {
  normal: 0,
  reset: -errno.ECONNRESET,
  refused: -errno.ECONNREFUSED,
  timeout: -errno.ETIMEDOUT,
  'user-timeout': -errno.ETIMEDOUT,
  aborted: -errno.ECONNABORTED,
  unreachable: -errno.EHOSTUNREACH,
};

interface Waiting {
  bytes: Uint8Array;
  /** The pool's chunk that the bytes lie in; null: memory of their own. */
  chunk: Uint8Array | null;
  done: (status: number) => void;
}

/** A chunk of the pool, and the data position after its bytes. */
interface Lent {
  chunk: Uint8Array;
  end: number;
}

/** The owner that node:net notes on a handle. */
interface Owner {
  destroy(error?: Error): void;
  listenerCount(event: string): number;
}

// The constructor's type is that of the native class; the properties come from this one.
const NativeStream = JSStream as unknown as new () => JsStream & { onread: unknown; readStart(): number; readStop(): number };

export class StackHandle extends NativeStream implements SocketHandle, ConnectionUser {
  readonly backend: StackContext;
  readonly settings: MultipathSettings;
  connection: Connection | null = null;
  /** The snapshot at the end. */
  lastInfo: ConnectionInfo | null = null;
  /** Hears the connection's events. */
  listener: ((event: StackEvent) => void) | null = null;
  alternatives: readonly { address: Uint8Array; port: number }[] = [];
  private readonly keepAlive = new KeepAlive();
  private connecting: Request | null = null;
  private local: Uint8Array | null = null;
  private localPort = 0;
  private flowing = false;
  private ended = false;
  private closed = false;
  private referenced = true;
  private noDelay: boolean | null = null;
  private keepaliveIdle: number | null = null;
  private readonly waiting: Waiting[] = [];
  private lent: Lent[] = [];
  private recycleAt = RECYCLE;
  private orphanTimer: NodeJS.Timeout | null = null;
  private sendWatch: NodeJS.Timeout | null = null;
  private written = 0;
  private remoteEnd: { address: string; port: number } | null = null;
  private localEnd: { address: string; port: number } | null = null;

  constructor(backend: StackContext, settings: MultipathSettings, accepted: Connection | null) {
    super();
    this.backend = backend;
    this.settings = settings;
    // The counter of the native class sees only what native code wrote.
    Object.defineProperty(this, 'bytesWritten', { get: () => this.written });
    if (accepted !== null) this.adopt(accepted);
  }

  get fd(): number {
    return -1;
  }

  // What node:net asks for.

  connect(request: Request, address: string, port: number): number {
    return this.open(request, address, port);
  }

  connect6(request: Request, address: string, port: number): number {
    return this.open(request, address, port);
  }

  bind(address: string, port: number): number {
    const bytes = parseIp(address);
    if (bytes === null) return -errno.EINVAL;
    if (bytes.some((byte) => byte !== 0)) {
      if (!this.backend.host.hasAddress(bytes)) return -errno.EADDRNOTAVAIL;
      this.local = bytes;
    }
    if (port !== 0 && this.backend.portInUse(bytes, port)) return -errno.EADDRINUSE;
    this.localPort = port;
    // node:net looks whether the port is the one it asked for.
    this.localEnd = { address, port };
    return 0;
  }

  bind6(address: string, port: number): number {
    return this.bind(address, port);
  }

  getsockname(out: AddressOut): number {
    return fill(out, this.localEnd);
  }

  getpeername(out: AddressOut): number {
    return fill(out, this.remoteEnd);
  }

  setNoDelay(on: boolean): number {
    this.noDelay = on;
    this.connection?.configure({ noDelay: on }, this.backend.now());
    return 0;
  }

  setKeepAlive(on: boolean, seconds: number): number {
    // 0 seconds leave the system's default, which is two hours.
    this.keepaliveIdle = on ? (seconds > 0 ? seconds : 7200) * 1e6 : 0;
    this.connection?.configure({ keepaliveIdle: this.keepaliveIdle }, this.backend.now());
    this.backend.kick();
    return 0;
  }

  ref(): void {
    this.referenced = true;
    this.holdOrNot();
  }

  unref(): void {
    this.referenced = false;
    this.holdOrNot();
  }

  hasRef(): boolean {
    return this.referenced;
  }

  close(callback?: () => void): void {
    if (!this.closed) {
      this.closed = true;
      this.flowing = false;
      this.letGo();
    }
    if (callback !== undefined) setImmediate(() => callback.call(this));
  }

  reset(callback?: () => void): number {
    if (this.closed) return -errno.EINVAL;
    this.closed = true;
    this.flowing = false;
    const { connection } = this;
    if (connection !== null && !connection.closed) connection.abort(this.backend.now());
    this.backend.kick();
    if (callback !== undefined) setImmediate(() => callback.call(this));
    return 0;
  }

  // What native code asks for (TLS, HTTP/2, and node:net's reading).

  override onreadstart = (): number => {
    this.flowing = true;
    this.holdOrNot();
    // Not at once: the caller is in the middle of something.
    setImmediate(() => this.deliver());
    return 0;
  };

  override onreadstop = (): number => {
    this.flowing = false;
    this.holdOrNot();
    return 0;
  };

  override onwrite = (request: object, buffers: Uint8Array[]): number => {
    const last = buffers.length - 1;
    buffers.forEach((bytes, i) => {
      this.enqueue(bytes, i < last ? NOTHING : (status) => setImmediate(() => this.finishWrite(request, status)));
    });
    return 0;
  };

  override onshutdown = (request: object): number => {
    const { connection } = this;
    if (connection === null) return -errno.ENOTCONN;
    this.enqueue(EMPTY, () => {
      connection.shutdown(this.backend.now());
      this.backend.kick();
      setImmediate(() => this.finishShutdown(request, 0));
    });
    return 0;
  };

  override isClosing = (): boolean => this.closed;

  // What our sockets ask for.

  /** Queues bytes that nobody will change; `done` hears 0 once the connection has taken them, or a negative errno. */
  enqueue(bytes: Uint8Array, done: (status: number) => void): void {
    this.queue(bytes, null, done);
  }

  /** As {@link enqueue}, of bytes that may change afterwards. */
  enqueueCopy(bytes: Uint8Array, done: (status: number) => void): void {
    if (bytes.length < WORTH_A_CHUNK) {
      const copy = Buffer.allocUnsafe(bytes.length);
      copy.set(bytes);
      this.queue(copy, null, done);
      return;
    }
    for (let at = 0; at < bytes.length; at += CHUNK) {
      const chunk = this.backend.chunks.take();
      const piece = at === 0 && bytes.length <= CHUNK ? bytes : bytes.subarray(at, at + CHUNK);
      chunk.set(piece);
      this.queue(piece.length === CHUNK ? chunk : chunk.subarray(0, piece.length), chunk, at + CHUNK >= bytes.length ? done : NOTHING);
    }
  }

  private queue(bytes: Uint8Array, chunk: Uint8Array | null, done: (status: number) => void): void {
    const { connection } = this;
    if (this.closed) {
      done(-errno.EBADF);
      return;
    }
    if (connection === null || connection.closed || (connection.sendClosed && bytes.length > 0)) {
      done(-errno.EPIPE);
      return;
    }
    this.written += bytes.length;
    this.waiting.push({ bytes, chunk, done });
    if (this.waiting.length === 1) this.drain();
    if (this.waiting.length > 0) this.holdOrNot();
  }

  info(): ConnectionInfo | null {
    return this.connection === null || this.connection.closed ? this.lastInfo : connectionInfo(this.connection);
  }

  // What the backend tells.

  event(event: StackEvent): void {
    this.listener?.(event);
    switch (event.type) {
      case 'connection-established':
        this.connected();
        return;
      case 'connection-readable':
      case 'connection-end':
        if (this.closed) this.orphanGotData();
        else this.deliver();
        return;
      case 'connection-writable':
        this.drain();
        return;
      case 'connection-closed':
        this.over(event.reason);
        return;
      default:
    }
  }

  private open(request: Request, address: string, port: number): number {
    let remote = parseIp(address);
    if (remote === null) return -errno.EINVAL;
    // The unspecified address means this host, as on Linux.
    if (remote.every((byte) => byte === 0)) remote = parseIp(remote.length === 4 ? '127.0.0.1' : '::1')!;
    const { backend } = this;
    try {
      const connection = backend.host.connect(
        {
          remote,
          port,
          ...(this.local === null ? {} : { local: this.local }),
          ...(this.localPort === 0 ? {} : { localPort: this.localPort }),
          ...connectOptions(this.settings, () => this.alternatives),
        },
        backend.now(),
      );
      this.connecting = request;
      this.adopt(connection);
    } catch (error) {
      if (!(error instanceof StackError)) throw error;
      return error.code === 'NO_ROUTE' ? -errno.ENETUNREACH : error.code === 'NO_PORTS' ? -errno.EADDRNOTAVAIL : -errno.EINVAL;
    }
    backend.kick();
    return 0;
  }

  private adopt(connection: Connection): void {
    this.connection = connection;
    this.backend.register(connection.id, this);
    const first = connection.subflows[0]?.tcb;
    this.remoteEnd = { address: formatAddress(connection.remoteAddress), port: connection.remotePort };
    const local = first?.local ?? connection.initialLocal;
    this.localEnd = local === null ? null : { address: formatAddress(local), port: connection.localPort };
    if (this.noDelay !== null || this.keepaliveIdle !== null) {
      connection.configure(
        { ...(this.noDelay === null ? {} : { noDelay: this.noDelay }), ...(this.keepaliveIdle === null ? {} : { keepaliveIdle: this.keepaliveIdle }) },
        this.backend.now(),
      );
    }
    this.holdOrNot();
  }

  /** A socket keeps the process alive while it does something, as libuv's handles: it connects, reads, or has bytes to write. */
  private holdOrNot(): void {
    if (this.closed) return;
    if (this.referenced && (this.connecting !== null || this.flowing || this.waiting.length > 0)) this.keepAlive.hold();
    else this.keepAlive.release();
  }

  private connected(): void {
    const request = this.connecting;
    if (request === null) return;
    this.connecting = null;
    // A refused version may have brought another port.
    if (this.localEnd !== null && this.connection !== null) this.localEnd.port = this.connection.localPort;
    this.holdOrNot();
    request.oncomplete(0, this, request, true, true);
  }

  /** Gives chunks back whose bytes nobody will send again. */
  private recycle(connection: Connection): void {
    const safe = connection.lowestReference;
    let count = 0;
    for (const { chunk, end } of this.lent) {
      if (end > safe) break;
      this.backend.chunks.give(chunk);
      count++;
    }
    if (count > 0) this.lent.splice(0, count);
    // Looking costs a walk over what is in flight: not again before some more have been lent.
    this.recycleAt = this.lent.length + RECYCLE;
  }

  /** Hands over what has arrived, as long as it is wanted. */
  private deliver(): void {
    const { connection, backend } = this;
    if (connection === null) return;
    let took = false;
    while (this.flowing && !this.closed) {
      const chunk = connection.peek();
      if (chunk === null) break;
      took = true;
      // `readBuffer` copies before it calls anybody, and nothing arrives in between: the chunk may be given back first.
      connection.consume(chunk.length, backend.now());
      this.readBuffer(chunk);
    }
    if (took) backend.kick();
    if (this.flowing && !this.closed && !this.ended && connection.receiveEnded && connection.readable === 0) {
      this.ended = true;
      this.emitEOF();
    }
  }

  private drain(): void {
    const { connection } = this;
    if (connection === null) return;
    const now = this.backend.now();
    for (let next = this.waiting[0]; next !== undefined; next = this.waiting[0]) {
      // The connection takes a write whole while it has any room: in pieces, its limit means something.
      while (next.bytes.length > CHUNK && connection.write(next.bytes.subarray(0, CHUNK), now)) next.bytes = next.bytes.subarray(CHUNK);
      if (next.bytes.length > CHUNK || (next.bytes.length > 0 && !connection.write(next.bytes, now))) break;
      this.waiting.shift();
      if (next.chunk !== null) this.lent.push({ chunk: next.chunk, end: connection.sendBuffer.end });
      next.done(0);
    }
    if (this.lent.length >= this.recycleAt) this.recycle(connection);
    if (this.closed && this.waiting.length === 0) connection.shutdown(now);
    this.backend.kick();
  }

  private over(reason: CloseReason): void {
    const { connection } = this;
    if (connection === null) return;
    this.lastInfo = connectionInfo(connection);
    this.backend.unregister(connection.id);
    this.stopWatching();
    // Subflows that are still saying goodbye may send them again: left to the collector.
    this.lent = [];
    const status = ERRNO_OF[reason];
    const request = this.connecting;
    if (request !== null) {
      this.connecting = null;
      if (!this.closed) request.oncomplete(status === 0 ? -errno.ECONNABORTED : status, this, request, false, false);
      this.keepAlive.release();
      return;
    }
    for (const { done } of this.waiting.splice(0)) done(status === 0 ? -errno.EPIPE : status);
    this.keepAlive.release();
    if (this.closed) return;
    if (status === 0 || reason === 'aborted') {
      this.deliver();
      return;
    }
    // Bytes that arrived before a reset are lost, as with a kernel socket.
    this.fail(status);
  }

  /** The connection broke: the socket above is destroyed with the system's error. */
  private fail(status: number): void {
    const owner = ownerOf(this);
    if (owner === null) return;
    const error = systemError(status, 'read');
    // Under TLS nobody listens to this socket: its end is what the one above notices.
    if (owner.listenerCount('error') === 0 && owner.listenerCount('data') === 0 && owner.listenerCount('close') > 0) owner.destroy();
    else owner.destroy(error);
  }

  /** The socket is gone; what was written still goes out, what comes is refused (RFC 9293 §3.10.4, RFC 2525 §2.17). */
  private letGo(): void {
    const { connection, backend } = this;
    this.keepAliveUntilSent();
    if (connection === null || connection.closed) return;
    if (this.connecting !== null || connection.readable > 0) {
      connection.abort(backend.now());
      this.keepAlive.release();
    } else {
      if (this.waiting.length === 0) connection.shutdown(backend.now());
      this.orphanTimer = setTimeout(() => {
        if (!connection.closed) connection.abort(backend.now());
        backend.kick();
      }, ORPHAN_LIMIT);
      this.orphanTimer.unref();
    }
    backend.kick();
  }

  /** The stack below is gone. */
  abandon(): void {
    this.referenced = false;
    this.keepAlive.release();
    this.stopWatching();
  }

  /** The kernel would go on sending after the process: here the process has to stay until the peer has everything. */
  private keepAliveUntilSent(): void {
    const { connection } = this;
    const unsent = (): boolean => connection !== null && !connection.closed && (this.waiting.length > 0 || connection.dataUna < connection.sendBuffer.end);
    if (!this.referenced || !unsent()) {
      this.keepAlive.release();
      return;
    }
    this.keepAlive.hold();
    this.sendWatch = setInterval(() => {
      if (unsent()) return;
      this.keepAlive.release();
      if (this.sendWatch !== null) clearInterval(this.sendWatch);
      this.sendWatch = null;
    }, SEND_WATCH);
    this.sendWatch.unref();
  }

  private stopWatching(): void {
    if (this.orphanTimer !== null) clearTimeout(this.orphanTimer);
    if (this.sendWatch !== null) clearInterval(this.sendWatch);
    this.orphanTimer = this.sendWatch = null;
  }

  private orphanGotData(): void {
    const { connection } = this;
    if (connection === null || connection.closed || connection.readable === 0) return;
    connection.abort(this.backend.now());
    this.backend.kick();
  }

  /** The local address of a subflow, for controls by address. */
  subflowsFrom(address: Uint8Array): number[] {
    return (this.connection?.subflows ?? []).filter((subflow) => sameAddress(subflow.tcb.local, address)).map((subflow) => subflow.id);
  }
}

/** Smaller writes get memory of Node's own pool. */
const WORTH_A_CHUNK = 16_384;
/** Chunks lent until it is looked which are free again. */
const RECYCLE = 16;
const EMPTY = new Uint8Array(0);
const NOTHING = (): void => undefined;

function fill(out: AddressOut, end: { address: string; port: number } | null): number {
  if (end === null) return -errno.ENOTCONN;
  out.address = end.address;
  out.port = end.port;
  out.family = end.address.includes(':') ? 'IPv6' : 'IPv4';
  return 0;
}

function ownerOf(handle: object): Owner | null {
  const symbol = Object.getOwnPropertySymbols(handle).find((one) => one.description === 'owner_symbol');
  return symbol === undefined ? null : ((handle as Record<symbol, Owner | null>)[symbol] ?? null);
}

/** An error as node:net makes it of a failed system call. */
export function systemError(status: number, syscall: string): NodeJS.ErrnoException {
  const code = getSystemErrorName(status);
  return Object.assign(new Error(`${syscall} ${code}`), { errno: status, code, syscall });
}
