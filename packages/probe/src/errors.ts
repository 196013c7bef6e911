/** Errors of the prober: a stable code, the offending value, what was expected. */
export type ProbeErrorCode = 'NO_ROUTE' | 'BAD_TARGET' | 'BAD_PROBE' | 'NO_ECHO_SERVER' | 'NOT_ALLOWED' | 'BAD_LIST' | 'BAD_TABLE' | 'BAD_STATE';

export class ProbeError extends Error {
  readonly code: ProbeErrorCode;

  constructor(code: ProbeErrorCode, message: string, options?: ErrorOptions) {
    super(message, options);
    this.code = code;
  }
}
