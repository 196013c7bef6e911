/**
 * The parts of Node that node:net is made of and that have no public name: the native TCP handle, and the native stream
 * that JavaScript feeds. Everything that depends on them is in this file; the shapes are those of Node 20.
 */
import { Socket } from 'node:net';
import { NetError } from './errors.ts';

/** A request object; `oncomplete` is called when it is done. Status 0 or a negative errno. */
export interface Request {
  oncomplete(status: number, handle: unknown, request: unknown, readable?: boolean, writable?: boolean): void;
}

export interface AddressOut {
  address?: string;
  port?: number;
  family?: string;
}

/** What node:net asks of a TCP handle. Numbers returned are 0 or a negative errno. */
export interface SocketHandle {
  readonly fd: number;
  reading?: boolean;
  onread: unknown;
  readStart(): number;
  readStop(): number;
  connect(request: Request, address: string, port: number): number;
  connect6(request: Request, address: string, port: number): number;
  bind(address: string, port: number): number;
  bind6(address: string, port: number, flags?: number): number;
  getsockname(out: AddressOut): number;
  getpeername(out: AddressOut): number;
  setNoDelay(on: boolean): number;
  setKeepAlive(on: boolean, seconds: number): number;
  close(callback?: () => void): void;
  reset(callback?: () => void): number;
  ref(): void;
  unref(): void;
  hasRef(): boolean;
}

/** libuv's TCP handle. */
export interface TcpHandle extends SocketHandle {
  open(fd: number): number;
  listen(backlog: number): number;
  onconnection: ((this: unknown, status: number, client: unknown) => void) | null;
}

/** A native stream whose source and sink are JavaScript functions; TLS, HTTP/1 and HTTP/2 attach to it natively. */
export interface JsStream {
  onreadstart: () => number;
  onreadstop: () => number;
  onshutdown: (request: object) => number;
  onwrite: (request: object, buffers: Uint8Array[]) => number;
  isClosing: () => boolean;
  readBuffer(bytes: Uint8Array): void;
  emitEOF(): void;
  finishWrite(request: object, status: number): void;
  finishShutdown(request: object, status: number): void;
}

interface Binding {
  tcp_wrap: { TCP: new (type: number) => TcpHandle; TCPConnectWrap: new () => Request; constants: { SOCKET: number; SERVER: number; UV_TCP_IPV6ONLY: number } };
  js_stream: { JSStream: new () => JsStream };
}

// Documentation-deprecated since Node 10 and without a replacement; it prints nothing unless --pending-deprecation is given.
const { binding } = process as unknown as { binding<K extends keyof Binding>(name: K): Binding[K] };

export const { TCP, TCPConnectWrap, constants: tcpConstants } = binding.call(process, 'tcp_wrap') as Binding['tcp_wrap'];
export const { JSStream } = binding.call(process, 'js_stream') as Binding['js_stream'];

/**
 * Puts another handle under a socket that is connecting, and closes the present one. node:net has a method for that, but
 * it also forgets that the application has called `end` already.
 */
export function replaceHandle(socket: Socket, handle: SocketHandle): void {
  const before = handleOf(socket) as (SocketHandle & Record<symbol, unknown>) | null;
  const owner = before === null ? undefined : Object.getOwnPropertySymbols(before).find((symbol) => symbol.description === 'owner_symbol');
  if (before === null || owner === undefined)
    throw new NetError('NODE_INTERNALS', `Node ${process.versions.node} keeps the owner of a handle elsewhere; expected Node 20`);
  (handle as SocketHandle & Record<symbol, unknown>)[owner] = before[owner];
  handle.onread = before.onread;
  // The buffer of the option `onread` of `connect`.
  const hidden = Object.getOwnPropertySymbols(socket).find((symbol) => symbol.description === 'kBuffer');
  const buffer = hidden === undefined ? null : (socket as unknown as Record<symbol, unknown>)[hidden];
  if (buffer instanceof Uint8Array) (handle as unknown as { useUserBuffer(buffer: Uint8Array): void }).useUserBuffer(buffer);
  before.close();
  (socket as unknown as { _handle: SocketHandle })._handle = handle;
}

/** The handle of a socket, or null. */
export function handleOf(socket: Socket): SocketHandle | null {
  return (socket as unknown as { _handle: SocketHandle | null })._handle ?? null;
}
