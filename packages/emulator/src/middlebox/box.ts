/** What a middlebox is: it sees the packets of both directions of a link, and may change, drop, multiply or invent them. */
import { buildPacket, isMalformed, parsePacketValue } from '@subflow/wire';
import type { Packet, TcpHeader, TcpOption } from '@subflow/wire';
import type { Agenda } from '../agenda.ts';
import type { LinkDirection, PacketFilter } from '../link.ts';

/** A packet with a TCP segment. */
export type TcpPacket = Packet & { tcp: TcpHeader };

/** What a box may use besides the packets themselves. `forward` is the direction away from the client. */
export interface BoxContext {
  readonly agenda: Agenda;
  /** Sends a packet of the box's own, past its own filters. */
  emit(direction: 'forward' | 'backward', packet: Uint8Array): void;
}

export interface Middlebox {
  readonly name: string;
  readonly forward?: PacketFilter;
  readonly backward?: PacketFilter;
}

/** Makes a box once it is known where it stands. */
export type MiddleboxFactory = (context: BoxContext) => Middlebox;

/** Puts a box on a link, behind those that are there: it sees what they let through. */
export function attachMiddlebox(factory: MiddleboxFactory, agenda: Agenda, forward: LinkDirection, backward: LinkDirection): Middlebox {
  const box = factory({ agenda, emit: (direction, packet) => (direction === 'forward' ? forward : backward).inject(packet, agenda.now) });
  if (box.forward !== undefined) forward.filter = chain(forward.filter, box.forward);
  if (box.backward !== undefined) backward.filter = chain(backward.filter, box.backward);
  return box;
}

function chain(first: PacketFilter | null, second: PacketFilter): PacketFilter {
  if (first === null) return second;
  return (packet, now) => {
    const result = first(packet, now);
    if (result === null) return null;
    const out: Uint8Array[] = [];
    for (const piece of result instanceof Uint8Array ? [result] : result) {
      const passed = second(piece, now);
      if (passed instanceof Uint8Array) out.push(passed);
      else if (passed !== null) out.push(...passed);
    }
    return out.length === 0 ? null : out;
  };
}

/** The TCP segment in a packet, or null. */
export function tcpOf(packet: Uint8Array): TcpPacket | null {
  const parsed = parsePacketValue(packet);
  return isMalformed(parsed) || parsed.tcp === null ? null : (parsed as TcpPacket);
}

/** The packet again after its header or payload was changed, with right lengths and checksums. */
export function rebuilt(packet: TcpPacket): Uint8Array {
  return buildPacket(packet.ip, { tcp: packet.tcp, payload: packet.payload });
}

export function isMptcp(option: TcpOption): boolean {
  return option.kind === 'mptcp';
}

/** The options without some, padded with NOPs where they stood. */
export function withoutOptions(options: readonly TcpOption[], drop: (option: TcpOption) => boolean, lengthOf: (option: TcpOption) => number): TcpOption[] {
  return options.flatMap((option) => (drop(option) ? Array.from({ length: lengthOf(option) }, (): TcpOption => ({ kind: 'nop' })) : [option]));
}
