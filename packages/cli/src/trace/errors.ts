import { UsageError } from '../errors.ts';

export function noConnection(wanted: number | string, count: number): UsageError {
  return new UsageError(
    'NO_CONNECTION',
    `there is no Multipath TCP connection ${wanted}; ${count === 0 ? 'the capture has none' : count === 1 ? 'the capture has one, number 0' : `the capture has ${count}, numbered from 0 to ${count - 1}`}`,
  );
}

/** A connection's number on the command line. Throws {@link UsageError} `BAD_ARGUMENT`. */
export function parseConnection(text: string | undefined): number | null {
  if (text === undefined) return null;
  const number = Number(text);
  if (!Number.isInteger(number) || number < 0)
    throw new UsageError('BAD_ARGUMENT', `--connection "${text}"; expected the number of a connection, from 0 (as \`subflow trace FILE\` numbers them)`);
  return number;
}
