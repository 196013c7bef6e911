/** Network address and port translation: TCP, echo requests, and the quotes of ICMP errors (RFC 5382, RFC 5508). */
import {
  buildPacket,
  ipAddressOffset,
  ipLayout,
  IPV4,
  ipv4Checksum,
  isMalformed,
  packetPorts,
  parsePacketValue,
  PROTOCOL,
  sameAddress,
  TCP,
  viewOf,
} from '@subflow/wire';
import type { IcmpEcho, IcmpError, IpHeader, Packet } from '@subflow/wire';
import { rebuilt } from './box.ts';
import type { MiddleboxFactory, TcpPacket } from './box.ts';

const FIRST_PORT = 20_000;
const MAX_MAPPINGS = 4096;

interface Mapping {
  address: Uint8Array;
  port: number;
  outsidePort: number;
  usedAt: number;
}

/**
 * Translates the client's side; a mapping that was idle for `timeout` microseconds is forgotten. The box owns its outside
 * address: it answers echo requests to it.
 */
export function translateAddresses(outside: Uint8Array, timeout: number): MiddleboxFactory {
  return ({ emit }) => {
    const byInside = new Map<string, Mapping>();
    const byOutside = new Map<number, string>();
    let nextPort = FIRST_PORT;
    /** Who sent an echo request last. */
    let pinger: Uint8Array | null = null;

    const mappingOf = (packet: TcpPacket, now: number): Mapping | null => {
      const key = `${packet.ip.source.join('.')}:${packet.tcp.sourcePort}>${packet.tcp.destinationPort}`;
      let mapping = byInside.get(key);
      if (mapping !== undefined && now - mapping.usedAt > timeout) {
        byInside.delete(key);
        byOutside.delete(mapping.outsidePort);
        mapping = undefined;
      }
      if (mapping === undefined) {
        if (byInside.size >= MAX_MAPPINGS) return null;
        mapping = { address: packet.ip.source, port: packet.tcp.sourcePort, outsidePort: nextPort, usedAt: now };
        nextPort = nextPort === 65535 ? FIRST_PORT : nextPort + 1;
        byInside.set(key, mapping);
        byOutside.set(mapping.outsidePort, key);
      }
      mapping.usedAt = now;
      return mapping;
    };

    const echoOut = (packet: Packet & { icmp: IcmpEcho }, bytes: Uint8Array): Uint8Array | null => {
      if (packet.icmp.reply) return bytes;
      if (sameAddress(packet.ip.destination, outside)) {
        const ip = between({ ...packet.ip, ...(packet.ip.version === 4 ? { ttl: 64 } : { hopLimit: 64 }) } as IpHeader, outside, packet.ip.source);
        emit('backward', buildPacket(ip, { icmp: { ...packet.icmp, reply: true } }));
        return null;
      }
      pinger = packet.ip.source;
      return buildPacket(between(packet.ip, outside, packet.ip.destination), { icmp: packet.icmp });
    };

    const errorIn = (packet: Packet & { icmp: IcmpError }): Uint8Array | null => {
      const quote = packet.icmp.quote.slice();
      const layout = ipLayout(quote);
      if (layout === null || layout.ipVersion !== packet.ip.version || quote.length < layout.tcpOffset + 4) return null;
      const view = viewOf(quote);
      let inside = pinger;
      if (layout.protocol === PROTOCOL.tcp) {
        const mapping = byInside.get(byOutside.get(packetPorts(quote)?.source ?? -1) ?? '');
        if (mapping === undefined) return null;
        inside = mapping.address;
        view.setUint16(layout.tcpOffset + TCP.sourcePort, mapping.port);
      }
      if (inside === null) return null;
      quote.set(inside, ipAddressOffset(quote, 'source'));
      if (layout.ipVersion === 4) view.setUint16(IPV4.checksum, ipv4Checksum(quote, 0, layout.tcpOffset));
      return buildPacket(between(packet.ip, packet.ip.source, inside), { icmp: { ...packet.icmp, quote } });
    };

    return {
      name: `translate addresses, timeout ${timeout / 1e6} s`,
      forward: (bytes, now) => {
        const packet = parsePacketValue(bytes);
        if (isMalformed(packet) || packet.ip.source.length !== outside.length) return bytes;
        if (packet.icmp?.kind === 'echo') return echoOut(packet as Packet & { icmp: IcmpEcho }, bytes);
        if (packet.tcp === null) return bytes;
        const mapping = mappingOf(packet as TcpPacket, now);
        if (mapping === null) return null;
        packet.ip.source = outside;
        packet.tcp.sourcePort = mapping.outsidePort;
        return rebuilt(packet as TcpPacket);
      },
      backward: (bytes, now) => {
        const packet = parsePacketValue(bytes);
        if (isMalformed(packet) || !sameAddress(packet.ip.destination, outside)) return bytes;
        if (packet.icmp?.kind === 'error') return errorIn(packet as Packet & { icmp: IcmpError });
        if (packet.icmp?.kind === 'echo') return pinger === null ? null : buildPacket(between(packet.ip, packet.ip.source, pinger), { icmp: packet.icmp });
        if (packet.tcp === null) return bytes;
        const mapping = byInside.get(byOutside.get(packet.tcp.destinationPort) ?? '');
        if (mapping === undefined || now - mapping.usedAt > timeout) return null;
        mapping.usedAt = now;
        packet.ip.destination = mapping.address;
        packet.tcp.destinationPort = mapping.port;
        return rebuilt(packet as TcpPacket);
      },
    };
  };
}

function between(ip: IpHeader, source: Uint8Array, destination: Uint8Array): IpHeader {
  return { ...ip, source, destination };
}
