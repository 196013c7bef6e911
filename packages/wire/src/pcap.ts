/** The classic capture format (draft-ietf-opsawg-pcap): both byte orders, micro- and nanoseconds. */
import { Malformed } from './malformed.ts';

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
const FILE_HEADER = 24;
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

/** Whether `bytes` begin like a pcap file. */
export function isPcap(bytes: Uint8Array): boolean {
  if (bytes.length < 4) return false;
  const view = new DataView(bytes.buffer, bytes.byteOffset, 4);
  return [view.getUint32(0), view.getUint32(0, true)].some((magic) => magic === MAGIC_MICRO || magic === MAGIC_NANO);
}

/** Reads a whole pcap file; a damaged one gives everything up to the damage. */
export function readPcap(bytes: Uint8Array): Capture | Malformed {
  if (bytes.length < FILE_HEADER) return new Malformed('TRUNCATED', 0, `pcap header needs 24 bytes, found ${bytes.length}`);
  if (!isPcap(bytes)) return new Malformed('BAD_MAGIC', 0, 'not a pcap file: unknown magic number');
  const view = new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength);
  const bigMagic = view.getUint32(0);
  const little = bigMagic !== MAGIC_MICRO && bigMagic !== MAGIC_NANO;
  const nano = view.getUint32(0, little) === MAGIC_NANO;
  const linkType = view.getUint32(20, little) & 0xffff;
  const capture: Capture = {
    interfaces: [{ linkType, snapLength: view.getUint32(16, little), name: null, unitsPerSecond: nano ? 1e9 : 1e6 }],
    frames: [],
    damage: null,
  };
  let at = FILE_HEADER;
  while (at < bytes.length) {
    if (at + RECORD_HEADER > bytes.length) {
      capture.damage = new Malformed('TRUNCATED', at, 'record header is cut');
      break;
    }
    const length = view.getUint32(at + 8, little);
    if (length > MAX_FRAME) {
      capture.damage = new Malformed('BAD_LENGTH', at + 8, `record of ${length} bytes`);
      break;
    }
    if (at + RECORD_HEADER + length > bytes.length) {
      capture.damage = new Malformed('TRUNCATED', at, `record of ${length} bytes is cut`);
      break;
    }
    const fraction = view.getUint32(at + 4, little);
    capture.frames.push({
      seconds: view.getUint32(at, little),
      nanoseconds: nano ? fraction : fraction * 1000,
      originalLength: view.getUint32(at + 12, little),
      bytes: bytes.slice(at + RECORD_HEADER, at + RECORD_HEADER + length),
      linkType,
      interface: 0,
      comment: null,
    });
    at += RECORD_HEADER + length;
  }
  return capture;
}
