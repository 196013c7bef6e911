/** What commands write where an option says: whatever stands there stays what it is. */
import { execFileSync, spawn } from 'node:child_process';
import type { ChildProcess } from 'node:child_process';
import { randomBytes } from 'node:crypto';
import { closeSync, lstatSync, mkdtempSync, openSync, readdirSync, readFileSync, rmSync, symlinkSync, writeFileSync } from 'node:fs';
import { createServer } from 'node:http';
import type { Server } from 'node:http';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { device, FULL, isRoot, places, temporaryFiles } from '../../packages/link/test/places.ts';
import { download, emulatedWorld, pcapngOf } from '../trace/emulated.ts';

const SUBFLOW = fileURLToPath(new URL('../../packages/cli/bin/subflow.mjs', import.meta.url));
const root = mkdtempSync(join(tmpdir(), 'subflow-outputs-'));
const { folder, PLACES } = places(root);
const capture = join(root, 'a.pcapng');
const body = randomBytes(3_000_000);
const children = new Set<ChildProcess>();
let server: Server;
let url = '';

beforeAll(async () => {
  const world = emulatedWorld([{ name: 'wifi', link: { rate: 20e6, delay: 10_000 } }]);
  download(world, 50_000);
  writeFileSync(capture, pcapngOf(world.captured.client, ['wifi']));
  server = createServer((request, response) => {
    response.writeHead(200, { 'content-length': body.length });
    if (request.url === '/whole') response.end(body);
    else {
      response.write(body.subarray(0, 1_000_000));
      if (request.url === '/broken') setTimeout(() => response.destroy(), 100);
    }
  }).listen(0, '127.0.0.1');
  await new Promise((resolve) => server.once('listening', resolve));
  url = `http://127.0.0.1:${(server.address() as { port: number }).port}`;
});
afterAll(() => {
  for (const child of children) child.kill('SIGKILL');
  server.closeAllConnections();
  server.close();
  rmSync(root, { recursive: true, force: true });
});

interface Result {
  code: number | null;
  stdout: Buffer;
  stderr: string;
}

function start(args: readonly string[]): ChildProcess {
  const child = spawn(process.execPath, [SUBFLOW, ...args], { stdio: ['ignore', 'pipe', 'pipe'], cwd: root });
  children.add(child);
  child.once('exit', () => children.delete(child));
  return child;
}

async function ended(child: ChildProcess): Promise<Result> {
  children.add(child);
  const stdout: Buffer[] = [];
  let stderr = '';
  child.stdout!.on('data', (part: Buffer) => stdout.push(part));
  child.stderr!.on('data', (part: Buffer) => (stderr += String(part)));
  const code = await new Promise<number | null>((resolve) => child.once('close', resolve));
  return { code, stdout: Buffer.concat(stdout), stderr };
}

const run = (...args: string[]): Promise<Result> => ended(start(args));

/** A shell line; `subflow` is the program. Not at once: the server is in this process. */
async function shell(line: string): Promise<{ code: number | null; stdout: string; stderr: string }> {
  const result = await ended(spawn('bash', ['-c', `subflow() { ${process.execPath} ${SUBFLOW} "$@"; }; ${line}`], { cwd: root }));
  return { ...result, stdout: String(result.stdout) };
}

