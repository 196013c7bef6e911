/** Extensions of ICMP errors (RFC 4884) and the MPLS label stack they may carry (RFC 4950). */
import { finish, fold, sum } from './checksum.ts';
import type { IcmpError } from './icmp.ts';

/** One extension object, its payload as bytes (RFC 4884 §8). */
export interface IcmpExtension {
  classNumber: number;
  classType: number;
  data: Uint8Array;
}

/** One entry of an MPLS label stack (RFC 3032 §2.1). */
export interface MplsLabel {
  label: number;
  trafficClass: number;
  bottom: boolean;
  ttl: number;
}

/** An error's quote without its padding, and the objects behind it. */
export interface IcmpErrorParts {
  quote: Uint8Array;
  extensions: IcmpExtension[];
}

/** Without a length, the original datagram field has this size (RFC 4884 §5.5). */
const COMPATIBLE_LENGTH = 128;
/** Class and type of the MPLS label stack (RFC 4950 §4). */
const MPLS_CLASS = 1;
const MPLS_INCOMING = 1;
const MAX_OBJECTS = 32;

/**
 * Separates quote and extensions. A message with a length says where they begin (RFC 4884 §4.1, §4.2); one without may be of an
 * older router: extensions are then believed only when version and checksum fit (RFC 4884 §5.5).
 */
export function icmpErrorParts(message: IcmpError): IcmpErrorParts {
  const words = message.version === 4 ? (message.rest >>> 16) & 0xff : message.rest >>> 24;
  const declared = words * (message.version === 4 ? 4 : 8);
  const { quote } = message;
  const at = declared > 0 ? declared : COMPATIBLE_LENGTH;
  if (at + 4 > quote.length) return { quote, extensions: [] };
  const extensions = parseExtensions(quote.subarray(at));
  return extensions === null ? { quote, extensions: [] } : { quote: quote.subarray(0, at), extensions };
}

/** Entries of the label stack among the extensions (RFC 4950 §4). */
export function mplsLabels(extensions: readonly IcmpExtension[]): MplsLabel[] {
  const stack = extensions.find((one) => one.classNumber === MPLS_CLASS && one.classType === MPLS_INCOMING);
  if (stack === undefined) return [];
  const labels: MplsLabel[] = [];
  for (let at = 0; at + 4 <= stack.data.length; at += 4) {
    const word = ((stack.data[at]! << 24) | (stack.data[at + 1]! << 16) | (stack.data[at + 2]! << 8) | stack.data[at + 3]!) >>> 0;
    labels.push({ label: word >>> 12, trafficClass: (word >>> 9) & 7, bottom: ((word >>> 8) & 1) === 1, ttl: word & 0xff });
  }
  return labels;
}

/** A label stack as an extension object. */
export function mplsExtension(labels: readonly MplsLabel[]): IcmpExtension {
  const data = new Uint8Array(4 * labels.length);
  const view = new DataView(data.buffer);
  labels.forEach((one, i) => view.setUint32(4 * i, ((one.label << 12) | (one.trafficClass << 9) | (one.bottom ? 0x100 : 0) | one.ttl) >>> 0));
  return { classNumber: MPLS_CLASS, classType: MPLS_INCOMING, data };
}

/** Quote and `rest` field of an error with extensions: the quote is padded with zeros and its length declared (RFC 4884 §4). */
export function withExtensions(version: 4 | 6, quote: Uint8Array, extensions: readonly IcmpExtension[]): { quote: Uint8Array; rest: number } {
  const unit = version === 4 ? 4 : 8;
  const padded = Math.max(COMPATIBLE_LENGTH, Math.ceil(quote.length / unit) * unit);
  const length = 4 + extensions.reduce((total, one) => total + 4 + one.data.length, 0);
  const out = new Uint8Array(padded + length);
  out.set(quote);
  const view = new DataView(out.buffer);
  view.setUint8(padded, 0x20);
  let at = padded + 4;
  for (const one of extensions) {
    view.setUint16(at, 4 + one.data.length);
    view.setUint8(at + 2, one.classNumber);
    view.setUint8(at + 3, one.classType);
    out.set(one.data, at + 4);
    at += 4 + one.data.length;
  }
  view.setUint16(padded + 2, finish(sum(out, padded, length)));
  const words = padded / unit;
  return { quote: out, rest: (version === 4 ? words << 16 : words << 24) >>> 0 };
}

function parseExtensions(bytes: Uint8Array): IcmpExtension[] | null {
  if (bytes.length < 4 || bytes[0]! >>> 4 !== 2) return null;
  // A checksum of zero means none was computed (RFC 4884 §7).
  if ((bytes[2] !== 0 || bytes[3] !== 0) && fold(sum(bytes, 0, bytes.length)) !== 0xffff) return null;
  const out: IcmpExtension[] = [];
  for (let at = 4; at + 4 <= bytes.length && out.length < MAX_OBJECTS;) {
    const length = (bytes[at]! << 8) | bytes[at + 1]!;
    if (length < 4 || at + length > bytes.length) return null;
    out.push({ classNumber: bytes[at + 2]!, classType: bytes[at + 3]!, data: bytes.slice(at + 4, at + length) });
    at += length;
  }
  return out;
}
