/** Lists of targets, block lists, and what may be scanned. */
import { AddressError, formatAddress, inPrefix, parseAddress, parsePrefix } from '@subflow/wire';
import type { IpAddress } from '@subflow/wire';
import { ProbeError } from '../errors.ts';

export interface Prefix {
  address: IpAddress;
  bits: number;
  text: string;
}

/** One target: a name still to be resolved, or an address. */
export interface ScanTarget {
  /** As it stands in the list. */
  name: string;
  address: IpAddress | null;
  port: number;
}

/** Never scanned, whatever the list says: this network, loopback, link-local, multicast, reserved (RFC 6890). */
export const NEVER: readonly Prefix[] = ['0.0.0.0/8', '127.0.0.0/8', '169.254.0.0/16', '224.0.0.0/3', '::/127', 'fe80::/10', 'ff00::/8'].map(prefix);

/** Ranges with more addresses than this are a mistake. */
const MOST_ADDRESSES = 1 << 24;

/** Throws {@link ProbeError} `BAD_LIST`. */
export function prefix(text: string): Prefix {
  try {
    return { ...parsePrefix(text), text };
  } catch (error) {
    if (error instanceof AddressError) throw new ProbeError('BAD_LIST', error.message);
    throw error;
  }
}

export function covers(outer: Prefix, inner: Prefix): boolean {
  return outer.bits <= inner.bits && inPrefix(inner.address, outer.address, outer.bits);
}

/** The block that an address lies in; null when it may be scanned. */
export function blocked(address: IpAddress, list: readonly Prefix[]): Prefix | null {
  return list.find((one) => inPrefix(address, one.address, one.bits)) ?? null;
}

/**
 * Reads a line of a list: `HOST`, `HOST:PORT`, `[IPv6]:PORT`, or a range `192.0.2.0/24`. Empty lines and those with `#` give
 * nothing. Ranges must lie in one of `owned`. Throws {@link ProbeError} `NOT_ALLOWED`, `BAD_LIST` with the line.
 */
export function* targetsOf(line: string, owned: readonly Prefix[], port: number): Generator<ScanTarget> {
  const text = line.replace(/#.*/, '').trim();
  if (text === '') return;
  if (text.includes('/')) {
    const range = prefix(text);
    if (!owned.some((one) => covers(one, range))) {
      throw new ProbeError('NOT_ALLOWED', `the range ${text} was not released; expected --i-own-this ${text} from somebody who may say so`);
    }
    yield* addressesOf(range, port);
    return;
  }
  const match =
    /^\[([0-9a-fA-F:.]+)\](?::(\d{1,5}))?$/.exec(text) ??
    (/^[0-9a-fA-F:]*:[0-9a-fA-F:]*:[0-9a-fA-F:.]*$/.test(text) ? [text, text] : /^([\w.-]+)(?::(\d{1,5}))?$/.exec(text));
  const chosen = match?.[2] === undefined ? port : Number(match[2]);
  if (match === null || match === undefined || chosen < 1 || chosen > 65_535)
    throw new ProbeError('BAD_LIST', `"${text}" is no target; expected HOST, HOST:PORT, [IPv6]:PORT or a range`);
  let address: IpAddress | null = null;
  try {
    if (/^[\d.]+$/.test(match[1]!) || match[1]!.includes(':')) address = parseAddress(match[1]!);
  } catch (error) {
    throw new ProbeError('BAD_LIST', (error as Error).message);
  }
  yield { name: text, address, port: chosen };
}

function* addressesOf(range: Prefix, port: number): Generator<ScanTarget> {
  const free = range.address.length * 8 - range.bits;
  if (free > 24) throw new ProbeError('BAD_LIST', `${range.text} has 2^${free} addresses; expected ${MOST_ADDRESSES} at most`);
  const first = range.address.slice();
  for (let bit = range.bits; bit < first.length * 8; bit++) first[bit >>> 3] = first[bit >>> 3]! & ~(0x80 >>> (bit & 7));
  for (let i = 0; i < 2 ** free; i++) {
    const address = first.slice();
    let rest = i;
    for (let at = address.length - 1; rest > 0; at--) {
      address[at] = address[at]! | (rest & 0xff);
      rest >>>= 8;
    }
    yield { name: formatAddress(address), address, port };
  }
}
