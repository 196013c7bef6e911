/** What every packet of a connection looked like at one end: to be compared with the other end. */
import { FLAG, FRAME, mptcpSubtype, OPTION, optionLengthAt, TCP } from '@subflow/wire';
import type { Analyzer } from './analyzer.ts';
import type { Connection, Subflow } from './connection.ts';

/** Packets remembered per capture; what comes after is counted. */
const MOST_PACKETS = 4_000_000;

/** Option kinds and lengths, as text; the values do not matter. */
export interface SynFacts {
  source: string;
  destination: string;
  options: string;
  mss: number;
  windowScale: number;
}

/** One direction of a subflow at one end. */
export class HalfPrints {
  /** Time of each packet by what identifies it, in order of appearance. */
  readonly packets: Map<string, number[]> = new Map();
  /** Payload bytes by position, each once: to see what was cut or joined on the way. */
  dataPackets = 0;
  ttls: Set<number> = new Set();
  trafficClasses: Set<number> = new Set();
  /** First SYN. */
  syn: SynFacts | null = null;
  isn = 0;
  mptcpOptions = 0;
  /** Packets with payload that carried a Multipath TCP option. */
  dataWithOption = 0;
}

export class Fingerprints {
  readonly subflows: Map<Subflow, [HalfPrints, HalfPrints]> = new Map();
  readonly connections: Connection[] = [];
  packets = 0;
  beyond = 0;

  /** Takes the packet that the analyzer has just taken. */
  take(analyzer: Analyzer): void {
    const { subflow, side, layers } = analyzer;
    if (subflow === null || analyzer.held !== FRAME.tcp) return;
    if (this.packets >= MOST_PACKETS) {
      this.beyond++;
      return;
    }
    this.packets++;
    let prints = this.subflows.get(subflow);
    if (prints === undefined) {
      prints = [new HalfPrints(), new HalfPrints()];
      this.subflows.set(subflow, prints);
    }
    const half = prints[side];
    const s = layers.segment;
    // Relative to the first sequence numbers: boxes that rewrite them do not hide a packet.
    const key = `${s.flags & 0x3f}:${analyzer.position}:${s.payloadLength}:${analyzer.ackPosition}:${s.hasTimestamps ? s.tsVal : s.window}`;
    const times = half.packets.get(key);
    if (times === undefined) half.packets.set(key, [analyzer.time]);
    else times.push(analyzer.time);
    half.ttls.add(s.ttl);
    half.trafficClasses.add(s.trafficClass);
    const option = s.hasDss || s.otherMptcpCount > 0;
    if (option) half.mptcpOptions++;
    if (s.payloadLength > 0) {
      half.dataPackets++;
      if (option) half.dataWithOption++;
    }
    if ((s.flags & FLAG.syn) !== 0 && half.syn === null) {
      half.isn = s.seq;
      half.syn = {
        source: side === 0 ? subflow.sourceText : subflow.destinationText,
        destination: side === 0 ? subflow.destinationText : subflow.sourceText,
        options: optionKinds(layers.view, s.tcpOffset + TCP.options, Math.min(s.payloadOffset, layers.captured)),
        mss: s.mss,
        windowScale: s.windowScale,
      };
    }
  }
}

function optionKinds(view: DataView, from: number, end: number): string {
  const out: string[] = [];
  let size: number;
  for (let at = from; (size = optionLengthAt(view, at, end)) > 0; at += size) {
    const kind = view.getUint8(at);
    if (kind !== OPTION.nop) out.push(kind === OPTION.mptcp && size > 2 ? `${kind}.${mptcpSubtype(view, at)}` : String(kind));
  }
  return out.join(' ');
}
