/** IPv6 headers and extension headers (RFC 8200 §3, §4): value, parse and emit. */
import { bytesAt } from './ipv4.ts';
import { Malformed } from './malformed.ts';

export const IPV6_HEADER = 40;
/** Field offsets (RFC 8200 §3). */
export const IPV6 = { versionClassFlow: 0, payloadLength: 4, nextHeader: 6, hopLimit: 7, source: 8, destination: 24 } as const;

/** Next-header values of extension headers (RFC 8200 §4, RFC 4302, RFC 6275). */
export const EXTENSION = { hopByHop: 0, routing: 43, fragment: 44, authentication: 51, noNext: 59, destination: 60, mobility: 135 } as const;

/** One extension header, kept byte for byte. */
export interface Ipv6Extension {
  /** The header's own type. */
  type: number;
  /** The whole header, its next-header octet included. */
  bytes: Uint8Array;
}

/** A parsed IPv6 header with its chain of extension headers. */
export interface Ipv6Header {
  version: 6;
  /** Bytes up to the upper-layer header, extension headers included. */
  headerLength: number;
  trafficClass: number;
  flowLabel: number;
  payloadLength: number;
  hopLimit: number;
  source: Uint8Array;
  destination: Uint8Array;
  extensions: Ipv6Extension[];
  /** Upper-layer protocol at the end of the chain. */
  protocol: number;
  /** Fragment offset in bytes; 0 with `moreFragments` false for a whole packet. */
  fragmentOffset: number;
  moreFragments: boolean;
}

/** Length of the extension header at `offset`, 0 when `type` is not an extension header. */
export function extensionLength(view: DataView, offset: number, type: number): number {
  switch (type) {
    case EXTENSION.hopByHop:
    case EXTENSION.routing:
    case EXTENSION.destination:
    case EXTENSION.mobility:
      return (view.getUint8(offset + 1) + 1) * 8;
    case EXTENSION.fragment:
      return 8;
    case EXTENSION.authentication:
      return (view.getUint8(offset + 1) + 2) * 4;
    default:
      return 0;
  }
}

/** Whether a next-header value names an extension header that can be walked. */
export function isExtension(type: number): boolean {
  return (
    type === EXTENSION.hopByHop ||
    type === EXTENSION.routing ||
    type === EXTENSION.destination ||
    type === EXTENSION.mobility ||
    type === EXTENSION.fragment ||
    type === EXTENSION.authentication
  );
}

/** Parses the header and its extension chain; the payload may be truncated. */
export function parseIpv6(view: DataView, offset: number, length: number): Ipv6Header | Malformed {
  if (length < IPV6_HEADER) return new Malformed('TRUNCATED', offset, `IPv6 header needs 40 bytes, found ${length}`);
  const first = view.getUint32(offset);
  if (first >>> 28 !== 6) return new Malformed('BAD_VERSION', offset, `IP version ${first >>> 28}, expected 6`);
  const header: Ipv6Header = {
    version: 6,
    headerLength: IPV6_HEADER,
    trafficClass: (first >>> 20) & 0xff,
    flowLabel: first & 0xfffff,
    payloadLength: view.getUint16(offset + IPV6.payloadLength),
    hopLimit: view.getUint8(offset + IPV6.hopLimit),
    source: bytesAt(view, offset + IPV6.source, 16),
    destination: bytesAt(view, offset + IPV6.destination, 16),
    extensions: [],
    protocol: view.getUint8(offset + IPV6.nextHeader),
    fragmentOffset: 0,
    moreFragments: false,
  };
  while (isExtension(header.protocol)) {
    const at = offset + header.headerLength;
    if (header.headerLength + 8 > length) return new Malformed('TRUNCATED', at, `extension header ${header.protocol} is cut`);
    const size = extensionLength(view, at, header.protocol);
    if (header.headerLength + size > length) return new Malformed('TRUNCATED', at, `extension header ${header.protocol} of ${size} bytes is cut`);
    if (header.protocol === EXTENSION.fragment) {
      const word = view.getUint16(at + 2);
      header.fragmentOffset = word & 0xfff8;
      header.moreFragments = (word & 1) !== 0;
    }
    header.extensions.push({ type: header.protocol, bytes: bytesAt(view, at, size) });
    header.protocol = view.getUint8(at);
    header.headerLength += size;
    // Past a non-first fragment there is no upper-layer header to walk to (RFC 8200 §4.5).
    if (header.fragmentOffset !== 0) break;
  }
  return header;
}

/** Writes the header and its extension headers. Returns the bytes written. */
export function emitIpv6(header: Ipv6Header, view: DataView, offset: number): number {
  view.setUint32(offset, (0x60000000 | (header.trafficClass << 20) | header.flowLabel) >>> 0);
  view.setUint16(offset + IPV6.payloadLength, header.payloadLength);
  view.setUint8(offset + IPV6.nextHeader, header.extensions[0]?.type ?? header.protocol);
  view.setUint8(offset + IPV6.hopLimit, header.hopLimit);
  const bytes = new Uint8Array(view.buffer, view.byteOffset);
  bytes.set(header.source, offset + IPV6.source);
  bytes.set(header.destination, offset + IPV6.destination);
  let at = offset + IPV6_HEADER;
  for (const extension of header.extensions) {
    bytes.set(extension.bytes, at);
    at += extension.bytes.length;
  }
  return at - offset;
}
