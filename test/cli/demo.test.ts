import { spawn, spawnSync } from 'node:child_process';
import { mkdtempSync, readdirSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { afterAll, describe, expect, it } from 'vitest';
import { kernelServer, removeLeftovers } from '@subflow/link';
import { Host } from '@subflow/stack';
import { isMalformed, parseAddress, readCapture } from '@subflow/wire';
import { describeSystem } from '../interop/require-system.ts';
import { tsharkOpinion } from '../interop/tshark.ts';

const BIN = fileURLToPath(new URL('../../packages/cli/bin/subflow.mjs', import.meta.url));
const directory = mkdtempSync(join(tmpdir(), 'subflow-cli-'));
afterAll(() => rmSync(directory, { recursive: true, force: true }));

const SHORT = `
paths:
  - { name: wifi, rate: 20 Mbit/s, delay: 15 ms, queue: { time: 100 ms } }
  - { name: lte, rate: 10 Mbit/s, delay: 30 ms, loss: 0.1 %, queue: { time: 100 ms } }
transfer: { size: 6 MB }
timeline: [{ at: 700 ms, path: wifi, up: false }, { at: 2500 ms, path: wifi, up: true }]
`;

function scenario(name: string, text: string): string {
  const file = join(directory, `${name}.yaml`);
  writeFileSync(file, text);
  return file;
}

function subflow(...args: string[]): { code: number | null; out: string; err: string } {
  const result = spawnSync(process.execPath, [BIN, ...args], { encoding: 'utf8', timeout: 60_000, cwd: directory });
  return { code: result.status, out: result.stdout, err: result.stderr };
}

function leftovers(): string[] {
  const namespaces = spawnSync('ip', ['netns', 'list'], { encoding: 'utf8' }).stdout.split('\n');
  const devices = spawnSync('ip', ['-o', 'link'], { encoding: 'utf8' }).stdout.split('\n');
  return [
    ...namespaces.filter((line) => line.startsWith('subflow-') && !line.includes(`subflow-${process.pid}-`)),
    ...devices.filter((line) => / sf\d/.test(line)),
  ];
}

describe('subflow demo, emulated', () => {
  it('verifies every byte and writes captures, events, summary and plot', () => {
    const result = subflow('demo', '--mode', 'emulated', '--fast', '--json', '--scenario', scenario('short', SHORT), '--out', join(directory, 'out'));
    expect(result.err).toBe('');
    const summary = JSON.parse(result.out) as { correct: boolean; multipath: boolean; bytes: number; paths: { deliveredBytes: number }[] };
    expect(summary).toMatchObject({ correct: true, multipath: true, bytes: 6e6 });
    expect(Math.min(...summary.paths.map((path) => path.deliveredBytes))).toBeGreaterThan(500_000);
    expect(result.code).toBe(0);
    expect(readdirSync(join(directory, 'out')).toSorted()).toEqual(['events.jsonl', 'lte.pcapng', 'plot.svg', 'summary.json', 'wifi.pcapng']);
    for (const line of readFileSync(join(directory, 'out/events.jsonl'), 'utf8').trim().split('\n')) expect(JSON.parse(line)).toHaveProperty('type');
    const capture = readCapture(readFileSync(join(directory, 'out/wifi.pcapng')));
    if (isMalformed(capture)) throw new Error(capture.reason);
    expect(capture.frames.length).toBeGreaterThan(500);
    expect(readFileSync(join(directory, 'out/plot.svg'), 'utf8')).toMatch(/^<svg[^>]*>[\s\S]*<\/svg>\n$/);
  });

  it('uploads too, over IPv4 and IPv6 at once', () => {
    const text =
      'paths: [{ name: v4, rate: 50 Mbit/s, delay: 5 ms, queue: { time: 50 ms } }, { name: v6, family: 6, rate: 50 Mbit/s, delay: 5 ms, queue: { time: 50 ms } }]\ntransfer: { direction: upload, size: 10 MB }\nchecksum: true';
    const result = subflow('demo', '--mode', 'emulated', '--fast', '--json', '--scenario', scenario('upload', text), '--out', join(directory, 'out2'));
    const summary = JSON.parse(result.out) as { correct: boolean; paths: { deliveredBytes: number }[] };
    expect(summary.correct).toBe(true);
    expect(Math.min(...summary.paths.map((path) => path.deliveredBytes))).toBeGreaterThan(2e6);
  });

  it('exits with 1 when the bytes do not arrive', () => {
    const text = 'paths: [{ name: only, rate: 1 Mbit/s, delay: 5 ms }]\ntransfer: { size: 5 MB }\nlimit: 2 s';
    const result = subflow('demo', '--mode', 'emulated', '--fast', '--scenario', scenario('late', text), '--out', join(directory, 'out3'));
    expect(result.code).toBe(1);
    expect(result.out).toMatch(/NOT RIGHT: \d+ of 5000000 bytes/);
  });
});

describe('bad input', () => {
  it.each([
    ['an unknown scenario key', ['--scenario', 'KEY'], /^SCENARIO_INVALID: paths\[0\]: unknown key "colour"/],
    ['a scenario that is not there', ['--scenario', '/nowhere.yaml'], /^FILE_NOT_READ: scenario \/nowhere\.yaml: ENOENT/],
    ['an unknown mode', ['--mode', 'quantum'], /BAD_ARGUMENT: .*quantum.*kernel, emulated/],
    ['an unknown option', ['--frobnicate'], /BAD_ARGUMENT: unknown option '--frobnicate'/],
  ])('%s: a message with a code, exit code not 0', (_name, args, message) => {
    const key = scenario('key', 'paths: [{ name: wifi, colour: red }]\ntransfer: { size: 1 MB }');
    const result = subflow('demo', ...args.map((arg) => (arg === 'KEY' ? key : arg)));
    expect(result.code).not.toBe(0);
    expect(result.err).toMatch(message);
    expect(result.err).not.toMatch(/\n\s+at /);
  });

  it('--help has examples', () => {
    const result = subflow('demo', '--help');
    expect(result.code).toBe(0);
    expect(result.out).toMatch(/Examples:\n {2}subflow demo/);
  });
});

describeSystem('subflow demo, kernel', () => {
  it('downloads from the kernel over two paths, loses one and gets it back; tshark reads the captures', () => {
    const out = join(directory, 'kernel');
    const result = subflow('demo', '--mode', 'kernel', '--json', '--scenario', scenario('kernel', SHORT), '--out', out);
    expect(result.err).toBe('');
    const summary = JSON.parse(result.out) as { correct: boolean; multipath: boolean; kernel: { fallback: boolean } };
    expect(summary).toMatchObject({ correct: true, multipath: true, kernel: { fallback: false } });
    expect(result.code).toBe(0);
    for (const path of ['wifi', 'lte']) expect(tsharkOpinion(join(out, `${path}.pcapng`)).bad).toEqual([]);
    expect(leftovers()).toEqual([]);
  });

  it('without privileges kernel mode says what is missing, and the default falls back to emulated', () => {
    const file = scenario('unprivileged', 'paths: [{ name: one, rate: 50 Mbit/s, delay: 1 ms }]\ntransfer: { size: 1 MB }');
    // Root without the capability: the files stay readable, the device does not come about.
    const as = (...args: string[]): { status: number | null; stdout: string; stderr: string } =>
      spawnSync(
        'setpriv',
        [
          '--bounding-set=-net_admin',
          '--inh-caps=-net_admin',
          process.execPath,
          BIN,
          'demo',
          '--scenario',
          file,
          '--out',
          join(directory, 'unprivileged'),
          ...args,
        ],
        { encoding: 'utf8', timeout: 60_000 },
      );
    const refused = as('--mode', 'kernel');
    expect(refused.status).toBe(1);
    expect(refused.stderr).toMatch(/^(NO_PRIVILEGE|NO_TUN): /);
    const fallback = as();
    expect(fallback.stdout).toMatch(/Mode: emulated \(.*because /);
    expect(fallback.status).toBe(0);
  });

  it.each(['SIGINT', 'SIGTERM'] as const)('%s stops it and leaves nothing behind', async (signal) => {
    const child = spawn(process.execPath, [BIN, 'demo', '--mode', 'kernel', '--out', join(directory, 'signal')], { stdio: ['ignore', 'pipe', 'pipe'] });
    await new Promise((resolve) => child.stdout.on('data', (chunk: Buffer) => chunk.includes('subflow 1 established') && resolve(null)));
    child.kill(signal);
    const code = await new Promise((resolve) => child.once('exit', resolve));
    expect(code).not.toBe(0);
    expect(leftovers()).toEqual([]);
  });

  it('what SIGKILL leaves behind, the next start removes', async () => {
    const child = spawn(process.execPath, [BIN, 'demo', '--mode', 'kernel', '--out', join(directory, 'killed')], { stdio: ['ignore', 'pipe', 'pipe'] });
    await new Promise((resolve) => child.stdout.on('data', (chunk: Buffer) => chunk.includes('subflow 1 established') && resolve(null)));
    child.kill('SIGKILL');
    await new Promise((resolve) => child.once('exit', resolve));
    expect(leftovers().length).toBeGreaterThan(0);
    expect(removeLeftovers().length).toBeGreaterThan(0);
    expect(leftovers()).toEqual([]);
  });

  it('a port in use and a server that is not there are named', async () => {
    const server = kernelServer(parseAddress('127.0.0.1'), 45871);
    await new Promise((resolve) => server.once('listening', resolve));
    expect(() => kernelServer(parseAddress('127.0.0.1'), 45871)).toThrow(
      expect.objectContaining({ code: 'PORT_IN_USE', message: expect.stringContaining('45871') as string }) as Error,
    );
    server.close();
    const host = new Host({ entropy: () => 1 });
    host.listen({ port: 80 });
    expect(() => host.listen({ port: 80 })).toThrow(expect.objectContaining({ code: 'ADDRESS_IN_USE' }) as Error);
    expect(() => host.connect({ remote: parseAddress('192.0.2.9'), port: 80 }, 0)).toThrow(expect.objectContaining({ code: 'NO_ROUTE' }) as Error);
  });
});
