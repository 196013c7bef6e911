/**
 * From a captured frame to the TCP segment in it: link layer, IP headers, tunnels (IP-in-IP, GRE, VXLAN), extension
 * headers. Unlike {@link parsePacket}, which serves a host and refuses what is damaged, this reads what a capture holds:
 * frames cut by the snap length, checksums that offload has not filled in yet, super-segments with length 0.
 */
import { WALK, walkIp } from './ip-walk.ts';
import { ETHERNET, LINKTYPE, linkPayload, NOT_IP } from './link-layer.ts';
import { ETHERTYPE, IPV4_MIN_HEADER, PROTOCOL } from './numbers.ts';
import { clearSegment, clearTcp, PARSED, parseTcpInto, readIpFields, Segment } from './segment.ts';
import { TCP_MIN_HEADER } from './tcp.ts';

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
const UDP_HEADER = 8;
const UDP_DESTINATION = 2;
const VXLAN_PORT = 4789;
const VXLAN_HEADER = 8;
/** The flag that says a VXLAN identifier is there (RFC 7348 §5). */
const VXLAN_VALID = 0x08;
const GRE_HEADER = 4;
const GRE_TYPE = 2;
/** Four octets each where present (RFC 2784 §2.1, RFC 2890 §2). */
const GRE_FLAG = { checksum: 0x8000, key: 0x2000, sequence: 0x1000 } as const;

// Own constants for every frame's way: V8 folds those, but reads the fields of an imported object each time.
const { ethernet: ETHERNET_LINK } = LINKTYPE;
const { type: ETHER_TYPE, header: ETHERNET_HEADER } = ETHERNET;
const { ipv4: IPV4_TYPE } = ETHERTYPE;
const { tcp: TCP } = PROTOCOL;
const { fragment: FRAGMENT, cut: CUT } = WALK;
const { tcp: WHOLE, badOptions: BAD_OPTIONS } = PARSED;
const { tcp: FOUND, badTcp: BAD_TCP, cut: FRAME_CUT } = FRAME;
const HEADER4 = IPV4_MIN_HEADER;
const TCP_HEADER = TCP_MIN_HEADER;

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
}

/** Walks a captured frame of `captured` bytes at `offset`, which had `original` bytes on the wire. Returns a {@link FRAME} value; never throws. */
// oxlint-disable-next-line max-params -- a call for every packet: an object for its arguments costs as much as the work
export function walkFrame(view: DataView, bytes: Uint8Array, offset: number, captured: number, original: number, linkType: number, layers: Layers): number {
  layers.view = view;
  layers.bytes = bytes;
  layers.ipCount = 0;
  if (layers.vlans.length > 0) layers.vlans.length = 0;
  const result = walkLink(view, offset, captured, original, linkType, layers);
  return result === FOUND ? result : settle(result, layers);
}

/** Walks an IP packet, as {@link walkFrame} does: for packets put together from fragments. */
export function walkPacket(view: DataView, bytes: Uint8Array, offset: number, captured: number, layers: Layers): number {
  layers.view = view;
  layers.bytes = bytes;
  layers.ipCount = 0;
  const result = walkHeaders(view, offset, captured, captured, layers);
  return result === FOUND ? result : settle(result, layers);
}

/** What is not a TCP segment has no TCP fields, and where no IP header was found there is nothing of the frame before. */
function settle(result: number, layers: Layers): number {
  layers.badOptions = false;
  if (layers.ipCount === 0) clearSegment(layers.segment);
  else clearTcp(layers.segment);
  return result;
}

// oxlint-disable-next-line max-params -- a call for every packet: an object for its arguments costs as much as the work
function walkLink(view: DataView, offset: number, captured: number, original: number, linkType: number, layers: Layers): number {
  // Most frames: untagged IPv4 on Ethernet.
  const ip =
    linkType === ETHERNET_LINK && captured >= ETHERNET_HEADER + HEADER4 && view.getUint16(offset + ETHER_TYPE) === IPV4_TYPE
      ? offset + ETHERNET_HEADER
      : linkPayload(view, offset, captured, linkType, layers.vlans);
  if (ip < 0) return ip === NOT_IP.cut ? FRAME.cut : ip === NOT_IP.otherProtocol ? FRAME.notIp : FRAME.unsupportedLink;
  return walkHeaders(view, ip, captured - (ip - offset), Math.max(original, captured) - (ip - offset), layers);
}

function walkHeaders(view: DataView, offset: number, captured: number, original: number, layers: Layers): number {
  if (layers.ipCount >= MAX_IP_HEADERS) return FRAME.tooDeep;
  layers.ipOffsets[layers.ipCount++] = offset;
  layers.captured = offset + captured;
  const { segment } = layers;
  segment.view = view;
  segment.bytes = layers.bytes;
  const result = walkIp(view, offset, captured, original, segment);
  if (result > FRAGMENT) {
    clearSegment(segment);
    return result === CUT ? FRAME.cut : FRAME.badIp;
  }
  readIpFields(view, offset, segment);
  const { tcpOffset, endOffset } = segment;
  if (result === FRAGMENT) return endOffset < tcpOffset ? FRAME.badIp : FRAME.fragment;
  return segment.protocol === TCP ? walkTcp(view, tcpOffset, endOffset, layers) : walkUpper(view, tcpOffset, endOffset, layers);
}

function walkTcp(view: DataView, at: number, end: number, layers: Layers): number {
  const captured = Math.min(layers.captured, end);
  if (at + TCP_HEADER > captured) return end - at < TCP_HEADER ? BAD_TCP : FRAME_CUT;
  const result = parseTcpInto(view, at, end - at, layers.segment, captured);
  layers.badOptions = result === BAD_OPTIONS;
  return result === WHOLE || layers.badOptions ? FOUND : BAD_TCP;
}

function walkUpper(view: DataView, at: number, end: number, layers: Layers): number {
  const captured = Math.min(layers.captured, end);
  switch (layers.segment.protocol) {
    case PROTOCOL.ipv4:
    case PROTOCOL.ipv6:
      return walkHeaders(view, at, captured - at, end - at, layers);
    case PROTOCOL.gre: {
      if (at + GRE_HEADER > captured) return FRAME.cut;
      const flags = view.getUint16(at);
      const type = view.getUint16(at + GRE_TYPE);
      let inner = at + GRE_HEADER;
      for (const flag of [GRE_FLAG.checksum, GRE_FLAG.key, GRE_FLAG.sequence]) if ((flags & flag) !== 0) inner += 4;
      if (inner >= captured) return FRAME.cut;
      if (type === ETHERTYPE.ipv4 || type === ETHERTYPE.ipv6) return walkHeaders(view, inner, captured - inner, end - inner, layers);
      if (type === ETHERTYPE.ethernet) return walkLink(view, inner, captured - inner, end - inner, LINKTYPE.ethernet, layers);
      return FRAME.otherProtocol;
    }
    case PROTOCOL.udp: {
      const inner = at + UDP_HEADER + VXLAN_HEADER;
      if (inner >= captured || view.getUint16(at + UDP_DESTINATION) !== VXLAN_PORT || (view.getUint8(at + UDP_HEADER) & VXLAN_VALID) === 0) {
        return FRAME.otherProtocol;
      }
      return walkLink(view, inner, captured - inner, end - inner, LINKTYPE.ethernet, layers);
    }
    case PROTOCOL.icmp:
    case PROTOCOL.icmpv6:
      return FRAME.icmp;
    default:
      return FRAME.otherProtocol;
  }
}
