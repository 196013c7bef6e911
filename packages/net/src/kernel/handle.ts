/** libuv's TCP handles on descriptors of IPPROTO_MPTCP: libuv makes its socket late, ours is there before. */
import { errnoName, kernelSocket, setCongestion, setReusePort } from '@subflow/link/kernel';
import type { TcpHandle } from '../node-internals.ts';

/** What became of a handle that wanted Multipath TCP. */
export interface KernelState {
  /** Why it is plain TCP from the start; null when it is not. */
  obstacle: string | null;
  /** What could not be done, in sentences. */
  notes: string[];
}

const states = new WeakMap<object, KernelState>();

export function kernelState(handle: object): KernelState | null {
  return states.get(handle) ?? null;
}

const FAMILIES = { connect: 4, connect6: 6, bind: 4, bind6: 6 } as const;
type Method = keyof typeof FAMILIES;

export interface DescriptorOptions {
  /** Default true. */
  multipath?: boolean;
  congestion?: string;
  /** Several processes listen on one port (SO_REUSEPORT). */
  reusePort?: boolean;
}

/**
 * Has every descriptor that `target` (a handle, or the prototype of all of them) makes for itself be one of Multipath
 * TCP; where the system refuses, libuv goes on with plain TCP and {@link kernelState} says why.
 */
export function preferMultipath(target: TcpHandle, options: DescriptorOptions = {}): void {
  for (const name of Object.keys(FAMILIES) as Method[]) {
    const original = target[name] as (this: TcpHandle, ...args: unknown[]) => number;
    const replacement = function (this: TcpHandle, ...args: unknown[]): number {
      const status = this.fd < 0 ? openDescriptor(this, FAMILIES[name], options) : 0;
      return status !== 0 ? status : original.apply(this, args);
    };
    Object.defineProperty(target, name, { configurable: true, writable: true, value: replacement });
  }
}

function openDescriptor(handle: TcpHandle, family: 4 | 6, options: DescriptorOptions): number {
  const state: KernelState = { obstacle: null, notes: [] };
  states.set(handle, state);
  let fd = kernelSocket(family, options.multipath ?? true);
  if (fd < 0) {
    state.obstacle = `no-kernel-support (socket IPPROTO_MPTCP: ${errnoName(-fd)})`;
    fd = kernelSocket(family, false);
    if (fd < 0) return fd;
  }
  const { congestion } = options;
  if (congestion !== undefined && !setCongestion(fd, congestion)) state.notes.push(`congestion controller ${congestion}: the kernel refused it`);
  if (options.reusePort === true) setReusePort(fd);
  return handle.open(fd);
}
