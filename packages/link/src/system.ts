/** The few system calls that Node does not offer, through koffi (about 100 ns a call, no compiler needed). Linux x86-64 and arm64. */
import koffi from 'koffi';
import { constants } from 'node:os';
import { ipDestination, PROTOCOL } from '@subflow/wire';
import { LinkError } from './errors.ts';

const libc = koffi.load(null);
const open_ = libc.func('int open(const char *path, int flags)');
const close_ = libc.func('int close(int fd)');
const ioctlPointer_ = libc.func('int ioctl(int fd, unsigned long request, _Inout_ uint8_t *argument)');
const ioctlValue_ = libc.func('int ioctl(int fd, unsigned long request, unsigned long argument)');
const read_ = libc.func('long read(int fd, void *buffer, unsigned long length)');
const write_ = libc.func('long write(int fd, const void *buffer, unsigned long length)');
const socket_ = libc.func('int socket(int domain, int type, int protocol)');
const bind_ = libc.func('int bind(int fd, const void *address, unsigned int length)');
const listen_ = libc.func('int listen(int fd, int backlog)');
const connect_ = libc.func('int connect(int fd, const void *address, unsigned int length)');
const sendto_ = libc.func('long sendto(int fd, const void *buffer, unsigned long length, int flags, const void *address, unsigned int size)');
const getsockname_ = libc.func('int getsockname(int fd, _Out_ uint8_t *address, _Inout_ uint8_t *length)');
const getsockopt_ = libc.func('int getsockopt(int fd, int level, int name, void *value, void *length)');
const setsockopt_ = libc.func('int setsockopt(int fd, int level, int name, const void *value, unsigned int length)');
const if_nametoindex_ = libc.func('unsigned int if_nametoindex(const char *name)');
const setns_ = libc.func('int setns(int fd, int kind)');
const fcntl_ = libc.func('int fcntl(int fd, int command, long argument)');
const recv_ = libc.func('long recv(int fd, void *buffer, unsigned long length, int flags)');

export const O_RDWR = 2;
export const O_NONBLOCK = 0o4000;
export const O_CLOEXEC = 0o2000000;
export const EAGAIN = constants.errno.EAGAIN;

/** Name of an errno value, for messages. */
export function errnoName(value: number): string {
  return Object.entries(constants.errno).find(([, number]) => number === value)?.[0] ?? `errno ${value}`;
}

/** errno of the last failed call. */
export function errno(): number {
  return koffi.errno();
}

function check(result: number, call: string): number {
  if (result >= 0) return result;
  throw new LinkError('SYSTEM_CALL', `${call}: ${errnoName(koffi.errno())}`);
}

/** Index of an interface of this network namespace. Throws {@link LinkError} `NO_DEVICE`. */
export function interfaceIndex(name: string): number {
  const index = if_nametoindex_(name) as number;
  if (index === 0) throw new LinkError('NO_DEVICE', `no interface "${name}" here`);
  return index;
}

const CLONE_NEWNET = 0x40000000;

/** What `work` does at once, it does in another network namespace: this thread's system calls, nothing asynchronous. Throws {@link LinkError}. */
export function inNetworkNamespace<T>(path: string, work: () => T): T {
  const own = open('/proc/thread-self/ns/net', O_CLOEXEC);
  const other = open(path, O_CLOEXEC);
  try {
    if (other < 0) throw new LinkError('NO_DEVICE', `no network namespace ${path}`);
    check(setns_(other, CLONE_NEWNET) as number, 'setns');
    try {
      return work();
    } finally {
      check(setns_(own, CLONE_NEWNET) as number, 'setns');
    }
  } finally {
    close(other);
    close(own);
  }
}

export function open(path: string, flags: number): number {
  return open_(path, flags) as number;
}

export function close(fd: number): void {
  close_(fd);
}

const SIOCGSKNS = 0x894c;

/** A descriptor of the network namespace of a socket; negative when the system does not tell (CAP_NET_ADMIN). */
export function namespaceOfSocket(fd: number): number {
  return ioctlValue_(fd, SIOCGSKNS, 0) as number;
}

const F_DUPFD_CLOEXEC = 1030;

