/** Boxes that touch TCP options: strip, drop, clear, swap, reflect (RFC 8684 §6; Honda et al., IMC 2011). */
import { FLAG, OPTION, tcpOptionLength } from '@subflow/wire';
import type { TcpOption } from '@subflow/wire';
import type { PacketFilter } from '../link.ts';
import { isMptcp, rebuilt, tcpOf, withoutOptions } from './box.ts';
import type { MiddleboxFactory, TcpPacket } from './box.ts';

/** Which segments a filter touches. */
export type Where = 'syn' | 'synack' | 'after-handshake' | 'all';

function hits(where: Where, packet: TcpPacket): boolean {
  const syn = (packet.tcp.flags & FLAG.syn) !== 0;
  const ack = (packet.tcp.flags & FLAG.ack) !== 0;
  return where === 'all' || (where === 'syn' && syn && !ack) || (where === 'synack' && syn && ack) || (where === 'after-handshake' && !syn);
}

/** Replaces Multipath TCP options by NOPs, as firewalls do, on the chosen segments. `active` may switch it on later. */
export function stripMultipath(where: Where, active: () => boolean = () => true): PacketFilter {
  return (bytes) => {
    const packet = active() ? tcpOf(bytes) : null;
    if (packet === null || !hits(where, packet) || !packet.tcp.options.some(isMptcp)) return bytes;
    packet.tcp.options = withoutOptions(packet.tcp.options, isMptcp, tcpOptionLength);
    return rebuilt(packet);
  };
}

/** Options stripped in one direction or both. */
export function stripOptions(where: Where, direction: 'forward' | 'backward' | 'both', active: () => boolean = () => true): MiddleboxFactory {
  return () => ({
    name: `strip options of ${where} segments, ${direction}`,
    ...(direction === 'backward' ? {} : { forward: stripMultipath(where, active) }),
    ...(direction === 'forward' ? {} : { backward: stripMultipath(where, active) }),
  });
}

/** Drops whole packets that carry options it does not know. */
export function dropUnknownOptions(where: Where): MiddleboxFactory {
  const filter: PacketFilter = (bytes) => {
    const packet = tcpOf(bytes);
    return packet !== null && hits(where, packet) && packet.tcp.options.some(isMptcp) ? null : bytes;
  };
  return () => ({ name: `drop ${where} segments with unknown options`, forward: filter, backward: filter });
}

/** Overwrites the content of Multipath TCP options with zeros, kind and length left. */
export function clearOptions(where: Where): MiddleboxFactory {
  const filter: PacketFilter = (bytes) => {
    const packet = tcpOf(bytes);
    if (packet === null || !hits(where, packet) || !packet.tcp.options.some(isMptcp)) return bytes;
    packet.tcp.options = packet.tcp.options.map((option) =>
      isMptcp(option) ? { kind: 'unknown', code: OPTION.mptcp, data: new Uint8Array(tcpOptionLength(option) - 2) } : option,
    );
    return rebuilt(packet);
  };
  return () => ({ name: `clear options of ${where} segments`, forward: filter, backward: filter });
}

/** Reverses the order of options: nothing may depend on it. */
export function swapOptions(): MiddleboxFactory {
  const filter: PacketFilter = (bytes) => {
    const packet = tcpOf(bytes);
    if (packet === null || packet.tcp.options.length < 2) return bytes;
    packet.tcp.options = packet.tcp.options.filter((option) => option.kind !== 'end').reverse();
    return rebuilt(packet);
  };
  return () => ({ name: 'swap options', forward: filter, backward: filter });
}

/** A server (or box in front of it) that sends back the options of the client's SYN, unknown ones too. */
export function reflectOptions(): MiddleboxFactory {
  return () => {
    let seen: TcpOption[] = [];
    return {
      name: 'reflect options',
      forward: (bytes) => {
        const packet = tcpOf(bytes);
        if (packet === null || (packet.tcp.flags & FLAG.syn) === 0) return bytes;
        seen = packet.tcp.options.filter(isMptcp);
        packet.tcp.options = withoutOptions(packet.tcp.options, isMptcp, tcpOptionLength);
        return rebuilt(packet);
      },
      backward: (bytes) => {
        const packet = tcpOf(bytes);
        if (packet === null || (packet.tcp.flags & FLAG.syn) === 0) return bytes;
        const room = 40 - packet.tcp.options.reduce((total, option) => total + tcpOptionLength(option), 0);
        if (seen.reduce((total, option) => total + tcpOptionLength(option), 0) > room) return bytes;
        packet.tcp.options = [...packet.tcp.options, ...seen];
        return rebuilt(packet);
      },
    };
  };
}
