/** IPv6 headers and extension headers (RFC 8200 §3, §4): value, parse and emit. */
import { extensionLength, IpLayout, walkFault, walkFirstFragment, walkIp, WALK } from './ip-walk.ts';
import { bytesAt } from './ipv4.ts';
import type { Malformed } from './malformed.ts';
import { IPV6, IPV6_HEADER } from './numbers.ts';

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

/** Parses the header and its extension chain; the payload may be truncated. */
export function parseIpv6(view: DataView, offset: number, length: number): Ipv6Header | Malformed {
  const layout = new IpLayout();
  const walked = walkIp(view, offset, length, length, layout);
  // A first fragment has the whole chain (RFC 8200 §4.5); past a later one there is no upper-layer header to walk to.
  const result = walkFirstFragment(view, offset + length, walked, layout);
  if (result > WALK.fragment || layout.ipVersion !== 6) return walkFault(result, view, offset, length, 6);
  const first = view.getUint32(offset + IPV6.versionClassFlow);
  return {
    version: 6,
    headerLength: layout.tcpOffset - offset,
    trafficClass: (first >>> 20) & 0xff,
    flowLabel: first & 0xfffff,
    payloadLength: view.getUint16(offset + IPV6.payloadLength),
    hopLimit: view.getUint8(offset + IPV6.hopLimit),
    source: bytesAt(view, offset + IPV6.source, 16),
    destination: bytesAt(view, offset + IPV6.destination, 16),
    extensions: extensionsBetween(view, offset, layout.tcpOffset),
    protocol: layout.protocol,
    fragmentOffset: layout.fragmentOffset,
    moreFragments: layout.moreFragments,
  };
}

/** The extension headers of the packet at `offset` up to `end`, which a walk has found to be whole. */
function extensionsBetween(view: DataView, offset: number, end: number): Ipv6Extension[] {
  const extensions: Ipv6Extension[] = [];
  let type = view.getUint8(offset + IPV6.nextHeader);
  for (let at = offset + IPV6_HEADER; at < end;) {
    const size = extensionLength(view, at, type);
    extensions.push({ type, bytes: bytesAt(view, at, size) });
    type = view.getUint8(at);
    at += size;
  }
  return extensions;
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
