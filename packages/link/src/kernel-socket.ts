/** Kernel Multipath TCP sockets for Node: Node itself has no way to ask for IPPROTO_MPTCP. */
import { readFileSync } from 'node:fs';
import { createServer, Socket } from 'node:net';
import type { Server } from 'node:net';
import { LinkError } from './errors.ts';
import { readMptcpInfo } from './mptcp-sockopt.ts';
import type { KernelMptcpInfo } from './mptcp-sockopt.ts';
import { bindAndListen, close, IPPROTO_MPTCP, IPPROTO_TCP, errnoName, setSocketOption, startConnect, streamSocket } from './system.ts';

const SOL_SOCKET = 1;
const SO_REUSEPORT = 15;
const TCP_CONGESTION = 13;
const TCP_FASTOPEN_CONNECT = 30;

/** Whether the kernel speaks Multipath TCP; if not, why. */
export function kernelMptcpObstacle(): LinkError | null {
  let enabled = '';
  try {
    enabled = readFileSync('/proc/sys/net/mptcp/enabled', 'utf8').trim();
  } catch {
    return new LinkError('NO_KERNEL_MPTCP', 'no /proc/sys/net/mptcp: this kernel has no Multipath TCP; expected Linux 5.6 or later with CONFIG_MPTCP');
  }
  if (enabled !== '1') return new LinkError('NO_KERNEL_MPTCP', `net.mptcp.enabled is ${enabled}; expected 1 (sysctl -w net.mptcp.enabled=1)`);
  const fd = streamSocket(4, IPPROTO_MPTCP);
  if (fd < 0) return new LinkError('NO_KERNEL_MPTCP', `socket(IPPROTO_MPTCP): ${errnoName(-fd)}`);
  close(fd);
  return null;
}

function newSocket(family: 4 | 6, multipath: boolean, congestion: string | null): number {
  const fd = streamSocket(family, multipath ? IPPROTO_MPTCP : IPPROTO_TCP);
  if (fd < 0) throw new LinkError(multipath ? 'NO_KERNEL_MPTCP' : 'SYSTEM_CALL', `socket: ${errnoName(-fd)}`);
  if (congestion !== null) setSocketOption(fd, IPPROTO_TCP, TCP_CONGESTION, new TextEncoder().encode(congestion));
  return fd;
}

/** A stream socket that Node can adopt; -errno when the system has none. */
export function kernelSocket(family: 4 | 6, multipath: boolean): number {
  return streamSocket(family, multipath ? IPPROTO_MPTCP : IPPROTO_TCP);
}

/** Lets several sockets listen on one port. */
export function setReusePort(fd: number): void {
  setSocketOption(fd, SOL_SOCKET, SO_REUSEPORT, new Uint8Array([1, 0, 0, 0]));
}

/** Chooses the congestion controller of a socket not yet connected. Returns whether the kernel took it. */
export function setCongestion(fd: number, name: string): boolean {
  try {
    setSocketOption(fd, IPPROTO_TCP, TCP_CONGESTION, new TextEncoder().encode(name));
    return true;
  } catch {
    return false;
  }
}

/** A listening kernel socket under a `net.Server`. Throws {@link LinkError} `PORT_IN_USE` and others. */
export function kernelServer(address: Uint8Array, port: number, options: { multipath?: boolean; congestion?: string } = {}): Server {
  const fd = kernelListener(address, port, options);
  const server = createServer();
  server.listen({ fd });
  return server;
}

/** A listening descriptor for any Node server (`http.Server.listen({ fd })`). */
export function kernelListener(address: Uint8Array, port: number, options: { multipath?: boolean; congestion?: string } = {}): number {
  const fd = newSocket(address.length === 4 ? 4 : 6, options.multipath ?? true, options.congestion ?? null);
  try {
    bindAndListen(fd, address, port, 128);
  } catch (error) {
    close(fd);
    throw error;
  }
  return fd;
}

/** A connecting kernel socket under a `net.Socket`; errors come as its events. */
export function kernelConnect(address: Uint8Array, port: number, options: { multipath?: boolean; congestion?: string; fastOpen?: boolean } = {}): Socket {
  const fd = newSocket(address.length === 4 ? 4 : 6, options.multipath ?? true, options.congestion ?? null);
  // The SYN goes out with the first write (RFC 7413), once the kernel knows a cookie.
  if (options.fastOpen === true) setSocketOption(fd, IPPROTO_TCP, TCP_FASTOPEN_CONNECT, new Uint8Array([1, 0, 0, 0]));
  try {
    startConnect(fd, address, port);
  } catch (error) {
    close(fd);
    throw error;
  }
  return new Socket({ fd, readable: true, writable: true });
}

/** MPTCP_INFO of a kernel socket that Node holds; null when it is plain TCP. */
export function mptcpInfo(socket: Socket): KernelMptcpInfo | null {
  return readMptcpInfo((socket as unknown as { _handle: { fd: number } | null })._handle?.fd ?? -1);
}
