/** Link layers around IP packets in captures: Ethernet II with VLAN, PPPoE and MPLS, Linux cooked v1 and v2, PPP, loopback, raw IP (tcpdump.org/linktypes.html). */
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
const ETHERTYPE_IPV4 = 0x0800;
const ETHERTYPE_IPV6 = 0x86dd;
const ETHERTYPE_VLAN = 0x8100;
const ETHERTYPE_QINQ = 0x88a8;
const ETHERTYPE_QINQ_OLD = 0x9100;
const ETHERTYPE_PPPOE = 0x8864;
const ETHERTYPE_MPLS = 0x8847;
const PPP_IPV4 = 0x21;
const PPP_IPV6 = 0x57;

/** What {@link linkPayload} found where no IP header is. */
export const NOT_IP = { cut: -1, otherProtocol: -2, unsupportedLink: -3 } as const;

/** Where the IP header lies in a captured frame, with the VLAN tags passed on the way; or one of {@link NOT_IP}. */
export function linkPayload(view: DataView, offset: number, length: number, linkType: number, vlans?: number[]): number {
  switch (linkType) {
    case LINKTYPE.ethernet:
      return length < 14 ? NOT_IP.cut : etherType(view, offset + 12, offset + length, vlans);
    case LINKTYPE.raw:
    case LINKTYPE.rawBsd:
    case LINKTYPE.rawOpenBsd:
    case LINKTYPE.ipv4:
    case LINKTYPE.ipv6:
      return length < 1 ? NOT_IP.cut : offset;
    case LINKTYPE.null:
    case LINKTYPE.loop:
      return length < 5 ? NOT_IP.cut : isIp(view, offset + 4);
    case LINKTYPE.sll:
      return length < 16 ? NOT_IP.cut : etherType(view, offset + 14, offset + length, vlans);
    case LINKTYPE.sll2:
      // The protocol comes first here; what follows a tag is laid out as on Ethernet, 20 bytes on.
      return length < 20 ? NOT_IP.cut : protocolAt(view, view.getUint16(offset), offset + 20, offset + length, vlans);
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
    case ETHERTYPE_IPV4:
    case ETHERTYPE_IPV6:
      return at < end ? at : NOT_IP.cut;
    case ETHERTYPE_VLAN:
    case ETHERTYPE_QINQ:
    case ETHERTYPE_QINQ_OLD:
      if (at + 4 > end) return NOT_IP.cut;
      vlans?.push(view.getUint16(at) & 0xfff);
      return etherType(view, at + 2, end, vlans);
    case ETHERTYPE_PPPOE:
      return at + 8 > end ? NOT_IP.cut : pppPayload(view, at + 6, end);
    case ETHERTYPE_MPLS: {
      let label = at;
      while (label + 4 <= end && (view.getUint8(label + 2) & 1) === 0) label += 4;
      return label + 4 < end ? isIp(view, label + 4) : NOT_IP.cut;
    }
    default:
      return NOT_IP.otherProtocol;
  }
}

/** RFC 1661 §2, with the address and control octets of RFC 1662 §3.1 where they are there. */
function pppPayload(view: DataView, offset: number, end: number): number {
  let at = offset;
  if (at + 2 <= end && view.getUint16(at) === 0xff03) at += 2;
  if (at + 2 >= end) return NOT_IP.cut;
  // A protocol number whose first octet is odd is one octet long (RFC 1661 §6.5).
  const short = (view.getUint8(at) & 1) === 1;
  const protocol = short ? view.getUint8(at) : view.getUint16(at);
  return protocol === PPP_IPV4 || protocol === PPP_IPV6 ? at + (short ? 1 : 2) : NOT_IP.otherProtocol;
}

function isIp(view: DataView, at: number): number {
  const version = view.getUint8(at) >>> 4;
  return version === 4 || version === 6 ? at : NOT_IP.otherProtocol;
}

/** Puts an Ethernet II header with zero addresses' worth of given MACs in front of an IP packet. */
export function ethernetFrame(packet: Uint8Array, source: Uint8Array, destination: Uint8Array): Uint8Array {
  const frame = new Uint8Array(14 + packet.length);
  frame.set(destination, 0);
  frame.set(source, 6);
  const type = packet[0]! >>> 4 === 6 ? ETHERTYPE_IPV6 : ETHERTYPE_IPV4;
  frame[12] = type >>> 8;
  frame[13] = type & 0xff;
  frame.set(packet, 14);
  return frame;
}

/** Puts a Linux cooked header in front of an IP packet; `outgoing` fills the packet type (4, else 0). */
export function cookedFrame(packet: Uint8Array, version: 1 | 2, outgoing: boolean, interfaceIndex = 0): Uint8Array {
  const header = version === 1 ? 16 : 20;
  const frame = new Uint8Array(header + packet.length);
  const view = new DataView(frame.buffer);
  const type = packet[0]! >>> 4 === 6 ? ETHERTYPE_IPV6 : ETHERTYPE_IPV4;
  if (version === 1) {
    view.setUint16(0, outgoing ? 4 : 0);
    view.setUint16(2, 0xfffe);
    view.setUint16(14, type);
  } else {
    view.setUint16(0, type);
    view.setUint32(4, interfaceIndex);
    view.setUint16(8, 0xfffe);
    view.setUint8(10, outgoing ? 4 : 0);
  }
  frame.set(packet, header);
  return frame;
}
