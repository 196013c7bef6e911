/** Echo requests are the system's work on its own addresses; ports with addresses of their own answer them here. */
import { buildPacket, ipHeader, isMalformed, parsePacketValue, sameAddress } from '@subflow/wire';
import type { IpAddress } from '@subflow/wire';

/** The reply to an echo request to one of `addresses` (RFC 792, RFC 4443 §4.2); null for everything else. */
export function echoReply(bytes: Uint8Array, addresses: readonly IpAddress[]): Uint8Array | null {
  const packet = parsePacketValue(bytes);
  if (isMalformed(packet) || packet.icmp?.kind !== 'echo' || packet.icmp.reply) return null;
  if (!addresses.some((own) => sameAddress(own, packet.ip.destination))) return null;
  return buildPacket(ipHeader(packet.ip.destination, packet.ip.source, packet.ip.protocol), { icmp: { ...packet.icmp, reply: true } });
}
