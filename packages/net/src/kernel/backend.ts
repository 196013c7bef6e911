/** The kernel's Multipath TCP under node:net's sockets; plain TCP where the system has none. */
import type { Alternative, Backend, MultipathSettings, ServerHandle } from '../backend.ts';
import type { Multipath } from '../multipath.ts';
import { TCP, tcpConstants } from '../node-internals.ts';
import type { SocketHandle, TcpHandle } from '../node-internals.ts';
import { kernelState, preferMultipath } from './handle.ts';
import { KernelMultipath, NOT_YET, offerToKernel } from './multipath.ts';
import { checkKernelSettings } from './settings.ts';

const facts = new WeakMap<object, KernelMultipath>();
const wanted = new WeakMap<object, MultipathSettings>();

/** The first wait for a connection to be fully established, doubled each time, and the last, milliseconds. */
const OFFER_FIRST = 25;
const OFFER_LONGEST = 10_000;

class KernelBackend implements Backend {
  readonly name = 'kernel' as const;

  socketHandle(settings: MultipathSettings): SocketHandle {
    return makeHandle(tcpConstants.SOCKET, settings);
  }

  serverHandle(address: string | null, port: number, flags: number, settings: MultipathSettings): ServerHandle {
    const handle = makeHandle(tcpConstants.SERVER, settings);
    let status: number;
    if (address === null) {
      // Both families where the system has IPv6, as node:net does.
      status = handle.bind6('::', port, flags);
      if (status !== 0) {
        const second = makeHandle(tcpConstants.SERVER, settings);
        const again = second.bind('0.0.0.0', port);
        if (again === 0) return second;
        second.close();
      }
    } else {
      status = address.includes(':') ? handle.bind6(address, port, flags) : handle.bind(address, port);
    }
    // node:net reports what `listen` returns.
    if (status !== 0) Object.assign(handle, { listen: () => status });
    return handle;
  }

  multipath(handle: SocketHandle, before: Multipath | null = null): Multipath | null {
    if (!(handle instanceof TCP)) return null;
    let known = facts.get(handle);
    if (known === undefined) {
      if (before instanceof KernelMultipath) {
        known = before;
        known.attach(handle);
      } else known = new KernelMultipath(handle, wanted.get(handle) ?? {});
      facts.set(handle, known);
    }
    return known;
  }

  offer(handle: SocketHandle, alternatives: readonly Alternative[]): string | null {
    return this.offerAgain(handle, alternatives, OFFER_FIRST);
  }

  private offerAgain(handle: SocketHandle, alternatives: readonly Alternative[], wait: number): string | null {
    const why = offerToKernel(handle.fd, alternatives);
    if (why === NOT_YET && wait <= OFFER_LONGEST) setTimeout(() => handle.fd >= 0 && this.offerAgain(handle, alternatives, 2 * wait), wait).unref();
    else if (why !== null) kernelState(handle)?.notes.push(why);
    return why;
  }
}

export const kernelBackend: Backend = new KernelBackend();

function makeHandle(type: number, settings: MultipathSettings): TcpHandle {
  checkKernelSettings(settings);
  const handle = new TCP(type);
  wanted.set(handle, settings);
  preferMultipath(handle, {
    multipath: settings.service !== 'none',
    reusePort: settings.reusePort ?? false,
    ...(typeof settings.congestion === 'string' ? { congestion: settings.congestion } : {}),
  });
  return handle;
}
