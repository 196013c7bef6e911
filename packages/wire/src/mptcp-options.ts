/** Multipath TCP options of RFC 6824 (version 0) and RFC 8684 (version 1) as typed values. */
import { bytesAt } from './ipv4.ts';
import { Malformed } from './malformed.ts';

/** TCP option kind of all Multipath TCP options. */
export const MPTCP_KIND = 30;

/** Option subtypes (RFC 8684 §7.2). */
export const SUBTYPE = {
  capable: 0,
  join: 1,
  dss: 2,
  addAddr: 3,
  removeAddr: 4,
  prio: 5,
  fail: 6,
  fastclose: 7,
  tcprst: 8,
  experimental: 15,
} as const;

/** MP_CAPABLE flags (RFC 8684 §3.1). */
export const CAPABLE_FLAG = { checksum: 0x80, extensibility: 0x40, noJoin: 0x20, sha256: 0x01 } as const;
/** DSS flags (RFC 8684 §3.3, Figure 9). */
export const DSS_FLAG = { dataAck: 0x01, dataAck64: 0x02, mapping: 0x04, dsn64: 0x08, dataFin: 0x10 } as const;
/** Flags of MP_JOIN and MP_PRIO (RFC 8684 §3.2, §3.3.8). */
export const JOIN_FLAG = { backup: 0x01 } as const;
/** Flags of ADD_ADDR, version 1 (RFC 8684 §3.4.1). */
export const ADD_ADDR_FLAG = { echo: 0x01 } as const;
/** Flags of MP_TCPRST (RFC 8684 §3.6). */
export const RESET_FLAG = { transient: 0x01 } as const;
/** MP_TCPRST reasons (RFC 8684 §3.6). */
export const RESET_REASON = {
  unspecified: 0,
  mptcp: 1,
  resources: 2,
  prohibited: 3,
  outstanding: 4,
  performance: 5,
  middlebox: 6,
} as const;

/** A 64-bit number as two 32-bit halves (signed or unsigned int32, both accepted). */
export interface U64 {
  high: number;
  low: number;
}

export interface MpCapable {
  subtype: 'capable';
  version: number;
  flags: number;
  senderKey: U64 | null;
  receiverKey: U64 | null;
  /** Data-level length of the payload, on the first data only (RFC 8684 §3.1). */
  dataLength: number | null;
  checksum: number | null;
}

export interface MpJoinSyn {
  subtype: 'join-syn';
  /** The four flag bits, B is 1. */
  flags: number;
  addressId: number;
  token: number;
  nonce: number;
}

export interface MpJoinSynAck {
  subtype: 'join-synack';
  flags: number;
  addressId: number;
  /** Leftmost 64 bits of the HMAC. */
  hmac: Uint8Array;
  nonce: number;
}

export interface MpJoinAck {
  subtype: 'join-ack';
  /** The 12 reserved bits. */
  reserved: number;
  /** Leftmost 160 bits of the HMAC. */
  hmac: Uint8Array;
}

export interface Dss {
  subtype: 'dss';
  /** The whole flag octet and the four bits before it (12 bits); presence bits must agree with the fields. */
  flags: number;
  dataAck: U64 | null;
  dsn: U64 | null;
  ssn: number;
  dataLength: number;
  checksum: number | null;
}

export interface AddAddr {
  subtype: 'add-addr';
  /** Version 0 has the IP version where version 1 has flags (RFC 6824 §3.4.1). */
  version: 0 | 1;
  /** Version 1: the four flag bits, E is 1. Version 0: 4 or 6. */
  flags: number;
  addressId: number;
  address: Uint8Array;
  port: number | null;
  /** Rightmost 64 bits of the HMAC (version 1, E=0). */
  hmac: Uint8Array | null;
}

export interface RemoveAddr {
  subtype: 'remove-addr';
  flags: number;
  addressIds: number[];
}

export interface MpPrio {
  subtype: 'prio';
  /** The four flag bits, B is 1. */
  flags: number;
  /** Present in the four-byte form (RFC 6824 §3.3.8). */
  addressId: number | null;
}

export interface MpFail {
  subtype: 'fail';
  reserved: number;
  dsn: U64;
}

