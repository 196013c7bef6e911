/** A mistake of the person at the command line: a stable code, the value, what was expected. */
export class UsageError extends Error {
  readonly code: string;

  constructor(code: string, message: string) {
    super(message);
    this.code = code;
  }
}
