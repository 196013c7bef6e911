/** IPv4 headers (RFC 791 §3.1): view offsets, value, parse and emit. */
import { finish, sum } from './checksum.ts';
import { IpLayout, walkFault, walkIp, WALK } from './ip-walk.ts';
import type { Malformed } from './malformed.ts';
import { IPV4, IPV4_FRAGMENT, IPV4_MIN_HEADER } from './numbers.ts';

/** A parsed IPv4 header. */
export interface Ipv4Header {
  version: 4;
  /** Header length in bytes, options included. */
  headerLength: number;
  /** DSCP and ECN (RFC 2474, RFC 3168). */
  trafficClass: number;
  totalLength: number;
  identification: number;
  dontFragment: boolean;
  moreFragments: boolean;
  /** Fragment offset in bytes. */
  fragmentOffset: number;
  ttl: number;
  protocol: number;
  checksum: number;
  source: Uint8Array;
  destination: Uint8Array;
  /** Raw option bytes, padding included. */
  options: Uint8Array;
}

/** Parses the header at `offset`; the rest of the packet may be truncated (as in ICMP quotes). */
export function parseIpv4(view: DataView, offset: number, length: number): Ipv4Header | Malformed {
  const layout = new IpLayout();
  // Original length 0: a total length of 0 is an error here.
  const result = walkIp(view, offset, length, 0, layout);
  if (result > WALK.fragment || layout.ipVersion !== 4) return walkFault(result, view, offset, length, 4);
  const headerLength = layout.tcpOffset - offset;
  return {
    version: 4,
    headerLength,
    trafficClass: view.getUint8(offset + IPV4.trafficClass),
    totalLength: layout.endOffset - offset,
    identification: view.getUint16(offset + IPV4.identification),
    dontFragment: (view.getUint16(offset + IPV4.fragment) & IPV4_FRAGMENT.dontFragment) !== 0,
    moreFragments: layout.moreFragments,
    fragmentOffset: layout.fragmentOffset,
    ttl: view.getUint8(offset + IPV4.ttl),
    protocol: layout.protocol,
    checksum: view.getUint16(offset + IPV4.checksum),
    source: bytesAt(view, offset + IPV4.source, 4),
    destination: bytesAt(view, offset + IPV4.destination, 4),
    options: bytesAt(view, offset + IPV4.options, headerLength - IPV4_MIN_HEADER),
  };
}

/** Writes the header as it stands, checksum field included. Returns the bytes written. The reserved fragment bit is lost. */
export function emitIpv4(header: Ipv4Header, view: DataView, offset: number): number {
  const headerLength = IPV4_MIN_HEADER + header.options.length;
  const flags = (header.dontFragment ? IPV4_FRAGMENT.dontFragment : 0) | (header.moreFragments ? IPV4_FRAGMENT.moreFragments : 0);
  view.setUint8(offset, 0x40 | (headerLength >>> 2));
  view.setUint8(offset + IPV4.trafficClass, header.trafficClass);
  view.setUint16(offset + IPV4.totalLength, header.totalLength);
  view.setUint16(offset + IPV4.identification, header.identification);
  view.setUint16(offset + IPV4.fragment, flags | (header.fragmentOffset >>> 3));
  view.setUint8(offset + IPV4.ttl, header.ttl);
  view.setUint8(offset + IPV4.protocol, header.protocol);
  view.setUint16(offset + IPV4.checksum, header.checksum);
  const bytes = new Uint8Array(view.buffer, view.byteOffset);
  bytes.set(header.source, offset + IPV4.source);
  bytes.set(header.destination, offset + IPV4.destination);
  bytes.set(header.options, offset + IPV4.options);
  return headerLength;
}

/** The right header checksum for the header at `offset` (its checksum field is skipped). */
export function ipv4Checksum(bytes: Uint8Array, offset: number, headerLength: number): number {
  const head = sum(bytes, offset, IPV4.checksum);
  return finish(sum(bytes, offset + IPV4.source, headerLength - IPV4.source, head));
}

/** A copy of `length` bytes of a view. */
export function bytesAt(view: DataView, offset: number, length: number): Uint8Array {
  return new Uint8Array(view.buffer, view.byteOffset + offset, length).slice();
}