export interface MpFastclose {
  subtype: 'fastclose';
  reserved: number;
  receiverKey: U64;
}

export interface MpTcprst {
  subtype: 'tcprst';
  /** U, V, W, T; T (transient) is 1. */
  flags: number;
  reason: number;
}

/** A subtype, length or combination that neither RFC defines: kept as bytes. */
export interface MptcpUnknown {
  subtype: 'unknown';
  /** Everything after kind and length. */
  data: Uint8Array;
}

export type MptcpOption =
  | MpCapable
  | MpJoinSyn
  | MpJoinSynAck
  | MpJoinAck
  | Dss
  | AddAddr
  | RemoveAddr
  | MpPrio
  | MpFail
  | MpFastclose
  | MpTcprst
  | MptcpUnknown;

/** Parses the option whose kind octet is at `offset`; `length` is its length octet, already checked against the header. */
export function parseMptcpOption(view: DataView, offset: number, length: number): MptcpOption | Malformed {
  if (length < 3) return new Malformed('BAD_OPTION', offset, `Multipath TCP option of length ${length}, expected 3 or more`);
  const first = view.getUint8(offset + 2);
  const nibble = first & 15;
  switch (first >>> 4) {
    case SUBTYPE.capable:
      if (length === 4 || length === 12 || length === 20 || length === 22 || length === 24) {
        return {
          subtype: 'capable',
          version: nibble,
          flags: view.getUint8(offset + 3),
          senderKey: length >= 12 ? u64(view, offset + 4) : null,
          receiverKey: length >= 20 ? u64(view, offset + 12) : null,
          dataLength: length >= 22 ? view.getUint16(offset + 20) : null,
          checksum: length === 24 ? view.getUint16(offset + 22) : null,
        };
      }
      break;
    case SUBTYPE.join:
      if (length === 12) {
        return {
          subtype: 'join-syn',
          flags: nibble,
          addressId: view.getUint8(offset + 3),
          token: view.getUint32(offset + 4),
          nonce: view.getUint32(offset + 8),
        };
      }
      if (length === 16) {
        return {
          subtype: 'join-synack',
          flags: nibble,
          addressId: view.getUint8(offset + 3),
          hmac: bytesAt(view, offset + 4, 8),
          nonce: view.getUint32(offset + 12),
        };
      }
      if (length === 24) return { subtype: 'join-ack', reserved: view.getUint16(offset + 2) & 0xfff, hmac: bytesAt(view, offset + 4, 20) };
      break;
    case SUBTYPE.dss:
      return parseDss(view, offset, length) ?? unknown(view, offset, length);
    case SUBTYPE.addAddr:
      return parseAddAddr(view, offset, length, nibble) ?? unknown(view, offset, length);
    case SUBTYPE.removeAddr:
      if (length > 3) return { subtype: 'remove-addr', flags: nibble, addressIds: Array.from(bytesAt(view, offset + 3, length - 3)) };
      break;
    case SUBTYPE.prio:
      if (length === 3) return { subtype: 'prio', flags: nibble, addressId: null };
      if (length === 4) return { subtype: 'prio', flags: nibble, addressId: view.getUint8(offset + 3) };
      break;
    case SUBTYPE.fail:
      if (length === 12) return { subtype: 'fail', reserved: view.getUint16(offset + 2) & 0xfff, dsn: u64(view, offset + 4) };
      break;
    case SUBTYPE.fastclose:
      if (length === 12) return { subtype: 'fastclose', reserved: view.getUint16(offset + 2) & 0xfff, receiverKey: u64(view, offset + 4) };
      break;
    case SUBTYPE.tcprst:
      if (length === 4) return { subtype: 'tcprst', flags: nibble, reason: view.getUint8(offset + 3) };
      break;
    default:
      break;
  }
  return unknown(view, offset, length);
}

