import { readFileSync } from 'node:fs';

/** A mistake of the person at the command line: a stable code, the value, what was expected. */
export class UsageError extends Error {
  readonly code: string;

  constructor(code: string, message: string) {
    super(message);
    this.code = code;
  }
}

/** Says what went wrong, and ends: for errors that come as events. */
export function fail(error: NodeJS.ErrnoException): never {
  process.stderr.write(`${error.code ?? 'FAILED'}: ${error.message}\n`);
  process.exit(1);
}

/** The text of a file named on the command line. Throws {@link UsageError} `FILE_NOT_READ`. */
export function readText(file: string): string {
  try {
    return readFileSync(file, 'utf8');
  } catch (error) {
    throw new UsageError('FILE_NOT_READ', `${file}: ${(error as Error).message}`);
  }
}

/** A number given on the command line. Throws {@link UsageError} `BAD_ARGUMENT`. */
export function numberOf(flag: string, text: string, low: number, high: number): number {
  const value = Number(text);
  if (!(value >= low && value <= high)) throw new UsageError('BAD_ARGUMENT', `${flag} "${text}"; expected ${low} to ${high}`);
  return value;
}
