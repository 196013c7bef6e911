/** The classic capture format (draft-ietf-opsawg-pcap): both byte orders, micro- and nanoseconds. */
import type { Malformed } from './malformed.ts';

/** One captured frame. Time is split so that nanoseconds stay exact. */
export interface CapturedFrame {
  /** Seconds since the epoch. */
  seconds: number;
  nanoseconds: number;
  /** Bytes on the wire; more than `bytes.length` when the snap length cut the frame. */
  originalLength: number;
  bytes: Uint8Array;
  linkType: number;
  /** Index into {@link Capture.interfaces}; 0 in pcap. */
  interface: number;
  /** pcapng `opt_comment` of the packet. */
  comment: string | null;
}

/** A capture interface (pcapng IDB; one is made up for pcap). */
export interface CaptureInterface {
  linkType: number;
  snapLength: number;
  name: string | null;
  /** Timestamp units per second. */
  unitsPerSecond: number;
}

/** What was read, up to the end or to the first damage. */
export interface Capture {
  interfaces: CaptureInterface[];
  frames: CapturedFrame[];
  /** Where and why reading stopped early; null at a clean end. */
  damage: Malformed | null;
}

const MAGIC_MICRO = 0xa1b2c3d4;
const MAGIC_NANO = 0xa1b23c4d;
/** Alexey Kuznetsov's patch: interface and protocol in each record. */
const MAGIC_PATCHED = 0xa1b2cd34;
export const FILE_HEADER = 24;
const RECORD_HEADER = 16;
/** No sane frame is larger; a larger length is damage, not a reason to allocate. */
export const MAX_FRAME = 0x400000;

/** Writes a file header: nanosecond timestamps, little endian. */
export function pcapHeader(linkType: number, snapLength = 262144): Uint8Array {
  const view = new DataView(new ArrayBuffer(FILE_HEADER));
  view.setUint32(0, MAGIC_NANO, true);
  view.setUint16(4, 2, true);
  view.setUint16(6, 4, true);
  view.setUint32(16, snapLength, true);
  view.setUint32(20, linkType, true);
  return new Uint8Array(view.buffer);
}

/** Writes one record. */
export function pcapRecord(frame: Pick<CapturedFrame, 'seconds' | 'nanoseconds' | 'bytes' | 'originalLength'>): Uint8Array {
  const out = new Uint8Array(RECORD_HEADER + frame.bytes.length);
  const view = new DataView(out.buffer);
  view.setUint32(0, frame.seconds, true);
  view.setUint32(4, frame.nanoseconds, true);
  view.setUint32(8, frame.bytes.length, true);
  view.setUint32(12, frame.originalLength, true);
  out.set(frame.bytes, RECORD_HEADER);
  return out;
}

/** How the records of a file are to be read. */
export interface PcapFormat {
  little: boolean;
  nano: boolean;
  /** Bytes before each frame: 16, or 24 in files of a patched libpcap of old. */
  recordHeader: number;
  /** Both 0 while the whole header is not there yet. */
  linkType: number;
  snapLength: number;
}

/** What a file header says; null when it is not one of pcap. */
export function pcapFormat(bytes: Uint8Array): PcapFormat | null {
  const view = new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength);
  for (const little of [true, false]) {
    const magic = view.getUint32(0, little);
    if (magic !== MAGIC_MICRO && magic !== MAGIC_NANO && magic !== MAGIC_PATCHED) continue;
    const whole = bytes.length >= FILE_HEADER;
    return {
      little,
      nano: magic === MAGIC_NANO,
      recordHeader: magic === MAGIC_PATCHED ? 24 : RECORD_HEADER,
      linkType: whole ? view.getUint32(20, little) & 0xffff : 0,
      snapLength: whole ? view.getUint32(16, little) : 0,
    };
  }
  return null;
}
