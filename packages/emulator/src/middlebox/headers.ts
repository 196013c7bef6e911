/** Boxes that touch header fields of IP and TCP, or single options (Honda et al., IMC 2011; Detal et al., IMC 2013). */
import { ECN, FLAG, tcpOptionLength } from '@subflow/wire';
import type { IpHeader, MptcpOption, TcpOption } from '@subflow/wire';
import type { PacketFilter } from '../link.ts';
import { rebuilt, tcpOf, withoutOptions } from './box.ts';
import type { MiddleboxFactory, TcpPacket } from './box.ts';

export type Direction = 'forward' | 'backward' | 'both';

/** A box that changes TCP packets; `edit` returns whether it changed one. */
export function editSegments(name: string, direction: Direction, edit: (packet: TcpPacket) => boolean): MiddleboxFactory {
  const filter: PacketFilter = (bytes) => {
    const packet = tcpOf(bytes);
    return packet !== null && edit(packet) ? rebuilt(packet) : bytes;
  };
  return () => ({
    name: `${name}, ${direction}`,
    ...(direction === 'backward' ? {} : { forward: filter }),
    ...(direction === 'forward' ? {} : { backward: filter }),
  });
}

/** A box that changes IP headers of whatever they carry. */
function editIp(name: string, direction: Direction, edit: (ip: IpHeader) => void): MiddleboxFactory {
  return editSegments(name, direction, (packet) => {
    edit(packet.ip);
    return true;
  });
}

/** Sets the differentiated services code point (RFC 2474), 0 to 63. */
export function rewriteDscp(value: number, direction: Direction): MiddleboxFactory {
  return editIp(`set DSCP ${value}`, direction, (ip) => (ip.trafficClass = (value << 2) | (ip.trafficClass & ECN.mask)));
}

/** Sets the ECN field (RFC 3168 §5): 0 takes the mark of an ECN-capable transport away, 3 says there is congestion. */
export function rewriteEcn(value: number, direction: Direction): MiddleboxFactory {
  return editIp(`set ECN ${value}`, direction, (ip) => (ip.trafficClass = (ip.trafficClass & ~ECN.mask) | value));
}

/** Sets TTL or hop limit anew, as normalisers do that hide the network behind them. */
export function rewriteTtl(value: number, direction: Direction): MiddleboxFactory {
  return editIp(`set TTL ${value}`, direction, (ip) => {
    if (ip.version === 4) ip.ttl = value;
    else ip.hopLimit = value;
  });
}

/** Numbers IPv4 packets of its own (RFC 6864 allows that when DF is set). */
export function rewriteIdentification(direction: Direction): MiddleboxFactory {
  return () => {
    let next = 1;
    const filter: PacketFilter = (bytes) => {
      const packet = tcpOf(bytes);
      if (packet === null || packet.ip.version === 6) return bytes;
      packet.ip.identification = next = (next * 31 + 7) & 0xffff;
      return rebuilt(packet);
    };
    return {
      name: `rewrite IP identification, ${direction}`,
      ...(direction === 'backward' ? {} : { forward: filter }),
      ...(direction === 'forward' ? {} : { backward: filter }),
    };
  };
}

/** Clears Don't Fragment. */
export function clearDontFragment(direction: Direction): MiddleboxFactory {
  return editIp("clear don't fragment", direction, (ip) => {
    if (ip.version === 4) ip.dontFragment = false;
  });
}

/** Clamps the MSS option to a path's MTU. */
export function clampMss(limit: number, direction: Direction): MiddleboxFactory {
  return editSegments(`clamp MSS to ${limit}`, direction, ({ tcp }) => {
    const option = tcp.options.find((one) => one.kind === 'mss');
    if (option === undefined || option.value <= limit) return false;
    option.value = limit;
    return true;
  });
}

/** Lowers the advertised window. */
export function clampWindow(limit: number, direction: Direction): MiddleboxFactory {
  return editSegments(`clamp window to ${limit}`, direction, ({ tcp }) => {
    if (tcp.window <= limit) return false;
    tcp.window = limit;
    return true;
  });
}

/** Clears TCP flags. */
export function clearFlags(mask: number, direction: Direction): MiddleboxFactory {
  return editSegments(`clear flags 0x${mask.toString(16)}`, direction, ({ tcp }) => {
    if ((tcp.flags & mask) === 0) return false;
    tcp.flags &= ~mask;
    return true;
  });
}

/** Replaces options of some kinds by NOPs. */
export function stripKinds(kinds: readonly TcpOption['kind'][], direction: Direction): MiddleboxFactory {
  return editSegments(`strip ${kinds.join(', ')}`, direction, ({ tcp }) => {
    if (!tcp.options.some((one) => kinds.includes(one.kind))) return false;
    tcp.options = withoutOptions(tcp.options, (one) => kinds.includes(one.kind), tcpOptionLength);
    return true;
  });
}

/** Replaces Multipath TCP options of some subtypes by NOPs. */
export function stripSubtypes(subtypes: readonly MptcpOption['subtype'][], direction: Direction): MiddleboxFactory {
  const chosen = (one: TcpOption): boolean => one.kind === 'mptcp' && subtypes.includes(one.option.subtype);
  return editSegments(`strip ${subtypes.join(', ')}`, direction, ({ tcp }) => {
    if (!tcp.options.some(chosen)) return false;
    tcp.options = withoutOptions(tcp.options, chosen, tcpOptionLength);
    return true;
  });
}

/** Takes Multipath TCP options out of SYNs, so that the header gets shorter. */
export function removeFromSyn(direction: Direction): MiddleboxFactory {
  return editSegments('remove Multipath TCP from SYNs', direction, ({ tcp }) => {
    if ((tcp.flags & FLAG.syn) === 0 || !tcp.options.some((one) => one.kind === 'mptcp')) return false;
    tcp.options = tcp.options.filter((one) => one.kind !== 'mptcp' && one.kind !== 'end');
    return true;
  });
}

/** Shifts timestamps of one direction, and what the other echoes back. */
export function shiftTimestamps(offset: number): MiddleboxFactory {
  const shifted = (bytes: Uint8Array, field: 'value' | 'echo', by: number): Uint8Array => {
    const packet = tcpOf(bytes);
    const option = packet?.tcp.options.find((one) => one.kind === 'timestamps');
    if (packet === null || option === undefined || (field === 'echo' && (packet.tcp.flags & FLAG.ack) === 0)) return bytes;
    option[field] = (option[field] + by) >>> 0;
    return rebuilt(packet);
  };
  return () => ({
    name: 'shift timestamps',
    forward: (bytes) => shifted(bytes, 'value', offset),
    backward: (bytes) => shifted(bytes, 'echo', -offset),
  });
}

/** Changes the sender's key in MP_CAPABLE: a proxy that speaks for one end. */
export function rewriteKeys(mask: number, direction: Direction): MiddleboxFactory {
  return editSegments('rewrite keys', direction, ({ tcp }) => {
    let changed = false;
    for (const one of tcp.options) {
      if (one.kind !== 'mptcp' || one.option.subtype !== 'capable' || one.option.senderKey === null) continue;
      one.option.senderKey = { high: (one.option.senderKey.high ^ mask) >>> 0, low: one.option.senderKey.low };
      changed = true;
    }
    return changed;
  });
}
