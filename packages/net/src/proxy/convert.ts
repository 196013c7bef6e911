/** The 0-RTT TCP Convert protocol over our sockets: converter and client (RFC 8803). */
import { createHmac, randomBytes, timingSafeEqual } from 'node:crypto';
import { inPrefix, OPTION, parsePrefix } from '@subflow/wire';
import { parseIp } from '../addresses.ts';
import { Socket } from '../socket.ts';
import type { ConnectOptions } from '../socket.ts';
import { CONVERT_ERROR, CONVERT_ERROR_NAMES, CONVERT_HEADER, convertMessage, isFault, messageLength, parseTlvs } from './convert-messages.ts';
import type { ConvertFault, ConvertTlv } from './convert-messages.ts';
import { ProxyError } from './errors.ts';
import { HandshakeReader } from './handshake-reader.ts';
import type { ProxyRequest } from './request.ts';

/** Options with a meaning on a single connection, which a client cannot usefully ask for (§7.1 to §7.3): ignored. */
const IGNORED_OPTIONS = new Set([0, 1, 2, 3, 5]);
const COOKIE_LENGTH = 16;

/** §6.2.5: no multicast, broadcast or loopback. */
const FORBIDDEN = ['0.0.0.0/8', '224.0.0.0/4', '255.255.255.255/32', '::/128', 'ff00::/8'].map(parsePrefix);
const LOOPBACK = ['127.0.0.0/8', '::1/128'].map(parsePrefix);

/** Cookies bound to clients' addresses, so that nobody asks in another's name (§6.2.7). */
export class ConvertCookies {
  private readonly key = randomBytes(32);

  cookieFor(address: string): Uint8Array {
    return createHmac('sha256', this.key).update(address).digest().subarray(0, COOKIE_LENGTH);
  }

  valid(address: string, cookie: Uint8Array): boolean {
    return cookie.length === COOKIE_LENGTH && timingSafeEqual(this.cookieFor(address), cookie);
  }
}

export interface ConverterOptions {
  /** Null: no cookies asked for. */
  cookies: ConvertCookies | null;
  /** Loopback destinations are for tests and for converters beside their servers. */
  allowLoopback: boolean;
  /** Whether connections to servers can have Multipath TCP. */
  multipath: boolean;
}

/** Reads a client's message. Null when it was a question that has been answered. Refusals are sent before it throws {@link ProxyError}. */
export async function readConvert(socket: Socket, reader: HandshakeReader, options: ConverterOptions): Promise<ProxyRequest | null> {
  const header = await reader.bytes(CONVERT_HEADER);
  const length = messageLength(header);
  if (typeof length !== 'number') throw refuse(socket, length);
  if (length === 0) {
    // §6.1: a length of zero is answered by a reset.
    socket.resetAndDestroy();
    throw new ProxyError('BAD_CONVERT', 'the total length is 0');
  }
  const tlvs = length > CONVERT_HEADER ? parseTlvs(await reader.bytes(length - CONVERT_HEADER)) : [];
  if (isFault(tlvs)) throw refuse(socket, tlvs);
  checkCookie(socket, tlvs, options.cookies);
  const connect = tlvs.find((tlv) => tlv.type === 'connect');
  if (connect === undefined) {
    if (!tlvs.some((tlv) => tlv.type === 'info'))
      throw refuse(socket, { fault: CONVERT_ERROR.unsupportedMessage, message: 'neither Info nor Connect', value: ZERO });
    socket.end(convertMessage([{ type: 'supported', kinds: options.multipath ? [OPTION.mptcp] : [] }]));
    return null;
  }
  const address = parseIp(connect.address)!;
  const among = (prefixes: typeof FORBIDDEN): boolean =>
    prefixes.some((one) => one.address.length === address.length && inPrefix(address, one.address, one.bits));
  if (among(FORBIDDEN) || (!options.allowLoopback && among(LOOPBACK)))
    throw refuse(socket, { fault: CONVERT_ERROR.malformed, message: `${connect.address} is no address of a server`, value: Uint8Array.from([0, ...header]) });
  const unknown = connect.options.filter((one) => !IGNORED_OPTIONS.has(one.kind) && !(one.kind === OPTION.mptcp && one.value === null && options.multipath));
  if (unknown.length > 0)
    throw refuse(socket, {
      fault: CONVERT_ERROR.unsupportedTcpOption,
      message: `TCP options ${unknown.map((one) => one.kind).join(', ')} cannot be asked for`,
      value: Uint8Array.from(unknown.map((one) => one.kind)),
    });
  const asked = connect.options.some((one) => one.kind === OPTION.mptcp);
  return {
    protocol: 'convert',
    host: connect.address,
    port: connect.port,
    ...(asked ? { multipath: true } : {}),
    // The options of the server's SYN+ACK are not to be had from a kernel socket: the TLV says that none are returned.
    granted: () => socket.write(convertMessage(connect.options.length > 0 ? [{ type: 'extended-header', options: new Uint8Array(0) }] : [])),
    refused: (error) => void socket.end(convertMessage([{ type: 'error', error: errorFor(error), value: ZERO }])),
  };
}

const ZERO = new Uint8Array([0]);

