/** Why a proxy did not serve a connection; counted by code. */
export type ProxyErrorCode =
  | 'HANDSHAKE_TIMEOUT'
  | 'HANDSHAKE_CUT'
  | 'HANDSHAKE_TOO_LONG'
  | 'BAD_SOCKS'
  | 'BAD_HTTP'
  | 'BAD_CONVERT'
  | 'BAD_PROXY_HEADER'
  | 'NOT_SUPPORTED'
  | 'NOT_ALLOWED'
  | 'NOT_AUTHORIZED'
  | 'TOO_MANY'
  | 'CONNECT_FAILED'
  | 'CONNECT_TIMEOUT'
  | 'BAD_ACCESS_LIST'
  | 'BAD_TARGET';

export class ProxyError extends Error {
  readonly code: ProxyErrorCode;

  constructor(code: ProxyErrorCode, message: string, options?: ErrorOptions) {
    super(message, options);
    this.code = code;
  }
}
