/** What a command writes besides its own words: files, and standard output, which is for one thing at a time. */
import { mkdirSync } from 'node:fs';
import { outputTarget } from '@subflow/link';
import { UsageError } from './errors.ts';

/**
 * Looks at the outputs that options name, before the work begins: throws {@link OutputError} for what cannot be written to. Returns
 * where the command's own words go: standard output, unless one of the outputs is that. `json`: the words are a result for programs.
 * Throws {@link UsageError} `BAD_ARGUMENT` when two of them want standard output.
 */
export function wordsBeside(outputs: Readonly<Record<string, string | undefined>>, json = false): NodeJS.WriteStream {
  const claims = Object.entries(outputs)
    .filter(([, path]) => path !== undefined && isStandardOutput(path))
    .map(([option, path]) => `${option} ${path}`);
  if (claims.length === 0) return process.stdout;
  if (json) claims.push('--json');
  if (claims.length > 1) throw new UsageError('BAD_ARGUMENT', `${claims.join(' and ')} want standard output; expected only one of them`);
  return process.stderr;
}

/** Makes a folder for files. Throws {@link UsageError} `FILE_NOT_WRITTEN`. */
export function makeFolder(path: string): void {
  try {
    mkdirSync(path, { recursive: true });
  } catch (error) {
    throw new UsageError('FILE_NOT_WRITTEN', `${path}: ${(error as Error).message}`);
  }
}

function isStandardOutput(path: string): boolean {
  const target = outputTarget(path);
  return target.kind === 'descriptor' && target.fd === 1;
}
