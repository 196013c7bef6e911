/**
 * What happens on the paths, read off the packets where they enter and leave the links: data sequence numbers over time,
 * bytes per path, what was retransmitted on the same path and what was reinjected on another. It needs no help from
 * either end, so it tells the same about the kernel as about our stack.
 */
import { DSS_FLAG, FLAG, isMalformed, PARSED, parseMptcpOption, parsePacket, Segment } from '@subflow/wire';

/** One payload segment on a path. */
export interface Sighting {
  /** Seconds from the start of the transfer. */
  time: number;
  path: number;
  /** Data position of the first byte, from 1. */
  position: number;
  length: number;
  kind: 'new' | 'retransmission' | 'reinjection';
}

interface Tracked {
  initial: number;
  ssn: number;
  dataPosition: number;
  mappedEnd: number;
}

export class WireRecorder {
  readonly sightings: Sighting[] = [];
  readonly enteredBytes: number[] = [];
  readonly deliveredBytes: number[] = [];
  reinjectedBytes = 0;
  retransmittedBytes = 0;
  private readonly segment = new Segment();
  private readonly subflows = new Map<string, Tracked>();
  /** First data sequence number seen (low half); positions count from it. */
  private firstDsn: number | null = null;
  private highest = 0;
  /** For each block of 256 bytes of the stream: one more than the path that carried it last. */
  private readonly carriers: Uint8Array;
  private start = 0;

  constructor(size: number, paths: number) {
    this.carriers = new Uint8Array(Math.ceil(size / BLOCK) + 64);
    for (let i = 0; i < paths; i++) {
      this.enteredBytes.push(0);
      this.deliveredBytes.push(0);
    }
  }

  begin(time: number): void {
    this.start = time;
  }

  /** A packet of the payload's direction enters or leaves a path. */
  see(packet: Uint8Array, time: number, path: number, point: 'enter' | 'leave'): void {
    const { segment } = this;
    if (parsePacket(new DataView(packet.buffer, packet.byteOffset, packet.byteLength), packet, 0, packet.length, false, segment) !== PARSED.tcp) return;
    const key = `${segment.source0}/${segment.source3}/${segment.destination0}/${segment.destination3}/${segment.sourcePort}/${segment.destinationPort}`;
    if ((segment.flags & FLAG.syn) !== 0) {
      this.subflows.set(key, { initial: segment.seq, ssn: 0, dataPosition: 0, mappedEnd: 0 });
      return;
    }
    if (segment.payloadLength === 0) return;
    if (point === 'leave') {
      this.deliveredBytes[path]! += segment.payloadLength;
      return;
    }
    this.enteredBytes[path]! += segment.payloadLength;
    const subflow = this.subflows.get(key);
    if (subflow === undefined) return;
    const relative = (segment.seq - subflow.initial) >>> 0;
    this.learnMapping(subflow, relative);
    if (relative < subflow.ssn || relative >= subflow.mappedEnd) return;
    this.note(time, path, subflow.dataPosition + (relative - subflow.ssn), segment.payloadLength);
  }

  private learnMapping(subflow: Tracked, relative: number): void {
    const { segment } = this;
    if (segment.hasDss && (segment.dssFlags & DSS_FLAG.mapping) !== 0 && segment.dataLength > 0) {
      this.firstDsn ??= (segment.dsnLow - (relative === 1 ? 1 : 0)) | 0;
      subflow.ssn = segment.ssn >>> 0;
      subflow.dataPosition = this.highest + ((segment.dsnLow - ((this.firstDsn + this.highest) | 0)) | 0);
      subflow.mappedEnd = subflow.ssn + segment.dataLength;
      return;
    }
    for (let i = 0; i < segment.otherMptcpCount; i++) {
      const at = segment.otherMptcp[i]!;
      const option = parseMptcpOption(segment.view, at, segment.view.getUint8(at + 1));
      if (isMalformed(option) || option.subtype !== 'capable' || option.dataLength === null) continue;
      subflow.ssn = 1;
      subflow.dataPosition = 1;
      subflow.mappedEnd = 1 + option.dataLength;
    }
  }

  private note(time: number, path: number, position: number, length: number): void {
    const block = Math.floor(position / BLOCK);
    const last = Math.floor((position + length - 1) / BLOCK);
    // The block in the middle belongs to this segment alone; those at its ends may be shared with neighbours.
    const before = this.carriers[Math.min((block + last) >>> 1, this.carriers.length - 1)]!;
    const kind = position + length <= this.highest && before !== 0 ? (before === path + 1 ? 'retransmission' : 'reinjection') : 'new';
    if (kind === 'reinjection') this.reinjectedBytes += length;
    if (kind === 'retransmission') this.retransmittedBytes += length;
    for (let i = block; i <= last && i < this.carriers.length; i++) this.carriers[i] = path + 1;
    if (position + length > this.highest) this.highest = position + length;
    this.sightings.push({ time: (time - this.start) / 1e6, path, position, length, kind });
  }
}

const BLOCK = 256;
