/** The pcapng format (draft-ietf-opsawg-pcapng): sections, interfaces, enhanced and simple packets, comments. */
import { Malformed } from './malformed.ts';
import { MAX_FRAME } from './pcap.ts';
import type { Capture, CapturedFrame, CaptureInterface } from './pcap.ts';

const BLOCK = { section: 0x0a0d0d0a, interface: 1, simple: 3, enhanced: 6 } as const;
const BYTE_ORDER = 0x1a2b3c4d;
const OPT = { end: 0, comment: 1, ifName: 2, userApplication: 4, tsResolution: 9 } as const;

/** Section header block, little endian. */
export function pcapngSection(application = 'subflow', comment?: string): Uint8Array {
  const body = new Uint8Array(16);
  const view = new DataView(body.buffer);
  view.setUint32(0, BYTE_ORDER, true);
  view.setUint16(4, 1, true);
  view.setInt32(8, -1, true);
  view.setInt32(12, -1, true);
  const options = [option(OPT.userApplication, utf8(application))];
  if (comment !== undefined) options.unshift(option(OPT.comment, utf8(comment)));
  return block(BLOCK.section, [body, ...options, option(OPT.end, new Uint8Array(0))]);
}

/** Interface description block with nanosecond resolution. */
export function pcapngInterface(linkType: number, name: string, snapLength = 0): Uint8Array {
  const body = new Uint8Array(8);
  const view = new DataView(body.buffer);
  view.setUint16(0, linkType, true);
  view.setUint32(4, snapLength, true);
  return block(BLOCK.interface, [body, option(OPT.ifName, utf8(name)), option(OPT.tsResolution, new Uint8Array([9])), option(OPT.end, new Uint8Array(0))]);
}

/** Enhanced packet block for an interface written by {@link pcapngInterface}. */
export function pcapngPacket(
  frame: Pick<CapturedFrame, 'interface' | 'seconds' | 'nanoseconds' | 'bytes' | 'originalLength'> & { comment?: string | null },
): Uint8Array {
  const head = new Uint8Array(20);
  const view = new DataView(head.buffer);
  const stamp = BigInt(frame.seconds) * 1000000000n + BigInt(frame.nanoseconds);
  view.setUint32(0, frame.interface, true);
  view.setUint32(4, Number(stamp >> 32n), true);
  view.setUint32(8, Number(stamp & 0xffffffffn), true);
  view.setUint32(12, frame.bytes.length, true);
  view.setUint32(16, frame.originalLength, true);
  const parts = [head, padded(frame.bytes)];
  if (frame.comment) parts.push(option(OPT.comment, utf8(frame.comment)), option(OPT.end, new Uint8Array(0)));
  return block(BLOCK.enhanced, parts);
}

/** Whether `bytes` begin like a pcapng file. */
export function isPcapng(bytes: Uint8Array): boolean {
  return bytes.length >= 4 && bytes[0] === 0x0a && bytes[1] === 0x0d && bytes[2] === 0x0d && bytes[3] === 0x0a;
}

/** Reads a whole pcapng file; a damaged one gives everything up to the damage. */
export function readPcapng(bytes: Uint8Array): Capture | Malformed {
  if (!isPcapng(bytes)) return new Malformed('BAD_MAGIC', 0, 'not a pcapng file: no section header block');
  const view = new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength);
  const capture: Capture = { interfaces: [], frames: [], damage: null };
  let little = true;
  let firstInterface = 0;
  let at = 0;
  while (at < bytes.length) {
    if (at + 12 > bytes.length) return damaged(capture, new Malformed('TRUNCATED', at, 'block header is cut'));
    const type = view.getUint32(at, little);
    if (type === BLOCK.section || view.getUint32(at) === BLOCK.section) {
      little = view.getUint32(at + 8, true) === BYTE_ORDER;
      if (!little && view.getUint32(at + 8) !== BYTE_ORDER) return damaged(capture, new Malformed('BAD_MAGIC', at + 8, 'unknown byte-order magic'));
      firstInterface = capture.interfaces.length;
    }
    const length = view.getUint32(at + 4, little);
    if (length < 12 || (length & 3) !== 0 || length > MAX_FRAME + 65536)
      return damaged(capture, new Malformed('BAD_LENGTH', at + 4, `block of ${length} bytes`));
    if (at + length > bytes.length) return damaged(capture, new Malformed('TRUNCATED', at, `block of ${length} bytes is cut`));
    const problem = readBlock(bytes, view, at, length, type, little, firstInterface, capture);
    if (problem !== null) return damaged(capture, problem);
    at += length;
  }
  return capture;
}

