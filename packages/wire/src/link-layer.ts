/** Link layers around IP packets in captures: Ethernet II with VLAN, PPPoE and MPLS, Linux cooked v1 and v2, PPP, loopback, raw IP (tcpdump.org/linktypes.html). */
import { ETHERTYPE } from './numbers.ts';
import { ipVersion } from './view.ts';

export const LINKTYPE = {
  null: 0,
  ethernet: 1,
  ppp: 9,
  rawBsd: 12,
  rawOpenBsd: 14,
  pppHdlc: 50,
  raw: 101,
  loop: 108,
  sll: 113,
  ipv4: 228,
  ipv6: 229,
  sll2: 276,
} as const;
/** Protocol numbers of PPP, and its address and control octets (RFC 1661 §2, RFC 1662 §3.1). */
const PPP = { ipv4: 0x21, ipv6: 0x57, addressControl: 0xff03 } as const;
/** Field offsets of an Ethernet II header, and its length, octets. */
export const ETHERNET = { destination: 0, source: 6, type: 12, header: 14 } as const;
/** Field offsets of Linux cooked headers, and their lengths, octets (tcpdump.org/linktypes LINUX_SLL and LINUX_SLL2). */
const SLL = { packetType: 0, arphrd: 2, protocol: 14, header: 16 } as const;
const SLL2 = { protocol: 0, interfaceIndex: 4, arphrd: 8, packetType: 10, header: 20 } as const;
/** Packet type "sent by us", and the ARPHRD of interfaces without a link layer. */
const SLL_OUTGOING = 4;
const ARPHRD_NONE = 0xfffe;
const TAG_OR_LABEL = 4;
const PPPOE_HEADER = 6;
const LOOPBACK_HEADER = 4;

/** What {@link linkPayload} found where no IP header is. */
export const NOT_IP = { cut: -1, otherProtocol: -2, unsupportedLink: -3 } as const;

/** Where the IP header lies in a captured frame, with the VLAN tags passed on the way; or one of {@link NOT_IP}. */
export function linkPayload(view: DataView, offset: number, length: number, linkType: number, vlans?: number[]): number {
  switch (linkType) {
    case LINKTYPE.ethernet:
      return length < ETHERNET.header ? NOT_IP.cut : etherType(view, offset + ETHERNET.type, offset + length, vlans);
    case LINKTYPE.raw:
    case LINKTYPE.rawBsd:
    case LINKTYPE.rawOpenBsd:
    case LINKTYPE.ipv4:
    case LINKTYPE.ipv6:
      return length < 1 ? NOT_IP.cut : offset;
    case LINKTYPE.null:
    case LINKTYPE.loop:
      return length <= LOOPBACK_HEADER ? NOT_IP.cut : isIp(view, offset + LOOPBACK_HEADER);
    case LINKTYPE.sll:
      return length < SLL.header ? NOT_IP.cut : etherType(view, offset + SLL.protocol, offset + length, vlans);
    case LINKTYPE.sll2:
      // The protocol comes first here; what follows a tag is laid out as on Ethernet.
      return length < SLL2.header ? NOT_IP.cut : protocolAt(view, view.getUint16(offset + SLL2.protocol), offset + SLL2.header, offset + length, vlans);
    case LINKTYPE.ppp:
    case LINKTYPE.pppHdlc:
      return pppPayload(view, offset, offset + length);
    default:
      return NOT_IP.unsupportedLink;
  }
}

function etherType(view: DataView, at: number, end: number, vlans?: number[]): number {
  return at + 2 > end ? NOT_IP.cut : protocolAt(view, view.getUint16(at), at + 2, end, vlans);
}

function protocolAt(view: DataView, type: number, at: number, end: number, vlans?: number[]): number {
  switch (type) {
    case ETHERTYPE.ipv4:
    case ETHERTYPE.ipv6:
      return at < end ? at : NOT_IP.cut;
    case ETHERTYPE.vlan:
    case ETHERTYPE.qinq:
    case ETHERTYPE.qinqOld:
      if (at + TAG_OR_LABEL > end) return NOT_IP.cut;
      vlans?.push(view.getUint16(at) & 0xfff);
      return etherType(view, at + 2, end, vlans);
    case ETHERTYPE.pppoe:
      return at + PPPOE_HEADER + 2 > end ? NOT_IP.cut : pppPayload(view, at + PPPOE_HEADER, end);
    case ETHERTYPE.mpls: {
      let label = at;
      // The lowest bit of the third octet is the bottom of the stack (RFC 3032 §2.1).
      while (label + TAG_OR_LABEL <= end && (view.getUint8(label + 2) & 1) === 0) label += TAG_OR_LABEL;
      return label + TAG_OR_LABEL < end ? isIp(view, label + TAG_OR_LABEL) : NOT_IP.cut;
    }
    default:
      return NOT_IP.otherProtocol;
  }
}

/** RFC 1661 §2, with the address and control octets of RFC 1662 §3.1 where they are there. */
function pppPayload(view: DataView, offset: number, end: number): number {
  let at = offset;
  if (at + 2 <= end && view.getUint16(at) === PPP.addressControl) at += 2;
  if (at + 2 >= end) return NOT_IP.cut;
  // A protocol number whose first octet is odd is one octet long (RFC 1661 §6.5).
  const short = (view.getUint8(at) & 1) === 1;
  const protocol = short ? view.getUint8(at) : view.getUint16(at);
  return protocol === PPP.ipv4 || protocol === PPP.ipv6 ? at + (short ? 1 : 2) : NOT_IP.otherProtocol;
}

function isIp(view: DataView, at: number): number {
  const version = view.getUint8(at) >>> 4;
  return version === 4 || version === 6 ? at : NOT_IP.otherProtocol;
}

/** The EtherType of an IP packet, by its version: IPv6, else IPv4. */
export function etherTypeOf(packet: Uint8Array): number {
  return ipVersion(packet) === 6 ? ETHERTYPE.ipv6 : ETHERTYPE.ipv4;
}

/** Puts an Ethernet II header with these link-layer addresses, six octets each, in front of an IP packet. */
export function ethernetFrame(packet: Uint8Array, source: Uint8Array, destination: Uint8Array): Uint8Array {
  const frame = new Uint8Array(ETHERNET.header + packet.length);
  frame.set(destination, ETHERNET.destination);
  frame.set(source, ETHERNET.source);
  new DataView(frame.buffer).setUint16(ETHERNET.type, etherTypeOf(packet));
  frame.set(packet, ETHERNET.header);
  return frame;
}

/** Puts a Linux cooked header in front of an IP packet; `outgoing` fills the packet type (4, else 0). */
export function cookedFrame(packet: Uint8Array, version: 1 | 2, outgoing: boolean, interfaceIndex = 0): Uint8Array {
  const header = version === 1 ? SLL.header : SLL2.header;
  const frame = new Uint8Array(header + packet.length);
  const view = new DataView(frame.buffer);
  const packetType = outgoing ? SLL_OUTGOING : 0;
  if (version === 1) {
    view.setUint16(SLL.packetType, packetType);
    view.setUint16(SLL.arphrd, ARPHRD_NONE);
    view.setUint16(SLL.protocol, etherTypeOf(packet));
  } else {
    view.setUint16(SLL2.protocol, etherTypeOf(packet));
    view.setUint32(SLL2.interfaceIndex, interfaceIndex);
    view.setUint16(SLL2.arphrd, ARPHRD_NONE);
    view.setUint8(SLL2.packetType, packetType);
  }
  frame.set(packet, header);
  return frame;
}
