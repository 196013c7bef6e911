/**
 * Captures read as they come: bytes are put in, records come out one after the other, in place. Both formats (pcap and
 * pcapng), both byte orders, any resolution; what is not complete yet waits for more bytes, so that a growing file or a
 * pipe reads like a whole one. Memory is one slab, whatever the length of the capture.
 */
import { Malformed } from './malformed.ts';
import { FILE_HEADER, MAX_FRAME, pcapFormat } from './pcap.ts';
import type { Capture, CaptureInterface, PcapFormat } from './pcap.ts';
import { BLOCK, BYTE_ORDER, eachOption, isPcapng, OPT, text } from './pcapng.ts';

const FIRST_SLAB = 1 << 20;
/** Blocks hold a frame and its options; anything longer is damage. */
const MAX_BLOCK = MAX_FRAME + 65_536;

interface Clock {
  perSecond: number;
  /** Seconds that the interface adds to each of its stamps (if_tsoffset). */
  shift: number;
  /** High word of the stamp that `seconds` and `rest` belong to; -1 before the first. */
  high: number;
  seconds: number;
  rest: number;
}

export class CaptureReader {
  format: 'pcap' | 'pcapng' | null = null;
  readonly interfaces: CaptureInterface[] = [];
  /** Where and why reading stopped early; null while all is well. */
  damage: Malformed | null = null;
  /** Records given out so far; the current one's number, from 1. */
  packets = 0;
  /** The slab; the current record lies at `offset`, for `length` bytes, until more bytes are put in. */
  bytes: Uint8Array;
  view: DataView;
  offset = 0;
  length = 0;
  originalLength = 0;
  linkType = 0;
  /** Index into `interfaces`. */
  interface = 0;
  seconds = 0;
  nanoseconds = 0;
  comment: string | null = null;

  private at = 0;
  private end = 0;
  /** Bytes of the input that have left the slab. */
  private gone = 0;
  private pcap: PcapFormat | null = null;
  private little = true;
  private firstInterface = 0;
  private readonly clocks: Clock[] = [];

  constructor(slab = FIRST_SLAB) {
    this.bytes = new Uint8Array(slab);
    this.view = new DataView(this.bytes.buffer);
  }

  /** Room for at least `size` bytes: write there, then call {@link filled}. The current record is gone with it. */
  room(size: number): Uint8Array {
    if (this.end + size > this.bytes.length) {
      const kept = this.end - this.at;
      if (kept + size > this.bytes.length) {
        const larger = new Uint8Array(Math.max(this.bytes.length * 2, kept + size));
        larger.set(this.bytes.subarray(this.at, this.end));
        this.bytes = larger;
        this.view = new DataView(larger.buffer);
      } else {
        this.bytes.copyWithin(0, this.at, this.end);
      }
      this.gone += this.at;
      this.at = 0;
      this.end = kept;
    }
    return this.bytes.subarray(this.end);
  }

  filled(count: number): void {
    this.end += count;
  }

  push(chunk: Uint8Array): void {
    this.room(chunk.length).set(chunk);
    this.end += chunk.length;
  }

  /** No more bytes will come: what is left over is damage. */
  finish(): void {
    if (this.damage !== null) return;
    if (this.format === null) this.begin(true);
    if (this.damage === null && this.at < this.end)
      this.broken('TRUNCATED', 0, `${this.end - this.at} bytes of a cut ${this.pcap === null ? 'block' : 'record'}`);
  }

  /** Goes to the next record; false when more bytes are needed, or after damage. */
  next(): boolean {
    if (this.damage !== null) return false;
    if (this.format === null && !this.begin(false)) return false;
    return this.pcap === null ? this.nextBlock() : this.nextRecord(this.pcap);
  }

  /** Bytes of the input read so far. */
  get consumed(): number {
    return this.gone + this.at;
  }

  private begin(last: boolean): boolean {
    const found = this.end - this.at;
    if (found >= 4) {
      const head = this.bytes.subarray(this.at, this.end);
      if (isPcapng(head)) {
        this.format = 'pcapng';
        return true;
      }
      const format = pcapFormat(head);
      if (format === null) return this.broken('BAD_MAGIC', 0, 'neither pcap nor pcapng: unknown magic number');
      if (found >= FILE_HEADER) {
        this.format = 'pcap';
        this.pcap = format;
        this.interfaces.push({ linkType: format.linkType, snapLength: format.snapLength, name: null, unitsPerSecond: format.nano ? 1e9 : 1e6 });
        this.linkType = format.linkType;
        this.at += FILE_HEADER;
        return true;
      }
    }
    return last ? this.broken('TRUNCATED', 0, `a capture file begins with ${FILE_HEADER} bytes of header, found ${found}`) : false;
  }

  private nextRecord(format: PcapFormat): boolean {
    const { view, at } = this;
    const header = format.recordHeader;
    if (at + header > this.end) return false;
    const length = view.getUint32(at + 8, format.little);
    if (length > MAX_FRAME) return this.broken('BAD_LENGTH', 8, `record of ${length} bytes`);
    if (at + header + length > this.end) return false;
    const fraction = view.getUint32(at + 4, format.little);
    this.seconds = view.getUint32(at, format.little);
    this.nanoseconds = format.nano ? fraction : fraction * 1000;
    this.originalLength = view.getUint32(at + 12, format.little);
    this.offset = at + header;
    this.length = length;
    this.at = at + header + length;
    this.packets++;
    return true;
  }

