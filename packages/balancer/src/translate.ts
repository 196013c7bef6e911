/** Network address translation, stateless: a server's address for the service's and back, checksums changed by the difference (RFC 1624). */
import {
  finish,
  ICMP,
  ICMP_CHECKSUM,
  ICMP_HEADER,
  ICMPV6_FIRST_INFORMATIONAL,
  ipAddressOffset,
  ipLayout,
  IPV4,
  ipv4Checksum,
  IPV4_MIN_HEADER,
  IPV6_HEADER,
  PROTOCOL,
  pseudoHeader,
  setIpv4Word,
  sum,
  TCP,
  updateChecksum,
  viewOf,
} from '@subflow/wire';

export interface End {
  address: Uint8Array;
  port: number;
}

type Side = 'source' | 'destination';

/** Octets of a quoted transport header without which nothing can be translated: ports and sequence number (RFC 792). */
const LEAST_QUOTED = 8;

/**
 * Writes another end into a TCP packet, in place. Returns whether it could: a packet of the other family, or one that is cut,
 * stays as it is. Later fragments have no ports; their first one's checksum knows of the addresses.
 */
export function rewriteEnd(packet: Uint8Array, side: Side, end: End): boolean {
  const layout = ipLayout(packet);
  if (layout === null || (layout.ipVersion === 4) !== (end.address.length === 4) || layout.protocol !== PROTOCOL.tcp) return false;
  const view = viewOf(packet);
  const transport = layout.tcpOffset;
  const later = layout.fragmentOffset !== 0;
  const at = ipAddressOffset(packet, side);
  const room = packet.length - transport;
  const checksumAt = !later && room >= TCP.checksum + 2 ? transport + TCP.checksum : -1;
  for (let i = 0; i < end.address.length; i += 2) {
    const before = view.getUint16(at + i);
    const after = (end.address[i]! << 8) | end.address[i + 1]!;
    if (before === after) continue;
    if (layout.ipVersion === 4) setIpv4Word(packet, at + i, after);
    else view.setUint16(at + i, after);
    if (checksumAt >= 0) view.setUint16(checksumAt, updateChecksum(view.getUint16(checksumAt), before, after));
  }
  if (later || room < 4) return true;
  const portAt = transport + (side === 'source' ? TCP.sourcePort : TCP.destinationPort);
  const before = view.getUint16(portAt);
  view.setUint16(portAt, end.port);
  if (checksumAt >= 0) view.setUint16(checksumAt, updateChecksum(view.getUint16(checksumAt), before, end.port));
  return true;
}

/**
 * An ICMP error: its own end, and the end in the packet that it quotes (RFC 5508 §4.2): what the receiver sent must look as it
 * sent it. `side` is that of the outer packet; in the quote it is the other one.
 */
export function rewriteError(packet: Uint8Array, side: Side, end: End): boolean {
  const layout = ipLayout(packet);
  if (layout === null || (layout.ipVersion === 4) !== (end.address.length === 4)) return false;
  const v4 = layout.ipVersion === 4;
  const transport = layout.tcpOffset;
  const inner = transport + ICMP_HEADER;
  if (layout.protocol !== (v4 ? PROTOCOL.icmp : PROTOCOL.icmpv6)) return false;
  if (packet.length < inner + (v4 ? IPV4_MIN_HEADER : IPV6_HEADER) + LEAST_QUOTED) return false;
  const type = packet[transport]!;
  if (v4 ? type !== ICMP.unreachable && type !== ICMP.timeExceeded && type !== ICMP.parameterProblem : type >= ICMPV6_FIRST_INFORMATIONAL) return false;
  if (!rewriteEnd(packet.subarray(inner), side === 'source' ? 'destination' : 'source', end)) return false;
  packet.set(end.address, ipAddressOffset(packet, side));
  const view = viewOf(packet);
  if (v4) view.setUint16(IPV4.checksum, ipv4Checksum(packet, 0, transport));
  view.setUint16(transport + ICMP_CHECKSUM, 0);
  const length = packet.length - transport;
  const initial = v4 ? 0 : pseudoHeader(packet, 0, PROTOCOL.icmpv6, length);
  view.setUint16(transport + ICMP_CHECKSUM, finish(sum(packet, transport, length, initial)));
  return true;
}
