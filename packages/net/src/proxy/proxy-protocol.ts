/** PROXY protocol version 2: who the client really is, before the first byte (haproxy.org, proxy-protocol.txt §2.2). */
import { formatAddress } from '@subflow/wire';
import { parseIp } from '../addresses.ts';
import { ProxyError } from './errors.ts';
import type { HandshakeReader } from './handshake-reader.ts';

const SIGNATURE = Buffer.from([0x0d, 0x0a, 0x0d, 0x0a, 0x00, 0x0d, 0x0a, 0x51, 0x55, 0x49, 0x54, 0x0a]);
const VERSION_2 = 0x20;
const COMMAND = { local: 0, proxy: 1 } as const;
const FAMILY = { unspecified: 0x00, tcp4: 0x11, tcp6: 0x21 } as const;
const HEADER = 16;
/** Addresses and TLVs of sensible senders are far shorter. */
const LONGEST = 2048;

export interface ProxiedEndpoints {
  source: string;
  sourcePort: number;
  destination: string;
  destinationPort: number;
}

/** The header for a proxied connection; null endpoints: a connection of the proxy's own (LOCAL). */
export function proxyHeader(endpoints: ProxiedEndpoints | null): Buffer {
  let source = endpoints === null ? null : parseIp(endpoints.source);
  let destination = endpoints === null ? null : parseIp(endpoints.destination);
  if (endpoints === null || source === null || destination === null)
    return Buffer.concat([SIGNATURE, Buffer.from([VERSION_2 | COMMAND.local, FAMILY.unspecified, 0, 0])]);
  // Both have the same family in the header: IPv4 is mapped where the other end has IPv6.
  if (source.length !== destination.length) {
    source = mapped(source);
    destination = mapped(destination);
  }
  const out = Buffer.alloc(HEADER + 2 * source.length + 4);
  out.set(SIGNATURE);
  out[12] = VERSION_2 | COMMAND.proxy;
  out[13] = source.length === 4 ? FAMILY.tcp4 : FAMILY.tcp6;
  out.writeUInt16BE(2 * source.length + 4, 14);
  out.set(source, HEADER);
  out.set(destination, HEADER + source.length);
  out.writeUInt16BE(endpoints.sourcePort, HEADER + 2 * source.length);
  out.writeUInt16BE(endpoints.destinationPort, HEADER + 2 * source.length + 2);
  return out;
}

function mapped(address: Uint8Array): Uint8Array {
  return address.length === 16 ? address : Uint8Array.from([0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0xff, 0xff, ...address]);
}

/** Reads a header; null for LOCAL and for families we do not know. Rejects with {@link ProxyError} `BAD_PROXY_HEADER`. */
export async function readProxyHeader(reader: HandshakeReader): Promise<ProxiedEndpoints | null> {
  const head = await reader.bytes(HEADER);
  if (!head.subarray(0, SIGNATURE.length).equals(SIGNATURE))
    throw new ProxyError('BAD_PROXY_HEADER', 'the connection does not begin with a PROXY header of version 2');
  const [command, family] = [head[12]!, head[13]!];
  if ((command & 0xf0) !== VERSION_2 || (command & 0x0f) > COMMAND.proxy)
    throw new ProxyError('BAD_PROXY_HEADER', `version and command 0x${command.toString(16)}; expected 0x20 or 0x21`);
  const length = head.readUInt16BE(14);
  if (length > LONGEST) throw new ProxyError('BAD_PROXY_HEADER', `the header has ${length} bytes; expected at most ${LONGEST}`);
  const body = length > 0 ? await reader.bytes(length) : Buffer.alloc(0);
  const size = family === FAMILY.tcp4 ? 4 : family === FAMILY.tcp6 ? 16 : 0;
  if ((command & 0x0f) === COMMAND.local || size === 0) return null;
  if (body.length < 2 * size + 4) throw new ProxyError('BAD_PROXY_HEADER', `the addresses are cut short: ${body.length} bytes`);
  return {
    source: formatAddress(new Uint8Array(body.subarray(0, size))),
    destination: formatAddress(new Uint8Array(body.subarray(size, 2 * size))),
    sourcePort: body.readUInt16BE(2 * size),
    destinationPort: body.readUInt16BE(2 * size + 2),
  };
}
