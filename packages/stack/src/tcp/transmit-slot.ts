/** What `pollTransmit` fills: one packet, headers written out, payload as references. Reused from packet to packet. */
import type { Interface } from '../interface.ts';

const HEADER_ROOM = 256;

export class TransmitSlot {
  interface: Interface | null = null;
  readonly header: Uint8Array = new Uint8Array(HEADER_ROOM);
  readonly view: DataView = new DataView(this.header.buffer);
  /** Bytes of `header` in use. */
  headerLength = 0;
  /** Payload pieces, `sliceCount` of them in use. */
  readonly slices: Uint8Array[] = [];
  sliceCount = 0;
  payloadLength = 0;
  ipVersion = 4;
  /** Offset of the TCP header in `header`; -1 for other protocols. */
  transportOffset = -1;
  /** Payload bytes per segment when the driver is to cut this super-segment; 0 when it goes out as one packet. */
  segmentSize = 0;
  /** The TCP checksum field holds only the folded pseudo-header sum; the driver completes it. */
  checksumPartial = false;

  /** Copies the packet to `target` at `offset`. Returns its length. */
  copyTo(target: Uint8Array, offset: number): number {
    let at = offset;
    const header = this.header;
    for (let i = 0; i < this.headerLength; i++) target[at + i] = header[i]!;
    at += this.headerLength;
    for (let i = 0; i < this.sliceCount; i++) {
      const slice = this.slices[i]!;
      target.set(slice, at);
      at += slice.length;
    }
    return at - offset;
  }

  get length(): number {
    return this.headerLength + this.payloadLength;
  }

  /** Drops references to payload, so that idle slots do not keep application buffers alive. */
  clear(): void {
    for (let i = 0; i < this.sliceCount; i++) this.slices[i] = EMPTY;
    this.sliceCount = 0;
    this.payloadLength = 0;
  }
}

const EMPTY = new Uint8Array(0);