/** Commands that write what an option names, and how what they write begins. */
const COMMANDS: Readonly<Record<string, { args: (path: string) => string[]; begins: Uint8Array }>> = {
  get: { args: (path) => ['get', '--force', '--quiet', '-o', path, `${url}/whole`], begins: body },
  'trace graph': { args: (path) => ['trace', 'graph', 'seq', capture, '-o', path], begins: Buffer.from('<svg') },
  'trace report': { args: (path) => ['trace', 'report', capture, '-o', path], begins: Buffer.from('<!doctype html>') },
  'trace scrub': { args: (path) => ['trace', 'scrub', capture, '-o', path], begins: Uint8Array.of(0x0a, 0x0d, 0x0d, 0x0a) },
  'lb compare': {
    args: (path) => ['lb', 'compare', '--connections', '50', '--designs', 'e', '--changes', 'none', '--svg', path],
    begins: Buffer.from('<svg'),
  },
  // The place is a link in the folder that is named.
  'trace export': {
    args: (path) => {
      const at = folder();
      symlinkSync(path, join(at, 'subflows.csv'));
      return ['trace', 'export', capture, '-d', at];
    },
    begins: Buffer.from('connection,'),
  },
  demo: {
    args: (path) => {
      const at = folder();
      writeFileSync(
        join(at, 'scenario.yaml'),
        'paths: [{ name: wifi, rate: 50 Mbit/s, delay: 5 ms, queue: { time: 100 ms } }]\ntransfer: { size: 50 kB }\ntimeline: []\n',
      );
      symlinkSync(path, join(at, 'wifi.pcapng'));
      return ['demo', '--fast', '--scenario', join(at, 'scenario.yaml'), '--out', at];
    },
    begins: Uint8Array.of(0x0a, 0x0d, 0x0d, 0x0a),
  },
};
/** `get` meets every kind, the others those that differ. */
const FEW = ['a dangling link', 'a regular file', 'a link to a device', 'a FIFO', 'a socket'];

describe('what stands where a command writes stays what it is, and gets every byte', () => {
  for (const [command, { args, begins }] of Object.entries(COMMANDS))
    for (const kind of command === 'get' ? Object.keys(PLACES).filter((one) => !one.includes('descriptor')) : FEW)
      it(`subflow ${command}: ${kind}`, async () => {
        const place = PLACES[kind]!();
        // A name that a graph takes: what is not a file needs none.
        let { path } = place;
        if (command === 'trace graph' && kind !== 'a FIFO' && kind !== 'a socket') symlinkSync(path, (path = `${path}.svg`));
        try {
          const { code, stderr } = await run(...args(path));
          expect([code, stderr]).toEqual([0, '']);
          const content = await place.content();
          if (content !== null) expect(content.subarray(0, begins.length).equals(begins)).toBe(true);
          place.unchanged();
          expect(temporaryFiles(place.path)).toEqual([]);
        } finally {
          place.close();
        }
      }, 30_000);
});