  private nextBlock(): boolean {
    for (;;) {
      const { view, at } = this;
      if (at + 12 > this.end) return false;
      let type = view.getUint32(at, this.little);
      if (type === BLOCK.section || view.getUint32(at) === BLOCK.section) {
        type = BLOCK.section;
        this.little = view.getUint32(at + 8, true) === BYTE_ORDER;
        if (!this.little && view.getUint32(at + 8) !== BYTE_ORDER) return this.broken('BAD_MAGIC', 8, 'unknown byte-order magic');
        this.firstInterface = this.interfaces.length;
      }
      const length = view.getUint32(at + 4, this.little);
      if (length < 12 || (length & 3) !== 0 || length > MAX_BLOCK) return this.broken('BAD_LENGTH', 4, `block of ${length} bytes`);
      if (at + length > this.end) return false;
      const packet = this.readBlock(type, at + 8, at + length - 4);
      if (this.damage !== null) return false;
      this.at = at + length;
      if (packet) {
        this.packets++;
        return true;
      }
    }
  }

  /** Whether the block is a packet. */
  private readBlock(type: number, body: number, end: number): boolean {
    switch (type) {
      case BLOCK.interface:
        return this.readInterface(body, end);
      case BLOCK.enhanced:
        return this.readPacket(body, end, this.view.getUint32(body, this.little));
      case BLOCK.obsolete:
        return this.readPacket(body, end, this.view.getUint16(body, this.little));
      case BLOCK.simple:
        return this.readSimple(body, end);
      default:
        return false;
    }
  }

  private readInterface(body: number, end: number): false {
    if (end - body < 8) return this.broken('BAD_LENGTH', 0, 'interface block is too short');
    const { view, little } = this;
    const description: CaptureInterface = {
      linkType: view.getUint16(body, little),
      snapLength: view.getUint32(body + 4, little),
      name: null,
      unitsPerSecond: 1e6,
    };
    let shift = 0;
    eachOption(view, this.bytes, body + 8, end, little, (code, data) => {
      if (code === OPT.ifName) description.name = text(data);
      if (code === OPT.tsResolution && data.length === 1) description.unitsPerSecond = (data[0]! & 0x80) !== 0 ? 2 ** (data[0]! & 0x7f) : 10 ** data[0]!;
      if (code === OPT.tsOffset && data.length === 8) {
        const seconds = Number(new DataView(data.buffer, data.byteOffset, 8).getBigInt64(0, little));
        if (Math.abs(seconds) < 2 ** 40) shift = seconds;
      }
    });
    this.interfaces.push(description);
    this.clocks.push({ perSecond: description.unitsPerSecond, shift, high: -1, seconds: 0, rest: 0 });
    return false;
  }

  private readPacket(body: number, end: number, interfaceNumber: number): boolean {
    const { view, little } = this;
    if (end - body < 20) return this.broken('BAD_LENGTH', 0, 'packet block is too short');
    const index = this.firstInterface + interfaceNumber;
    const description = this.interfaces[index];
    if (description === undefined) return this.broken('BAD_LENGTH', 8, `packet of unknown interface ${interfaceNumber}`);
    const captured = view.getUint32(body + 12, little);
    if (body + 20 + captured > end) return this.broken('BAD_LENGTH', 20, `packet of ${captured} bytes does not fit its block`);
    this.stamp(this.clocks[index]!, view.getUint32(body + 4, little), view.getUint32(body + 8, little));
    this.originalLength = view.getUint32(body + 16, little);
    this.offset = body + 20;
    this.length = captured;
    this.linkType = description.linkType;
    this.interface = index;
    this.comment = null;
    const options = body + 20 + ((captured + 3) & ~3);
    if (options < end)
      eachOption(view, this.bytes, options, end, little, (code, data) => {
        if (code === OPT.comment) this.comment = text(data);
      });
    return true;
  }

  private readSimple(body: number, end: number): boolean {
    const description = this.interfaces[this.firstInterface];
    if (description === undefined || end - body < 4) return this.broken('BAD_LENGTH', 0, 'simple packet block without an interface');
    this.originalLength = this.view.getUint32(body, this.little);
    this.length = Math.min(this.originalLength, end - body - 4, description.snapLength === 0 ? MAX_FRAME : description.snapLength);
    this.offset = body + 4;
    this.seconds = 0;
    this.nanoseconds = 0;
    this.linkType = description.linkType;
    this.interface = this.firstInterface;
    this.comment = null;
    return true;
  }

  /** Stamps pass 2^53: the high word is turned into seconds once, with BigInt, and kept; the low word is added in doubles. */
  private stamp(clock: Clock, high: number, low: number): void {
    if (clock.high !== high) {
      const perSecond = BigInt(clock.perSecond);
      const units = BigInt(high) << 32n;
      clock.high = high;
      clock.seconds = Number(units / perSecond) + clock.shift;
      clock.rest = Number(units % perSecond);
    }
    const units = clock.rest + low;
    const seconds = Math.floor(units / clock.perSecond);
    this.seconds = clock.seconds + seconds;
    this.nanoseconds = Math.floor((units - seconds * clock.perSecond) * (1e9 / clock.perSecond));
  }

  private broken(code: Malformed['code'], offset: number, reason: string): false {
    this.damage = new Malformed(code, this.gone + this.at + offset, reason);
    return false;
  }
}

/** Reads a whole capture that is in memory; a damaged one gives everything up to the damage. */
export function readCapture(bytes: Uint8Array): Capture | Malformed {
  const reader = new CaptureReader(bytes.length);
  const frames: Capture['frames'] = [];
  reader.push(bytes);
  while (reader.next()) {
    frames.push({
      seconds: reader.seconds,
      nanoseconds: reader.nanoseconds,
      originalLength: reader.originalLength,
      bytes: reader.bytes.slice(reader.offset, reader.offset + reader.length),
      linkType: reader.linkType,
      interface: reader.interface,
      comment: reader.comment,
    });
  }
  reader.finish();
  if (reader.format === null) return reader.damage!;
  return { interfaces: reader.interfaces, frames, damage: reader.damage };
}
