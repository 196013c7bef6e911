/** Stable codes of {@link Malformed}. */
export type MalformedCode = 'TRUNCATED' | 'BAD_VERSION' | 'BAD_LENGTH' | 'BAD_OPTION' | 'BAD_CHECKSUM' | 'BAD_MAGIC' | 'UNSUPPORTED';

/**
 * The typed result of parsing bytes that do not follow the format. It is returned, never thrown: bytes from the
 * network are data, not programming errors.
 */
export class Malformed {
  /** Stable, machine-readable reason. */
  readonly code: MalformedCode;
  /** Byte offset, within the buffer handed to the parser, at which parsing stopped. */
  readonly offset: number;
  /** What was found and what was expected. */
  readonly reason: string;

  constructor(code: MalformedCode, offset: number, reason: string) {
    this.code = code;
    this.offset = offset;
    this.reason = reason;
  }
}

/** Whether a parser's result is an error. */
export function isMalformed(value: unknown): value is Malformed {
  return value instanceof Malformed;
}