/** Length on the wire of an option, kind and length octets included. */
export function mptcpOptionLength(option: MptcpOption): number {
  switch (option.subtype) {
    case 'capable':
      return option.checksum !== null ? 24 : option.dataLength !== null ? 22 : option.receiverKey !== null ? 20 : option.senderKey !== null ? 12 : 4;
    case 'join-syn':
      return 12;
    case 'join-synack':
      return 16;
    case 'join-ack':
      return 24;
    case 'dss':
      return dssLength(option.flags, option.checksum !== null);
    case 'add-addr':
      return 4 + option.address.length + (option.port !== null ? 2 : 0) + (option.hmac !== null ? 8 : 0);
    case 'remove-addr':
      return 3 + option.addressIds.length;
    case 'prio':
      return option.addressId === null ? 3 : 4;
    case 'fail':
    case 'fastclose':
      return 12;
    case 'tcprst':
      return 4;
    case 'unknown':
      return 2 + option.data.length;
  }
}

/** Length of a DSS option with these flags (RFC 8684 §3.3, Figure 9). */
export function dssLength(flags: number, checksum: boolean): number {
  let length = 4;
  if ((flags & DSS_FLAG.dataAck) !== 0) length += (flags & DSS_FLAG.dataAck64) !== 0 ? 8 : 4;
  if ((flags & DSS_FLAG.mapping) !== 0) length += ((flags & DSS_FLAG.dsn64) !== 0 ? 8 : 4) + 6 + (checksum ? 2 : 0);
  return length;
}

/** Writes an option at `offset`. Returns the bytes written. */
export function emitMptcpOption(option: MptcpOption, view: DataView, offset: number): number {
  const length = mptcpOptionLength(option);
  view.setUint8(offset, MPTCP_KIND);
  view.setUint8(offset + 1, length);
  const at = offset + 2;
  switch (option.subtype) {
    case 'capable':
      view.setUint8(at, (SUBTYPE.capable << 4) | option.version);
      view.setUint8(at + 1, option.flags);
      if (option.senderKey !== null) putU64(view, at + 2, option.senderKey);
      if (option.receiverKey !== null) putU64(view, at + 10, option.receiverKey);
      if (option.dataLength !== null) view.setUint16(at + 18, option.dataLength);
      if (option.checksum !== null) view.setUint16(at + 20, option.checksum);
      break;
    case 'join-syn':
      view.setUint8(at, (SUBTYPE.join << 4) | option.flags);
      view.setUint8(at + 1, option.addressId);
      view.setUint32(at + 2, option.token);
      view.setUint32(at + 6, option.nonce);
      break;
    case 'join-synack':
      view.setUint8(at, (SUBTYPE.join << 4) | option.flags);
      view.setUint8(at + 1, option.addressId);
      putBytes(view, at + 2, option.hmac);
      view.setUint32(at + 10, option.nonce);
      break;
    case 'join-ack':
      view.setUint16(at, (SUBTYPE.join << 12) | option.reserved);
      putBytes(view, at + 2, option.hmac);
      break;
    case 'dss':
      emitDss(option, view, at);
      break;
    case 'add-addr': {
      view.setUint8(at, (SUBTYPE.addAddr << 4) | option.flags);
      view.setUint8(at + 1, option.addressId);
      putBytes(view, at + 2, option.address);
      let next = at + 2 + option.address.length;
      if (option.port !== null) {
        view.setUint16(next, option.port);
        next += 2;
      }
      if (option.hmac !== null) putBytes(view, next, option.hmac);
      break;
    }
    case 'remove-addr':
      view.setUint8(at, (SUBTYPE.removeAddr << 4) | option.flags);
      for (let i = 0; i < option.addressIds.length; i++) view.setUint8(at + 1 + i, option.addressIds[i]!);
      break;
    case 'prio':
      view.setUint8(at, (SUBTYPE.prio << 4) | option.flags);
      if (option.addressId !== null) view.setUint8(at + 1, option.addressId);
      break;
    case 'fail':
      view.setUint16(at, (SUBTYPE.fail << 12) | option.reserved);
      putU64(view, at + 2, option.dsn);
      break;
    case 'fastclose':
      view.setUint16(at, (SUBTYPE.fastclose << 12) | option.reserved);
      putU64(view, at + 2, option.receiverKey);
      break;
    case 'tcprst':
      view.setUint8(at, (SUBTYPE.tcprst << 4) | option.flags);
      view.setUint8(at + 1, option.reason);
      break;
    case 'unknown':
      putBytes(view, at, option.data);
      break;
  }
  return length;
}

