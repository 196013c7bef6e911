/** Our stack under node:net's sockets: one host, driven in real time, whose connections become handles. */
import { constants } from 'node:os';
import { formatAddress, sameAddress } from '@subflow/wire';
import { StackError } from '@subflow/stack';
import type { Host, Listener, StackEvent } from '@subflow/stack';
import { parseIp } from '../addresses.ts';
import type { Alternative, Backend, MultipathSettings, ServerHandle } from '../backend.ts';
import type { Multipath } from '../multipath.ts';
import { tcpConstants } from '../node-internals.ts';
import type { AddressOut, SocketHandle } from '../node-internals.ts';
import type { ConnectionUser, StackContext } from './context.ts';
import { StackHandle } from './handle.ts';
import { KeepAlive } from './keep-alive.ts';
import { StackMultipath } from './multipath.ts';
import { SendChunks } from './send-chunks.ts';
import { checkSettings, connectionSettings, joinAlternative } from './settings.ts';

const { errno } = constants;
const EPHEMERAL_FIRST = 32768;
const EPHEMERAL_COUNT = 16384;

/** Whatever drives a host in real time: a {@link HostDriver} on TUN or packet sockets, or a host on an emulated network. */
export interface StackRunner {
  readonly host: Host;
  onEvent: ((event: StackEvent, now: number) => void) | null;
  /** Sends what is ready, hands events out, arms the timer. */
  pump(): void;
  now(): number;
  stop(): void;
}

export class StackBackend implements Backend, StackContext {
  readonly name = 'stack' as const;
  readonly host: Host;
  readonly chunks = new SendChunks();
  /** Sees every event of the host, after sockets have. */
  onEvent: ((event: StackEvent, now: number) => void) | null = null;
  private readonly runner: StackRunner;
  private readonly sockets = new Map<number, ConnectionUser>();
  private readonly servers = new Map<number, StackServerHandle>();
  private readonly facts = new WeakMap<StackHandle, StackMultipath>();
  private kicked = false;

  constructor(runner: StackRunner) {
    this.runner = runner;
    this.host = runner.host;
    runner.onEvent = (event, now) => this.dispatch(event, now);
  }

  socketHandle(settings: MultipathSettings): StackHandle {
    checkSettings(settings);
    return new StackHandle(this, settings, null);
  }

  serverHandle(address: string | null, port: number, flags: number, settings: MultipathSettings): ServerHandle {
    checkSettings(settings);
    return new StackServerHandle(this, address, port, (flags & tcpConstants.UV_TCP_IPV6ONLY) !== 0, settings);
  }

  multipath(handle: SocketHandle, before: Multipath | null = null): Multipath | null {
    if (!(handle instanceof StackHandle)) return null;
    let facts = this.facts.get(handle);
    if (facts === undefined) {
      if (before instanceof StackMultipath) {
        facts = before;
        facts.attach(handle);
      } else facts = new StackMultipath(handle);
      this.facts.set(handle, facts);
    }
    return facts;
  }

  offer(handle: SocketHandle, alternatives: readonly Alternative[]): string | null {
    if (!(handle instanceof StackHandle)) return 'the socket is not on this stack';
    handle.alternatives = alternatives.flatMap(({ address, port }) => {
      const bytes = parseIp(address);
      return bytes === null ? [] : [{ address: bytes, port }];
    });
    const { connection } = handle;
    if (connection !== null) for (const one of handle.alternatives) joinAlternative(connection, one.address, one.port, this.now());
    this.kick();
    return null;
  }

  now(): number {
    return this.runner.now();
  }

  kick(): void {
    if (this.kicked) return;
    this.kicked = true;
    queueMicrotask(() => {
      this.kicked = false;
      this.runner.pump();
    });
  }

  /** Closes devices and stops timers; open sockets are left dead and keep no process alive. */
  stop(): void {
    this.runner.stop();
    for (const handle of this.sockets.values()) handle.abandon();
    for (const server of this.servers.values()) server.unref();
  }

