/** IP fragments put together again (RFC 791 §3.2, RFC 8200 §4.5), in bounded memory. */
import { IPV4, IPV4_FRAGMENT, ipv4Checksum, IPV6, IPV6_HEADER } from '@subflow/wire';
import type { Layers } from '@subflow/wire';

const MOST_PACKETS = 256;
const MOST_BYTES = 65_535;
/** Linux waits 30 seconds (ipfrag_time). */
const PATIENCE = 30e6;

interface Incomplete {
  time: number;
  bytes: Uint8Array;
  /** Ends of what has come in, by start: pieces that overlap are not put together (RFC 5722). */
  pieces: Map<number, number>;
  have: number;
  total: number;
  header: Uint8Array;
}

export class Fragments {
  reassembled = 0;
  lost = 0;
  private readonly packets: Map<string, Incomplete> = new Map();

  /** Takes a fragment; returns the whole IP packet when this was the last piece. */
  add(layers: Layers, time: number): Uint8Array | null {
    const s = layers.segment;
    const start = s.fragmentOffset;
    const length = s.endOffset - s.tcpOffset;
    if (layers.captured < s.endOffset || start + length > MOST_BYTES || length === 0) {
      this.lost++;
      return null;
    }
    const key = `${s.source0},${s.source1},${s.source2},${s.source3},${s.destination0},${s.destination1},${s.destination2},${s.destination3},${s.identification},${s.protocol},${s.ipVersion}`;
    let packet = this.packets.get(key);
    if (packet === undefined) {
      if (this.packets.size >= MOST_PACKETS) this.drop(this.packets.keys().next().value!);
      packet = { time, bytes: new Uint8Array(2048), pieces: new Map(), have: 0, total: -1, header: new Uint8Array(0) };
      this.packets.set(key, packet);
    }
    if (start + length > packet.bytes.length) {
      const larger = new Uint8Array(Math.min(MOST_BYTES, Math.max(packet.bytes.length * 2, start + length)));
      larger.set(packet.bytes);
      packet.bytes = larger;
    }
    if (!packet.pieces.has(start)) {
      packet.pieces.set(start, start + length);
      packet.bytes.set(s.bytes.subarray(s.tcpOffset, s.endOffset), start);
      packet.have += length;
    }
    if (start === 0) packet.header = s.bytes.slice(s.ipOffset, s.ipVersion === 4 ? s.tcpOffset : s.ipOffset + IPV6_HEADER);
    if (!s.moreFragments) packet.total = start + length;
    if (packet.total < 0 || packet.have < packet.total || packet.header.length === 0) return null;
    this.packets.delete(key);
    if (!contiguous(packet)) {
      this.lost++;
      return null;
    }
    this.reassembled++;
    return whole(packet, s.ipVersion, s.protocol);
  }

  sweep(time: number): void {
    for (const [key, packet] of this.packets) if (time - packet.time > PATIENCE) this.drop(key);
  }

  private drop(key: string): void {
    this.packets.delete(key);
    this.lost++;
  }
}

function contiguous(packet: Incomplete): boolean {
  let at = 0;
  while (at < packet.total) {
    const end = packet.pieces.get(at);
    if (end === undefined) return false;
    at = end;
  }
  return at === packet.total;
}

function whole(packet: Incomplete, version: number, protocol: number): Uint8Array {
  const { header, total } = packet;
  const out = new Uint8Array(header.length + total);
  out.set(header);
  out.set(packet.bytes.subarray(0, total), header.length);
  const view = new DataView(out.buffer);
  if (version === 4) {
    view.setUint16(IPV4.totalLength, Math.min(0xffff, out.length));
    view.setUint16(IPV4.fragment, view.getUint16(IPV4.fragment) & IPV4_FRAGMENT.dontFragment);
    view.setUint16(IPV4.checksum, ipv4Checksum(out, 0, header.length));
  } else {
    view.setUint16(IPV6.payloadLength, total);
    view.setUint8(IPV6.nextHeader, protocol);
  }
  return out;
}
