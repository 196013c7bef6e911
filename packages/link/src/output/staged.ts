/** The temporary file beside a target: put in its place when it is whole, removed when it never is. */
import { createHash, randomBytes } from 'node:crypto';
import {
  accessSync,
  closeSync,
  constants,
  fchmodSync,
  fchownSync,
  fsyncSync,
  openSync,
  readdirSync,
  readFileSync,
  readlinkSync,
  readSync,
  renameSync,
  rmSync,
  writeSync,
} from 'node:fs';
import { hostname, tmpdir } from 'node:os';
import { basename, dirname, join } from 'node:path';
import { outputTarget } from './target.ts';
import type { OutputTarget } from './target.ts';

const SUFFIX = '.subflow-part';
/** Names have at most 255 bytes: this many characters of the target's are kept. */
const KEPT_OF_NAME = 40;
const SIGNALS = ['SIGINT', 'SIGTERM', 'SIGHUP'] as const;
/** A rename that may not happen although the file may be written: a mount point, somebody else's file in a sticky folder. */
const NOT_RENAMED = new Set(['EBUSY', 'EPERM', 'EACCES', 'EXDEV', 'ETXTBSY']);
const REFUSED = new Set(['EACCES', 'EPERM', 'EROFS']);
const COPY_PIECE = 1 << 20;

const open = new Set<StagedFile>();
let hookedExit = false;
let hookedSignals = false;

export interface StagedOptions {
  /** Permissions of a new file, less the umask. */
  mode: number;
  /** Removed on signals too: for writers that let the event loop run. A signal that is listened to no longer ends a busy process. */
  guarded: boolean;
}

export class StagedFile {
  readonly fd: number;
  private readonly target: OutputTarget & { kind: 'absent' | 'file' };
  private readonly temporary: string;
  /** The name cannot be given to another file: it has other names, or an owner that is not ours to give. */
  private inPlace: boolean;

  /** Throws the system's error. */
  constructor(target: OutputTarget & { kind: 'absent' | 'file' }, options: StagedOptions) {
    this.target = target;
    const { path } = target;
    if (target.kind === 'file') accessSync(path, constants.W_OK);
    this.inPlace = target.kind === 'file' && target.stat.nlink > 1;
    // Nobody who may not read the old file reads the new one.
    const mode = target.kind === 'file' ? 0o600 : options.mode;
    let made;
    try {
      made = create(dirname(path), path, mode);
    } catch (error) {
      if (target.kind === 'absent' || !REFUSED.has((error as NodeJS.ErrnoException).code ?? '')) throw error;
      made = create(tmpdir(), path, mode);
      this.inPlace = true;
    }
    this.fd = made.fd;
    this.temporary = made.path;
    open.add(this);
    hook(options.guarded);
  }

  /** Everything is written: gives it the old file's owner and permissions. Throws the system's error. */
  seal(durable: boolean): void {
    const now = this.look();
    if (now.kind === 'file' && !this.inPlace) this.dress(now.stat);
    if (durable) fsyncSync(this.fd);
  }

  /** Puts it, closed, in the target's place. Throws the system's error; the target is then as it was, except after a failed copy. */
  place(durable: boolean): void {
    const now = this.look();
    if (this.inPlace && now.kind === 'file') this.copy(durable);
    else {
      try {
        renameSync(this.temporary, this.target.path);
      } catch (error) {
        if (now.kind !== 'file' || !NOT_RENAMED.has((error as NodeJS.ErrnoException).code ?? '')) throw error;
        this.copy(durable);
      }
    }
    this.remove();
  }

  /** Its name is gone; the descriptor is the writer's to close. Idempotent. */
  remove(): void {
    if (open.delete(this)) rmSync(this.temporary, { force: true });
  }

  private look(): OutputTarget & { kind: 'absent' | 'file' } {
    const now = outputTarget(this.target.path);
    if ((now.kind === 'file' || now.kind === 'absent') && now.path === this.target.path) return now;
    throw Object.assign(new Error('something else has taken the place of this file'), { code: 'CHANGED' });
  }

