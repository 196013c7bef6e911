/** What needs Node: names of addresses, real ports, files. */
import { resolve4, resolve6, reverse } from 'node:dns/promises';
import { isIP } from 'node:net';
import { parseAddress } from '@subflow/wire';
import type { IpAddress } from '@subflow/wire';
import { ProbeError } from '../errors.ts';

/** `HOST`, `HOST:PORT`, `[2001:db8::1]:443`. Throws {@link ProbeError} `BAD_TARGET`. */
export async function resolveTarget(text: string, family: 4 | 6 | null, defaultPort = 80): Promise<{ host: string; address: IpAddress; port: number }> {
  const match = /^\[([^\]]+)\](?::(\d+))?$/.exec(text) ?? (isIP(text) === 6 ? [text, text] : /^([^:]+)(?::(\d+))?$/.exec(text));
  const port = match?.[2] === undefined ? defaultPort : Number(match[2]);
  if (match === null || match === undefined || port < 1 || port > 65_535)
    throw new ProbeError('BAD_TARGET', `"${text}"; expected HOST, HOST:PORT or [IPv6]:PORT`);
  const host = match[1]!;
  const kind = isIP(host);
  if (kind !== 0) {
    if (family !== null && kind !== family) throw new ProbeError('BAD_TARGET', `"${host}" is an IPv${kind} address; expected IPv${family}`);
    return { host, address: parseAddress(host), port };
  }
  for (const [version, resolve] of [
    [4, resolve4],
    [6, resolve6],
  ] as const) {
    if (family !== null && family !== version) continue;
    const list = host === 'localhost' ? [version === 4 ? '127.0.0.1' : '::1'] : await resolve(host).catch(() => [] as string[]);
    if (list[0] !== undefined) return { host, address: parseAddress(list[0]), port };
  }
  throw new ProbeError('BAD_TARGET', `no address for "${host}"; expected a name that resolves, or an address`);
}

/** Names of routers, for those that have one. */
export async function reverseNames(addresses: Iterable<string>): Promise<Map<string, string>> {
  const out = new Map<string, string>();
  await Promise.all(
    [...new Set(addresses)].map(async (address) => {
      const names = await reverse(address).catch(() => [] as string[]);
      if (names[0] !== undefined) out.set(address, names[0]);
    }),
  );
  return out;
}

export { PathBench } from './path-bench.ts';
export type { PathBenchOptions } from './path-bench.ts';
export { realisationsOf } from './real-boxes.ts';
export type { BoxKind } from './real-boxes.ts';
export { OwnAddressPort } from './own-address-port.ts';
export type { OwnAddressOptions } from './own-address-port.ts';
