/** ICMP errors that quote our packets: what came back, and of which packet. */
import { icmpErrorParts, IPV6_HEADER, isMalformed, mplsLabels, parsePacketValue, PROTOCOL } from '@subflow/wire';
import type { IcmpExtension, IpAddress, MplsLabel } from '@subflow/wire';

/** An ICMP error with the start of a packet. */
export interface Quote {
  /** Who sent the error. */
  from: IpAddress;
  /** TTL or hop limit the error arrived with. */
  ttl: number;
  version: 4 | 6;
  type: number;
  code: number;
  /** The quoted packet from its IP header on, without padding. */
  bytes: Uint8Array;
  /** Octets quoted behind the IP header. */
  quoted: number;
  protocol: number;
  source: IpAddress;
  destination: IpAddress;
  /** IPv4 identification, 0 with IPv6. */
  identification: number;
  /** Of TCP; -1 when less was quoted. */
  sourcePort: number;
  destinationPort: number;
  /** Unsigned; -1 when less was quoted. */
  seq: number;
  /** TCP window; -1 when less was quoted. */
  window: number;
  extensions: readonly IcmpExtension[];
  labels: readonly MplsLabel[];
}

/** Reads an ICMP error; null for everything else, and for quotes in which no address is left. Never throws. */
export function readQuote(packet: Uint8Array): Quote | null {
  const parsed = parsePacketValue(packet);
  if (isMalformed(parsed) || parsed.icmp?.kind !== 'error') return null;
  const { quote: bytes, extensions } = icmpErrorParts(parsed.icmp);
  const version = parsed.ip.version;
  const v4 = version === 4;
  if (bytes.length < (v4 ? 20 : IPV6_HEADER) || bytes[0]! >>> 4 !== version) return null;
  const view = new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength);
  const headerLength = v4 ? (bytes[0]! & 15) * 4 : IPV6_HEADER;
  const quoted = bytes.length - headerLength;
  const at = headerLength;
  return {
    from: parsed.ip.source,
    ttl: v4 && parsed.ip.version === 4 ? parsed.ip.ttl : (parsed.ip as { hopLimit: number }).hopLimit,
    version,
    type: parsed.icmp.type,
    code: parsed.icmp.code,
    bytes,
    quoted,
    protocol: bytes[v4 ? 9 : 6]!,
    source: bytes.slice(v4 ? 12 : 8, v4 ? 16 : 24),
    destination: bytes.slice(v4 ? 16 : 24, v4 ? 20 : 40),
    identification: v4 ? view.getUint16(4) : 0,
    sourcePort: quoted >= 2 ? view.getUint16(at) : -1,
    destinationPort: quoted >= 4 ? view.getUint16(at + 2) : -1,
    seq: quoted >= 8 ? view.getUint32(at + 4) : -1,
    window: quoted >= 16 ? view.getUint16(at + 14) : -1,
    extensions,
    labels: mplsLabels(extensions),
  };
}

/** Whether a quote is of a TCP packet. */
export function quotesTcp(quote: Quote): boolean {
  return quote.protocol === PROTOCOL.tcp;
}
