/** What the kernel tells of a Multipath TCP socket: MPTCP_INFO, MPTCP_FULL_INFO, MPTCP_TCPINFO, MPTCP_SUBFLOW_ADDRS (linux/mptcp.h). */
import { formatAddress } from '@subflow/wire';
import { addressOfBuffer, socketOption } from './system.ts';
import { parseTcpInfo } from './tcp-info.ts';
import type { KernelTcpInfo } from './tcp-info.ts';

const SOL_MPTCP = 284;
const MPTCP_INFO = 1;
const MPTCP_TCPINFO = 2;
const MPTCP_SUBFLOW_ADDRS = 3;
const MPTCP_FULL_INFO = 4;
const FLAG_FALLBACK = 1;
const FLAG_REMOTE_KEY = 2;

/** What MPTCP_INFO says. */
export interface KernelMptcpInfo {
  /** Subflows beyond the first. */
  subflows: number;
  addAddrSignal: number;
  addAddrAccepted: number;
  fallback: boolean;
  remoteKeyReceived: boolean;
  /** Token under which this end knows the connection. */
  token: number;
  checksum: boolean;
  /** All subflows, the first included (Linux 6.5 and later; -1 before). */
  subflowsTotal: number;
  /** Data-level retransmissions (reinjections), bytes; Linux 6.5 and later, 0 before. */
  bytesRetransmitted: number;
  bytesSent: number;
  bytesReceived: number;
}

const INFO_SIZE = 128;

/** Null when the socket is plain TCP. */
export function readMptcpInfo(fd: number): KernelMptcpInfo | null {
  const bytes = fd < 0 ? null : socketOption(fd, SOL_MPTCP, MPTCP_INFO, INFO_SIZE);
  return bytes === null ? null : parseMptcpInfo(bytes);
}

export function parseMptcpInfo(bytes: Uint8Array): KernelMptcpInfo {
  const view = new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength);
  const u64 = (at: number): number => (at + 8 <= bytes.length ? Number(view.getBigUint64(at, true)) : 0);
  const flags = view.getUint32(8, true);
  return {
    subflows: view.getUint8(0),
    addAddrSignal: view.getUint8(1),
    addAddrAccepted: view.getUint8(2),
    fallback: (flags & FLAG_FALLBACK) !== 0,
    remoteKeyReceived: (flags & FLAG_REMOTE_KEY) !== 0,
    token: view.getUint32(12, true),
    checksum: bytes.length > 42 && view.getUint8(42) !== 0,
    subflowsTotal: bytes.length > 80 ? view.getUint8(80) : -1,
    bytesRetransmitted: u64(48),
    bytesSent: u64(56),
    bytesReceived: u64(64),
  };
}

export interface KernelSubflow {
  /** The kernel's number of the subflow; -1 where it gives none (before 6.5). */
  id: number;
  local: string;
  localPort: number;
  remote: string;
  remotePort: number;
  tcp: KernelTcpInfo;
}

const HEADER = 16;
const STORAGE = 128;
const ADDRESSES = 2 * STORAGE;
const SUBFLOW_INFO = 8 + ADDRESSES;
const TCP_INFO = 256;
const FULL_INFO = 40;
const MOST = 64;

/** The subflows of a Multipath TCP socket; null when it is plain TCP. */
export function readSubflows(fd: number): KernelSubflow[] | null {
  return fd < 0 ? null : (fullInfo(fd) ?? oldInfo(fd));
}

/** MPTCP_FULL_INFO (Linux 6.5): all in one call, so that rows belong together. */
function fullInfo(fd: number): KernelSubflow[] | null {
  const subflows = Buffer.alloc(SUBFLOW_INFO * MOST);
  const tcp = Buffer.alloc(TCP_INFO * MOST);
  const request = new Uint8Array(FULL_INFO + INFO_SIZE);
  const view = new DataView(request.buffer);
  view.setUint32(4, TCP_INFO, true);
  view.setUint32(12, SUBFLOW_INFO, true);
  view.setUint32(20, MOST, true);
  view.setBigUint64(24, addressOfBuffer(subflows), true);
  view.setBigUint64(32, addressOfBuffer(tcp), true);
  const answer = socketOption(fd, SOL_MPTCP, MPTCP_FULL_INFO, request.length, request);
  if (answer === null) return null;
  const out = new DataView(answer.buffer, answer.byteOffset);
  const tcpSize = out.getUint32(4, true);
  const subflowSize = out.getUint32(12, true);
  const count = Math.min(MOST, out.getUint32(16, true));
  return Array.from({ length: count }, (_, i) => {
    const at = i * subflowSize;
    return {
      id: subflows.readUInt32LE(at),
      ...endpoints(subflows.subarray(at + (subflowSize === SUBFLOW_INFO ? 8 : 4))),
      tcp: parseTcpInfo(tcp.subarray(i * tcpSize, (i + 1) * tcpSize)),
    };
  });
}

function oldInfo(fd: number): KernelSubflow[] | null {
  const addresses = records(fd, MPTCP_SUBFLOW_ADDRS, ADDRESSES);
  const infos = records(fd, MPTCP_TCPINFO, TCP_INFO);
  if (addresses === null || infos === null) return null;
  return addresses.map((bytes, i) => ({ id: -1, ...endpoints(bytes), tcp: parseTcpInfo(infos[i] ?? new Uint8Array(0)) }));
}

/** The answer of an option that gives one record for each subflow, after struct mptcp_subflow_data. */
function records(fd: number, option: number, size: number): Uint8Array[] | null {
  const request = new Uint8Array(HEADER);
  const view = new DataView(request.buffer);
  view.setUint32(0, HEADER, true);
  view.setUint32(12, size, true);
  const answer = socketOption(fd, SOL_MPTCP, option, HEADER + MOST * size, request);
  if (answer === null) return null;
  const count = new DataView(answer.buffer, answer.byteOffset).getUint32(4, true);
  const used = new DataView(answer.buffer, answer.byteOffset).getUint32(12, true);
  return Array.from({ length: Math.min(MOST, count) }, (_, i) => answer.subarray(HEADER + i * used, HEADER + (i + 1) * used));
}

function endpoints(bytes: Uint8Array): { local: string; localPort: number; remote: string; remotePort: number } {
  const local = socketAddressOf(bytes);
  const remote = socketAddressOf(bytes.subarray(STORAGE));
  return { local: local.address, localPort: local.port, remote: remote.address, remotePort: remote.port };
}

function socketAddressOf(bytes: Uint8Array): { address: string; port: number } {
  const view = new DataView(bytes.buffer, bytes.byteOffset);
  const family = view.getUint16(0, true);
  const port = view.getUint16(2);
  return { address: formatAddress(family === 2 ? bytes.slice(4, 8) : bytes.slice(8, 24)), port };
}
