/** Boxes that translate sequence numbers, and payload with or without change of length. */
import { FLAG } from '@subflow/wire';
import type { TcpOption } from '@subflow/wire';
import { rebuilt, tcpOf } from './box.ts';
import type { MiddleboxFactory, TcpPacket } from './box.ts';

/** Firewalls that make initial sequence numbers random: all numbers of one direction are shifted, SACK blocks included. */
export function rewriteSequence(offset: number): MiddleboxFactory {
  return () => ({
    name: 'rewrite sequence numbers',
    forward: (bytes) => {
      const packet = tcpOf(bytes);
      if (packet === null) return bytes;
      packet.tcp.seq = (packet.tcp.seq + offset) >>> 0;
      return rebuilt(packet);
    },
    backward: (bytes) => {
      const packet = tcpOf(bytes);
      if (packet === null) return bytes;
      if ((packet.tcp.flags & FLAG.ack) !== 0) packet.tcp.ack = (packet.tcp.ack - offset) >>> 0;
      packet.tcp.options = packet.tcp.options.map((option) => shiftedSack(option, (edge) => (edge - offset) >>> 0));
      return rebuilt(packet);
    },
  });
}

/** Changes one byte of the payload now and then, length kept: `every` n-th segment with data, forward. */
export function rewritePayload(every: number): MiddleboxFactory {
  return () => {
    let count = 0;
    return {
      name: `rewrite a byte of every ${every}th segment`,
      forward: (bytes) => {
        const packet = tcpOf(bytes);
        if (packet === null || packet.payload.length < 4 || ++count % every !== 0) return bytes;
        packet.payload = packet.payload.slice();
        packet.payload[2] = packet.payload[2]! ^ 0x20;
        return rebuilt(packet);
      },
    };
  };
}

/**
 * An application-level gateway: inserts (or with a negative number removes) bytes once in each connection, at the
 * `after`-th byte the client sends, and translates sequence numbers from there on.
 */
export function resizePayload(change: number, after: number): MiddleboxFactory {
  return () => {
    const connections = new Map<string, number>();
    const keyOf = (packet: TcpPacket, forward: boolean): string =>
      forward ? `${packet.tcp.sourcePort}>${packet.tcp.destinationPort}` : `${packet.tcp.destinationPort}>${packet.tcp.sourcePort}`;
    return {
      name: change > 0 ? `insert ${change} bytes` : `remove ${-change} bytes`,
      forward: (bytes) => {
        const packet = tcpOf(bytes);
        if (packet === null) return bytes;
        const { tcp } = packet;
        const key = keyOf(packet, true);
        if ((tcp.flags & FLAG.syn) !== 0) {
          connections.set(key, (tcp.seq + 1 + after) | 0);
          return bytes;
        }
        const place = connections.get(key);
        if (place === undefined) return bytes;
        const start = (tcp.seq - place) | 0;
        const end = start + packet.payload.length;
        if (start > 0) {
          // Behind the place: bytes that were removed are skipped, the rest moves.
          const skip = change < 0 ? Math.max(0, Math.min(packet.payload.length, -change - start)) : 0;
          packet.payload = packet.payload.subarray(skip);
          tcp.seq = (place + Math.max(start + skip + change, 0)) >>> 0;
          return rebuilt(packet);
        }
        if (end <= 0) return bytes;
        const before = packet.payload.subarray(0, -start);
        const rest = packet.payload.subarray(-start);
        const inserted = change > 0 ? new Uint8Array(change).fill(0x2a) : new Uint8Array(0);
        const kept = change > 0 ? rest : rest.subarray(Math.min(rest.length, -change));
        packet.payload = new Uint8Array(before.length + inserted.length + kept.length);
        packet.payload.set(before);
        packet.payload.set(inserted, before.length);
        packet.payload.set(kept, before.length + inserted.length);
        return rebuilt(packet);
      },
      backward: (bytes) => {
        const packet = tcpOf(bytes);
        const place = packet === null ? undefined : connections.get(keyOf(packet, false));
        if (packet === null || place === undefined || (packet.tcp.flags & FLAG.ack) === 0) return bytes;
        const back = (number: number): number => {
          const beyond = (number - place) | 0;
          if (beyond <= 0) return number;
          return (place + Math.max(0, beyond - change)) >>> 0;
        };
        packet.tcp.ack = back(packet.tcp.ack);
        packet.tcp.options = packet.tcp.options.map((option) => shiftedSack(option, back));
        return rebuilt(packet);
      },
    };
  };
}

function shiftedSack(option: TcpOption, shift: (edge: number) => number): TcpOption {
  return option.kind === 'sack' ? { kind: 'sack', blocks: option.blocks.map(([left, right]) => [shift(left), shift(right)]) } : option;
}
