/** TCP headers (RFC 9293 §3.1) and options as typed values, for tools, screens and handshakes. The hot path is in `segment.ts`. */
import { bytesAt } from './ipv4.ts';
import { Malformed, isMalformed } from './malformed.ts';
import { emitMptcpOption, mptcpOptionLength, MPTCP_KIND, parseMptcpOption } from './mptcp-options.ts';
import type { MptcpOption } from './mptcp-options.ts';

export const TCP_MIN_HEADER = 20;
export const TCP_MAX_HEADER = 60;
/** Field offsets (RFC 9293 §3.1). */
export const TCP = { sourcePort: 0, destinationPort: 2, seq: 4, ack: 8, dataOffset: 12, flags: 13, window: 14, checksum: 16, urgent: 18, options: 20 } as const;
/** Flag bits (RFC 9293 §3.1, RFC 3168 §6.1). */
export const FLAG = { fin: 1, syn: 2, rst: 4, psh: 8, ack: 16, urg: 32, ece: 64, cwr: 128 } as const;
/** Option kinds. */
export const OPTION = {
  end: 0,
  nop: 1,
  mss: 2,
  windowScale: 3,
  sackPermitted: 4,
  sack: 5,
  timestamps: 8,
  md5: 19,
  userTimeout: 28,
  mptcp: MPTCP_KIND,
  fastOpen: 34,
} as const;

export type TcpOption =
  /** End of option list; `padding` are the bytes behind it (RFC 9293 §3.2 wants zeros). */
  | { kind: 'end'; padding: Uint8Array }
  | { kind: 'nop' }
  | { kind: 'mss'; value: number }
  | { kind: 'window-scale'; shift: number }
  | { kind: 'sack-permitted' }
  /** Blocks as [left edge, right edge), unsigned 32-bit (RFC 2018 §3). */
  | { kind: 'sack'; blocks: [number, number][] }
  | { kind: 'timestamps'; value: number; echo: number }
  /** RFC 2385; recognised, never verified. */
  | { kind: 'md5'; digest: Uint8Array }
  /** RFC 5482 §3: granularity bit set means minutes. */
  | { kind: 'user-timeout'; minutes: boolean; value: number }
  /** RFC 7413 §4.1.1: an empty cookie is a request. */
  | { kind: 'fast-open'; cookie: Uint8Array }
  | { kind: 'mptcp'; option: MptcpOption }
  | { kind: 'unknown'; code: number; data: Uint8Array };

/** A parsed TCP header. */
export interface TcpHeader {
  sourcePort: number;
  destinationPort: number;
  /** Unsigned 32-bit sequence number. */
  seq: number;
  ack: number;
  /** Header length in bytes, options included. */
  headerLength: number;
  /** The four reserved bits. */
  reserved: number;
  flags: number;
  window: number;
  checksum: number;
  urgent: number;
  options: TcpOption[];
}

/** Parses a header of which `length` bytes are there. */
export function parseTcp(view: DataView, offset: number, length: number): TcpHeader | Malformed {
  if (length < TCP_MIN_HEADER) return new Malformed('TRUNCATED', offset, `TCP header needs 20 bytes, found ${length}`);
  const headerLength = tcpHeaderLength(view, offset);
  if (headerLength < TCP_MIN_HEADER) return new Malformed('BAD_LENGTH', offset + TCP.dataOffset, `TCP header length ${headerLength} is below 20`);
  if (headerLength > length) return new Malformed('TRUNCATED', offset, `TCP header of ${headerLength} bytes, found ${length}`);
  const options = parseTcpOptions(view, offset + TCP.options, headerLength - TCP_MIN_HEADER);
  if (isMalformed(options)) return options;
  return {
    sourcePort: view.getUint16(offset),
    destinationPort: view.getUint16(offset + TCP.destinationPort),
    seq: view.getUint32(offset + TCP.seq),
    ack: view.getUint32(offset + TCP.ack),
    headerLength,
    reserved: view.getUint8(offset + TCP.dataOffset) & 15,
    flags: view.getUint8(offset + TCP.flags),
    window: view.getUint16(offset + TCP.window),
    checksum: view.getUint16(offset + TCP.checksum),
    urgent: view.getUint16(offset + TCP.urgent),
    options,
  };
}

