/** Mistakes in calls to the stack. What comes from the network never throws. */

/** `code` of a {@link StackError}. */
export type StackErrorCode =
  | 'NO_ROUTE'
  | 'ADDRESS_IN_USE'
  | 'NO_PORTS'
  | 'BAD_ADDRESS_ID'
  | 'BAD_ENDPOINT'
  | 'UNKNOWN_CONGESTION'
  | 'BAD_OPTION'
  | 'BAD_ARGUMENT';

/** A mistake in a call: a stable code, the offending value and what was expected. */
export class StackError extends Error {
  readonly code: StackErrorCode;

  constructor(code: StackErrorCode, message: string) {
    super(message);
    this.name = 'StackError';
    this.code = code;
  }
}
