/** IPv4 headers (RFC 791 §3.1): view offsets, value, parse and emit. */
import { finish, sum } from './checksum.ts';
import { Malformed } from './malformed.ts';

export const IPV4_MIN_HEADER = 20;
/** Field offsets (RFC 791 §3.1). */
export const IPV4 = {
  versionIhl: 0,
  trafficClass: 1,
  totalLength: 2,
  identification: 4,
  fragment: 6,
  ttl: 8,
  protocol: 9,
  checksum: 10,
  source: 12,
  destination: 16,
  options: 20,
} as const;

export const PROTOCOL = { icmp: 1, tcp: 6, udp: 17, icmpv6: 58 } as const;

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
  if (length < IPV4_MIN_HEADER) return new Malformed('TRUNCATED', offset, `IPv4 header needs 20 bytes, found ${length}`);
  const versionIhl = view.getUint8(offset);
  if (versionIhl >>> 4 !== 4) return new Malformed('BAD_VERSION', offset, `IP version ${versionIhl >>> 4}, expected 4`);
  const headerLength = (versionIhl & 15) * 4;
  if (headerLength < IPV4_MIN_HEADER) return new Malformed('BAD_LENGTH', offset, `IPv4 header length ${headerLength} is below 20`);
  if (headerLength > length) return new Malformed('TRUNCATED', offset, `IPv4 header of ${headerLength} bytes, found ${length}`);
  const fragment = view.getUint16(offset + IPV4.fragment);
  const totalLength = view.getUint16(offset + IPV4.totalLength);
  if (totalLength < headerLength) return new Malformed('BAD_LENGTH', offset + 2, `IPv4 total length ${totalLength} is below the header's ${headerLength}`);
  return {
    version: 4,
    headerLength,
    trafficClass: view.getUint8(offset + IPV4.trafficClass),
    totalLength,
    identification: view.getUint16(offset + IPV4.identification),
    dontFragment: (fragment & 0x4000) !== 0,
    moreFragments: (fragment & 0x2000) !== 0,
    fragmentOffset: (fragment & 0x1fff) * 8,
    ttl: view.getUint8(offset + IPV4.ttl),
    protocol: view.getUint8(offset + IPV4.protocol),
    checksum: view.getUint16(offset + IPV4.checksum),
    source: bytesAt(view, offset + IPV4.source, 4),
    destination: bytesAt(view, offset + IPV4.destination, 4),
    options: bytesAt(view, offset + IPV4.options, headerLength - 20),
  };
}

/** Writes the header as it stands, checksum field included. Returns the bytes written. The reserved fragment bit is lost. */
export function emitIpv4(header: Ipv4Header, view: DataView, offset: number): number {
  const headerLength = 20 + header.options.length;
  view.setUint8(offset, 0x40 | (headerLength >>> 2));
  view.setUint8(offset + IPV4.trafficClass, header.trafficClass);
  view.setUint16(offset + IPV4.totalLength, header.totalLength);
  view.setUint16(offset + IPV4.identification, header.identification);
  view.setUint16(offset + IPV4.fragment, (header.dontFragment ? 0x4000 : 0) | (header.moreFragments ? 0x2000 : 0) | (header.fragmentOffset >>> 3));
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
  const head = sum(bytes, offset, 10);
  return finish(sum(bytes, offset + 12, headerLength - 12, head));
}

export function bytesAt(view: DataView, offset: number, length: number): Uint8Array {
  return new Uint8Array(view.buffer, view.byteOffset + offset, length).slice();
}
