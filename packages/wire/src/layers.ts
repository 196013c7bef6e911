/**
 * From a captured frame to the TCP segment in it: link layer, IP headers, tunnels (IP-in-IP, GRE, VXLAN), extension
 * headers. Unlike {@link parsePacket}, which serves a host and refuses what is damaged, this reads what a capture holds:
 * frames cut by the snap length, checksums that offload has not filled in yet, super-segments with length 0.
 */
import { EXTENSION, extensionLength, isExtension } from './ipv6.ts';
import { LINKTYPE, linkPayload, NOT_IP } from './link-layer.ts';
import { PARSED, parseTcpInto, readIpv6Addresses, Segment } from './segment.ts';

/** What a frame holds, or why no segment was found in it. */
export const FRAME = {
  tcp: 0,
  /** ARP, LLDP and their like. */
  notIp: 1,
  unsupportedLink: 2,
  /** The snap length cut it within the first 20 octets of the TCP header, or before. Where it cuts options, those before are read. */
  cut: 3,
  badIp: 4,
  badTcp: 5,
  fragment: 6,
  icmp: 7,
  otherProtocol: 8,
  /** More headers in one another than {@link MAX_IP_HEADERS}. */
  tooDeep: 9,
} as const;

/** Names of {@link FRAME}, for counters and screens. */
export const FRAME_NAME = ['tcp', 'not-ip', 'unsupported-link', 'cut', 'bad-ip', 'bad-tcp', 'fragment', 'icmp', 'other-protocol', 'too-deep'] as const;

export const MAX_IP_HEADERS = 6;
const UDP = 17;
const TCP = 6;
const ICMP = 1;
const ICMPV6 = 58;
const IPV4_IN_IP = 4;
const IPV6_IN_IP = 41;
const GRE = 47;
const VXLAN_PORT = 4789;
const VXLAN_HEADER = 8;
const UDP_HEADER = 8;
const GRE_IPV4 = 0x0800;
const GRE_IPV6 = 0x86dd;
const GRE_ETHERNET = 0x6558;

/** The headers of one frame, as offsets. Reused from frame to frame. */
export class Layers {
  readonly segment: Segment = new Segment();
  view: DataView = this.segment.view;
  bytes: Uint8Array = this.segment.bytes;
  /** IP headers, outermost first. */
  ipCount = 0;
  readonly ipOffsets: Int32Array = new Int32Array(MAX_IP_HEADERS);
  /** VLAN identifiers, outermost first. */
  readonly vlans: number[] = [];
  /** End of what was captured. */
  captured = 0;
  /** The option list of the TCP header is malformed, or cut, from some point on. */
  badOptions = false;
  /** Of a fragment: its identification, and its payload. */
  identification = 0;
  fragmentOffset = 0;
  moreFragments = false;
}

/** Walks a captured frame of `captured` bytes at `offset`, which had `original` bytes on the wire. Returns a {@link FRAME} value; never throws. */
export function walkFrame(view: DataView, bytes: Uint8Array, offset: number, captured: number, original: number, linkType: number, layers: Layers): number {
  layers.view = view;
  layers.bytes = bytes;
  layers.ipCount = 0;
  if (layers.vlans.length > 0) layers.vlans.length = 0;
  return walkLink(view, offset, captured, original, linkType, layers);
}

/** Walks an IP packet, as {@link walkFrame} does: for packets put together from fragments. */
export function walkPacket(view: DataView, bytes: Uint8Array, offset: number, captured: number, layers: Layers): number {
  layers.view = view;
  layers.bytes = bytes;
  layers.ipCount = 0;
  return walkIp(view, offset, captured, captured, layers);
}

function walkLink(view: DataView, offset: number, captured: number, original: number, linkType: number, layers: Layers): number {
  // Most frames: untagged IPv4 on Ethernet.
  const ip =
    linkType === LINKTYPE.ethernet && captured >= 34 && view.getUint16(offset + 12) === 0x0800
      ? offset + 14
      : linkPayload(view, offset, captured, linkType, layers.vlans);
  if (ip < 0) return ip === NOT_IP.cut ? FRAME.cut : ip === NOT_IP.otherProtocol ? FRAME.notIp : FRAME.unsupportedLink;
  return walkIp(view, ip, captured - (ip - offset), Math.max(original, captured) - (ip - offset), layers);
}

