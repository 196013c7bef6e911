/** One subscription to the kernel's path-manager events, shared by all sockets of the process that want them. */
import { MptcpNetlink } from '@subflow/link';
import type { KernelEvent } from '@subflow/link';

type Hearer = (event: KernelEvent) => void;

const hearers = new Map<number, Set<Hearer>>();
let stop: (() => void) | null = null;

/** Hears events of the connection with this token. Throws {@link LinkError} `NO_PRIVILEGE` without CAP_NET_ADMIN. */
export function hearKernel(token: number, hearer: Hearer): () => void {
  if (stop === null) {
    const netlink = new MptcpNetlink();
    try {
      const group = netlink.events((event) => {
        for (const one of hearers.get(event.token) ?? []) one(event);
      });
      stop = () => {
        group.close();
        netlink.close();
      };
    } catch (error) {
      netlink.close();
      throw error;
    }
  }
  const set = hearers.get(token) ?? new Set();
  hearers.set(token, set.add(hearer));
  return () => {
    set.delete(hearer);
    if (set.size === 0) hearers.delete(token);
    if (hearers.size === 0) {
      stop?.();
      stop = null;
    }
  };
}
