/** What stands at a path that a person named, with symbolic links followed to their end. */
import { lstatSync, readlinkSync, realpathSync, statSync } from 'node:fs';
import type { Stats } from 'node:fs';
import { basename, dirname, isAbsolute, join } from 'node:path';
import { OutputError, outputError } from './error.ts';

export type OutputTarget =
  | { readonly kind: 'absent'; readonly path: string }
  | { readonly kind: 'file'; readonly path: string; readonly stat: Stats }
  /** Characters, blocks, and files that another process has open: written to as they are. */
  | { readonly kind: 'device'; readonly path: string }
  | { readonly kind: 'fifo'; readonly path: string }
  | { readonly kind: 'socket'; readonly path: string }
  /** Open in this process: standard output, a shell's `>(command)`. */
  | { readonly kind: 'descriptor'; readonly fd: number };

/** As many as Linux follows (path_resolution(7)). */
const MOST_LINKS = 40;
const STICKY_FOR_ALL = 0o1002;

/** Throws {@link OutputError} `FILE_NOT_WRITTEN` for folders, folders that do not exist, links in a circle. */
export function outputTarget(named: string): OutputTarget {
  if (named === '-') return { kind: 'descriptor', fd: 1 };
  if (named === '' || named.includes('\0'))
    throw new OutputError('FILE_NOT_WRITTEN', `${JSON.stringify(named)} is not a path; expected the name of a file, or - for standard output`);
  try {
    return follow(named);
  } catch (error) {
    throw outputError(named, error);
  }
}

function follow(named: string): OutputTarget {
  let at = from(process.cwd(), named);
  for (let links = 0; links <= MOST_LINKS; links++) {
    if (/(^|\/)\.{0,2}$/.test(at)) throw Object.assign(new Error('a folder'), { code: 'EISDIR' });
    // The native one follows links before it goes up at "..", as the kernel does.
    const folder = realpathSync.native(dirname(at));
    const path = join(folder, basename(at));
    const descriptors = /^\/proc\/(\d+)(\/task\/\d+)?\/fd$/.exec(folder);
    if (descriptors !== null)
      return descriptors[1] === readlinkSync('/proc/self') ? { kind: 'descriptor', fd: Number(basename(at)) } : { kind: 'device', path };
    const stat = lstatSync(path, { throwIfNoEntry: false });
    if (stat === undefined) return { kind: 'absent', path };
    if (stat.isDirectory()) throw Object.assign(new Error('a folder'), { code: 'EISDIR' });
    if (!stat.isSymbolicLink()) return { ...kindOf(stat), path };
    // As the kernel does it (fs.protected_symlinks): a link that a stranger put in a folder for everybody is not followed.
    const place = statSync(folder);
    if ((place.mode & STICKY_FOR_ALL) === STICKY_FOR_ALL && stat.uid !== process.geteuid?.() && stat.uid !== place.uid)
      throw Object.assign(new Error('a link of another user'), { code: 'EACCES' });
    at = from(folder, readlinkSync(path));
  }
  throw Object.assign(new Error('too many links'), { code: 'ELOOP' });
}

/** Not `path.resolve`: it takes ".." away together with a name that may be a link. */
function from(folder: string, path: string): string {
  return isAbsolute(path) ? path : `${folder}/${path}`;
}

function kindOf(stat: Stats): { kind: 'file'; stat: Stats } | { kind: 'device' | 'fifo' | 'socket' } {
  if (stat.isFile()) return { kind: 'file', stat };
  return { kind: stat.isFIFO() ? 'fifo' : stat.isSocket() ? 'socket' : 'device' };
}