/** Another descriptor of the same file. Throws {@link LinkError}. */
export function duplicate(fd: number): number {
  return check(fcntl_(fd, F_DUPFD_CLOEXEC, 0) as number, 'fcntl F_DUPFD_CLOEXEC');
}

/** ioctl with a pointer; the buffer is passed in and out. */
export function ioctl(fd: number, request: number, argument: Uint8Array): number {
  return ioctlPointer_(fd, request, argument) as number;
}

export function ioctlValue(fd: number, request: number, argument: number): number {
  return ioctlValue_(fd, request, argument) as number;
}

/** Bytes read, or -errno. */
export function read(fd: number, buffer: Uint8Array, length: number): number {
  const result = read_(fd, buffer, length) as number;
  return result >= 0 ? result : -koffi.errno();
}

/** Bytes written, or -errno. */
export function write(fd: number, buffer: Uint8Array, length: number): number {
  const result = write_(fd, buffer, length) as number;
  return result >= 0 ? result : -koffi.errno();
}

const AF_INET = 2;
const AF_INET6 = 10;
const SOCK_STREAM = 1;
const SOCK_NONBLOCK = 0o4000;
const SOCK_CLOEXEC = 0o2000000;
const SOL_SOCKET = 1;
const SO_REUSEADDR = 2;
export const IPPROTO_MPTCP = 262;
export const IPPROTO_TCP = PROTOCOL.tcp;

/** A stream socket that Node can adopt; -errno on failure. */
export function streamSocket(family: 4 | 6, protocol: number): number {
  const fd = socket_(family === 4 ? AF_INET : AF_INET6, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, protocol) as number;
  return fd >= 0 ? fd : -koffi.errno();
}

/** Binds to an address (bytes) and port and listens. Throws {@link LinkError}. */
export function bindAndListen(fd: number, address: Uint8Array, port: number, backlog: number): void {
  const one = new Uint8Array([1, 0, 0, 0]);
  check(setsockopt_(fd, SOL_SOCKET, SO_REUSEADDR, one, 4) as number, 'setsockopt SO_REUSEADDR');
  const name = socketAddress(address, port);
  if ((bind_(fd, name, name.length) as number) < 0) {
    const number = koffi.errno();
    if (number === constants.errno.EADDRINUSE) throw new LinkError('PORT_IN_USE', `port ${port} is in use; expected a free port`);
    throw new LinkError('SYSTEM_CALL', `bind port ${port}: ${errnoName(number)}`);
  }
  check(listen_(fd, backlog) as number, 'listen');
}

/** Starts a non-blocking connect. Throws {@link LinkError} unless it succeeds or is in progress. */
export function startConnect(fd: number, address: Uint8Array, port: number): void {
  const name = socketAddress(address, port);
  if ((connect_(fd, name, name.length) as number) < 0 && koffi.errno() !== constants.errno.EINPROGRESS) {
    throw new LinkError('UNREACHABLE', `connect: ${errnoName(koffi.errno())}`);
  }
}

const AF_NETLINK = 16;
const SOCK_RAW = 3;
const SOCK_DGRAM = 2;
const SO_RCVTIMEO = 20;
const SO_RCVBUF = 8;
const SO_RCVBUFFORCE = 33;
const RECEIVE_BUFFER = 16 << 20;
const SO_ATTACH_FILTER = 26;

/** A netlink socket bound to a port of the kernel's choice. Requests wait at most a second for their answer. Throws {@link LinkError}. */
export function netlinkSocket(protocol: number, blocking: boolean): number {
  const fd = check(socket_(AF_NETLINK, SOCK_RAW | SOCK_CLOEXEC | (blocking ? 0 : SOCK_NONBLOCK), protocol) as number, 'socket AF_NETLINK');
  const name = new Uint8Array(12);
  new DataView(name.buffer).setUint16(0, AF_NETLINK, true);
  if ((bind_(fd, name, name.length) as number) < 0) {
    const number = koffi.errno();
    close(fd);
    throw new LinkError('SYSTEM_CALL', `bind AF_NETLINK: ${errnoName(number)}`);
  }
  if (blocking) {
    const timeout = new Uint8Array(16);
    new DataView(timeout.buffer).setBigInt64(0, 1n, true);
    setsockopt_(fd, SOL_SOCKET, SO_RCVTIMEO, timeout, timeout.length);
  }
  const size = new Uint8Array(new Uint32Array([4 << 20]).buffer);
  setsockopt_(fd, SOL_SOCKET, SO_RCVBUF, size, size.length);
  return fd;
}

