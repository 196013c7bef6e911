/** ICMP errors that quote our packets: what came back, and of which packet. */
import {
  icmpErrorParts,
  ipDestination,
  ipSource,
  ipTtl,
  ipVersion,
  IPV4,
  ipv4HeaderLength,
  IPV6,
  IPV6_HEADER,
  isMalformed,
  mplsLabels,
  parsePacketValue,
  PROTOCOL,
  TCP,
  viewOf,
} from '@subflow/wire';
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
  const { version } = parsed.ip;
  const source = ipSource(bytes);
  const destination = ipDestination(bytes);
  if (source === null || destination === null || ipVersion(bytes) !== version) return null;
  const view = viewOf(bytes);
  const v4 = version === 4;
  // Fields as they stand: we send neither options nor extension headers, and a header length that is wrong is worth reporting.
  const at = v4 ? ipv4HeaderLength(view, 0) : IPV6_HEADER;
  const quoted = bytes.length - at;
  return {
    from: parsed.ip.source,
    ttl: ipTtl(packet),
    version,
    type: parsed.icmp.type,
    code: parsed.icmp.code,
    bytes,
    quoted,
    protocol: bytes[v4 ? IPV4.protocol : IPV6.nextHeader]!,
    source,
    destination,
    identification: v4 ? view.getUint16(IPV4.identification) : 0,
    sourcePort: quoted >= TCP.sourcePort + 2 ? view.getUint16(at + TCP.sourcePort) : -1,
    destinationPort: quoted >= TCP.destinationPort + 2 ? view.getUint16(at + TCP.destinationPort) : -1,
    seq: quoted >= TCP.seq + 4 ? view.getUint32(at + TCP.seq) : -1,
    window: quoted >= TCP.window + 2 ? view.getUint16(at + TCP.window) : -1,
    extensions,
    labels: mplsLabels(extensions),
  };
}

/** Whether a quote is of a TCP packet. */
export function quotesTcp(quote: Quote): boolean {
  return quote.protocol === PROTOCOL.tcp;
}