function parseDss(view: DataView, offset: number, length: number): Dss | null {
  if (length < 4) return null;
  const flags = view.getUint16(offset + 2) & 0xfff;
  const plain = dssLength(flags, false);
  const hasMapping = (flags & DSS_FLAG.mapping) !== 0;
  const checksummed = hasMapping && length === plain + 2;
  if (length !== plain && !checksummed) return null;
  let at = offset + 4;
  let dataAck: U64 | null = null;
  if ((flags & DSS_FLAG.dataAck) !== 0) {
    const wide = (flags & DSS_FLAG.dataAck64) !== 0;
    dataAck = wide ? u64(view, at) : { high: 0, low: view.getUint32(at) };
    at += wide ? 8 : 4;
  }
  const dss: Dss = { subtype: 'dss', flags, dataAck, dsn: null, ssn: 0, dataLength: 0, checksum: null };
  if (!hasMapping) return dss;
  const wide = (flags & DSS_FLAG.dsn64) !== 0;
  dss.dsn = wide ? u64(view, at) : { high: 0, low: view.getUint32(at) };
  at += wide ? 8 : 4;
  dss.ssn = view.getUint32(at);
  dss.dataLength = view.getUint16(at + 4);
  if (checksummed) dss.checksum = view.getUint16(at + 6);
  return dss;
}

function emitDss(dss: Dss, view: DataView, offset: number): void {
  view.setUint16(offset, (SUBTYPE.dss << 12) | dss.flags);
  let at = offset + 2;
  if (dss.dataAck !== null) {
    if ((dss.flags & DSS_FLAG.dataAck64) !== 0) {
      putU64(view, at, dss.dataAck);
      at += 8;
    } else {
      view.setUint32(at, dss.dataAck.low);
      at += 4;
    }
  }
  if (dss.dsn === null) return;
  if ((dss.flags & DSS_FLAG.dsn64) !== 0) {
    putU64(view, at, dss.dsn);
    at += 8;
  } else {
    view.setUint32(at, dss.dsn.low);
    at += 4;
  }
  view.setUint32(at, dss.ssn);
  view.setUint16(at + 4, dss.dataLength);
  if (dss.checksum !== null) view.setUint16(at + 6, dss.checksum);
}

function parseAddAddr(view: DataView, offset: number, length: number, nibble: number): AddAddr | null {
  // The IP version in the low nibble tells version 0 (RFC 6824 §3.4.1) from version 1's flags (RFC 8684 §3.4.1).
  const version = (nibble === 4 && (length === 8 || length === 10)) || (nibble === 6 && (length === 20 || length === 22)) ? 0 : 1;
  const body = length - 4;
  const v6 = body >= 16;
  const rest = body - (v6 ? 16 : 4);
  // rest: 0 nothing, 2 port, 8 HMAC, 10 port and HMAC. With IPv4, 16 bytes and more are an IPv6 body.
  if (rest !== 0 && rest !== 2 && rest !== 8 && rest !== 10) return null;
  const size = v6 ? 16 : 4;
  const hasPort = rest === 2 || rest === 10;
  const hasHmac = rest >= 8;
  let at = offset + 4 + size;
  const port = hasPort ? view.getUint16(at) : null;
  if (hasPort) at += 2;
  return {
    subtype: 'add-addr',
    version,
    flags: nibble,
    addressId: view.getUint8(offset + 3),
    address: bytesAt(view, offset + 4, size),
    port,
    hmac: hasHmac ? bytesAt(view, at, 8) : null,
  };
}

function unknown(view: DataView, offset: number, length: number): MptcpUnknown {
  return { subtype: 'unknown', data: bytesAt(view, offset + 2, length - 2) };
}

function u64(view: DataView, offset: number): U64 {
  return { high: view.getUint32(offset), low: view.getUint32(offset + 4) };
}

function putU64(view: DataView, offset: number, value: U64): void {
  view.setInt32(offset, value.high | 0);
  view.setInt32(offset + 4, value.low | 0);
}

function putBytes(view: DataView, offset: number, bytes: Uint8Array): void {
  for (let i = 0; i < bytes.length; i++) view.setUint8(offset + i, bytes[i]!);
}
