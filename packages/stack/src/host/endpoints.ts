/** The endpoints of a host, as `ip mptcp endpoint` manages them, and the address ids they give (RFC 8684 §3.4.1). */
import { sameAddress } from '@subflow/wire';
import { StackError } from '../errors.ts';
import type { Endpoint } from '../mptcp/path-manager/types.ts';

const FLAGS = { subflow: false, signal: false, backup: false, fullmesh: false, laminar: false, implicit: false } as const;

/** Adds an endpoint to the list. Throws {@link StackError} `BAD_ADDRESS_ID`, `BAD_ENDPOINT`. */
export function insertEndpoint(endpoints: Endpoint[], endpoint: Partial<Endpoint> & { address: Uint8Array }): Endpoint {
  // An implicit endpoint becomes a real one and keeps its id, under which peers know it.
  const implicit = endpoints.findIndex((other) => other.implicit && sameAddress(other.address, endpoint.address));
  const id = endpoint.id ?? (implicit >= 0 ? endpoints[implicit]!.id : lowestFreeId(endpoints));
  if (id < 1 || id > 255 || endpoints.some((other, i) => other.id === id && i !== implicit))
    throw new StackError('BAD_ADDRESS_ID', `address id ${id} is taken or outside 1 to 255`);
  const added: Endpoint = { ...FLAGS, port: null, device: null, ...endpoint, id };
  if (added.port !== null && !added.signal)
    throw new StackError('BAD_ENDPOINT', `endpoint ${id} has port ${added.port} but not the flag signal; only announced ports make sense`);
  if (added.signal && added.fullmesh) throw new StackError('BAD_ENDPOINT', `endpoint ${id} has both signal and fullmesh; expected one of them`);
  if (implicit >= 0) endpoints.splice(implicit, 1);
  endpoints.push(added);
  return added;
}

/** The id of an address; one without endpoint gets an implicit one, from the top, so that it is in nobody's way. */
export function idOfAddress(endpoints: Endpoint[], address: Uint8Array): number {
  const endpoint = endpoints.find((other) => sameAddress(other.address, address));
  if (endpoint !== undefined) return endpoint.id;
  let id = 255;
  while (id > 1 && endpoints.some((other) => other.id === id)) id--;
  endpoints.push({ ...FLAGS, id, address, port: null, implicit: true, device: null });
  return id;
}

function lowestFreeId(endpoints: readonly Endpoint[]): number {
  let id = 1;
  while (endpoints.some((other) => other.id === id)) id++;
  return id;
}
