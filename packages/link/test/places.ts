/** Kinds of what a path may name, made by the tests themselves in a folder of their own: nothing here names a device of the system's. */
import { execFileSync, spawn, spawnSync } from 'node:child_process';
import {
  chmodSync,
  chownSync,
  closeSync,
  linkSync,
  lstatSync,
  mkdirSync,
  mkdtempSync,
  openSync,
  readdirSync,
  readFileSync,
  readlinkSync,
  statSync,
  symlinkSync,
  writeFileSync,
} from 'node:fs';
import { createServer } from 'node:net';
import { dirname, join } from 'node:path';
import { expect } from 'vitest';

export const isRoot = process.getuid!() === 0;
export const NULL = 3;
export const FULL = 7;

/** A character device; false where none may be made or used: a FIFO stands in for it. */
export function device(path: string, minor: number): boolean {
  return spawnSync('mknod', ['-m', '666', path, 'c', '1', String(minor)]).status === 0 && spawnSync('sh', ['-c', `: > ${path}`]).status === 0;
}

export interface Place {
  path: string;
  /** What has arrived, once the writer has finished; null: nobody can tell. */
  content(): Promise<Buffer | null>;
  /** Looks at what must not have changed. */
  unchanged(): void;
  close(): void;
}

const none = (): void => undefined;
const facts = (path: string): string => {
  const stat = lstatSync(path);
  return [stat.ino, stat.mode.toString(8), stat.rdev, stat.uid, stat.gid].join(' ');
};

function atFile(path: string, unchanged: () => void = none): Place {
  return { path, content: () => Promise.resolve(readFileSync(path)), unchanged, close: none };
}

export const temporaryFiles = (path: string): string[] => readdirSync(dirname(path)).filter((name) => name.includes('subflow-part'));

/** The kinds, each made anew under `root`. */
export function places(root: string): { folder(): string; PLACES: Readonly<Record<string, () => Place>> } {
  const folder = (): string => mkdtempSync(join(root, 'f-'));
  const devices = device(join(root, 'trial'), NULL);
  const PLACES: Readonly<Record<string, () => Place>> = {
    absent: () => atFile(join(folder(), 'new')),
    'a regular file': () => {
      const path = join(folder(), 'old');
      writeFileSync(path, 'what was there before, longer than some of what comes'.repeat(9));
      chmodSync(path, 0o640);
      if (isRoot) chownSync(path, 1234, 4321);
      const { uid, gid } = statSync(path);
      return atFile(path, () => {
        const now = lstatSync(path);
        expect([now.isFile(), now.mode & 0o7777, now.uid, now.gid]).toEqual([true, 0o640, uid, gid]);
      });
    },
    'a file with two names': () => {
      const at = folder();
      writeFileSync(join(at, 'one'), 'old content');
      linkSync(join(at, 'one'), join(at, 'two'));
      return { ...atFile(join(at, 'one'), () => expect(statSync(join(at, 'two')).nlink).toBe(2)), content: async () => readFileSync(join(at, 'two')) };
    },
    'a link': () => {
      const at = folder();
      mkdirSync(join(at, 'inner'));
      writeFileSync(join(at, 'inner/file'), 'old');
      symlinkSync('inner/file', join(at, 'link'));
      return atFile(join(at, 'link'), () => {
        expect(readlinkSync(join(at, 'link'))).toBe('inner/file');
        expect(lstatSync(join(at, 'inner/file')).isFile()).toBe(true);
        expect(readdirSync(at).sort()).toEqual(['inner', 'link']);
      });
    },
    'a link that leads up from a linked folder': () => {
      const at = folder();
      mkdirSync(join(at, 'far/away'), { recursive: true });
      symlinkSync('far/away', join(at, 'folder'));
      symlinkSync('../file', join(at, 'far/away/link'));
      return {
        ...atFile(join(at, 'folder/link'), () => expect(lstatSync(join(at, 'far/away/link')).isSymbolicLink()).toBe(true)),
        content: async () => readFileSync(join(at, 'far/file')),
      };
    },
    'a dangling link': () => {
      const at = folder();
      symlinkSync('second', join(at, 'first'));
      symlinkSync(join(at, 'third'), join(at, 'second'));
      return atFile(join(at, 'first'), () => {
        expect([readlinkSync(join(at, 'first')), readlinkSync(join(at, 'second'))]).toEqual(['second', join(at, 'third')]);
        expect(lstatSync(join(at, 'third')).isFile()).toBe(true);
      });
    },
    'a device': () => {
      const path = join(folder(), 'device');
      if (!devices) return fifo(path);
      device(path, NULL);
      const before = facts(path);
      return { path, content: () => Promise.resolve(null), unchanged: () => expect(facts(path)).toBe(before), close: none };
    },
    'a link to a device': () => {
      const at = folder();
      const inner = PLACES['a device']!();
      symlinkSync(inner.path, join(at, 'link'));
      return {
        ...inner,
        path: join(at, 'link'),
        unchanged: () => {
          inner.unchanged();
          expect(lstatSync(join(at, 'link')).isSymbolicLink()).toBe(true);
        },
      };
    },
    'a FIFO': () => fifo(join(folder(), 'fifo')),
    'a socket': () => {
      const path = join(folder(), 'socket');
      let take: (all: Buffer) => void = none;
      const arrived = new Promise<Buffer>((resolve) => (take = resolve));
      const server = createServer((socket) => {
        const parts: Buffer[] = [];
        socket.on('data', (part) => parts.push(part)).on('end', () => take(Buffer.concat(parts)));
      }).listen(path);
      return { path, content: () => arrived, unchanged: () => expect(lstatSync(path).isSocket()).toBe(true), close: () => server.close() };
    },
    'a descriptor of this process': () => {
      const path = join(folder(), 'open');
      writeFileSync(path, '');
      const fd = openSync(path, 'r+');
      const before = facts(path);
      return { path: `/dev/fd/${fd}`, content: async () => readFileSync(path), unchanged: () => expect(facts(path)).toBe(before), close: () => closeSync(fd) };
    },
  };

  return { folder, PLACES };
}

function fifo(path: string): Place {
  execFileSync('mkfifo', [path]);
  const before = facts(path);
  const reader = spawn('cat', [path], { stdio: ['ignore', 'pipe', 'ignore'] });
  const parts: Buffer[] = [];
  reader.stdout.on('data', (part: Buffer) => parts.push(part));
  const arrived = new Promise<Buffer>((resolve) => reader.once('close', () => resolve(Buffer.concat(parts))));
  return { path, content: () => arrived, unchanged: () => expect(facts(path)).toBe(before), close: () => reader.kill() };
}