const AF_PACKET = 17;
const ETH_P_ALL = 3;

/** A packet socket: whole frames, or from the IP header on; nothing until `bindPacket`. Throws {@link LinkError} `NO_PRIVILEGE`. */
export function packetSocket(withoutLinkHeader = false): number {
  const fd = socket_(AF_PACKET, (withoutLinkHeader ? SOCK_DGRAM : SOCK_RAW) | SOCK_CLOEXEC | SOCK_NONBLOCK, 0) as number;
  if (fd >= 0) {
    // The default holds about a hundred packets: less than a congestion window.
    const size = new Uint8Array(new Uint32Array([RECEIVE_BUFFER]).buffer);
    if ((setsockopt_(fd, SOL_SOCKET, SO_RCVBUFFORCE, size, 4) as number) < 0) setsockopt_(fd, SOL_SOCKET, SO_RCVBUF, size, 4);
    return fd;
  }
  const number = koffi.errno();
  throw new LinkError(
    number === 1 ? 'NO_PRIVILEGE' : 'SYSTEM_CALL',
    `socket AF_PACKET: ${errnoName(number)}${number === 1 ? '; expected CAP_NET_RAW (run as root)' : ''}`,
  );
}

/** Starts receiving on an interface (by its index; 0: all). Throws {@link LinkError}. */
export function bindPacket(fd: number, interfaceIndex: number): void {
  const name = new Uint8Array(20);
  const view = new DataView(name.buffer);
  view.setUint16(0, AF_PACKET, true);
  view.setUint16(2, ETH_P_ALL);
  view.setInt32(4, interfaceIndex, true);
  check(bind_(fd, name, name.length) as number, 'bind AF_PACKET');
}

/** Attaches a classic BPF program (`[code, jt, jf, k]` each) to a socket. Throws {@link LinkError}. */
export function attachFilter(fd: number, program: readonly (readonly [number, number, number, number])[]): void {
  const code = Buffer.alloc(8 * program.length);
  program.forEach(([op, jt, jf, k], i) => {
    code.writeUInt16LE(op, 8 * i);
    code[8 * i + 2] = jt;
    code[8 * i + 3] = jf;
    code.writeUInt32LE(k >>> 0, 8 * i + 4);
  });
  const header = new Uint8Array(16);
  const view = new DataView(header.buffer);
  view.setUint16(0, program.length, true);
  view.setBigUint64(8, addressOfBuffer(code), true);
  check(setsockopt_(fd, SOL_SOCKET, SO_ATTACH_FILTER, header, header.length) as number, 'setsockopt SO_ATTACH_FILTER');
}

/** One datagram: bytes received, or -errno. */
export function receive(fd: number, buffer: Uint8Array): number {
  const result = recv_(fd, buffer, buffer.length, 0) as number;
  return result >= 0 ? result : -koffi.errno();
}

/** Address of a buffer that stays where it is, for structures with pointers in them. */
export function addressOfBuffer(buffer: Uint8Array): bigint {
  return koffi.address(buffer) as bigint;
}

/** Raw bytes of a socket option, at most `size`; `input` is put there first, for options that ask. Null on error. */
export function socketOption(fd: number, level: number, name: number, size: number, input: Uint8Array | null = null): Uint8Array | null {
  const value = new Uint8Array(size);
  if (input !== null) value.set(input);
  const length = new Uint8Array(new Uint32Array([size]).buffer);
  if ((getsockopt_(fd, level, name, value, length) as number) < 0) return null;
  return value.subarray(0, new Uint32Array(length.buffer)[0]);
}

export function setSocketOption(fd: number, level: number, name: number, value: Uint8Array): void {
  check(setsockopt_(fd, level, name, value, value.length) as number, `setsockopt ${level}/${name}`);
}

const IPPROTO_IP = 0;
const IPPROTO_IPV6 = 41;
const IPPROTO_RAW = 255;
const IP_MINTTL = 21;
const IPV6_MINHOPCOUNT = 73;
const IP_MTU_DISCOVER = 10;
const IP_PMTUDISC_PROBE = 3;
const SO_MARK = 36;
const MAX_TTL = Uint8Array.of(255, 0, 0, 0);

