/** Whole IP packets as values: for tools, tests and hand-made segments. */
import { finish, pseudoHeader, sum } from './checksum.ts';
import { emitIpv4, ipv4Checksum, parseIpv4 } from './ipv4.ts';
import type { Ipv4Header } from './ipv4.ts';
import { emitIpv6, parseIpv6 } from './ipv6.ts';
import type { Ipv6Header } from './ipv6.ts';
import { emitIcmp, ICMP_CHECKSUM, ICMP_HEADER, parseIcmp } from './icmp.ts';
import type { IcmpMessage } from './icmp.ts';
import { isMalformed } from './malformed.ts';
import type { Malformed } from './malformed.ts';
import { IPV4, IPV4_MIN_HEADER, IPV6_HEADER, PROTOCOL } from './numbers.ts';
import { emitTcp, parseTcp, TCP, TCP_MAX_HEADER, TCP_MIN_HEADER, tcpOptionLength } from './tcp.ts';
import type { TcpHeader } from './tcp.ts';

export type IpHeader = Ipv4Header | Ipv6Header;

/** A parsed packet. `transport` is null for other protocols and later fragments; `payload` is what follows the last header parsed. */
export interface Packet {
  ip: IpHeader;
  tcp: TcpHeader | null;
  icmp: IcmpMessage | null;
  payload: Uint8Array;
}

/** Parses a whole IP packet. */
export function parsePacketValue(bytes: Uint8Array): Packet | Malformed {
  const view = new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength);
  const ip = bytes.length > 0 && bytes[0]! >>> 4 === 6 ? parseIpv6(view, 0, bytes.length) : parseIpv4(view, 0, bytes.length);
  if (isMalformed(ip)) return ip;
  const declared = ip.version === 4 ? ip.totalLength : IPV6_HEADER + ip.payloadLength;
  const end = Math.min(declared, bytes.length);
  const at = ip.headerLength;
  if (ip.fragmentOffset === 0) {
    if (ip.protocol === PROTOCOL.tcp) {
      const tcp = parseTcp(view, at, end - at);
      if (isMalformed(tcp)) return tcp;
      return { ip, tcp, icmp: null, payload: bytes.slice(at + tcp.headerLength, end) };
    }
    if (ip.protocol === PROTOCOL.icmp || ip.protocol === PROTOCOL.icmpv6) {
      const icmp = parseIcmp(view, at, end - at, ip.version);
      if (isMalformed(icmp)) return icmp;
      return { ip, tcp: null, icmp, payload: new Uint8Array(0) };
    }
  }
  return { ip, tcp: null, icmp: null, payload: bytes.slice(at, Math.max(at, end)) };
}

/** Builds a packet with right lengths and checksums around an IP header template and a TCP header or ICMP message. */
export function buildPacket(ip: IpHeader, body: { tcp: TcpHeader; payload?: Uint8Array } | { icmp: IcmpMessage }): Uint8Array {
  const ipLength = ip.version === 4 ? IPV4_MIN_HEADER + ip.options.length : IPV6_HEADER + ip.extensions.reduce((n, e) => n + e.bytes.length, 0);
  const payload = 'tcp' in body ? (body.payload ?? new Uint8Array(0)) : new Uint8Array(0);
  const upper =
    'tcp' in body
      ? TCP_MIN_HEADER + ((body.tcp.options.reduce((n, o) => n + tcpOptionLength(o), 0) + 3) & ~3) + payload.length
      : ICMP_HEADER + ('quote' in body.icmp ? body.icmp.quote.length : 'data' in body.icmp ? body.icmp.data.length : Math.max(0, body.icmp.body.length - 4));
  const bytes = new Uint8Array(ipLength + Math.max(upper, 4) + ('tcp' in body ? TCP_MAX_HEADER : 0));
  const view = new DataView(bytes.buffer);
  let end = ipLength;
  if ('tcp' in body) {
    end += emitTcp({ ...body.tcp, checksum: 0 }, view, ipLength);
    bytes.set(payload, end);
    end += payload.length;
  } else {
    end += emitIcmp({ ...body.icmp, checksum: 0 }, view, ipLength);
  }
  const length = end - ipLength;
  if (ip.version === 4) emitIpv4({ ...ip, totalLength: end, checksum: 0 }, view, 0);
  else emitIpv6({ ...ip, payloadLength: end - IPV6_HEADER }, view, 0);
  // ICMP of IPv4 has no pseudo-header (RFC 792).
  const pseudo = 'icmp' in body && ip.version === 4 ? 0 : pseudoHeader(bytes, 0, ip.protocol, length);
  view.setUint16(ipLength + ('tcp' in body ? TCP.checksum : ICMP_CHECKSUM), finish(sum(bytes, ipLength, length, pseudo)));
  if (ip.version === 4) view.setUint16(IPV4.checksum, ipv4Checksum(bytes, 0, ipLength));
  return bytes.slice(0, end);
}

/** An IP header template between two addresses of one family. */
export function ipHeader(source: Uint8Array, destination: Uint8Array, protocol: number, ttl = 64): IpHeader {
  if (source.length === 4) {
    return {
      version: 4,
      headerLength: IPV4_MIN_HEADER,
      trafficClass: 0,
      totalLength: IPV4_MIN_HEADER,
      identification: 0,
      dontFragment: true,
      moreFragments: false,
      fragmentOffset: 0,
      ttl,
      protocol,
      checksum: 0,
      source,
      destination,
      options: new Uint8Array(0),
    };
  }
  return {
    version: 6,
    headerLength: IPV6_HEADER,
    trafficClass: 0,
    flowLabel: 0,
    payloadLength: 0,
    hopLimit: ttl,
    source,
    destination,
    extensions: [],
    protocol,
    fragmentOffset: 0,
    moreFragments: false,
  };
}