function checkCookie(socket: Socket, tlvs: readonly ConvertTlv[], cookies: ConvertCookies | null): void {
  if (cookies === null) return;
  const address = socket.remoteAddress ?? '';
  const given = tlvs.find((tlv) => tlv.type === 'cookie');
  if (given === undefined)
    throw refuse(socket, { fault: CONVERT_ERROR.missingCookie, message: 'no cookie', value: Uint8Array.from([0, ...cookies.cookieFor(address)]) });
  if (!cookies.valid(address, given.cookie)) throw refuse(socket, { fault: CONVERT_ERROR.notAuthorized, message: 'the cookie is not valid', value: ZERO });
}

function refuse(socket: Socket, { fault, message, value }: ConvertFault): ProxyError {
  // §6.2.2: an end, not a reset, so that the message arrives.
  socket.end(convertMessage([{ type: 'error', error: fault, value }]));
  return new ProxyError(fault === CONVERT_ERROR.notAuthorized || fault === CONVERT_ERROR.missingCookie ? 'NOT_AUTHORIZED' : 'BAD_CONVERT', message);
}

function errorFor(error: NodeJS.ErrnoException): number {
  switch (error.code) {
    case 'ECONNREFUSED':
    case 'ECONNRESET':
      return CONVERT_ERROR.connectionReset;
    case 'EHOSTUNREACH':
    case 'ENETUNREACH':
      return CONVERT_ERROR.destinationUnreachable;
    case 'NOT_ALLOWED':
      return CONVERT_ERROR.notAuthorized;
    case 'TOO_MANY':
      return CONVERT_ERROR.resourceExceeded;
    default:
      return CONVERT_ERROR.networkFailure;
  }
}

export interface ConvertConnectOptions {
  /** The converter, and whose Multipath TCP leads there. */
  converter: ConnectOptions & { host: string; port: number };
  /** The server: an address, because names are resolved by the client. */
  address: string;
  port: number;
  /** Ask for Multipath TCP on the converter's connection to the server as well. */
  multipath?: boolean;
  /** Goes along with the request (0-RTT when the connection uses TCP Fast Open). */
  early?: Uint8Array | null;
  /** Milliseconds for connection and answer. */
  timeout?: number;
}

const CONVERT_TIMEOUT = 15_000;
/** Cookies that converters gave us, by their address and port (§6.2.8, Missing Cookie). */
const cookies = new Map<string, Uint8Array>();
const MOST_COOKIES = 1000;

/** A connection to a server through a converter. Rejects with {@link ProxyError} or the network's error. */
export async function connectThroughConverter(options: ConvertConnectOptions): Promise<Socket> {
  try {
    return await ask(options);
  } catch (error) {
    // Once more with the cookie that came with the refusal.
    if (error instanceof MissingCookie) return ask(options);
    throw error;
  }
}

class MissingCookie extends ProxyError {}

async function ask(options: ConvertConnectOptions): Promise<Socket> {
  const { converter } = options;
  const place = `${converter.host}:${converter.port}`;
  const cookie = cookies.get(place);
  const socket = new Socket({ ...converter, allowHalfOpen: true } as ConstructorParameters<typeof Socket>[0]);
  const failed = new Promise<never>((_, reject) => socket.once('error', reject));
  failed.catch(() => undefined);
  socket.connect({ ...converter, allowHalfOpen: true } as ConnectOptions);
  socket.setNoDelay(true);
  // Written before the connection is there, so that it can ride on the SYN (RFC 8803 §4.2).
  socket.write(
    Buffer.concat([
      convertMessage([
        ...(cookie === undefined ? [] : [{ type: 'cookie', cookie } as const]),
        { type: 'connect', address: options.address, port: options.port, options: options.multipath === true ? [{ kind: OPTION.mptcp, value: null }] : [] },
      ]),
      options.early ?? new Uint8Array(0),
    ]),
  );
  const reader = new HandshakeReader(socket, options.timeout ?? CONVERT_TIMEOUT);
  try {
    await Promise.race([readAnswer(reader, place), failed]);
  } catch (error) {
    reader.release();
    // §6.2.8: upon an Error TLV the client resets.
    socket.on('error', () => undefined);
    if (socket.connecting) socket.destroy();
    else socket.resetAndDestroy();
    throw error;
  }
  reader.release();
  return socket;
}

async function readAnswer(reader: HandshakeReader, place: string): Promise<void> {
  const header = await reader.bytes(CONVERT_HEADER);
  const length = messageLength(header);
  if (typeof length !== 'number' || length === 0)
    throw new ProxyError('BAD_CONVERT', `${place} does not answer as a converter: ${typeof length === 'number' ? 'length 0' : length.message}`);
  const tlvs = length > CONVERT_HEADER ? parseTlvs(await reader.bytes(length - CONVERT_HEADER)) : [];
  if (isFault(tlvs)) throw new ProxyError('BAD_CONVERT', `${place}: ${tlvs.message}`);
  const error = tlvs.find((tlv) => tlv.type === 'error');
  if (error === undefined) return;
  if (error.error === CONVERT_ERROR.missingCookie && error.value.length > 1) {
    if (cookies.size >= MOST_COOKIES) cookies.clear();
    // A zero byte, then the cookie; padding may follow.
    cookies.set(place, error.value.slice(1, 1 + COOKIE_LENGTH));
    throw new MissingCookie('NOT_AUTHORIZED', `${place} asks for a cookie`);
  }
  const name = CONVERT_ERROR_NAMES[error.error] ?? `error ${error.error}`;
  throw Object.assign(new ProxyError('CONNECT_FAILED', `the converter ${place} says: ${name}`), { convertError: error.error });
}
