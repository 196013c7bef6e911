/** The kernel's sockets by NETLINK_SOCK_DIAG, as `ss -M` and `ss -ti` see them (linux/inet_diag.h, linux/mptcp.h). */
import { readFileSync } from 'node:fs';
import { networkInterfaces } from 'node:os';
import { formatAddress, parseAddress } from '@subflow/wire';
import { LinkError } from './errors.ts';
import { parseMptcpInfo } from './mptcp-sockopt.ts';
import type { KernelMptcpInfo } from './mptcp-sockopt.ts';
import { AttributeWriter, NETLINK_SOCK_DIAG, NetlinkClient, parseAttributes, u32, u8 } from './netlink.ts';
import { IPPROTO_MPTCP, IPPROTO_TCP } from './system.ts';
import { parseTcpInfo, tcpStateName } from './tcp-info.ts';
import type { KernelTcpInfo } from './tcp-info.ts';

const SOCK_DIAG_BY_FAMILY = 20;
const AF_INET = 2;
const AF_INET6 = 10;
const INET_DIAG_REQ_PROTOCOL = 3;
/** Length of struct inet_diag_req_v2 and of struct inet_diag_msg. */
const REQUEST = 56;
const MESSAGE = 72;
const ATTR = { info: 2, congestion: 4, ulp: 19 } as const;
const ULP_NAME = 1;
const ULP_MPTCP = 3;
const MPTCP_ATTR = { remoteToken: 1, localToken: 2, flags: 8, remoteId: 9, localId: 10 } as const;
const FLAG = { backupRemote: 16, backupLocal: 32 } as const;
const LISTEN = 10;
const ALL_STATES = 0xfff;

export interface DiagnosedSocket {
  local: string;
  localPort: number;
  remote: string;
  remotePort: number;
  state: string;
  interfaceIndex: number;
  inode: number;
  uid: number;
  sendQueue: number;
  receiveQueue: number;
}

/** A connection of the kernel, as the application has it. */
export interface DiagnosedConnection extends DiagnosedSocket {
  info: KernelMptcpInfo | null;
}

/** A TCP socket that is a subflow. */
export interface DiagnosedSubflow extends DiagnosedSocket {
  /** Tokens under which each end knows the connection. */
  localToken: number;
  remoteToken: number;
  localId: number;
  remoteId: number;
  backupLocal: boolean;
  backupRemote: boolean;
  tcp: KernelTcpInfo | null;
  congestion: string | null;
}

interface Found extends DiagnosedSocket {
  attributes: Map<number, Uint8Array>;
}

/** Multipath TCP connections of this namespace, listeners not counted. Throws {@link LinkError}. */
export function diagnoseConnections(): DiagnosedConnection[] {
  return dump(IPPROTO_MPTCP, ALL_STATES & ~(1 << LISTEN)).map(({ attributes, ...socket }) => {
    const info = attributes.get(ATTR.info);
    return { ...socket, info: info === undefined ? null : parseMptcpInfo(info) };
  });
}

/** Subflows of this namespace. */
export function diagnoseSubflows(): DiagnosedSubflow[] {
  return dump(IPPROTO_TCP, ALL_STATES & ~(1 << LISTEN)).flatMap((one) => {
    const subflow = subflowOf(one);
    return subflow === null ? [] : [subflow];
  });
}

let failed = false;

/** What the kernel knows of one subflow; null when it is gone, or the kernel does not tell us. */
export function subflowDiagnosis(tuple: { local: string; localPort: number; remote: string; remotePort: number }): DiagnosedSubflow | null {
  if (failed) return null;
  // A subflow of an endpoint with a device is bound to it, and found only under its index.
  for (const index of [0, interfaceIndexOf(tuple.local)]) {
    if (index === null) break;
    try {
      const [found] = ask(IPPROTO_TCP, ALL_STATES, { ...tuple, index });
      if (found !== undefined) return subflowOf(found);
    } catch (error) {
      // ENOENT: not there. No privilege: it will not be different the next time.
      if (error instanceof LinkError && error.code === 'NO_PRIVILEGE') failed = true;
    }
  }
  return null;
}

