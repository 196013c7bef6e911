/** Messages of the 0-RTT TCP Convert protocol (RFC 8803 §6): bytes ↔ values. */
import { formatAddress } from '@subflow/wire';
import { parseIp } from '../addresses.ts';

export const CONVERT_VERSION = 1;
export const CONVERT_MAGIC = 0x2263;
/** RFC 8803 §10.1. */
export const CONVERT_PORT = 5124;
export const CONVERT_HEADER = 4;

export const CONVERT_ERROR = {
  unsupportedVersion: 0,
  malformed: 1,
  unsupportedMessage: 2,
  missingCookie: 3,
  notAuthorized: 32,
  unsupportedTcpOption: 33,
  resourceExceeded: 64,
  networkFailure: 65,
  connectionReset: 96,
  destinationUnreachable: 97,
} as const;

export const CONVERT_ERROR_NAMES: Readonly<Record<number, string>> = {
  0: 'unsupported version',
  1: 'malformed message',
  2: 'unsupported message',
  3: 'missing cookie',
  32: 'not authorized',
  33: 'unsupported TCP option',
  64: 'resource exceeded',
  65: 'network failure',
  96: 'connection reset',
  97: 'destination unreachable',
};

const TYPE = { info: 1, connect: 10, extendedHeader: 20, supported: 21, cookie: 22, error: 30 } as const;

/** A TCP option asked for; value null: the converter makes its own. */
export interface ConvertTcpOption {
  kind: number;
  value: Uint8Array | null;
}

export type ConvertTlv =
  | { type: 'info' }
  | { type: 'connect'; address: string; port: number; options: ConvertTcpOption[] }
  | { type: 'extended-header'; options: Uint8Array }
  | { type: 'supported'; kinds: number[] }
  | { type: 'cookie'; cookie: Uint8Array }
  | { type: 'error'; error: number; value: Uint8Array };

/** Why a message cannot be used: the error to answer with, and its value. */
export interface ConvertFault {
  fault: number;
  message: string;
  value: Uint8Array;
}

export function isFault(value: ConvertTlv[] | ConvertFault): value is ConvertFault {
  return 'fault' in value;
}

/** Length of a whole message in bytes from its fixed header; or the fault. A length of 0: reset the connection (§6.1). */
export function messageLength(header: Uint8Array): number | ConvertFault {
  const view = new DataView(header.buffer, header.byteOffset);
  if (view.getUint16(2) !== CONVERT_MAGIC) return fault(CONVERT_ERROR.malformed, `magic number 0x${view.getUint16(2).toString(16)}; expected 0x2263`, header);
  if (header[0] !== CONVERT_VERSION)
    return { fault: CONVERT_ERROR.unsupportedVersion, message: `version ${header[0]}; expected 1`, value: new Uint8Array([CONVERT_VERSION]) };
  return 4 * header[1]!;
}

/** TLVs after the header. */
export function parseTlvs(bytes: Uint8Array): ConvertTlv[] | ConvertFault {
  const out: ConvertTlv[] = [];
  const seen = new Set<number>();
  for (let at = 0; at < bytes.length;) {
    const type = bytes[at]!;
    const length = 4 * (bytes[at + 1] ?? 0);
    if (length === 0 || at + length > bytes.length)
      return fault(CONVERT_ERROR.malformed, `TLV ${type} is ${length} bytes long, ${bytes.length - at} are left`, bytes);
    // §6.2.1: each at most once.
    if (seen.has(type)) return fault(CONVERT_ERROR.malformed, `TLV ${type} appears twice`, bytes);
    seen.add(type);
    const tlv = parseTlv(type, bytes.subarray(at, at + length));
    if (tlv === null) return fault(CONVERT_ERROR.malformed, `TLV ${type} is malformed`, bytes);
    if (tlv === 'unknown') return fault(CONVERT_ERROR.unsupportedMessage, `TLV ${type} is unknown`, bytes);
    out.push(tlv);
    at += length;
  }
  return out;
}

