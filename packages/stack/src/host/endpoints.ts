/** The endpoints of a host, as `ip mptcp endpoint` manages them, and the address ids they give (RFC 8684 §3.4.1). */
import { sameAddress } from '@subflow/wire';
import type { Endpoint } from '../mptcp/path-manager/types.ts';
import { StackError } from './config.ts';
import type { Host } from './host.ts';

const FLAGS = { subflow: false, signal: false, backup: false, fullmesh: false, laminar: false, implicit: false } as const;

export function addEndpoint(host: Host, endpoint: Partial<Endpoint> & { address: Uint8Array }, now?: number): number {
  const { endpoints } = host;
  // An implicit endpoint becomes a real one and keeps its id, under which peers know it.
  const implicit = endpoints.findIndex((other) => other.implicit && sameAddress(other.address, endpoint.address));
  const id = endpoint.id ?? (implicit >= 0 ? endpoints[implicit]!.id : lowestFreeId(host));
  if (id < 1 || id > 255 || endpoints.some((other, i) => other.id === id && i !== implicit))
    throw new StackError('BAD_ADDRESS_ID', `address id ${id} is taken or outside 1 to 255`);
  const added: Endpoint = { ...FLAGS, port: null, device: null, ...endpoint, id };
  if (added.port !== null && !added.signal)
    throw new StackError('BAD_ENDPOINT', `endpoint ${id} has port ${added.port} but not the flag signal; only announced ports make sense`);
  if (added.signal && added.fullmesh) throw new StackError('BAD_ENDPOINT', `endpoint ${id} has both signal and fullmesh; expected one of them`);
  if (implicit >= 0) endpoints.splice(implicit, 1);
  endpoints.push(added);
  if (now !== undefined) for (const connection of [...host.connections.values()]) connection.endpointAdded(added, now);
  return id;
}

export function removeEndpoint(host: Host, id: number, now: number): boolean {
  const index = host.endpoints.findIndex((other) => other.id === id);
  if (index < 0 && id !== 0) return false;
  const removed = index < 0 ? null : host.endpoints.splice(index, 1)[0]!;
  for (const connection of [...host.connections.values()]) connection.endpointRemoved(removed, now);
  return true;
}

export function changeEndpoint(host: Host, id: number, change: { backup?: boolean; fullmesh?: boolean }, now: number): boolean {
  const endpoint = host.endpoints.find((other) => other.id === id);
  if (endpoint === undefined) return false;
  Object.assign(endpoint, change);
  for (const connection of [...host.connections.values()]) connection.endpointChanged(endpoint, now);
  return true;
}

/** The id of an address; one without endpoint gets an implicit one, from the top, so that it is in nobody's way. */
export function addressIdOf(host: Host, address: Uint8Array): number {
  const endpoint = host.endpoints.find((other) => sameAddress(other.address, address));
  if (endpoint !== undefined) return endpoint.id;
  let id = 255;
  while (id > 1 && host.endpoints.some((other) => other.id === id)) id--;
  host.endpoints.push({ ...FLAGS, id, address, port: null, implicit: true, device: null });
  return id;
}

function lowestFreeId(host: Host): number {
  let id = 1;
  while (host.endpoints.some((other) => other.id === id)) id++;
  return id;
}