function interfaceIndexOf(address: string): number | null {
  const bare = address.replace(/^::ffff:/, '');
  for (const [name, addresses] of Object.entries(networkInterfaces())) {
    if (addresses?.some((one) => one.address === bare) !== true) continue;
    try {
      return Number(readFileSync(`/sys/class/net/${name}/ifindex`, 'utf8'));
    } catch {
      return null;
    }
  }
  return null;
}

function subflowOf({ attributes, ...socket }: Found): DiagnosedSubflow | null {
  const ulp = attributes.get(ATTR.ulp);
  if (ulp === undefined) return null;
  const nested = parseAttributes(ulp);
  const name = nested.get(ULP_NAME);
  const mptcp = nested.get(ULP_MPTCP);
  if (name === undefined || text(name) !== 'mptcp' || mptcp === undefined) return null;
  const fields = parseAttributes(mptcp);
  const flags = u32(fields, MPTCP_ATTR.flags) ?? 0;
  const info = attributes.get(ATTR.info);
  const congestion = attributes.get(ATTR.congestion);
  return {
    ...socket,
    localToken: u32(fields, MPTCP_ATTR.localToken) ?? 0,
    remoteToken: u32(fields, MPTCP_ATTR.remoteToken) ?? 0,
    localId: u8(fields, MPTCP_ATTR.localId) ?? 0,
    remoteId: u8(fields, MPTCP_ATTR.remoteId) ?? 0,
    backupLocal: (flags & FLAG.backupLocal) !== 0,
    backupRemote: (flags & FLAG.backupRemote) !== 0,
    tcp: info === undefined ? null : parseTcpInfo(info),
    congestion: congestion === undefined ? null : text(congestion),
  };
}

function text(bytes: Uint8Array): string {
  const end = bytes.indexOf(0);
  return new TextDecoder().decode(end < 0 ? bytes : bytes.subarray(0, end));
}

function dump(protocol: number, states: number): Found[] {
  return ask(protocol, states, null);
}

let client: NetlinkClient | null = null;

/** One socket, or all of both families. */
function ask(protocol: number, states: number, tuple: { local: string; localPort: number; remote: string; remotePort: number; index: number } | null): Found[] {
  client ??= new NetlinkClient(NETLINK_SOCK_DIAG);
  const extra = protocol > 255 ? new AttributeWriter().u32(INET_DIAG_REQ_PROTOCOL, protocol).done() : new Uint8Array(0);
  const out: Found[] = [];
  const families = tuple === null ? [AF_INET, AF_INET6] : [tuple.local.includes(':') ? AF_INET6 : AF_INET];
  for (const family of families) {
    const request = new Uint8Array(REQUEST + extra.length);
    const view = new DataView(request.buffer);
    request[0] = family;
    request[1] = Math.min(protocol, 255);
    request[2] = (1 << (ATTR.info - 1)) | (1 << (ATTR.congestion - 1));
    view.setUint32(4, states, true);
    if (tuple !== null) {
      view.setUint16(8, tuple.localPort);
      view.setUint16(10, tuple.remotePort);
      request.set(parseAddress(tuple.local), 12);
      request.set(parseAddress(tuple.remote), 28);
      view.setUint32(44, tuple.index, true);
    }
    // No cookie: any socket with these addresses.
    view.setUint32(48, 0xffffffff, true);
    view.setUint32(52, 0xffffffff, true);
    request.set(extra, REQUEST);
    for (const { type, payload } of client.request('sock_diag', SOCK_DIAG_BY_FAMILY, request, tuple === null)) {
      if (type === SOCK_DIAG_BY_FAMILY && payload.length >= MESSAGE) out.push(foundOf(payload));
    }
  }
  return out;
}

function foundOf(bytes: Uint8Array): Found {
  const view = new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength);
  const size = bytes[0] === AF_INET ? 4 : 16;
  return {
    state: tcpStateName(bytes[1]!),
    localPort: view.getUint16(4),
    remotePort: view.getUint16(6),
    local: formatAddress(bytes.slice(8, 8 + size)),
    remote: formatAddress(bytes.slice(24, 24 + size)),
    interfaceIndex: view.getUint32(40, true),
    receiveQueue: view.getUint32(56, true),
    sendQueue: view.getUint32(60, true),
    uid: view.getUint32(64, true),
    inode: view.getUint32(68, true),
    attributes: parseAttributes(bytes.subarray(MESSAGE)),
  };
}
