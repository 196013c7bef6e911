/** HTTP CONNECT (RFC 9110 §9.3.6). */
import type { Socket } from '../socket.ts';
import { ProxyError } from './errors.ts';
import type { HandshakeReader } from './handshake-reader.ts';
import type { ProxyCredentials, ProxyRequest } from './request.ts';

const LONGEST_HEAD = 16_384;

/** Reads the request. Refusals are sent before it throws {@link ProxyError}. */
export async function readHttpConnect(socket: Socket, reader: HandshakeReader, credentials: ProxyCredentials | null): Promise<ProxyRequest> {
  const head = (await reader.until('\r\n\r\n', LONGEST_HEAD)).toString('latin1');
  const [line = '', ...fields] = head.split('\r\n');
  const match = /^([A-Z]+) (\S+) HTTP\/1\.[01]$/.exec(line);
  if (match === null) throw refuse(socket, '400 Bad Request', 'BAD_HTTP', `"${line.slice(0, 80)}"; expected CONNECT HOST:PORT HTTP/1.1`);
  if (match[1] !== 'CONNECT')
    throw refuse(socket, '405 Method Not Allowed', 'NOT_SUPPORTED', `method ${match[1]}; only CONNECT is served`, 'Allow: CONNECT\r\n');
  const target = parseTarget(match[2]!);
  if (target === null) throw refuse(socket, '400 Bad Request', 'BAD_HTTP', `target "${match[2]!.slice(0, 80)}"; expected HOST:PORT`);
  if (credentials !== null && !authorized(fields, credentials))
    throw refuse(
      socket,
      '407 Proxy Authentication Required',
      'NOT_AUTHORIZED',
      'no or wrong Proxy-Authorization',
      'Proxy-Authenticate: Basic realm="subflow"\r\n',
    );
  return {
    protocol: 'http',
    ...target,
    granted: () => socket.write('HTTP/1.1 200 Connection established\r\n\r\n'),
    refused: (error) => void socket.end(answer(statusFor(error), `${error.code ?? 'FAILED'}: ${error.message}`)),
  };
}

/** `host:port`, `[v6]:port`; null when it is neither. */
export function parseTarget(text: string): { host: string; port: number } | null {
  const match = /^(?:\[([0-9a-f:.%]+)\]|([^:\s[\]]+)):(\d{1,5})$/i.exec(text);
  if (match === null) return null;
  const port = Number(match[3]);
  return port < 1 || port > 65535 ? null : { host: (match[1] ?? match[2])!, port };
}

function authorized(fields: readonly string[], credentials: ProxyCredentials): boolean {
  const field = fields.find((one) => /^proxy-authorization:/i.test(one));
  const match = field === undefined ? null : /^[^:]+:\s*basic\s+([a-z0-9+/=]+)\s*$/i.exec(field);
  if (match === null) return false;
  const text = Buffer.from(match[1]!, 'base64').toString();
  const at = text.indexOf(':');
  return at >= 0 && credentials.check(text.slice(0, at), text.slice(at + 1));
}

function refuse(socket: Socket, status: string, code: 'BAD_HTTP' | 'NOT_SUPPORTED' | 'NOT_AUTHORIZED', message: string, fields = ''): ProxyError {
  socket.end(answer(status, message, fields));
  return new ProxyError(code, message);
}

function answer(status: string, message: string, fields = ''): string {
  const body = `${message}\n`;
  return `HTTP/1.1 ${status}\r\n${fields}Content-Type: text/plain; charset=utf-8\r\nContent-Length: ${Buffer.byteLength(body)}\r\nConnection: close\r\n\r\n${body}`;
}

function statusFor(error: NodeJS.ErrnoException): string {
  switch (error.code) {
    case 'NOT_ALLOWED':
      return '403 Forbidden';
    case 'TOO_MANY':
      return '503 Service Unavailable';
    case 'CONNECT_TIMEOUT':
    case 'ETIMEDOUT':
      return '504 Gateway Timeout';
    default:
      return '502 Bad Gateway';
  }
}
