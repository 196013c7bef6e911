/** Where a packet goes next: interface and link-layer address, asked of the kernel. */
import { createSocket } from 'node:dgram';
import { command } from '@subflow/link';
import { formatAddress } from '@subflow/wire';
import { ServerSet } from '@subflow/balancer';
import { PlaneError } from './plan.ts';
import type { ServicePlan } from './plan.ts';

export interface NextHop {
  device: string;
  mac: Uint8Array;
  mtu: number;
  /** Link-layer address of the interface, and the source address that routing prefers. */
  ownMac: Uint8Array;
  source: string;
}

interface Route {
  dev: string;
  gateway?: string;
  prefsrc?: string;
}

const PATIENCE = 20;
const DISCARD = 9;

/** Throws {@link PlaneError} `NO_ROUTE`, `NO_NEIGHBOUR`. */
export async function nextHop(address: Uint8Array): Promise<NextHop> {
  const text = formatAddress(address);
  let route: Route;
  try {
    route = (JSON.parse(command('ip', ['-j', 'route', 'get', text])) as Route[])[0]!;
  } catch (error) {
    throw new PlaneError('NO_ROUTE', `no route to ${text}`, { cause: error });
  }
  const hop = route.gateway ?? text;
  const [link] = JSON.parse(command('ip', ['-j', 'link', 'show', 'dev', route.dev])) as { address: string; mtu: number }[];
  for (let i = 0; i < PATIENCE; i++) {
    const neighbours = JSON.parse(command('ip', ['-j', 'neigh', 'show', hop, 'dev', route.dev])) as { lladdr?: string; state: string[] }[];
    const mac = neighbours[0]?.lladdr;
    if (mac !== undefined && !neighbours[0]!.state.includes('FAILED'))
      return { device: route.dev, mac: bytesOf(mac), mtu: link!.mtu, ownMac: bytesOf(link!.address), source: route.prefsrc ?? '' };
    await poke(hop, route.dev, address.length === 4);
  }
  throw new PlaneError('NO_NEIGHBOUR', `${hop} on ${route.dev} does not answer ${address.length === 4 ? 'ARP' : 'neighbour discovery'}`);
}

/**
 * Next hops of a service's servers. One that does not answer on the link counts as down, as it is; the others go on. Throws
 * {@link PlaneError} when none answers.
 */
export async function reachable(plan: ServicePlan): Promise<{ plan: ServicePlan; hops: Map<number, NextHop> }> {
  const hops = new Map<number, NextHop>();
  const silent = new Set<number>();
  let problem: unknown = null;
  for (const server of plan.servers.servers) {
    if (server.state === 'down') continue;
    try {
      hops.set(server.id, await nextHop(plan.details.get(server.id)!.address));
    } catch (error) {
      if (!(error instanceof PlaneError)) throw error;
      problem = error;
      silent.add(server.id);
    }
  }
  if (problem !== null && hops.size === 0) throw problem;
  if (silent.size === 0) return { plan, hops };
  const servers = plan.servers.servers.map((one) => (silent.has(one.id) ? { ...one, state: 'down' as const } : one));
  return { plan: { ...plan, servers: new ServerSet(servers, plan.servers.generation) }, hops };
}

/** A datagram to nobody makes the kernel ask for the address. */
async function poke(hop: string, device: string, v4: boolean): Promise<void> {
  const socket = createSocket(v4 ? 'udp4' : 'udp6');
  socket.on('error', () => {});
  const target = !v4 && hop.startsWith('fe80') ? `${hop}%${device}` : hop;
  socket.send(Uint8Array.of(0), DISCARD, target, () => {});
  await new Promise((resolve) => setTimeout(resolve, 50));
  socket.close();
}

function bytesOf(mac: string): Uint8Array {
  return Uint8Array.from(mac.split(':'), (part) => Number.parseInt(part, 16));
}
