/**
 * The small view of an IP packet: version, addresses, ports, where the transport header is, for whoever needs one field and not
 * a parsed packet. Each function takes a whole packet, or one at `offset` of a larger array, of which `length` octets are there
 * (a capture or an ICMP quote may have cut it). None throws for any bytes: what is not there is 0, -1 or null.
 */
import { updateChecksum } from './checksum.ts';
import { IpLayout, WALK, walkFirstFragment, walkIp } from './ip-walk.ts';
import { SUBTYPE } from './mptcp-options.ts';
import { IPV4, IPV4_MIN_HEADER, IPV6, IPV6_HEADER, PROTOCOL } from './numbers.ts';
import type { Segment } from './segment.ts';
import { OPTION, optionLengthAt, TCP, TCP_MIN_HEADER, tcpHeaderLength } from './tcp.ts';

/** Ports of a TCP segment or UDP datagram. */
export interface Ports {
  source: number;
  destination: number;
}

/**
 * IP version in the first octet: 4, 6, or 0 when it is neither or there is none (RFC 791 §3.1, RFC 8200 §3). Says nothing about
 * whether the header is whole.
 *
 * @example ipVersion(Uint8Array.of(0x45, 0)) // 4
 */
export function ipVersion(bytes: Uint8Array, offset = 0, length: number = bytes.length - offset): 4 | 6 | 0 {
  if (length < 1 || offset >= bytes.length) return 0;
  const version = bytes[offset]! >>> 4;
  return version === 4 || version === 6 ? version : 0;
}

/**
 * A copy of the source address, 4 or 16 octets; null when the fixed part of the IP header is not there.
 *
 * @example formatAddress(ipSource(packet)!) // '192.0.2.1'
 */
export function ipSource(bytes: Uint8Array, offset = 0, length: number = bytes.length - offset): Uint8Array | null {
  const at = ipAddressOffset(bytes, 'source', offset, length);
  return at < 0 ? null : bytes.slice(at, at + (at - offset === IPV4.source ? 4 : 16));
}

/** A copy of the destination address, 4 or 16 octets; null when the fixed part of the IP header is not there. */
export function ipDestination(bytes: Uint8Array, offset = 0, length: number = bytes.length - offset): Uint8Array | null {
  const at = ipAddressOffset(bytes, 'destination', offset, length);
  return at < 0 ? null : bytes.slice(at, at + (at - offset === IPV4.destination ? 4 : 16));
}

/** Where in `bytes` an address of the packet begins; -1 when the fixed part of the IP header is not there. */
export function ipAddressOffset(bytes: Uint8Array, side: 'source' | 'destination', offset = 0, length: number = bytes.length - offset): number {
  const version = wholeVersion(bytes, offset, length);
  return version === 0 ? -1 : offset + (version === 4 ? IPV4[side] : IPV6[side]);
}

/** DSCP and ECN, the whole octet (RFC 2474 §3, RFC 3168 §5); -1 when the fixed part of the IP header is not there. */
export function ipTrafficClass(bytes: Uint8Array, offset = 0, length: number = bytes.length - offset): number {
  switch (wholeVersion(bytes, offset, length)) {
    case 4:
      return bytes[offset + IPV4.trafficClass]!;
    case 6:
      return ((bytes[offset]! & 15) << 4) | (bytes[offset + 1]! >>> 4);
    default:
      return -1;
  }
}

/** TTL, or hop limit; -1 when the fixed part of the IP header is not there. */
export function ipTtl(bytes: Uint8Array, offset = 0, length: number = bytes.length - offset): number {
  const version = wholeVersion(bytes, offset, length);
  return version === 0 ? -1 : bytes[offset + (version === 4 ? IPV4.ttl : IPV6.hopLimit)]!;
}

/**
 * Where the parts of a packet are: the tolerant walk ({@link walkIp}) on to the upper-layer header, also of a first fragment.
 * Null when there is no IP header, or its options or extension headers are cut or malformed. The upper-layer header itself may
 * be cut, and `endOffset` is what the IP header declares.
 *
 * @example
 * const layout = ipLayout(packet);
 * if (layout?.protocol === PROTOCOL.tcp && layout.fragmentOffset === 0) flags = packet[layout.tcpOffset + TCP.flags];
 */
export function ipLayout(bytes: Uint8Array, offset = 0, length: number = bytes.length - offset): IpLayout | null {
  return layoutIn(viewOf(bytes), offset, there(bytes, offset, length));
}

/**
 * Ports of a TCP segment or UDP datagram; null for every other protocol, for later fragments, which have none, and where fewer
 * than four octets of the transport header are there.
 *
 * @example packetPorts(packet)?.destination // 443
 */