function readBlock(
  bytes: Uint8Array,
  view: DataView,
  at: number,
  length: number,
  type: number,
  little: boolean,
  firstInterface: number,
  capture: Capture,
): Malformed | null {
  const body = at + 8;
  const end = at + length - 4;
  if (type === BLOCK.interface) {
    if (end - body < 8) return new Malformed('BAD_LENGTH', at, 'interface block is too short');
    const description: CaptureInterface = {
      linkType: view.getUint16(body, little),
      snapLength: view.getUint32(body + 4, little),
      name: null,
      unitsPerSecond: 1e6,
    };
    eachOption(view, bytes, body + 8, end, little, (code, data) => {
      if (code === OPT.ifName) description.name = text(data);
      if (code === OPT.tsResolution && data.length === 1) description.unitsPerSecond = (data[0]! & 0x80) !== 0 ? 2 ** (data[0]! & 0x7f) : 10 ** data[0]!;
    });
    capture.interfaces.push(description);
    return null;
  }
  if (type === BLOCK.enhanced) {
    if (end - body < 20) return new Malformed('BAD_LENGTH', at, 'packet block is too short');
    const index = firstInterface + view.getUint32(body, little);
    const description = capture.interfaces[index];
    if (description === undefined) return new Malformed('BAD_LENGTH', body, `packet of unknown interface ${index}`);
    const captured = view.getUint32(body + 12, little);
    if (body + 20 + captured > end) return new Malformed('BAD_LENGTH', body + 12, `packet of ${captured} bytes does not fit its block`);
    const units = (BigInt(view.getUint32(body + 4, little)) << 32n) | BigInt(view.getUint32(body + 8, little));
    const perSecond = BigInt(description.unitsPerSecond);
    const frame: CapturedFrame = {
      seconds: Number(units / perSecond),
      nanoseconds: Number(((units % perSecond) * 1000000000n) / perSecond),
      originalLength: view.getUint32(body + 16, little),
      bytes: bytes.slice(body + 20, body + 20 + captured),
      linkType: description.linkType,
      interface: index,
      comment: null,
    };
    eachOption(view, bytes, body + 20 + ((captured + 3) & ~3), end, little, (code, data) => {
      if (code === OPT.comment) frame.comment = text(data);
    });
    capture.frames.push(frame);
    return null;
  }
  if (type === BLOCK.simple) {
    const description = capture.interfaces[firstInterface];
    if (description === undefined || end - body < 4) return new Malformed('BAD_LENGTH', at, 'simple packet block without an interface');
    const original = view.getUint32(body, little);
    const captured = Math.min(original, end - body - 4, description.snapLength === 0 ? MAX_FRAME : description.snapLength);
    capture.frames.push({
      seconds: 0,
      nanoseconds: 0,
      originalLength: original,
      bytes: bytes.slice(body + 4, body + 4 + captured),
      linkType: description.linkType,
      interface: firstInterface,
      comment: null,
    });
  }
  return null;
}

function eachOption(view: DataView, bytes: Uint8Array, at: number, end: number, little: boolean, visit: (code: number, data: Uint8Array) => void): void {
  while (at + 4 <= end) {
    const code = view.getUint16(at, little);
    const length = view.getUint16(at + 2, little);
    if (code === OPT.end || at + 4 + length > end) return;
    visit(code, bytes.subarray(at + 4, at + 4 + length));
    at += 4 + ((length + 3) & ~3);
  }
}

function damaged(capture: Capture, damage: Malformed): Capture {
  capture.damage = damage;
  return capture;
}

function block(type: number, parts: Uint8Array[]): Uint8Array {
  const length = 12 + parts.reduce((n, part) => n + part.length, 0);
  const out = new Uint8Array(length);
  const view = new DataView(out.buffer);
  view.setUint32(0, type, true);
  view.setUint32(4, length, true);
  let at = 8;
  for (const part of parts) {
    out.set(part, at);
    at += part.length;
  }
  view.setUint32(at, length, true);
  return out;
}

function option(code: number, data: Uint8Array): Uint8Array {
  const out = new Uint8Array(4 + ((data.length + 3) & ~3));
  const view = new DataView(out.buffer);
  view.setUint16(0, code, true);
  view.setUint16(2, data.length, true);
  out.set(data, 4);
  return out;
}

function padded(bytes: Uint8Array): Uint8Array {
  const size = (bytes.length + 3) & ~3;
  if (size === bytes.length) return bytes;
  const out = new Uint8Array(size);
  out.set(bytes);
  return out;
}

/** UTF-8 without TextEncoder, which is an ambient global (this package has none). */
function utf8(value: string): Uint8Array {
  const out: number[] = [];
  for (const character of value) {
    const code = character.codePointAt(0)!;
    if (code < 0x80) out.push(code);
    else if (code < 0x800) out.push(0xc0 | (code >>> 6), 0x80 | (code & 63));
    else if (code < 0x10000) out.push(0xe0 | (code >>> 12), 0x80 | ((code >>> 6) & 63), 0x80 | (code & 63));
    else out.push(0xf0 | (code >>> 18), 0x80 | ((code >>> 12) & 63), 0x80 | ((code >>> 6) & 63), 0x80 | (code & 63));
  }
  return new Uint8Array(out);
}

function text(bytes: Uint8Array): string {
  let escaped = '';
  for (const byte of bytes) escaped += `%${byte.toString(16).padStart(2, '0')}`;
  try {
    return decodeURIComponent(escaped);
  } catch {
    return String.fromCharCode(...bytes);
  }
}