/** The header length that the TCP header at `offset` declares, octets: 0 to 60; below 20 it is wrong (RFC 9293 §3.1). 13 octets of it must be there. */
export function tcpHeaderLength(view: DataView, offset: number): number {
  return (view.getUint8(offset + TCP.dataOffset) >>> 4) << 2;
}

/** Writes the header as it stands, checksum included, options padded with zeros to four bytes. Returns the header length. */
export function emitTcp(header: TcpHeader, view: DataView, offset: number): number {
  let at = offset + TCP.options;
  for (const option of header.options) at += emitTcpOption(option, view, at);
  while (((at - offset) & 3) !== 0) view.setUint8(at++, 0);
  const headerLength = at - offset;
  view.setUint16(offset, header.sourcePort);
  view.setUint16(offset + TCP.destinationPort, header.destinationPort);
  view.setUint32(offset + TCP.seq, header.seq);
  view.setUint32(offset + TCP.ack, header.ack);
  view.setUint8(offset + TCP.dataOffset, (headerLength << 2) | header.reserved);
  view.setUint8(offset + TCP.flags, header.flags);
  view.setUint16(offset + TCP.window, header.window);
  view.setUint16(offset + TCP.checksum, header.checksum);
  view.setUint16(offset + TCP.urgent, header.urgent);
  return headerLength;
}

/**
 * Length of the option at `at` in an option list that ends at `end`, octets: 1 for a NOP. 0 where the list ends: at `end`, at the
 * end-of-list option, or at an option without a length that can be (RFC 9293 §3.2, MUST-5 and MUST-68). For walking a list in place:
 *
 * @example for (let size, at = start; (size = optionLengthAt(view, at, end)) > 0; at += size) kinds.push(view.getUint8(at));
 */
export function optionLengthAt(view: DataView, at: number, end: number): number {
  if (at >= end) return 0;
  const kind = view.getUint8(at);
  if (kind === OPTION.end) return 0;
  if (kind === OPTION.nop) return 1;
  const size = at + 1 < end ? view.getUint8(at + 1) : 0;
  return size < 2 || at + size > end ? 0 : size;
}

/** Parses an option list of `length` bytes. */
export function parseTcpOptions(view: DataView, offset: number, length: number): TcpOption[] | Malformed {
  const options: TcpOption[] = [];
  const end = offset + length;
  let at = offset;
  while (at < end) {
    const kind = view.getUint8(at);
    if (kind === OPTION.end) {
      options.push({ kind: 'end', padding: bytesAt(view, at + 1, end - at - 1) });
      break;
    }
    if (kind === OPTION.nop) {
      options.push({ kind: 'nop' });
      at++;
      continue;
    }
    if (at + 1 >= end) return new Malformed('BAD_OPTION', at, `option ${kind} has no length octet`);
    const size = view.getUint8(at + 1);
    if (size < 2 || at + size > end) return new Malformed('BAD_OPTION', at, `option ${kind} of length ${size}, ${end - at} bytes left`);
    const option = parseOption(view, at, kind, size);
    if (isMalformed(option)) return option;
    options.push(option);
    at += size;
  }
  return options;
}

function parseOption(view: DataView, at: number, kind: number, size: number): TcpOption | Malformed {
  switch (kind) {
    case OPTION.mss:
      if (size === 4) return { kind: 'mss', value: view.getUint16(at + 2) };
      break;
    case OPTION.windowScale:
      if (size === 3) return { kind: 'window-scale', shift: view.getUint8(at + 2) };
      break;
    case OPTION.sackPermitted:
      if (size === 2) return { kind: 'sack-permitted' };
      break;
    case OPTION.sack:
      if (size > 2 && (size - 2) % 8 === 0) {
        const blocks: [number, number][] = [];
        for (let i = at + 2; i < at + size; i += 8) blocks.push([view.getUint32(i), view.getUint32(i + 4)]);
        return { kind: 'sack', blocks };
      }
      break;
    case OPTION.timestamps:
      if (size === 10) return { kind: 'timestamps', value: view.getUint32(at + 2), echo: view.getUint32(at + 6) };
      break;
    case OPTION.md5:
      if (size === 18) return { kind: 'md5', digest: bytesAt(view, at + 2, 16) };
      break;
    case OPTION.userTimeout:
      if (size === 4) {
        const word = view.getUint16(at + 2);
        return { kind: 'user-timeout', minutes: word >= 0x8000, value: word & 0x7fff };
      }
      break;
    case OPTION.fastOpen:
      return { kind: 'fast-open', cookie: bytesAt(view, at + 2, size - 2) };
    case OPTION.mptcp: {
      if (size < 3) break;
      const option = parseMptcpOption(view, at, size);
      return isMalformed(option) ? option : { kind: 'mptcp', option };
    }
    default:
      break;
  }
  return { kind: 'unknown', code: kind, data: bytesAt(view, at + 2, size - 2) };
}

