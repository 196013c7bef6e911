/** Outputs named by a path: whatever stands there stays what it is, and gets every byte or keeps its old ones. */
import { execFileSync, spawn, spawnSync } from 'node:child_process';
import {
  chmodSync,
  closeSync,
  constants,
  lstatSync,
  mkdirSync,
  mkdtempSync,
  openSync,
  readdirSync,
  readFileSync,
  readSync,
  rmSync,
  statSync,
  symlinkSync,
  writeFileSync,
} from 'node:fs';
import { createServer } from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { Readable } from 'node:stream';
import { pipeline } from 'node:stream/promises';
import { fileURLToPath } from 'node:url';
import fc from 'fast-check';
import { afterAll, describe, expect, it } from 'vitest';
import { OutputFile, withOutput, writeOutput, writeOutputSync } from '@subflow/link';
import { device, FULL, isRoot, places, temporaryFiles as temporary } from './places.ts';

const root = mkdtempSync(join(tmpdir(), 'subflow-output-'));
afterAll(() => rmSync(root, { recursive: true, force: true }));
const { folder, PLACES } = places(root);

/** A way to write the whole content. */
const WAYS: Readonly<Record<string, (path: string, pieces: readonly Uint8Array[]) => Promise<void>>> = {
  whole: (path, pieces) => writeOutput(path, Buffer.concat(pieces)),
  pieces: (path, pieces) =>
    withOutput(path, {}, async (output) => {
      for (const piece of pieces) output.write(piece);
      await output.drained();
    }),
  stream: async (path, pieces) => pipeline(Readable.from(pieces), (await OutputFile.open(path)).stream()),
  growing: (path, pieces) => withOutput(path, { how: 'grow' }, (output) => pieces.forEach((piece) => output.write(piece))),
};

describe('what is written arrives, and what stands at the path stays what it is', () => {
  for (const kind of Object.keys(PLACES))
    for (const way of Object.keys(WAYS))
      it(`${kind}, ${way}`, async () => {
        await fc.assert(
          fc.asyncProperty(fc.array(fc.uint8Array({ maxLength: 100_000 }), { maxLength: 5 }), async (pieces) => {
            const place = PLACES[kind]!();
            try {
              await WAYS[way]!(place.path, pieces);
              const content = await place.content();
              if (content !== null) expect(content.equals(Buffer.concat(pieces))).toBe(true);
              place.unchanged();
              if (!place.path.startsWith('/dev/')) expect(temporary(place.path)).toEqual([]);
            } finally {
              place.close();
            }
          }),
          { numRuns: 8 },
        );
      });
});

