/** Output that could not be written: a stable code, the path as it was named, what stood in the way. */
export type OutputErrorCode =
  /** It cannot be opened or written. */
  | 'FILE_NOT_WRITTEN'
  /** No space, quota or file size is left. */
  | 'DISK_FULL'
  /** Whoever read a pipe or a socket has gone. */
  | 'READER_GONE';

export class OutputError extends Error {
  readonly code: OutputErrorCode;

  constructor(code: OutputErrorCode, message: string, options?: ErrorOptions) {
    super(message, options);
    this.code = code;
  }
}

const FULL = new Set(['ENOSPC', 'EDQUOT', 'EFBIG']);
const GONE = new Set(['EPIPE', 'ECONNRESET']);

const REASONS: Readonly<Record<string, string>> = {
  ENOENT: 'its folder does not exist',
  ENOTDIR: 'a part of the path is not a folder',
  EISDIR: 'is a folder; expected a file',
  EACCES: 'permission denied',
  EPERM: 'not permitted',
  EROFS: 'the file system is read-only',
  ELOOP: 'symbolic links that lead in a circle',
  ENAMETOOLONG: 'the name is too long',
  ENXIO: 'nobody is at its other end',
  ECONNREFUSED: 'nobody listens on this socket',
  EBADF: 'this descriptor is not open for writing',
};

/** The system's error, told for a path. An {@link OutputError} stays what it is. */
export function outputError(path: string, error: unknown): OutputError {
  if (error instanceof OutputError) return error;
  const { code, message } = error as NodeJS.ErrnoException;
  const name = path === '-' ? 'standard output' : JSON.stringify(path) === `"${path}"` ? path : JSON.stringify(path);
  const known = code === undefined ? undefined : REASONS[code];
  if (FULL.has(code ?? '')) return new OutputError('DISK_FULL', `${name}: no space left (${code})`, { cause: error });
  if (GONE.has(code ?? '')) return new OutputError('READER_GONE', `${name}: whoever read it has gone (${code})`, { cause: error });
  return new OutputError('FILE_NOT_WRITTEN', `${name}: ${known === undefined ? message : `${known} (${code})`}`, { cause: error });
}

/** Runs a step that may fail with the system's error; throws {@link OutputError}. */
export function telling<T>(path: string, step: () => T): T {
  try {
    return step();
  } catch (error) {
    throw outputError(path, error);
  }
}
