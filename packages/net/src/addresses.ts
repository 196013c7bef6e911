/** Addresses as node:net writes them. */
import { isIP } from 'node:net';
import { parseAddress } from '@subflow/wire';
import { NetError } from './errors.ts';

/** Bytes of an address, 4 or 16; a zone is ignored. Null when it is none. */
export function parseIp(address: string): Uint8Array | null {
  const bare = address.replace(/%.*$/, '');
  const mapped = /^::ffff:(\d+\.\d+\.\d+\.\d+)$/i.exec(bare);
  if (mapped !== null) return parseAddress(mapped[1]!);
  return isIP(bare) === 0 ? null : parseAddress(bare);
}

/** As {@link parseIp}. Throws {@link NetError} `BAD_ADDRESS`. */
export function requireIp(address: string): Uint8Array {
  const bytes = parseIp(address);
  if (bytes === null) throw new NetError('BAD_ADDRESS', `"${address}" is no IP address; expected one such as 192.0.2.1 or 2001:db8::1`);
  return bytes;
}

/** `address:port`, IPv6 in brackets. */
export function endpointText(address: string, port: number): string {
  return address.includes(':') ? `[${address}]:${port}` : `${address}:${port}`;
}
