/** The everyday commands on loopback: cat, get, serve, iperf, monitor, run, proxy, site; and what they say to bad input. */
import { spawn } from 'node:child_process';
import type { ChildProcess } from 'node:child_process';
import { createHash, randomBytes } from 'node:crypto';
import { mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { createServer } from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { createInterface } from 'node:readline';
import { fileURLToPath } from 'node:url';
import { afterAll, afterEach, beforeAll, describe, expect, it } from 'vitest';
import { kernelMptcpObstacle } from '@subflow/link';

const SUBFLOW = fileURLToPath(new URL('../../packages/cli/bin/subflow.mjs', import.meta.url));
const children = new Set<ChildProcess>();
const directory = mkdtempSync(join(tmpdir(), 'subflow-cli-'));
const multipath = kernelMptcpObstacle() === null;

afterEach(() => {
  for (const child of children) child.kill('SIGKILL');
});
afterAll(() => rmSync(directory, { recursive: true, force: true }));

function start(...args: string[]): ChildProcess {
  const child = spawn(process.execPath, [SUBFLOW, ...args], { stdio: ['pipe', 'pipe', 'pipe'] });
  children.add(child);
  child.once('exit', () => children.delete(child));
  return child;
}

async function run(args: string[], input: string | null = null, timeout = 20_000): Promise<{ code: number | null; stdout: string; stderr: string }> {
  const child = start(...args);
  let stdout = '';
  let stderr = '';
  child.stdout!.on('data', (chunk: Buffer) => (stdout += String(chunk)));
  child.stderr!.on('data', (chunk: Buffer) => (stderr += String(chunk)));
  child.stdin!.end(input ?? '');
  const timer = setTimeout(() => child.kill('SIGKILL'), timeout);
  const code = await new Promise<number | null>((resolve) => child.once('close', resolve));
  clearTimeout(timer);
  return { code, stdout, stderr };
}

/** Starts a command that serves; resolves with the first line it prints. */
async function serving(...args: string[]): Promise<{ child: ChildProcess; line: string; lines: string[] }> {
  const child = start(...args);
  child.stderr!.pipe(process.stderr);
  const lines: string[] = [];
  return new Promise((resolve, reject) => {
    child.once('exit', (code) => reject(new Error(`${args.join(' ')} ended with ${code}`)));
    createInterface({ input: child.stdout! }).on('line', (line) => {
      lines.push(line);
      resolve({ child, line: lines[0]!, lines });
    });
  });
}

const portOf = (line: string): string => /:(\d+)\/?$/.exec(line)![1]!;

async function freePort(): Promise<number> {
  return new Promise((resolve) => {
    const server = createServer().listen(0, '127.0.0.1', () => {
      const { port } = server.address() as { port: number };
      server.close(() => resolve(port));
    });
  });
}

describe('subflow cat', () => {
  it('carries both directions, half-close included', async () => {
    const port = await freePort();
    const listener = start('cat', '--listen', String(port));
    let heard = '';
    listener.stdout!.on('data', (chunk: Buffer) => (heard += String(chunk)));
    await new Promise((resolve) => setTimeout(resolve, 700));
    const client = run(['cat', '--verbose', '127.0.0.1', String(port)], 'question');
    await new Promise<void>((resolve) => listener.stdout!.once('end', resolve));
    listener.stdin!.end('answer after the end');
    const result = await client;
    expect([heard, result.stdout, result.code]).toEqual(['question', 'answer after the end', 0]);
    expect(result.stderr).toMatch(multipath ? /Multipath TCP version 1, 1 subflow/ : /plain TCP/);
  });

  it('our stack: what reaches itself only', async () => {
    const result = await run(['cat', '--backend', 'stack', '--wait', '2', '127.0.0.1', '9']);
    expect([result.code, result.stderr]).toEqual([1, 'ECONNREFUSED: connect ECONNREFUSED 127.0.0.1:9\n']);
  });
});

describe('subflow serve and get', () => {
  const body = randomBytes(5_000_000);
  let url = '';
  beforeAll(async () => {
    writeFileSync(join(directory, 'body.bin'), body);
    writeFileSync(join(directory, '.hidden'), 'secret');
  });

  it('a file arrives whole; listing, ranges, hidden files, climbing out', async () => {
    const { line } = await serving('serve', '--port', '0', directory);
    url = `http://127.0.0.1:${portOf(line)}`;
    const file = join(directory, 'out.bin');
    const result = await run(['get', '--json', '-o', file, `${url}/body.bin`]);
    expect(result.code).toBe(0);
    const report = JSON.parse(result.stdout) as { received: number; sha256: string; info: { subflows: unknown[] } };
    expect(report).toMatchObject({ received: body.length, sha256: createHash('sha256').update(body).digest('hex') });
    expect(report.info.subflows).toHaveLength(1);
    expect(readFileSync(file).equals(body)).toBe(true);
    expect(await (await fetch(`${url}/`)).text()).toContain('body.bin');
    expect((await fetch(`${url}/.hidden`)).status).toBe(404);
    expect((await fetch(`${url}/..%2f..%2fetc/passwd`)).status).toBe(404);
    const part = await fetch(`${url}/body.bin`, { headers: { range: 'bytes=10-19' } });
    expect([part.status, Buffer.from(await part.arrayBuffer()).equals(body.subarray(10, 20))]).toEqual([206, true]);
    expect(await run(['get', '-o', file, `${url}/body.bin`])).toMatchObject({ code: 1, stderr: expect.stringContaining('FILE_EXISTS') as string });
    expect(await run(['get', '-o', '-', `${url}/none`])).toMatchObject({ code: 1, stderr: expect.stringMatching(/^HTTP_STATUS: .*404/) as string });
    const progress = await run(['get', '--force', '-o', file, `${url}/body.bin`]);
    expect(progress.stderr).toMatch(/100\.0 %.*\n.*SHA-256/);
  }, 30_000);
});

describe('subflow iperf', () => {
  it('measures both directions, with a line for each subflow', async () => {
    const { line, child } = await serving('iperf', '-s', '--bind', '127.0.0.1', '--port', '0');
    const port = portOf(line);
    const up = await run(['iperf', '-c', '127.0.0.1', '-p', port, '-n', '20M', '--json']);
    expect(JSON.parse(up.stdout)).toMatchObject({ reverse: false, bytes: 20_000_000 });
    const down = await run(['iperf', '-c', '127.0.0.1', '-p', port, '-t', '1.2', '-R', '-P', '2']);
    expect(down.stdout).toMatch(/Mbit\/s|Gbit\/s/);
    expect(down.stdout).toMatch(/lo +127\.0\.0\.1/);
    child.kill();
  }, 30_000);

  it('another kind of server is told apart', async () => {
    const server = createServer((socket) => void socket.end('SSH-2.0-nothing\r\n')).listen(0, '127.0.0.1');
    await new Promise((resolve) => server.once('listening', resolve));
    const { port } = server.address() as { port: number };
    expect(await run(['iperf', '-c', '127.0.0.1', '-p', String(port)])).toMatchObject({
      code: 1,
      stderr: expect.stringContaining('NO_IPERF_SERVER') as string,
    });
    server.close();
  });
});

describe('subflow monitor', () => {
  it('sees a stack of ours, as JSON and for Prometheus', async () => {
    const { line } = await serving('serve', '--backend', 'stack', '--port', '0', directory);
    expect(line).toContain('serving');
    const once = await run(['monitor', '--once', '--json', '--interval', '0.1']);
    const view = JSON.parse(once.stdout.trim().split('\n').at(-1)!) as { interfaces: { source: string; name: string }[] };
    expect(view.interfaces.some((one) => one.source.startsWith('stack ') && one.name === 'lo')).toBe(true);
    const { line: metrics } = await serving('monitor', '--prometheus', '0');
    const text = await (await fetch(/http:\S+/.exec(metrics)![0])).text();
    expect(text).toContain('# TYPE subflow_connections gauge');
  }, 30_000);
});

describe('subflow run', () => {
  it('an unmodified program gets Multipath TCP, and its exit code comes back', async () => {
    const program =
      "const net=require('net');const s=net.createServer(c=>c.end(require('fs').readFileSync('/proc/net/protocols','utf8').split('\\n').filter(l=>/^MPTCP /.test(l)).join())).listen(0,()=>{net.connect(s.address().port,'127.0.0.1').on('data',d=>{console.log(String(d).trim().split(/\\s+/)[2]);process.exit(7)})})";
    const result = await run(['run', '--', process.execPath, '-e', program]);
    expect(result.code).toBe(7);
    if (multipath) expect(Number(result.stdout)).toBeGreaterThanOrEqual(2);
  });

  it('a program that is not there, a script without node', async () => {
    expect(await run(['run', '--', 'no-such-program'])).toMatchObject({ code: 127, stderr: expect.stringContaining('PROGRAM_MISSING') as string });
    expect(await run(['run', '--', 'app.js'])).toMatchObject({ code: 1, stderr: expect.stringContaining('subflow run -- node app.js') as string });
  });
});

describe('bad input', () => {
  it.each([
    [['cat', '127.0.0.1', '1'], 'ECONNREFUSED'],
    [['cat', 'no-such-name.invalid', '80'], 'ENOTFOUND'],
    [['cat', '127.0.0.1', '70000'], 'BAD_PORT'],
    [['cat', '127.0.0.1'], 'MISSING_ARGUMENT'],
    [['cat', '--service', 'fastest', '127.0.0.1', '80'], 'UNKNOWN_SERVICE_TYPE'],
    [['cat', '--scheduler', 'best', '--backend', 'stack', '127.0.0.1', '80'], 'UNKNOWN_SCHEDULER'],
    [['cat', '--backend', 'stack', '--interface', 'eth0', '127.0.0.1', '80'], 'BAD_INTERFACE'],
    [['cat', '--backend', 'stack', '--interface', 'packet:no-such0=192.0.2.1/24', '192.0.2.2', '80'], 'NO_DEVICE'],
    [['cat', '--interface', 'tun:x=192.0.2.1/24', '192.0.2.2', '80'], 'BAD_ARGUMENT'],
    [['cat', '--backend', 'stack', '192.0.2.2', '80'], 'ENETUNREACH'],
    [['get', 'ftp://127.0.0.1/x', '-o', '-'], 'BAD_URL'],
    [['get', 'http://127.0.0.1:1/x', '-o', '-'], 'ECONNREFUSED'],
    [['serve', '/no/such/folder'], 'NOT_A_DIRECTORY'],
    [['serve', '--cert', 'x', directory], 'BAD_ARGUMENT'],
    [['iperf'], 'BAD_ARGUMENT'],
    [['iperf', '-c', '127.0.0.1', '-n', 'lots'], 'BAD_ARGUMENT'],
    [['monitor', '--interval', '0'], 'BAD_ARGUMENT'],
    [['proxy', '--accept', 'gopher'], 'UNKNOWN_PROTOCOL'],
    [['proxy', '--allow', 'everyone'], 'BAD_ACCESS_LIST'],
    [['proxy', '--to', 'nowhere'], 'BAD_ADDRESS'],
    [['proxy', '--users', '/no/such/file'], 'FILE_NOT_READ'],
    [['site', '--geoip', SUBFLOW], 'BAD_GEOIP'],
    [['site', '--backend', 'moon'], 'BAD_ARGUMENT'],
  ])('%j says %s, and the exit code is not 0', async (args, code) => {
    const result = await run(args);
    expect(result.stderr.startsWith(`${code}: `), result.stderr).toBe(true);
    expect(result.stderr).not.toContain('    at ');
    expect(result.code).toBeGreaterThan(0);
  });

  it('a certificate that nobody signed is refused, with Node’s code', async () => {
    const key = join(directory, 'key.pem');
    const cert = join(directory, 'cert.pem');
    const made = spawn('openssl', [
      'req',
      '-x509',
      '-newkey',
      'ec',
      '-pkeyopt',
      'ec_paramgen_curve:prime256v1',
      '-nodes',
      '-days',
      '1',
      '-subj',
      '/CN=x',
      '-keyout',
      key,
      '-out',
      cert,
    ]);
    await new Promise((resolve) => made.once('exit', resolve));
    const { line } = await serving('serve', '--port', '0', '--cert', cert, '--key', key, directory);
    const url = `https://127.0.0.1:${portOf(line)}/body.bin`;
    expect(await run(['get', '-o', '-', url])).toMatchObject({ code: 1, stderr: expect.stringMatching(/^DEPTH_ZERO_SELF_SIGNED_CERT: /) as string });
    expect(await run(['get', '--insecure', '--quiet', '-o', '-', url])).toMatchObject({ code: 0, stderr: '' });
  }, 20_000);

  it('a port in use is EADDRINUSE for every server', async () => {
    const { line } = await serving('serve', '--port', '0', directory);
    const port = portOf(line);
    for (const args of [
      ['serve', '--port', port, directory],
      ['iperf', '-s', '--bind', '127.0.0.1', '--port', port],
      ['proxy', '--listen', `127.0.0.1:${port}`],
      ['site', '--port', port],
    ])
      expect(await run(args)).toMatchObject({ code: 1, stderr: expect.stringMatching(/^EADDRINUSE: /) as string });
  }, 30_000);

  it('privileges that are missing are named', async () => {
    const child = spawn(
      'setpriv',
      ['--reuid=65534', '--clear-groups', process.execPath, SUBFLOW, 'cat', '--backend', 'stack', '--interface', 'packet:lo=192.0.2.1/24', '192.0.2.2', '80'],
      {
        env: { ...process.env, SUBFLOW_RUNTIME_DIR: directory },
      },
    );
    let stderr = '';
    child.stderr.on('data', (chunk: Buffer) => (stderr += String(chunk)));
    await new Promise((resolve) => child.once('close', resolve));
    expect(stderr).toMatch(/^(NO_PRIVILEGE|NO_DEVICE): /);
  });

  it('Ctrl-C ends servers cleanly', async () => {
    const { child } = await serving('proxy', '--listen', '127.0.0.1:0');
    const ended = new Promise<number | null>((resolve) => child.once('exit', resolve));
    child.kill('SIGINT');
    expect(await ended).toBe(0);
  });
});
