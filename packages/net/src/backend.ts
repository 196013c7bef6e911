/** What a backend is: it makes the handles that node:net's sockets and servers work on, and knows the facts about them. */
import type { CongestionFactory, CoupledFactory, PathManagerFactory, SchedulerFactory, ServiceType, VersionNumber } from '@subflow/stack';
import { SERVICE_TYPES } from '@subflow/stack';
import { NetError } from './errors.ts';
import type { Multipath } from './multipath.ts';
import type { SocketHandle } from './node-internals.ts';

/** What an application may ask for per socket or server. Everything is optional. */
export interface MultipathSettings {
  /** What the application wants from several paths; `none` is plain TCP. */
  service?: ServiceType;
  /** Stack only: by name ({@link SCHEDULERS}) or an object of your own. */
  scheduler?: string | SchedulerFactory;
  /** Stack only: by name or an object of your own. */
  congestion?: string | CongestionFactory;
  /** Stack only: coupled controller by name (`none`: uncoupled) or an object of your own. */
  coupled?: string | CoupledFactory;
  /** Stack only. */
  pathManager?: PathManagerFactory;
  /** Kernel servers only: several processes may listen on the port, connections are spread over them (SO_REUSEPORT). */
  reusePort?: boolean;
  /** Stack only: versions to offer, the first first. */
  versions?: readonly VersionNumber[];
}

/** An address of the peer that lost the race of Happy Eyeballs, or was not tried: it may carry a further subflow. */
export interface Alternative {
  address: string;
  port: number;
}

export interface ServerHandle {
  /** Called with `this` being the handle. */
  onconnection: ((this: unknown, status: number, client: unknown) => void) | null;
  listen(backlog: number): number;
  getsockname(out: object): number;
  close(callback?: () => void): void;
  ref(): void;
  unref(): void;
  hasRef(): boolean;
}

export interface Backend {
  readonly name: 'kernel' | 'stack';
  /** A handle for a socket that is going to connect. Throws {@link NetError} for settings it does not know. */
  socketHandle(settings: MultipathSettings): SocketHandle;
  /**
   * A handle bound to an address (null: every one) and port (0: a free one). Errors come from its `listen`, as node:net
   * expects them: a negative errno.
   */
  serverHandle(address: string | null, port: number, flags: number, settings: MultipathSettings): ServerHandle;
  /**
   * Facts and controls of a socket's handle; null when the handle is not this backend's. `before`: those the application
   * has got already, when the socket was given another handle.
   */
  multipath(handle: SocketHandle, before?: Multipath | null): Multipath | null;
  /** Offers further addresses of the peer for subflows. Returns why it cannot, or null. */
  offer(handle: SocketHandle, alternatives: readonly Alternative[]): string | null;
}

/** Refuses unknown service types. Throws {@link NetError} `UNKNOWN_SERVICE_TYPE`. */
export function checkService(service: string | undefined): void {
  if (service !== undefined && !(SERVICE_TYPES as readonly string[]).includes(service))
    throw new NetError('UNKNOWN_SERVICE_TYPE', `unknown service type "${service}"; expected ${SERVICE_TYPES.join(', ')}`);
}