function fault(code: number, message: string, echo: Uint8Array): ConvertFault {
  // Figure 23: a zero byte, then what was received, as far as a message has room.
  const room = 1016 - 4;
  return { fault: code, message, value: Uint8Array.from([0, ...echo.subarray(0, room & ~3)]) };
}

function parseTlv(type: number, bytes: Uint8Array): ConvertTlv | 'unknown' | null {
  const view = new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength);
  switch (type) {
    case TYPE.info:
      return bytes.length === 4 ? { type: 'info' } : null;
    case TYPE.connect: {
      if (bytes.length < 20) return null;
      const options = parseOptions(bytes.subarray(20));
      if (options === null) return null;
      const raw = bytes.slice(4, 20);
      const v4 = raw.subarray(0, 10).every((byte) => byte === 0) && raw[10] === 0xff && raw[11] === 0xff;
      return { type: 'connect', port: view.getUint16(2), address: formatAddress(v4 ? raw.slice(12) : raw), options };
    }
    case TYPE.extendedHeader:
      return { type: 'extended-header', options: bytes.slice(4) };
    case TYPE.supported:
      return { type: 'supported', kinds: [...bytes.subarray(4)].filter((kind) => kind !== 0) };
    case TYPE.cookie:
      return { type: 'cookie', cookie: bytes.slice(4) };
    case TYPE.error:
      return { type: 'error', error: bytes[2]!, value: bytes.slice(3) };
    default:
      return 'unknown';
  }
}

/** §6.2.5: kind, length, value; zeros pad. */
function parseOptions(bytes: Uint8Array): ConvertTcpOption[] | null {
  const out: ConvertTcpOption[] = [];
  for (let at = 0; at < bytes.length;) {
    const kind = bytes[at]!;
    if (kind === 0) return bytes.subarray(at).every((byte) => byte === 0) ? out : null;
    const length = bytes[at + 1] ?? 0;
    if (kind === 1 || length < 2 || at + length > bytes.length) return null;
    out.push({ kind, value: length === 2 ? null : bytes.slice(at + 2, at + length) });
    at += length;
  }
  return out;
}

/** A whole message: fixed header and TLVs. */
export function convertMessage(tlvs: readonly ConvertTlv[]): Uint8Array {
  const parts = tlvs.map(emitTlv);
  const length = CONVERT_HEADER + parts.reduce((sum, part) => sum + part.length, 0);
  const out = new Uint8Array(length);
  out[0] = CONVERT_VERSION;
  out[1] = length / 4;
  new DataView(out.buffer).setUint16(2, CONVERT_MAGIC);
  let at = CONVERT_HEADER;
  for (const part of parts) {
    out.set(part, at);
    at += part.length;
  }
  return out;
}

function emitTlv(tlv: ConvertTlv): Uint8Array {
  switch (tlv.type) {
    case 'info':
      return padded(TYPE.info, [0, 0]);
    case 'connect': {
      const bytes = parseIp(tlv.address) ?? new Uint8Array(4);
      const address = bytes.length === 16 ? bytes : [0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0xff, 0xff, ...bytes];
      const options = tlv.options.flatMap(({ kind, value }) => [kind, 2 + (value?.length ?? 0), ...(value ?? [])]);
      return padded(TYPE.connect, [tlv.port >>> 8, tlv.port & 0xff, ...address, ...options]);
    }
    case 'extended-header':
      return padded(TYPE.extendedHeader, [0, 0, ...tlv.options]);
    case 'supported':
      return padded(TYPE.supported, [0, 0, ...tlv.kinds]);
    case 'cookie':
      return padded(TYPE.cookie, [0, 0, ...tlv.cookie]);
    case 'error':
      return padded(TYPE.error, [tlv.error, ...(tlv.value.length === 0 ? [0] : tlv.value)]);
  }
}

function padded(type: number, value: readonly number[]): Uint8Array {
  const out = new Uint8Array((2 + value.length + 3) & ~3);
  out[0] = type;
  out[1] = out.length / 4;
  out.set(value, 2);
  return out;
}
