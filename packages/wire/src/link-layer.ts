/** Link layers around IP packets in captures: Ethernet II, Linux cooked v1 and v2, raw IP (tcpdump.org/linktypes.html). */
import { Malformed } from './malformed.ts';

export const LINKTYPE = { null: 0, ethernet: 1, raw: 101, sll: 113, ipv4: 228, ipv6: 229, sll2: 276 } as const;
const ETHERTYPE_IPV4 = 0x0800;
const ETHERTYPE_IPV6 = 0x86dd;
const ETHERTYPE_VLAN = 0x8100;
const ETHERTYPE_QINQ = 0x88a8;

/** Offset of the IP header inside a captured frame. */
export function ipOffsetIn(linkType: number, frame: Uint8Array): number | Malformed {
  const view = new DataView(frame.buffer, frame.byteOffset, frame.byteLength);
  switch (linkType) {
    case LINKTYPE.raw:
    case LINKTYPE.ipv4:
    case LINKTYPE.ipv6:
      return 0;
    case LINKTYPE.null:
      return frame.length < 4 ? cut(frame, 4) : 4;
    case LINKTYPE.ethernet: {
      let at = 12;
      for (;;) {
        if (at + 2 > frame.length) return cut(frame, at + 2);
        const type = view.getUint16(at);
        if (type !== ETHERTYPE_VLAN && type !== ETHERTYPE_QINQ) return ipType(type, at) ?? at + 2;
        at += 4;
      }
    }
    case LINKTYPE.sll:
      return frame.length < 16 ? cut(frame, 16) : (ipType(view.getUint16(14), 14) ?? 16);
    case LINKTYPE.sll2:
      return frame.length < 20 ? cut(frame, 20) : (ipType(view.getUint16(0), 0) ?? 20);
    default:
      return new Malformed('UNSUPPORTED', 0, `link type ${linkType} is not read; expected Ethernet, raw IP, loopback or Linux cooked`);
  }
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

function ipType(type: number, at: number): Malformed | null {
  return type === ETHERTYPE_IPV4 || type === ETHERTYPE_IPV6 ? null : new Malformed('UNSUPPORTED', at, `EtherType 0x${type.toString(16)} is not IP`);
}

function cut(frame: Uint8Array, expected: number): Malformed {
  return new Malformed('TRUNCATED', frame.length, `frame of ${frame.length} bytes, expected ${expected} or more`);
}
