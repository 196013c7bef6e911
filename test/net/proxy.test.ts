/** The proxy with programs we did not write: curl → proxy → nginx, over SOCKS5, CONNECT and Convert; and 10,000 connections at once. */
import { createHash, randomBytes } from 'node:crypto';
import { mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { createInterface } from 'node:readline';
import { fileURLToPath } from 'node:url';
import { afterAll, beforeAll, expect, it } from 'vitest';
import { describeSystem } from '../interop/require-system.ts';
import { addressesOfPath, KernelWorld } from './kernel-world.ts';

const SUBFLOW = fileURLToPath(new URL('../../packages/cli/bin/subflow.mjs', import.meta.url));
const LOAD = fileURLToPath(new URL('./proxy-load.ts', import.meta.url));
const SIZE = 3_000_000;

describeSystem('curl → subflow proxy → nginx', () => {
  const directory = mkdtempSync(join(tmpdir(), 'subflow-proxy-'));
  let world: KernelWorld;
  let digest = '';
  const { server } = addressesOfPath(0);

  beforeAll(async () => {
    world = new KernelWorld([
      { name: 'wifi', link: { rate: 50e6, delay: 5_000 } },
      { name: 'lte', link: { rate: 30e6, delay: 15_000 } },
    ]);
    const body = randomBytes(SIZE);
    digest = createHash('sha256').update(body).digest('hex');
    writeFileSync(join(directory, 'body.bin'), body);
    writeFileSync(
      join(directory, 'nginx.conf'),
      `daemon off; error_log stderr; pid ${directory}/pid; events {} http { access_log ${directory}/access.log; client_body_temp_path ${directory}; server { listen 8080; listen 127.0.0.1:8081 proxy_protocol; root ${directory}; } }\n`,
    );
    world.start('server', 'nginx', ['-c', join(directory, 'nginx.conf')]).stderr!.resume();
    await new Promise((resolve) => setTimeout(resolve, 300));
  });
  afterAll(() => {
    world?.remove();
    rmSync(directory, { recursive: true, force: true });
  });

  /** Starts a proxy; resolves with the records it prints once it listens. */
  async function proxy(
    where: 'client' | 'server',
    ...args: string[]
  ): Promise<{ end: string; clientMultipath: boolean | null; serverMultipath: boolean | null }[]> {
    const records: { end: string; clientMultipath: boolean | null; serverMultipath: boolean | null }[] = [];
    const child = world.start(where, process.execPath, [SUBFLOW, 'proxy', '--json', ...args]);
    child.stderr!.pipe(process.stderr);
    await new Promise<void>((resolve) => {
      createInterface({ input: child.stdout! }).on('line', (line) => {
        if (line.startsWith('{')) records.push(JSON.parse(line) as (typeof records)[number]);
        else resolve();
      });
    });
    return records;
  }

  async function curl(...args: string[]): Promise<string> {
    const file = join(directory, `out-${Math.random()}`);
    const result = await world.run('client', 'curl', ['-sS', '--noproxy', '', '--max-time', '20', '-o', file, ...args]);
    expect(result).toMatchObject({ code: 0, stderr: '' });
    return createHash('sha256').update(readFileSync(file)).digest('hex');
  }

  it.each([
    ['SOCKS5', 'socks5h://127.0.0.1:1080'],
    ['CONNECT', 'http://127.0.0.1:1080'],
  ])(
    '%s: TCP in, Multipath TCP out, every byte right',
    async (_name, url) => {
      const records = await proxy(
        'client',
        '--listen',
        url.startsWith('socks') ? '127.0.0.1:1080' : '127.0.0.1:1082',
        '--accept',
        'socks,http',
        '--from-over',
        'tcp',
      );
      const front = await proxy(
        'server',
        '--listen',
        `${server}:${url.startsWith('socks') ? 9000 : 9001}`,
        '--to',
        '127.0.0.1:8080',
        '--to-over',
        'tcp',
        '--allow',
        'any',
      );
      const at = url.startsWith('socks') ? url : 'http://127.0.0.1:1082';
      const tunnel = url.startsWith('socks') ? [] : ['--proxytunnel'];
      expect(await curl('-x', at, ...tunnel, `http://${server}:${url.startsWith('socks') ? 9000 : 9001}/body.bin`)).toBe(digest);
      await new Promise((resolve) => setTimeout(resolve, 200));
      expect(records).toMatchObject([{ end: 'normal', clientMultipath: false, serverMultipath: true }]);
      expect(front).toMatchObject([{ end: 'normal', clientMultipath: true, serverMultipath: false }]);
    },
    30_000,
  );

  it('Convert: the client’s proxy asks a converter, which goes on by TCP', async () => {
    const converter = await proxy('server', '--listen', `${server}:5124`, '--accept', 'convert', '--to-over', 'tcp', '--allow', '192.0.2.0/24', '--cookies');
    const records = await proxy('client', '--listen', '127.0.0.1:1083', '--accept', 'socks', '--from-over', 'tcp', '--converter', `${server}:5124`);
    expect(await curl('-x', 'socks5://127.0.0.1:1083', `http://${server}:8080/body.bin`)).toBe(digest);
    await new Promise((resolve) => setTimeout(resolve, 200));
    expect(records).toMatchObject([{ end: 'normal', serverMultipath: true }]);
    // The first request was answered with a cookie.
    expect(converter.map((one) => one.end)).toEqual(['NOT_AUTHORIZED', 'normal']);
  }, 30_000);

  it('nginx learns the client’s address by PROXY protocol v2', async () => {
    await proxy('server', '--listen', `${server}:9002`, '--to', '127.0.0.1:8081', '--to-over', 'tcp', '--allow', 'any', '--send-proxy');
    expect(await curl(`http://${server}:9002/body.bin`)).toBe(digest);
  }, 30_000);

  it('10,000 connections at once, then none: nothing leaks, half-closes and resets arrive', async () => {
    const result = await world.run('server', process.execPath, ['--import', 'tsx', '--expose-gc', LOAD, '10000'], {
      timeout: 80_000,
    });
    process.stdout.write(result.stdout);
    expect(result.stderr).toBe('');
    const report = JSON.parse(result.stdout.trim().split('\n').at(-1)!) as Record<string, number>;
    expect(report).toMatchObject({ opened: 10000, echoed: 10000, halfClosed: 5000, resetSeen: 5000, openAfter: 0, descriptorsLeft: 0 });
    expect(report['heapGrowthPerConnection']).toBeLessThan(1000);
  }, 90_000);
});