describe('subflow get', () => {
  it.each(['a regular file', 'a link', 'a dangling link', 'absent'])('a server that breaks off leaves %s as it was', async (kind) => {
    const place = PLACES[kind]!();
    const before = kind === 'absent' || kind === 'a dangling link' ? null : readFileSync(place.path);
    const { code, stderr } = await run('get', '--force', '--quiet', '-o', place.path, `${url}/broken`);
    expect([code, stderr]).toEqual([1, expect.stringMatching(/^(ECONNRESET|TRUNCATED): /)]);
    if (before === null) expect(() => readFileSync(place.path)).toThrow('ENOENT');
    else expect(readFileSync(place.path).equals(before)).toBe(true);
    expect(temporaryFiles(place.path)).toEqual([]);
  });

  it.each(['SIGINT', 'SIGTERM'] as const)('%s in the middle leaves the old file and nothing else', async (signal) => {
    const path = join(folder(), 'file');
    writeFileSync(path, 'old');
    const child = start(['get', '--force', '--quiet', '-o', path, `${url}/endless`]);
    const ended = new Promise((resolve) => child.once('exit', (_, by) => resolve(by)));
    const until = Date.now() + 10_000;
    const half = (): boolean => temporaryFiles(path).some((name) => lstatSync(join(path, '..', name)).size >= 1_000_000);
    while (!half() && Date.now() < until) await new Promise((resolve) => setTimeout(resolve, 20));
    child.kill(signal);
    expect(await ended).toBe(signal);
    expect([readFileSync(path, 'utf8'), readdirSync(join(path, '..'))]).toEqual(['old', ['file']]);
  });

  it('a file that is there is kept without --force, also behind a link; a device is no file', async () => {
    const link = PLACES['a link']!();
    expect(await run('get', '-o', link.path, `${url}/whole`)).toMatchObject({ code: 1, stderr: expect.stringMatching(/^FILE_EXISTS: /) as string });
    const place = PLACES['a device']!();
    expect(await run('get', '--quiet', '-o', place.path, `${url}/whole`)).toMatchObject({ code: 0, stderr: '' });
    place.unchanged();
    place.close();
  });

  it('standard output by every name, with nothing else in it', async () => {
    // What /dev/stdout is, in a folder of our own.
    const link = join(folder(), 'stdout');
    symlinkSync('/proc/self/fd/1', link);
    for (const name of ['-', link, '/dev/fd/1', '/proc/self/fd/1']) {
      const { code, stdout, stderr } = await run('get', '-o', name, `${url}/whole`);
      expect([name, code, stdout.equals(body)]).toEqual([name, 0, true]);
      expect(stderr).toContain('SHA-256');
    }
    expect((await shell(`echo before > out; subflow get --quiet -o ${link} ${url}/whole >> out; head -c 7 out; stat -c %s out`)).stdout).toBe(
      'before\n3000007\n',
    );
    expect(await run('get', '--json', '-o', link, `${url}/whole`)).toMatchObject({
      code: 1,
      stderr: expect.stringMatching(/^BAD_ARGUMENT: --output/) as string,
    });
  });

  it('another command’s input, as a shell gives it', async () => {
    expect(await shell(`subflow get --quiet -o >(wc -c) ${url}/whole; wait; sleep 0.2`)).toEqual({ code: 0, stdout: '3000000\n', stderr: '' });
  });

  it('a reader that has had enough is a quiet end', async () => {
    expect(await shell(`subflow get --quiet -o - ${url}/whole | head -c 3 | wc -c; echo \${PIPESTATUS[0]}`)).toEqual({
      code: 0,
      stdout: '3\n141\n',
      stderr: '',
    });
    expect(await shell('subflow probe --list-steps | true; echo ${PIPESTATUS[1]}')).toEqual({ code: 0, stdout: '0\n', stderr: '' });
  });

  it('a full device is an error with its path', async () => {
    const path = join(folder(), 'full');
    if (!device(path, FULL)) expect(isRoot).toBe(false);
    else expect(await run('get', '-o', path, `${url}/whole`)).toMatchObject({ code: 1, stderr: `DISK_FULL: ${path}: no space left (ENOSPC)\n` });
  });

  it('what cannot be written is said before the server is asked', async () => {
    const at = folder();
    for (const [path, reason] of [
      [at, 'is a folder; expected a file (EISDIR)'],
      [join(at, 'none/file'), 'its folder does not exist (ENOENT)'],
      [join(at, 'new/'), 'is a folder; expected a file (EISDIR)'],
    ])
      expect(await run('get', '-o', path!, 'http://127.0.0.1:1/')).toMatchObject({ code: 1, stderr: `FILE_NOT_WRITTEN: ${path}: ${reason}\n` });
  });
});

describe('others', () => {
  it('a capture is scrubbed into itself, and into a pipe', async () => {
    const file = join(folder(), 'own.pcapng');
    writeFileSync(file, readFileSync(capture));
    expect(await run('trace', 'scrub', file, '-o', file)).toMatchObject({ code: 0, stderr: '' });
    const piped = await run('trace', 'scrub', file, '-o', '-');
    expect([piped.code, piped.stderr]).toEqual([0, expect.stringMatching(/^-: \d+ packets, 0 left out/)]);
    const { totals } = JSON.parse((await run('trace', '--json', file)).stdout.toString()) as { totals: { packets: number } };
    expect(totals.packets).toBeGreaterThan(30);
    writeFileSync(file, piped.stdout);
    expect((JSON.parse((await run('trace', '--json', file)).stdout.toString()) as { totals: unknown }).totals).toEqual(totals);
  });

  it('a descriptor that the caller opened gets a page, and stays open to it', () => {
    const file = join(folder(), 'log');
    writeFileSync(file, '');
    const fd = openSync(file, 'a');
    execFileSync(process.execPath, [SUBFLOW, 'trace', 'report', capture, '-o', '/dev/fd/3'], { stdio: ['ignore', 'ignore', 'inherit', fd] });
    closeSync(fd);
    expect(readFileSync(file, 'utf8')).toMatch(/^<!doctype html>/);
  });
});