/** Length of an option on the wire. */
export function tcpOptionLength(option: TcpOption): number {
  switch (option.kind) {
    case 'end':
      return 1 + option.padding.length;
    case 'nop':
      return 1;
    case 'mss':
    case 'user-timeout':
      return 4;
    case 'window-scale':
      return 3;
    case 'sack-permitted':
      return 2;
    case 'sack':
      return 2 + 8 * option.blocks.length;
    case 'timestamps':
      return 10;
    case 'md5':
      return 18;
    case 'fast-open':
      return 2 + option.cookie.length;
    case 'mptcp':
      return mptcpOptionLength(option.option);
    case 'unknown':
      return 2 + option.data.length;
  }
}

/** Writes one option. Returns the bytes written. */
export function emitTcpOption(option: TcpOption, view: DataView, offset: number): number {
  const length = tcpOptionLength(option);
  switch (option.kind) {
    case 'end':
      view.setUint8(offset, OPTION.end);
      putBytes(view, offset + 1, option.padding);
      return length;
    case 'nop':
      view.setUint8(offset, OPTION.nop);
      return length;
    case 'mptcp':
      return emitMptcpOption(option.option, view, offset);
    default:
      break;
  }
  view.setUint8(offset + 1, length);
  switch (option.kind) {
    case 'mss':
      view.setUint8(offset, OPTION.mss);
      view.setUint16(offset + 2, option.value);
      break;
    case 'window-scale':
      view.setUint8(offset, OPTION.windowScale);
      view.setUint8(offset + 2, option.shift);
      break;
    case 'sack-permitted':
      view.setUint8(offset, OPTION.sackPermitted);
      break;
    case 'sack':
      view.setUint8(offset, OPTION.sack);
      for (let i = 0; i < option.blocks.length; i++) {
        view.setUint32(offset + 2 + 8 * i, option.blocks[i]![0]);
        view.setUint32(offset + 6 + 8 * i, option.blocks[i]![1]);
      }
      break;
    case 'timestamps':
      view.setUint8(offset, OPTION.timestamps);
      view.setUint32(offset + 2, option.value);
      view.setUint32(offset + 6, option.echo);
      break;
    case 'md5':
      view.setUint8(offset, OPTION.md5);
      putBytes(view, offset + 2, option.digest);
      break;
    case 'user-timeout':
      view.setUint8(offset, OPTION.userTimeout);
      view.setUint16(offset + 2, (option.minutes ? 0x8000 : 0) | option.value);
      break;
    case 'fast-open':
      view.setUint8(offset, OPTION.fastOpen);
      putBytes(view, offset + 2, option.cookie);
      break;
    case 'unknown':
      view.setUint8(offset, option.code);
      putBytes(view, offset + 2, option.data);
      break;
  }
  return length;
}

/** Options as bytes, padded with zeros to a multiple of four. */
export function encodeTcpOptions(options: readonly TcpOption[]): Uint8Array {
  const length = options.reduce((total, one) => total + tcpOptionLength(one), 0);
  const out = new Uint8Array((length + 3) & ~3);
  const view = new DataView(out.buffer);
  let at = 0;
  for (const one of options) at += emitTcpOption(one, view, at);
  return out;
}

function putBytes(view: DataView, offset: number, bytes: Uint8Array): void {
  for (let i = 0; i < bytes.length; i++) view.setUint8(offset + i, bytes[i]!);
}
