/** Multipath TCP options field by field (RFC 8684 §3, RFC 6824 §3), as Wireshark names them. */
import { CAPABLE_FLAG, DSS_FLAG, JOIN_FLAG, mptcpSubtype, RESET_FLAG, SUBTYPE } from '@subflow/wire';
import type { Value } from './values.ts';

const U64_SIZE = 8;

type Put = (name: string, value: Value) => void;

const P = 'tcp.options.mptcp';

/** Puts the fields of the option of `size` bytes at `at`, which lies within the header. */
export function dissectMptcp(bytes: Uint8Array, view: DataView, at: number, size: number, put: Put): void {
  const first = view.getUint8(at + 2);
  const subtype = mptcpSubtype(view, at);
  put(P, true);
  put(`${P}.subtype`, subtype);
  const end = at + size;
  switch (subtype) {
    case SUBTYPE.capable:
      capable(view, at, size, put);
      break;
    case SUBTYPE.join:
      join(bytes, view, at, size, put);
      break;
    case SUBTYPE.dss:
      if (size >= 4) dss(view, at, end, put);
      break;
    case SUBTYPE.addAddr:
      addAddr(bytes, view, at, size, put);
      break;
    case SUBTYPE.removeAddr:
      put('mptcp.rm_addr.count', size - 3);
      for (let i = at + 3; i < end; i++) put(`${P}.addrid`, view.getUint8(i));
      break;
    case SUBTYPE.prio:
      put(`${P}.flags`, first);
      put(`${P}.backup.flag`, first & JOIN_FLAG.backup);
      if (size === 4) put(`${P}.addrid`, view.getUint8(at + 3));
      break;
    case SUBTYPE.fail:
      if (size < 4) break;
      put(`${P}.reserved`, view.getUint16(at + 2) & 0xfff);
      if (size >= 12) put(`${P}.rawdataseqno`, view.getBigUint64(at + 4));
      break;
    case SUBTYPE.fastclose:
      if (size < 4) break;
      put(`${P}.reserved`, view.getUint16(at + 2) & 0xfff);
      if (size >= 12) put(`${P}.recvkey`, view.getBigUint64(at + 4));
      break;
    case SUBTYPE.tcprst:
      put(`${P}.flags`, first);
      put(`${P}.flag_U.flag`, (first & 8) !== 0);
      put(`${P}.flag_V.flag`, (first & 4) !== 0);
      put(`${P}.flag_W.flag`, (first & 2) !== 0);
      put(`${P}.flag_T.flag`, (first & RESET_FLAG.transient) !== 0);
      if (size >= 4) put(`${P}.rst_reason`, view.getUint8(at + 3));
      break;
    default:
      break;
  }
}

/** Lengths that MP_CAPABLE may have (RFC 8684 §3.1): with others, what follows the flags is not known. */
const CAPABLE_SIZES = [12, 20, 22, 24];

function capable(view: DataView, at: number, size: number, put: Put): void {
  const version = view.getUint8(at + 2) & 15;
  put(`${P}.version`, version);
  if (size < 4) return;
  const flags = view.getUint8(at + 3);
  put(`${P}.flags`, flags);
  put(`${P}.checksumreq.flags`, flags >>> 7);
  put(`${P}.extensibility.flag`, (flags >>> 6) & 1);
  if (version === 1) {
    put(`${P}.nomoresubflows.flag`, (flags >>> 5) & 1);
    put(`${P}.sha256.flag`, flags & CAPABLE_FLAG.sha256);
  } else {
    put(`${P}.sha1.flag`, flags & CAPABLE_FLAG.sha256);
  }
  put(`${P}.reserved.flag`, (flags & (version === 1 ? 0x1e : 0x3e)) >>> 1);
  if (!CAPABLE_SIZES.includes(size)) return;
  put(`${P}.sendkey`, view.getBigUint64(at + 4));
  if (size >= 20) put(`${P}.recvkey`, view.getBigUint64(at + 12));
  if (size >= 22) put(`${P}.datalvllen`, view.getUint16(at + 20));
  if (size >= 24) put(`${P}.checksum`, view.getUint16(at + 22));
}

