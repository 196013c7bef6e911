/** The pcapng format (draft-ietf-opsawg-pcapng): sections, interfaces, enhanced and simple packets, comments. */
import type { CapturedFrame } from './pcap.ts';

export const BLOCK = { section: 0x0a0d0d0a, interface: 1, obsolete: 2, simple: 3, enhanced: 6 } as const;
export const BYTE_ORDER = 0x1a2b3c4d;
export const OPT = { end: 0, comment: 1, ifName: 2, userApplication: 4, tsResolution: 9, tsOffset: 14 } as const;

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

/** Options of a block, from `at`. */
// oxlint-disable-next-line max-params -- a call for every packet: an object for its arguments costs as much as the work
export function eachOption(view: DataView, bytes: Uint8Array, at: number, end: number, little: boolean, visit: (code: number, data: Uint8Array) => void): void {
  while (at + 4 <= end) {
    const code = view.getUint16(at, little);
    const length = view.getUint16(at + 2, little);
    if (code === OPT.end || at + 4 + length > end) return;
    visit(code, bytes.subarray(at + 4, at + 4 + length));
    at += 4 + ((length + 3) & ~3);
  }
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

export function text(bytes: Uint8Array): string {
  let escaped = '';
  for (const byte of bytes) escaped += `%${byte.toString(16).padStart(2, '0')}`;
  try {
    return decodeURIComponent(escaped);
  } catch {
    return String.fromCharCode(...bytes);
  }
}