describe('what fails leaves the old', () => {
  it.each(['absent', 'a regular file', 'a file with two names', 'a link', 'a dangling link'])('%s: a download that breaks off', async (kind) => {
    const place = PLACES[kind]!();
    const before = kind.includes('absent') || kind.includes('dangling') ? null : readFileSync(place.path);
    const output = await OutputFile.open(place.path);
    const breaking = Readable.from(
      (async function* () {
        yield Buffer.alloc(200_000, 1);
        await Promise.resolve();
        throw new Error('the peer has gone');
      })(),
    );
    await expect(pipeline(breaking, output.stream())).rejects.toThrow('the peer has gone');
    if (before === null) expect(() => statSync(place.path)).toThrow('ENOENT');
    else expect(readFileSync(place.path).equals(before)).toBe(true);
    expect(temporary(place.path)).toEqual([]);
  });

  const BAD: Readonly<Record<string, () => string>> = {
    'a folder': () => folder(),
    'a link to a folder': () => {
      const at = folder();
      symlinkSync('.', join(at, 'link'));
      return join(at, 'link');
    },
    'a name that ends with a slash': () => `${join(folder(), 'new')}/`,
    'a folder that does not exist': () => join(folder(), 'none/file'),
    'a link into a folder that does not exist': () => {
      const at = folder();
      symlinkSync('none/file', join(at, 'link'));
      return join(at, 'link');
    },
    'a file where a folder is expected': () => {
      const at = folder();
      writeFileSync(join(at, 'file'), '');
      return join(at, 'file/file');
    },
    'links in a circle': () => {
      const at = folder();
      symlinkSync('b', join(at, 'a'));
      symlinkSync('a', join(at, 'b'));
      return join(at, 'a');
    },
    'a name that is too long': () => join(folder(), 'x'.repeat(300)),
    'no name': () => '',
    'a name with a zero': () => join(folder(), 'a\0b'),
    'a socket where nobody listens': () => {
      const path = join(folder(), 'socket');
      execFileSync(process.execPath, ['-e', `require('net').createServer().listen(${JSON.stringify(path)}, () => process.exit(0))`]);
      return path;
    },
    'a descriptor that is not open': () => '/dev/fd/987654',
  };
  for (const kind of Object.keys(BAD))
    it(`${kind}: FILE_NOT_WRITTEN, with the path`, async () => {
      const path = BAD[kind]!();
      const expected = path === '' ? '""' : path.replace('\0', '\\u0000');
      for (const way of Object.values(WAYS))
        await expect(way(path, [Buffer.from('x')])).rejects.toMatchObject({ code: 'FILE_NOT_WRITTEN', message: expect.stringContaining(expected) as string });
    });

  it('a folder that may not be written to: an error for a new file, in place for a file that may', () => {
    const at = folder();
    chmodSync(root, 0o755);
    writeFileSync(join(at, 'file'), 'old');
    chmodSync(join(at, 'file'), 0o666);
    chmodSync(at, 0o555);
    const script = `import { writeOutputSync } from '@subflow/link';
      for (const name of ['file', 'new']) try { writeOutputSync(process.argv[1] + '/' + name, 'new content'); } catch (error) { console.log(error.code, error.message); }`;
    const cwd = fileURLToPath(new URL('../../..', import.meta.url));
    const node = [process.execPath, '--conditions=subflow-source', '--import', 'tsx', '--input-type=module', '-e', script, at];
    const [program, ...args] = isRoot ? ['setpriv', '--reuid=65534', '--clear-groups', ...node] : node;
    const { stdout } = spawnSync(program!, args, { cwd, encoding: 'utf8' });
    expect(stdout).toBe(`FILE_NOT_WRITTEN ${at}/new: permission denied (EACCES)\n`);
    expect([readFileSync(join(at, 'file'), 'utf8'), readdirSync(at)]).toEqual(['new content', ['file']]);
    chmodSync(at, 0o755);
  });

  it('a full device is DISK_FULL, whatever the way', async () => {
    const path = join(folder(), 'full');
    // Without devices: a file system of a page, which is full as well.
    if (!device(path, FULL)) expect(isRoot).toBe(false);
    else
      for (const way of Object.values(WAYS))
        await expect(way(path, [Buffer.alloc(10)])).rejects.toMatchObject({ code: 'DISK_FULL', message: `${path}: no space left (ENOSPC)` });
  });

  it('a full disk keeps the old file', () => {
    const at = folder();
    const script = `import { writeOutput } from '@subflow/link';
      import { readFileSync, readdirSync, writeFileSync } from 'node:fs';
      const at = process.argv[1];
      writeFileSync(at + '/file', 'old');
      await writeOutput(at + '/file', Buffer.alloc(1e6)).catch((error) => console.log(error.code));
      console.log(readFileSync(at + '/file', 'utf8'), readdirSync(at).join());`;
    const node = `${process.execPath} --conditions=subflow-source --import tsx --input-type=module -e "$1" "$2"`;
    const { stdout, stderr } = spawnSync('unshare', ['-rm', 'sh', '-c', `mount -t tmpfs -o size=64k none "$2" && exec ${node}`, 'sh', script, at], {
      cwd: fileURLToPath(new URL('../../..', import.meta.url)),
      encoding: 'utf8',
    });
    expect([stdout, stderr]).toEqual(['DISK_FULL\nold file\n', '']);
  });

  it.each(['a FIFO', 'a socket'])('%s whose reader leaves is READER_GONE', async (kind) => {
    const at = join(folder(), 'gone');
    if (kind === 'a FIFO') execFileSync('mkfifo', [at]);
    const reader = kind === 'a FIFO' ? openSync(at, constants.O_RDONLY | constants.O_NONBLOCK) : null;
    const server = reader === null ? createServer((socket) => socket.destroy()).listen(at) : null;
    const output = await OutputFile.open(at);
    output.write('something');
    if (reader !== null) closeSync(reader);
    const endless = async (): Promise<void> => {
      for (;;) {
        output.write(Buffer.alloc(10_000));
        await output.drained();
      }
    };
    await expect(endless()).rejects.toMatchObject({ code: 'READER_GONE', message: expect.stringContaining(at) as string });
    server?.close();
  });
});