function join(bytes: Uint8Array, view: DataView, at: number, size: number, put: Put): void {
  if (size === 12 || size === 16) {
    const flags = view.getUint8(at + 2);
    // Wireshark shows the whole octet, subtype included.
    put(`${P}.flags`, flags);
    put(`${P}.backup.flag`, flags & JOIN_FLAG.backup);
    put(`${P}.addrid`, view.getUint8(at + 3));
  }
  if (size === 12) {
    put(`${P}.recvtok`, view.getUint32(at + 4));
    put(`${P}.sendrand`, view.getUint32(at + 8));
  } else if (size === 16) {
    put(`${P}.sendtrunchmac`, view.getBigUint64(at + 4));
    put(`${P}.sendrand`, view.getUint32(at + 12));
  } else if (size === 24) {
    put(`${P}.reserved`, view.getUint16(at + 2) & 0xfff);
    put(`${P}.sendhmac`, whole(bytes, at + 4, 20));
  }
}

function dss(view: DataView, at: number, end: number, put: Put): void {
  const flags = view.getUint8(at + 3);
  put(`${P}.flags`, flags);
  put(`${P}.datafin.flag`, (flags >>> 4) & 1);
  put(`${P}.dseqn8.flag`, (flags >>> 3) & 1);
  put(`${P}.dseqnpresent.flag`, (flags >>> 2) & 1);
  put(`${P}.dataack8.flag`, (flags >>> 1) & 1);
  put(`${P}.dataackpresent.flag`, flags & DSS_FLAG.dataAck);
  let next = at + 4;
  if ((flags & DSS_FLAG.dataAck) !== 0) {
    const wide = (flags & DSS_FLAG.dataAck64) !== 0;
    if (next + (wide ? U64_SIZE : 4) > end) return;
    put(`${P}.rawdataack`, wide ? view.getBigUint64(next) : BigInt(view.getUint32(next)));
    next += wide ? U64_SIZE : 4;
  }
  if ((flags & DSS_FLAG.mapping) === 0) return;
  // An option that ends too soon shows what it has.
  const wide = (flags & DSS_FLAG.dsn64) !== 0;
  const size = wide ? U64_SIZE : 4;
  if (next + size > end) return;
  put(`${P}.rawdataseqno`, wide ? view.getBigUint64(next) : BigInt(view.getUint32(next)));
  next += size;
  if (next + 4 > end) return;
  put(`${P}.subflowseqno`, view.getUint32(next));
  if (next + 6 > end) return;
  put(`${P}.datalvllen`, view.getUint16(next + 4));
  if (next + 8 <= end) put(`${P}.checksum`, view.getUint16(next + 6));
}

/** Lengths of ADD_ADDR by what it holds (RFC 8684 §3.4.1, RFC 6824 §3.4.1): address alone, with port, with HMAC, with both. */
const ADD_ADDR_V4 = [8, 10, 16, 18];
const ADD_ADDR_V6 = [20, 22, 28, 30];

function addAddr(bytes: Uint8Array, view: DataView, at: number, size: number, put: Put): void {
  const nibble = view.getUint8(at + 2) & 15;
  // Version 0 has the IP version where version 1 has flags.
  if (nibble === 4 || nibble === 6) put(`${P}.ipver`, nibble);
  else put(`${P}.echo`, nibble & 1);
  if (size < 4) return;
  put(`${P}.addrid`, view.getUint8(at + 3));
  const v6 = ADD_ADDR_V6.includes(size);
  if (!v6 && !ADD_ADDR_V4.includes(size)) return;
  const length = v6 ? 16 : 4;
  put(`${P}.${v6 ? 'ipv6' : 'ipv4'}`, whole(bytes, at + 4, length));
  let next = at + 4 + length;
  const rest = size - 4 - length;
  if (rest === 2 || rest === 10) {
    put(`${P}.port`, view.getUint16(next));
    next += 2;
  }
  if (rest >= 8) put(`${P}.addaddrtrunchmac`, view.getBigUint64(next));
}

/** Bytes that must all be there; what a capture cut is no value. */
function whole(bytes: Uint8Array, at: number, length: number): Uint8Array {
  if (at + length > bytes.length) throw new RangeError('cut');
  return bytes.slice(at, at + length);
}
