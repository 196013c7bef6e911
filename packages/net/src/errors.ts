/** Mistakes in calls and what a backend cannot do: a stable code, the value, what was expected. Network errors keep node:net's codes. */
export type NetErrorCode =
  | 'UNKNOWN_SERVICE_TYPE'
  | 'UNKNOWN_SCHEDULER'
  | 'UNKNOWN_CONGESTION'
  | 'UNKNOWN_BACKEND'
  | 'NOT_SUPPORTED'
  | 'NOT_CONNECTED'
  | 'NOT_MULTIPATH'
  | 'NO_PERMISSION'
  | 'NO_SUCH_SUBFLOW'
  | 'NO_SUCH_ADDRESS'
  | 'BAD_ADDRESS'
  | 'BAD_OPTION'
  | 'NODE_INTERNALS';

export class NetError extends Error {
  readonly code: NetErrorCode;

  constructor(code: NetErrorCode, message: string, options?: ErrorOptions) {
    super(message, options);
    this.code = code;
  }
}