function walkIp(view: DataView, offset: number, captured: number, original: number, layers: Layers): number {
  if (layers.ipCount >= MAX_IP_HEADERS) return FRAME.tooDeep;
  layers.ipOffsets[layers.ipCount++] = offset;
  if (captured < 20) return FRAME.cut;
  const { segment } = layers;
  const first = view.getUint8(offset);
  let end: number;
  let at: number;
  segment.view = view;
  segment.bytes = layers.bytes;
  segment.ipOffset = offset;
  layers.captured = offset + captured;
  if (first >>> 4 === 4) {
    const headerLength = (first & 15) << 2;
    let total = view.getUint16(offset + 2);
    // Segmentation offload leaves 0 where the length does not fit, or is not known yet.
    if (total === 0) total = original;
    if (headerLength < 20 || total < headerLength) return FRAME.badIp;
    if (headerLength > captured) return FRAME.cut;
    segment.ipVersion = 4;
    segment.trafficClass = view.getUint8(offset + 1);
    segment.ttl = view.getUint8(offset + 8);
    segment.protocol = view.getUint8(offset + 9);
    segment.source0 = view.getInt32(offset + 12);
    segment.destination0 = view.getInt32(offset + 16);
    segment.source1 = segment.source2 = segment.source3 = 0;
    segment.destination1 = segment.destination2 = segment.destination3 = 0;
    at = offset + headerLength;
    end = offset + total;
    const fragment = view.getUint16(offset + 6);
    if ((fragment & 0x3fff) !== 0) {
      layers.identification = view.getUint16(offset + 4);
      return fragmentOf(layers, (fragment & 0x1fff) << 3, (fragment & 0x2000) !== 0, at, end);
    }
  } else if (first >>> 4 === 6) {
    if (captured < 40) return FRAME.cut;
    const payload = view.getUint16(offset + 4);
    segment.ipVersion = 6;
    readIpv6Addresses(view, offset, segment);
    // Jumbograms and BIG TCP say 0 (RFC 2675 §3).
    end = offset + (payload === 0 ? original : 40 + payload);
    let next = view.getUint8(offset + 6);
    at = offset + 40;
    while (isExtension(next)) {
      if (at + 8 > layers.captured) return FRAME.cut;
      if (next === EXTENSION.fragment && (view.getUint16(at + 2) & 0xfff9) !== 0) {
        const word = view.getUint16(at + 2);
        segment.protocol = view.getUint8(at);
        layers.identification = view.getInt32(at + 4);
        return fragmentOf(layers, word & 0xfff8, (word & 1) !== 0, at + 8, end);
      }
      const size = extensionLength(view, at, next);
      next = view.getUint8(at);
      at += size;
      if (at > layers.captured) return FRAME.cut;
    }
    segment.protocol = next;
  } else {
    return FRAME.badIp;
  }
  segment.tcpOffset = at;
  segment.endOffset = end;
  return segment.protocol === TCP ? walkTcp(view, at, end, layers) : walkUpper(view, at, end, layers);
}

function walkTcp(view: DataView, at: number, end: number, layers: Layers): number {
  const captured = Math.min(layers.captured, end);
  if (at + 20 > captured) return end - at < 20 ? FRAME.badTcp : FRAME.cut;
  const result = parseTcpInto(view, at, end - at, layers.segment, captured);
  layers.badOptions = result === PARSED.badOptions;
  return result === PARSED.tcp || layers.badOptions ? FRAME.tcp : FRAME.badTcp;
}

function walkUpper(view: DataView, at: number, end: number, layers: Layers): number {
  const captured = Math.min(layers.captured, end);
  switch (layers.segment.protocol) {
    case IPV4_IN_IP:
    case IPV6_IN_IP:
      return walkIp(view, at, captured - at, end - at, layers);
    case GRE: {
      if (at + 4 > captured) return FRAME.cut;
      const flags = view.getUint16(at);
      const type = view.getUint16(at + 2);
      // Checksum, key and sequence number, four octets each where present (RFC 2784 §2.1, RFC 2890 §2).
      const inner = at + 4 + ((flags & 0x8000) !== 0 ? 4 : 0) + ((flags & 0x2000) !== 0 ? 4 : 0) + ((flags & 0x1000) !== 0 ? 4 : 0);
      if (inner >= captured) return FRAME.cut;
      if (type === GRE_IPV4 || type === GRE_IPV6) return walkIp(view, inner, captured - inner, end - inner, layers);
      if (type === GRE_ETHERNET) return walkLink(view, inner, captured - inner, end - inner, LINKTYPE.ethernet, layers);
      return FRAME.otherProtocol;
    }
    case UDP: {
      const inner = at + UDP_HEADER + VXLAN_HEADER;
      if (inner >= captured || view.getUint16(at + 2) !== VXLAN_PORT || (view.getUint8(at + UDP_HEADER) & 0x08) === 0) return FRAME.otherProtocol;
      return walkLink(view, inner, captured - inner, end - inner, LINKTYPE.ethernet, layers);
    }
    case ICMP:
    case ICMPV6:
      return FRAME.icmp;
    default:
      return FRAME.otherProtocol;
  }
}

function fragmentOf(layers: Layers, offset: number, more: boolean, at: number, end: number): number {
  layers.fragmentOffset = offset;
  layers.moreFragments = more;
  layers.segment.tcpOffset = at;
  layers.segment.endOffset = end;
  return end < at ? FRAME.badIp : FRAME.fragment;
}