export function packetPorts(bytes: Uint8Array, offset = 0, length: number = bytes.length - offset): Ports | null {
  const view = viewOf(bytes);
  const room = there(bytes, offset, length);
  const layout = layoutIn(view, offset, room);
  if (layout === null || layout.fragmentOffset !== 0 || (layout.protocol !== PROTOCOL.tcp && layout.protocol !== PROTOCOL.udp)) return null;
  const at = layout.tcpOffset;
  if (at + 4 > Math.min(offset + room, layout.endOffset)) return null;
  return { source: view.getUint16(at + TCP.sourcePort), destination: view.getUint16(at + TCP.destinationPort) };
}

/**
 * Offset of the first Multipath TCP option of a subtype ({@link SUBTYPE}) in a parsed segment; -1 without one. Of several DSS
 * options it is the one that counts ({@link parseTcpInto}).
 *
 * @example
 * const at = findMptcp(segment, SUBTYPE.join);
 * if (at >= 0 && segment.view.getUint8(at + 1) === 12) token = segment.view.getInt32(at + 4);
 */
export function findMptcp(segment: Segment, subtype: number): number {
  if (subtype === SUBTYPE.dss && segment.hasDss) return segment.dssOffset;
  for (let i = 0; i < segment.otherMptcpCount; i++) {
    const at = segment.otherMptcp[i]!;
    if (mptcpSubtype(segment.view, at) === subtype) return at;
  }
  return -1;
}

/** Offset of the first Multipath TCP option of a subtype in a packet, malformed ones included; -1 when it has none or is not TCP. */
export function findMptcpIn(bytes: Uint8Array, subtype: number, offset = 0, length: number = bytes.length - offset): number {
  const view = viewOf(bytes);
  const room = there(bytes, offset, length);
  const layout = layoutIn(view, offset, room);
  if (layout === null || layout.protocol !== PROTOCOL.tcp || layout.fragmentOffset !== 0) return -1;
  const end = Math.min(offset + room, layout.endOffset);
  if (layout.tcpOffset + TCP_MIN_HEADER > end) return -1;
  const optionsEnd = Math.min(end, layout.tcpOffset + tcpHeaderLength(view, layout.tcpOffset));
  let size: number;
  for (let at = layout.tcpOffset + TCP.options; (size = optionLengthAt(view, at, optionsEnd)) > 0; at += size) {
    if (size > 2 && view.getUint8(at) === OPTION.mptcp && mptcpSubtype(view, at) === subtype) return at;
  }
  return -1;
}

/** Subtype of the Multipath TCP option whose kind octet is at `at` (RFC 8684 §3); three octets of it must be there. */
export function mptcpSubtype(view: DataView, at: number): number {
  return view.getUint8(at + 2) >>> 4;
}

/** Writes TTL or hop limit in place; the IPv4 header checksum stays as right, or as wrong, as it was. Nothing without an IP header. */
export function setIpTtl(bytes: Uint8Array, ttl: number): void {
  const version = wholeVersion(bytes, 0, bytes.length);
  if (version === 4) setIpv4Word(bytes, IPV4.ttl, (ttl << 8) | bytes[IPV4.protocol]!);
  else if (version === 6) bytes[IPV6.hopLimit] = ttl;
}

/** Writes DSCP and ECN, the whole octet, in place, as {@link setIpTtl} does. */
export function setIpTrafficClass(bytes: Uint8Array, trafficClass: number): void {
  const version = wholeVersion(bytes, 0, bytes.length);
  if (version === 4) {
    setIpv4Word(bytes, IPV4.versionIhl, (bytes[IPV4.versionIhl]! << 8) | trafficClass);
  } else if (version === 6) {
    bytes[0] = (6 << 4) | (trafficClass >>> 4);
    bytes[1] = ((trafficClass & 15) << 4) | (bytes[1]! & 15);
  }
}

/**
 * Writes a 16-bit word of a packet's IPv4 header and updates the header checksum by the difference (RFC 1624). `field` is an even
 * offset ({@link IPV4}) other than that of the checksum; 20 octets must be there.
 */
export function setIpv4Word(bytes: Uint8Array, field: number, value: number): void {
  const view = viewOf(bytes);
  view.setUint16(IPV4.checksum, updateChecksum(view.getUint16(IPV4.checksum), view.getUint16(field), value));
  view.setUint16(field, value);
}

/** A view of all of an array's bytes. */
export function viewOf(bytes: Uint8Array): DataView {
  return new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength);
}

function layoutIn(view: DataView, offset: number, length: number): IpLayout | null {
  const layout = new IpLayout();
  const walked = walkIp(view, offset, length, length, layout);
  return walkFirstFragment(view, offset + length, walked, layout) > WALK.fragment ? null : layout;
}

/** Octets at `offset` that really are there. */
function there(bytes: Uint8Array, offset: number, length: number): number {
  return Math.max(0, Math.min(length, bytes.length - offset));
}

/** IP version when the fixed part of the header is there, else 0. */
function wholeVersion(bytes: Uint8Array, offset: number, length: number): 4 | 6 | 0 {
  const version = ipVersion(bytes, offset, length);
  return there(bytes, offset, length) < (version === 6 ? IPV6_HEADER : IPV4_MIN_HEADER) ? 0 : version;
}