/** A socket that sends whole IP packets, headers included. `mark`: for firewall rules. Throws {@link LinkError} `NO_PRIVILEGE`. */
export function rawSocket(family: 4 | 6, mark = 0): number {
  const fd = socket_(family === 4 ? AF_INET : AF_INET6, SOCK_RAW | SOCK_CLOEXEC | SOCK_NONBLOCK, IPPROTO_RAW) as number;
  if (fd < 0) {
    const number = koffi.errno();
    const refused = number === constants.errno.EPERM || number === constants.errno.EACCES;
    throw new LinkError(refused ? 'NO_PRIVILEGE' : 'SYSTEM_CALL', `socket SOCK_RAW: ${errnoName(number)}${refused ? '; expected CAP_NET_RAW' : ''}`);
  }
  // The size of a probe is part of the probe: what is known of the path's MTU must not change it.
  if (family === 4) setsockopt_(fd, IPPROTO_IP, IP_MTU_DISCOVER, Uint8Array.of(IP_PMTUDISC_PROBE, 0, 0, 0), 4);
  if (mark !== 0) setsockopt_(fd, SOL_SOCKET, SO_MARK, new Uint8Array(new Uint32Array([mark]).buffer), 4);
  return fd;
}

/** Sends a whole IP packet. Returns 0, or -errno. */
export function sendRaw(fd: number, packet: Uint8Array): number {
  const destination = ipDestination(packet);
  if (destination === null) return -constants.errno.EINVAL;
  const name = socketAddress(destination, 0);
  const result = sendto_(fd, packet, packet.length, 0, name, name.length) as number;
  return result >= 0 ? 0 : -koffi.errno();
}

/**
 * A listening socket that hears nobody: it takes a port, and drops every segment whose TTL is below 255, that is
 * everything from another machine that is not a neighbour. So the kernel sends no reset for segments that are for us.
 * `port` 0: one of the kernel's choice. Throws {@link LinkError}.
 */
export function guardedListener(address: Uint8Array, port: number): { fd: number; port: number } {
  const family = address.length === 4 ? 4 : 6;
  const fd = streamSocket(family, IPPROTO_TCP);
  if (fd < 0) throw new LinkError('SYSTEM_CALL', `socket: ${errnoName(-fd)}`);
  try {
    if (family === 4) check(setsockopt_(fd, IPPROTO_IP, IP_MINTTL, MAX_TTL, 4) as number, 'setsockopt IP_MINTTL');
    else check(setsockopt_(fd, IPPROTO_IPV6, IPV6_MINHOPCOUNT, MAX_TTL, 4) as number, 'setsockopt IPV6_MINHOPCOUNT');
    bindAndListen(fd, address, port, 1);
    return { fd, port: boundPort(fd) };
  } catch (error) {
    close(fd);
    throw error;
  }
}

/** The source address that the routing table gives packets to `target`; null when there is no route. */
export function sourceAddress(target: Uint8Array): Uint8Array | null {
  const fd = socket_(target.length === 4 ? AF_INET : AF_INET6, SOCK_DGRAM | SOCK_CLOEXEC, 0) as number;
  if (fd < 0) return null;
  try {
    const name = socketAddress(target, 9);
    if ((connect_(fd, name, name.length) as number) < 0) return null;
    const own = boundName(fd);
    return target.length === 4 ? own.slice(4, 8) : own.slice(8, 24);
  } finally {
    close(fd);
  }
}

function boundName(fd: number): Uint8Array {
  const name = new Uint8Array(28);
  check(getsockname_(fd, name, new Uint8Array(new Uint32Array([28]).buffer)) as number, 'getsockname');
  return name;
}

function boundPort(fd: number): number {
  const name = boundName(fd);
  return (name[2]! << 8) | name[3]!;
}

function socketAddress(address: Uint8Array, port: number): Uint8Array {
  const v4 = address.length === 4;
  const out = new Uint8Array(v4 ? 16 : 28);
  const view = new DataView(out.buffer);
  view.setUint16(0, v4 ? AF_INET : AF_INET6, true);
  view.setUint16(2, port);
  out.set(address, v4 ? 4 : 8);
  return out;
}