  portInUse(address: Uint8Array, port: number): boolean {
    const every = address.every((byte) => byte === 0);
    for (const connection of this.host.connections.values()) {
      if (connection.localPort === port && (every || connection.initialLocal === null || sameAddress(connection.initialLocal, address))) return true;
    }
    return false;
  }

  register(connection: number, user: ConnectionUser): void {
    this.sockets.set(connection, user);
  }

  unregister(connection: number): void {
    this.sockets.delete(connection);
  }

  addServer(listener: Listener, server: StackServerHandle): void {
    this.servers.set(listener.id, server);
  }

  removeServer(listener: Listener): void {
    this.servers.delete(listener.id);
    this.host.unlisten(listener);
  }

  private dispatch(event: StackEvent, now: number): void {
    if (event.type === 'connection-accepted') this.accepted(event.connection, event.listener);
    else if ('connection' in event) this.sockets.get(event.connection)?.event(event);
    this.onEvent?.(event, now);
  }

  private accepted(id: number, listener: number): void {
    const connection = this.host.connections.get(id);
    if (connection === undefined) return;
    const server = this.servers.get(listener);
    if (server === undefined || server.onconnection === null) {
      connection.abort(this.now());
      return;
    }
    server.onconnection(0, new StackHandle(this, server.settings, connection));
  }
}

/** A listener of our stack as the handle of a net.Server. */
export class StackServerHandle implements ServerHandle {
  onconnection: ((this: unknown, status: number, client: unknown) => void) | null = null;
  readonly settings: MultipathSettings;
  private readonly backend: StackBackend;
  private readonly address: string | null;
  private port: number;
  private readonly ipv6Only: boolean;
  private listener: Listener | null = null;
  private readonly keepAlive = new KeepAlive();
  private referenced = true;

  constructor(backend: StackBackend, address: string | null, port: number, ipv6Only: boolean, settings: MultipathSettings) {
    this.ipv6Only = ipv6Only;
    this.backend = backend;
    this.address = address;
    this.port = port;
    this.settings = settings;
  }

  listen(backlog: number): number {
    const { host } = this.backend;
    const bytes = this.address === null ? null : parseIp(this.address);
    if (this.address !== null && bytes === null) return -errno.EINVAL;
    const every = bytes === null || bytes.every((byte) => byte === 0);
    if (!every && !host.hasAddress(bytes)) return -errno.EADDRNOTAVAIL;
    const tries = this.port === 0 ? EPHEMERAL_COUNT : 1;
    for (let i = 0; i < tries; i++) {
      const port = this.port === 0 ? EPHEMERAL_FIRST + ((host.random32() >>> 0) % EPHEMERAL_COUNT) : this.port;
      try {
        this.listener = host.listen({
          port,
          ...(every ? { family: bytes?.length === 4 ? 4 : this.ipv6Only ? 6 : null } : { address: bytes }),
          backlog: Math.max(backlog, 1),
          multipath: this.settings.service !== 'none' && host.mptcp.enabled,
          settings: connectionSettings(this.settings),
        });
        this.port = port;
        this.backend.addServer(this.listener, this);
        if (this.referenced) this.keepAlive.hold();
        return 0;
      } catch (error) {
        if (!(error instanceof StackError) || error.code !== 'ADDRESS_IN_USE') throw error;
      }
    }
    return -errno.EADDRINUSE;
  }

  getsockname(out: AddressOut): number {
    const listening = this.listener;
    if (listening === null) return -errno.EBADF;
    out.address = listening.address === null ? (this.address ?? '::') : formatAddress(listening.address);
    out.port = listening.port;
    out.family = out.address.includes(':') ? 'IPv6' : 'IPv4';
    return 0;
  }

  close(callback?: () => void): void {
    if (this.listener !== null) this.backend.removeServer(this.listener);
    this.listener = null;
    this.keepAlive.release();
    if (callback !== undefined) setImmediate(() => callback.call(this));
  }

  ref(): void {
    this.referenced = true;
    if (this.listener !== null) this.keepAlive.hold();
  }

  unref(): void {
    this.referenced = false;
    this.keepAlive.release();
  }

  hasRef(): boolean {
    return this.referenced;
  }
}
