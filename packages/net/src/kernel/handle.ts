/** libuv's TCP handles on descriptors of IPPROTO_MPTCP: libuv makes its socket late, ours is there before. */
import { errnoName, multipathSocket, setCongestion } from '@subflow/link/kernel';
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

/**
 * Has every descriptor that `target` (a handle, or the prototype of all of them) makes for itself be one of Multipath
 * TCP; where the system refuses, libuv goes on with plain TCP and {@link kernelState} says why.
 */
export function preferMultipath(target: TcpHandle, congestion: string | null = null): void {
  for (const name of Object.keys(FAMILIES) as Method[]) {
    const original = target[name] as (this: TcpHandle, ...args: unknown[]) => number;
    const replacement = function (this: TcpHandle, ...args: unknown[]): number {
      const status = this.fd < 0 ? openMultipath(this, FAMILIES[name], congestion) : 0;
      return status !== 0 ? status : original.apply(this, args);
    };
    Object.defineProperty(target, name, { configurable: true, writable: true, value: replacement });
  }
}

function openMultipath(handle: TcpHandle, family: 4 | 6, congestion: string | null): number {
  const fd = multipathSocket(family);
  if (fd < 0) {
    states.set(handle, { obstacle: `no-kernel-support (socket IPPROTO_MPTCP: ${errnoName(-fd)})`, notes: [] });
    return 0;
  }
  const state: KernelState = { obstacle: null, notes: [] };
  states.set(handle, state);
  if (congestion !== null && !setCongestion(fd, congestion)) state.notes.push(`congestion controller ${congestion}: the kernel refused it`);
  return handle.open(fd);
}
