/** Boxes that cut and join segments (segmentation offload, normalisers; RFC 8684 §6). */
import { FLAG, tcpOptionLength } from '@subflow/wire';
import type { PacketFilter } from '../link.ts';
import { isMptcp, rebuilt, tcpOf, withoutOptions } from './box.ts';
import type { MiddleboxFactory, TcpPacket } from './box.ts';

/** Cuts segments with more than `size` bytes of payload; options on every piece, or on the first only. */
export function splitSegments(size: number, options: 'all' | 'first'): MiddleboxFactory {
  const filter: PacketFilter = (bytes) => {
    const packet = tcpOf(bytes);
    if (packet === null || packet.payload.length <= size || (packet.tcp.flags & FLAG.syn) !== 0) return bytes;
    const out: Uint8Array[] = [];
    for (let at = 0; at < packet.payload.length; at += size) {
      const last = at + size >= packet.payload.length;
      const tcp = { ...packet.tcp, seq: (packet.tcp.seq + at) >>> 0, flags: last ? packet.tcp.flags : packet.tcp.flags & ~(FLAG.fin | FLAG.psh) };
      if (at > 0 && options === 'first') tcp.options = withoutOptions(tcp.options, isMptcp, tcpOptionLength);
      out.push(rebuilt({ ...packet, tcp, payload: packet.payload.subarray(at, at + size) }));
    }
    return out;
  };
  return () => ({ name: `split segments at ${size} bytes, options on ${options === 'all' ? 'all' : 'the first'}`, forward: filter, backward: filter });
}

/** How long a segment waits for the one that continues it, microseconds. */
const COALESCE_WAIT = 2_000;

/** Joins two segments that follow each other; the options of the second are lost. */
export function coalesceSegments(limit: number): MiddleboxFactory {
  return ({ agenda, emit }) => {
    const direction = (name: 'forward' | 'backward'): PacketFilter => {
      let held: TcpPacket | null = null;
      let serial = 0;
      const release = (): Uint8Array[] => {
        const out = held === null ? [] : [rebuilt(held)];
        held = null;
        serial++;
        return out;
      };
      return (bytes, now) => {
        const packet = tcpOf(bytes);
        if (packet === null) return bytes;
        const plain = packet.payload.length > 0 && (packet.tcp.flags & (FLAG.syn | FLAG.fin | FLAG.rst)) === 0;
        if (held !== null && plain && follows(held, packet) && held.payload.length + packet.payload.length <= limit) {
          const payload = new Uint8Array(held.payload.length + packet.payload.length);
          payload.set(held.payload);
          payload.set(packet.payload, held.payload.length);
          held.payload = payload;
          held.tcp = { ...held.tcp, ack: packet.tcp.ack, flags: held.tcp.flags | packet.tcp.flags, window: packet.tcp.window };
          return release();
        }
        const out = release();
        if (!plain) return [...out, bytes];
        held = packet;
        const mine = serial;
        agenda.at(now + COALESCE_WAIT, () => {
          if (serial === mine) for (const one of release()) emit(name, one);
        });
        return out.length === 0 ? null : out;
      };
    };
    return { name: `coalesce segments up to ${limit} bytes`, forward: direction('forward'), backward: direction('backward') };
  };
}

function follows(first: TcpPacket, second: TcpPacket): boolean {
  return (
    first.tcp.sourcePort === second.tcp.sourcePort &&
    first.tcp.destinationPort === second.tcp.destinationPort &&
    ((first.tcp.seq + first.payload.length) | 0) === (second.tcp.seq | 0)
  );
}

/** Drops segments that leave a hole in the sequence space, as some normalisers do; the sender has to go back. */
export function dropHoles(): MiddleboxFactory {
  const direction = (): PacketFilter => {
    const next = new Map<string, number>();
    return (bytes) => {
      const packet = tcpOf(bytes);
      if (packet === null) return bytes;
      const { tcp, payload } = packet;
      const key = `${tcp.sourcePort}:${tcp.destinationPort}`;
      const length = payload.length + ((tcp.flags & (FLAG.syn | FLAG.fin)) !== 0 ? 1 : 0);
      if ((tcp.flags & FLAG.syn) !== 0) {
        next.set(key, (tcp.seq + length) | 0);
        return bytes;
      }
      const expected = next.get(key);
      if (expected === undefined || length === 0) return bytes;
      if (((tcp.seq - expected) | 0) > 0) return null;
      const end = (tcp.seq + length) | 0;
      if (((end - expected) | 0) > 0) next.set(key, end);
      return bytes;
    };
  };
  return () => ({ name: 'drop segments that leave a hole', forward: direction(), backward: direction() });
}