  /** Owner, then permissions: a change of owner clears some of them. */
  private dress(old: { uid: number; gid: number; mode: number }): void {
    try {
      if (old.uid !== process.geteuid?.() || old.gid !== process.getegid?.()) fchownSync(this.fd, old.uid, old.gid);
      fchmodSync(this.fd, old.mode & 0o7777);
    } catch (error) {
      if (!REFUSED.has((error as NodeJS.ErrnoException).code ?? '')) throw error;
      this.inPlace = true;
    }
  }

  private copy(durable: boolean): void {
    const from = openSync(this.temporary, 'r');
    try {
      const to = openSync(this.target.path, constants.O_WRONLY | constants.O_TRUNC);
      try {
        const piece = Buffer.allocUnsafe(COPY_PIECE);
        for (let length = readSync(from, piece); length > 0; length = readSync(from, piece))
          for (let at = 0; at < length;) at += writeSync(to, piece, at, length - at);
        if (durable) fsyncSync(to);
      } finally {
        closeSync(to);
      }
    } finally {
      closeSync(from);
    }
  }
}

function create(folder: string, target: string, mode: number): { fd: number; path: string } {
  sweep(folder);
  const path = join(folder, `.${basename(target).slice(0, KEPT_OF_NAME)}.${ownTag()}-${randomBytes(4).toString('hex')}${SUFFIX}`);
  return { fd: openSync(path, 'wx', mode), path };
}

/** Removes what killed processes of this machine left in a folder. */
function sweep(folder: string): void {
  let names: string[];
  try {
    names = readdirSync(folder).filter((name) => name.endsWith(SUFFIX));
  } catch {
    return;
  }
  const here = machineTag();
  for (const name of names) {
    const match = /\.([0-9a-f]{8})-(\d+)-(\d+)-[0-9a-f]{8}\.subflow-part$/.exec(name);
    if (match === null || match[1] !== here || runs(Number(match[2]), match[3]!)) continue;
    rmSync(join(folder, name), { force: true, recursive: false });
  }
}

/** The same number may belong to another process by now: the start time tells. */
function runs(pid: number, started: string): boolean {
  try {
    process.kill(pid, 0);
  } catch (error) {
    return (error as NodeJS.ErrnoException).code !== 'ESRCH';
  }
  const now = startTime(pid);
  return now === '0' || started === '0' || now === started;
}

function ownTag(): string {
  return `${machineTag()}-${process.pid}-${startTime(process.pid)}`;
}

/** Process numbers say something only within one machine and one PID namespace; a folder may be shared by several. */
function machineTag(): string {
  const facts = [hostname(), textOf(() => readFileSync('/etc/machine-id', 'utf8')), textOf(() => readlinkSync('/proc/self/ns/pid'))];
  return createHash('sha256').update(facts.join('\0')).digest('hex').slice(0, 8);
}

/** In clock ticks since the machine started (field 22 of /proc/PID/stat); 0 where there is no /proc. */
function startTime(pid: number): string {
  const stat = textOf(() => readFileSync(`/proc/${pid}/stat`, 'utf8'));
  return stat.slice(stat.lastIndexOf(')') + 2).split(' ')[19] ?? '0';
}

function textOf(read: () => string): string {
  try {
    return read();
  } catch {
    return '';
  }
}

function removeAll(): void {
  for (const one of open) one.remove();
}

function hook(signals: boolean): void {
  if (!hookedExit) process.on('exit', removeAll);
  hookedExit = true;
  if (!signals || hookedSignals) return;
  hookedSignals = true;
  for (const signal of SIGNALS) {
    const ended = (): void => {
      // Whoever else listens decides whether this is the end; the end itself is seen at 'exit'.
      if (process.listenerCount(signal) > 1) return;
      removeAll();
      process.removeListener(signal, ended);
      process.kill(process.pid, signal);
    };
    // In front: a listener that is called once is not counted any more after its turn.
    process.prependListener(signal, ended);
  }
}
