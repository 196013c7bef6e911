export type TraceErrorCode = 'FILE_NOT_READ' | 'IS_DIRECTORY' | 'EMPTY_FILE' | 'NOT_A_CAPTURE' | 'BAD_COMPRESSION' | 'BAD_FILTER';

/** What went wrong, with a stable code, the value and what was expected. */
export class TraceError extends Error {
  readonly code: TraceErrorCode;

  constructor(code: TraceErrorCode, message: string, cause?: unknown) {
    super(message, cause === undefined ? undefined : { cause });
    this.code = code;
  }
}
