/** Network address translation, stateless: a server's address for the service's and back, checksums changed by the difference (RFC 1624). */
import { finish, ICMP, PROTOCOL, sum, updateChecksum } from '@subflow/wire';

export interface End {
  address: Uint8Array;
  port: number;
}

type Side = 'source' | 'destination';

const TCP_CHECKSUM = 16;

/**
 * Writes another end into a TCP packet, in place. Returns whether it could: a packet of the other family, or one that is cut,
 * stays as it is. Later fragments have no ports; their first one's checksum knows of the addresses.
 */
export function rewriteEnd(packet: Uint8Array, side: Side, end: End): boolean {
  const place = locate(packet);
  if (place === null || place.v4 !== (end.address.length === 4) || place.protocol !== PROTOCOL.tcp) return false;
  const view = new DataView(packet.buffer, packet.byteOffset, packet.length);
  const { v4, transport, later } = place;
  const at = v4 ? (side === 'source' ? 12 : 16) : side === 'source' ? 8 : 24;
  const room = packet.length - transport;
  const checksumAt = !later && room >= TCP_CHECKSUM + 2 ? transport + TCP_CHECKSUM : -1;
  for (let i = 0; i < end.address.length; i += 2) {
    const before = view.getUint16(at + i);
    const after = (end.address[i]! << 8) | end.address[i + 1]!;
    if (before === after) continue;
    view.setUint16(at + i, after);
    if (v4) view.setUint16(10, updateChecksum(view.getUint16(10), before, after));
    if (checksumAt >= 0) view.setUint16(checksumAt, updateChecksum(view.getUint16(checksumAt), before, after));
  }
  if (later || room < 4) return true;
  const portAt = transport + (side === 'source' ? 0 : 2);
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
  const place = locate(packet);
  if (place === null || place.v4 !== (end.address.length === 4)) return false;
  const { v4, transport, protocol } = place;
  if (protocol !== (v4 ? PROTOCOL.icmp : PROTOCOL.icmpv6) || packet.length < transport + 8 + (v4 ? 28 : 48)) return false;
  const type = packet[transport]!;
  if (v4 ? type !== ICMP.unreachable && type !== ICMP.timeExceeded && type !== ICMP.parameterProblem : type >= 128) return false;
  if (!rewriteEnd(packet.subarray(transport + 8), side === 'source' ? 'destination' : 'source', end)) return false;
  packet.set(end.address, v4 ? (side === 'source' ? 12 : 16) : side === 'source' ? 8 : 24);
  const view = new DataView(packet.buffer, packet.byteOffset, packet.length);
  if (v4) {
    view.setUint16(10, 0);
    view.setUint16(10, finish(sum(packet, 0, transport)));
  }
  view.setUint16(transport + 2, 0);
  const length = packet.length - transport;
  const initial = v4 ? 0 : sum(packet, 8, 32) + length + PROTOCOL.icmpv6;
  view.setUint16(transport + 2, finish(sum(packet, transport, length, initial)));
  return true;
}

/** Where the transport header is. */
function locate(packet: Uint8Array): { v4: boolean; transport: number; protocol: number; later: boolean } | null {
  const version = packet.length < 20 ? 0 : packet[0]! >>> 4;
  if (version === 4) {
    const transport = (packet[0]! & 15) * 4;
    if (transport < 20 || packet.length < transport) return null;
    return { v4: true, transport, protocol: packet[9]!, later: (((packet[6]! << 8) | packet[7]!) & 0x1fff) !== 0 };
  }
  if (version !== 6 || packet.length < 40) return null;
  let protocol = packet[6]!;
  let at = 40;
  let later = false;
  for (let turns = 0; turns < 8 && (protocol === 0 || protocol === 43 || protocol === 60 || protocol === 44); turns++) {
    if (at + 8 > packet.length) return null;
    const length = protocol === 44 ? 8 : 8 * (1 + packet[at + 1]!);
    if (protocol === 44) later = (((packet[at + 2]! << 8) | packet[at + 3]!) & 0xfff8) !== 0;
    protocol = packet[at]!;
    at += length;
  }
  return at > packet.length ? null : { v4: false, transport: at, protocol, later };
}