describe('temporary files', () => {
  const cwd = fileURLToPath(new URL('../../..', import.meta.url));
  const SLOW = `import { OutputFile } from '@subflow/link';
    const output = await OutputFile.open(process.argv[1]);
    output.write('half');
    await output.drained();
    console.log('written');
    setInterval(() => undefined, 1000);`;

  async function killed(path: string, signal: NodeJS.Signals): Promise<NodeJS.Signals | null> {
    const child = spawn(process.execPath, ['--conditions=subflow-source', '--import', 'tsx', '--input-type=module', '-e', SLOW, path], { cwd });
    await new Promise((resolve) => child.stdout.once('data', resolve));
    expect(temporary(path)).toHaveLength(1);
    child.kill(signal);
    return new Promise((resolve) => child.once('exit', (_, by) => resolve(by)));
  }

  it.each(['SIGINT', 'SIGTERM', 'SIGHUP'] as const)('are gone after %s, which still ends the process, and the old file is there', async (signal) => {
    const path = join(folder(), 'file');
    writeFileSync(path, 'old');
    expect(await killed(path, signal)).toBe(signal);
    expect([temporary(path), readFileSync(path, 'utf8')]).toEqual([[], 'old']);
  });

  it('of a killed process are swept by the next writer in the folder, those of a living one are not, nor what only looks like one', async () => {
    const at = folder();
    await killed(join(at, 'file'), 'SIGKILL');
    const living = await OutputFile.open(join(at, 'other'));
    expect(temporary(join(at, 'x'))).toHaveLength(1);
    writeFileSync(join(at, '.mine.subflow-part'), '');
    writeFileSync(join(at, '.mine.00000000-1-1-00000000.subflow-part'), '');
    writeOutputSync(join(at, 'third'), 'x');
    expect(temporary(join(at, 'x'))).toHaveLength(3);
    await living.finish();
    expect(readdirSync(at).sort()).toEqual(['.mine.00000000-1-1-00000000.subflow-part', '.mine.subflow-part', 'other', 'third']);
  });

  it('nobody reads in one what may not be read in the old file', async () => {
    const path = join(folder(), 'secret');
    writeFileSync(path, 'old', { mode: 0o600 });
    const output = await OutputFile.open(path);
    expect(statSync(join(path, '..', temporary(path)[0]!)).mode & 0o777).toBe(0o600);
    await output.finish();
    expect(statSync(path).mode & 0o777).toBe(0o600);
  });
});

describe('how', () => {
  it('append keeps what is there, follows links, and makes what is missing with its mode', () => {
    const at = folder();
    writeFileSync(join(at, 'file'), 'one\n');
    symlinkSync('file', join(at, 'link'));
    writeOutputSync(join(at, 'link'), 'two\n', { how: 'append' });
    writeOutputSync(join(at, 'new'), 'x', { how: 'append', mode: 0o600 });
    expect([readFileSync(join(at, 'file'), 'utf8'), statSync(join(at, 'new')).mode & 0o777]).toEqual(['one\ntwo\n', 0o600]);
  });

  it('a growing file can be read while it grows, and stays when its writer ends without a word', () => {
    const path = join(folder(), 'capture');
    writeFileSync(path, 'a longer one of yesterday');
    const output = OutputFile.openSync(path, { how: 'grow' });
    output.write('first');
    expect(readFileSync(path, 'utf8')).toBe('first');
    output.discard();
    expect(readFileSync(path, 'utf8')).toBe('first');
  });

  it('a FIFO is waited for without holding up the process, and at once it is an error', async () => {
    const path = join(folder(), 'fifo');
    execFileSync('mkfifo', [path]);
    expect(() => OutputFile.openSync(path)).toThrow(`${path}: nobody is at its other end (ENXIO)`);
    const writing = writeOutput(path, 'hello');
    await new Promise((resolve) => setTimeout(resolve, 60));
    const fd = openSync(path, constants.O_RDONLY | constants.O_NONBLOCK);
    await writing;
    const buffer = Buffer.alloc(10);
    expect(buffer.toString('utf8', 0, readSync(fd, buffer))).toBe('hello');
    closeSync(fd);
  });

  it('what has taken the place of the file in the meantime is not replaced', async () => {
    const path = join(folder(), 'file');
    const output = await OutputFile.open(path);
    output.write('x');
    mkdirSync(path);
    await expect(output.finish()).rejects.toMatchObject({ code: 'FILE_NOT_WRITTEN' });
    expect([lstatSync(path).isDirectory(), temporary(path)]).toEqual([true, []]);
  });
});
