/** SOCKS version 5, server side: CONNECT, without or with user name and password (RFC 1928, RFC 1929). */
import { formatAddress } from '@subflow/wire';
import { parseIp } from '../addresses.ts';
import type { Socket } from '../socket.ts';
import { ProxyError } from './errors.ts';
import type { HandshakeReader } from './handshake-reader.ts';
import type { ProxyCredentials, ProxyRequest } from './request.ts';

export const SOCKS_VERSION = 5;
const METHOD = { none: 0, password: 2, refused: 0xff } as const;
const CONNECT = 1;
const ADDRESS = { ipv4: 1, name: 3, ipv6: 4 } as const;
const REPLY = { granted: 0, failure: 1, notAllowed: 2, networkUnreachable: 3, hostUnreachable: 4, refused: 5, command: 7, address: 8 } as const;

/** Reads the request. Refusals are sent before it throws {@link ProxyError}. */
export async function readSocks(socket: Socket, reader: HandshakeReader, credentials: ProxyCredentials | null): Promise<ProxyRequest> {
  const [version, count] = await reader.bytes(2);
  if (version !== SOCKS_VERSION) throw new ProxyError('BAD_SOCKS', `SOCKS version ${version}; expected 5`);
  const methods = count! > 0 ? await reader.bytes(count!) : Buffer.alloc(0);
  const wanted = credentials === null ? METHOD.none : METHOD.password;
  if (!methods.includes(wanted)) {
    socket.write(Buffer.from([SOCKS_VERSION, METHOD.refused]));
    throw new ProxyError('NOT_AUTHORIZED', `the client offers authentication methods ${[...methods].join(', ')}; expected ${wanted}`);
  }
  socket.write(Buffer.from([SOCKS_VERSION, wanted]));
  if (credentials !== null) await checkPassword(socket, reader, credentials);
  const [again, command, , type] = await reader.bytes(4);
  if (again !== SOCKS_VERSION) throw new ProxyError('BAD_SOCKS', `the request begins with ${again}; expected 5`);
  let host: string;
  if (type === ADDRESS.ipv4) host = formatAddress(new Uint8Array(await reader.bytes(4)));
  else if (type === ADDRESS.ipv6) host = formatAddress(new Uint8Array(await reader.bytes(16)));
  else if (type === ADDRESS.name) {
    const [length] = await reader.bytes(1);
    if (length === 0) throw refuse(socket, REPLY.address, 'BAD_SOCKS', 'the name is empty');
    host = (await reader.bytes(length!)).toString('latin1');
  } else throw refuse(socket, REPLY.address, 'BAD_SOCKS', `address type ${type}; expected 1, 3 or 4`);
  const port = (await reader.bytes(2)).readUInt16BE(0);
  if (command !== CONNECT) throw refuse(socket, REPLY.command, 'NOT_SUPPORTED', `SOCKS command ${command}; only CONNECT (1) is served`);
  return {
    protocol: 'socks',
    host,
    port,
    granted: (upstream) => socket.write(reply(REPLY.granted, upstream.localAddress ?? '0.0.0.0', upstream.localPort ?? 0)),
    refused: (error) => void socket.end(reply(replyFor(error), '0.0.0.0', 0)),
  };
}

async function checkPassword(socket: Socket, reader: HandshakeReader, credentials: ProxyCredentials): Promise<void> {
  const [version, userLength] = await reader.bytes(2);
  if (version !== 1) throw new ProxyError('BAD_SOCKS', `authentication version ${version}; expected 1`);
  const user = userLength! > 0 ? (await reader.bytes(userLength!)).toString() : '';
  const [passwordLength] = await reader.bytes(1);
  const password = passwordLength! > 0 ? (await reader.bytes(passwordLength!)).toString() : '';
  const good = credentials.check(user, password);
  socket.write(Buffer.from([1, good ? 0 : 1]));
  if (!good) throw new ProxyError('NOT_AUTHORIZED', `user "${user}" gave a wrong password, or is unknown`);
}

function refuse(socket: Socket, code: number, kind: 'BAD_SOCKS' | 'NOT_SUPPORTED', message: string): ProxyError {
  socket.end(reply(code, '0.0.0.0', 0));
  return new ProxyError(kind, message);
}

function reply(code: number, address: string, port: number): Buffer {
  const bytes = parseIp(address) ?? new Uint8Array(4);
  const out = Buffer.alloc(6 + bytes.length);
  out.set([SOCKS_VERSION, code, 0, bytes.length === 4 ? ADDRESS.ipv4 : ADDRESS.ipv6]);
  out.set(bytes, 4);
  out.writeUInt16BE(port, 4 + bytes.length);
  return out;
}

function replyFor(error: NodeJS.ErrnoException): number {
  switch (error.code) {
    case 'NOT_ALLOWED':
    case 'TOO_MANY':
      return REPLY.notAllowed;
    case 'ECONNREFUSED':
      return REPLY.refused;
    case 'ENETUNREACH':
      return REPLY.networkUnreachable;
    case 'EHOSTUNREACH':
    case 'ENOTFOUND':
    case 'ETIMEDOUT':
    case 'CONNECT_TIMEOUT':
      return REPLY.hostUnreachable;
    default:
      return REPLY.failure;
  }
}
