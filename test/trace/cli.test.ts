/** `subflow trace` at the command line: every command, compressed and growing files, pipes, and everything that can be wrong. */
import { execFileSync, spawn, spawnSync } from 'node:child_process';
import { appendFileSync, existsSync, mkdirSync, mkdtempSync, readdirSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { gzipSync } from 'node:zlib';
import { parquetReadObjects } from 'hyparquet';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import type { ConnectionReport, TraceEvent } from '@subflow/trace';
import { describeSystem } from '../interop/require-system.ts';
import { addressesOfPath, KernelWorld } from '../net/kernel-world.ts';
import { download, emulatedWorld, pcapngOf } from './emulated.ts';
import { phone } from './phone.ts';

const CLI = fileURLToPath(new URL('../../packages/cli/bin/subflow.mjs', import.meta.url));
const directory = mkdtempSync(join(tmpdir(), 'subflow-trace-'));
const path = (name: string): string => join(directory, name);

interface Result {
  code: number | null;
  stdout: string;
  stderr: string;
}

function subflow(args: readonly string[], input?: Uint8Array): Result {
  const result = spawnSync(process.execPath, [CLI, 'trace', ...args], {
    encoding: 'utf8',
    timeout: 60_000,
    maxBuffer: 1 << 28,
    ...(input === undefined ? {} : { input }),
  });
  return { code: result.status, stdout: result.stdout, stderr: result.stderr };
}

function json<T>(args: readonly string[]): T {
  const { code, stdout, stderr } = subflow(args);
  expect(stderr).toBe('');
  expect(code).toBe(0);
  return JSON.parse(stdout) as T;
}

interface Summary {
  totals: { packets: number; mptcpConnections: number; subflows: number; copies: number };
  connections: ConnectionReport[];
}

let capture: Uint8Array;

beforeAll(() => {
  const world = emulatedWorld([
    { name: 'wifi', link: { rate: 20e6, delay: 10_000, queueTime: 50_000, loss: 0.005 } },
    { name: 'lte', link: { rate: 10e6, delay: 30_000, queueTime: 80_000, loss: 0.002 } },
  ]);
  download(world, 1_000_000);
  capture = pcapngOf(world.captured.client, ['wifi', 'lte']);
  writeFileSync(path('a.pcapng'), capture);
  writeFileSync(path('server.pcapng'), pcapngOf(world.captured.server, ['wifi', 'lte'], { offset: -7_654_321 }));
  for (const i of [0, 1])
    writeFileSync(
      path(`path${i}.pcapng`),
      pcapngOf(
        world.captured.client.filter((one) => one.path === i).map((one) => ({ ...one, path: 0 })),
        [i === 0 ? 'wifi' : 'lte'],
      ),
    );
  writeFileSync(path('phone.pcapng'), pcapngOf(phone().captured.client, ['cellular', 'wifi']));
});
afterAll(() => rmSync(directory, { recursive: true, force: true }));

describe('reading', () => {
  it('plain, gzip, zstd and a pipe say the same', () => {
    writeFileSync(path('a.pcapng.gz'), gzipSync(capture));
    execFileSync('zstd', ['-q', '-f', path('a.pcapng'), '-o', path('a.pcapng.zst')]);
    const plain = json<Summary>([path('a.pcapng'), '--json']);
    expect(plain.totals).toMatchObject({ mptcpConnections: 1, subflows: 2 });
    for (const name of ['a.pcapng.gz', 'a.pcapng.zst']) expect(json<Summary>([path(name), '--json'])).toEqual({ ...plain, files: [path(name)] });
    const piped = subflow(['-', '--json'], capture);
    expect(JSON.parse(piped.stdout)).toEqual({ ...plain, files: ['-'] });
  });

  it('one file for each interface, merged by time: one connection', () => {
    const merged = json<Summary>([path('path0.pcapng'), path('path1.pcapng'), '--json']);
    const whole = json<Summary>([path('a.pcapng'), '--json']);
    expect(merged.connections).toHaveLength(1);
    expect(merged.connections[0]!.directions[1]).toEqual(whole.connections[0]!.directions[1]);
    expect(merged.totals.copies).toBe(0);
  });

  it('both ends merged, clocks seconds apart: every packet counts once', () => {
    const result = subflow([path('a.pcapng'), path('server.pcapng'), '--json']);
    expect(result.stderr).toMatch(/^the clock of .*server\.pcapng is 7\.6543\d\d s behind; its times are shifted\n$/);
    const merged = JSON.parse(result.stdout) as Summary;
    expect(merged.connections).toHaveLength(1);
    expect(merged.connections[0]!.directions[1].bytes).toBe(1_000_000);
    expect(merged.connections[0]!.subflows.map((one) => one.sent[1].dataBytes).reduce((a, b) => a + b)).toBe(1_000_000);
    expect(merged.totals.copies).toBeGreaterThan(merged.totals.packets * 0.45);
  });

  it('a growing file: connections come out as they end', async () => {
    writeFileSync(path('growing.pcapng'), capture.subarray(0, 1000));
    const child = spawn(process.execPath, [CLI, 'trace', 'packets', path('growing.pcapng'), '--follow', '--fields', 'frame.number']);
    let out = '';
    child.stdout.on('data', (chunk: Buffer) => (out += String(chunk)));
    const ended = new Promise<number | null>((resolve) => child.once('close', resolve));
    for (let at = 1000; at < capture.length; at += 100_000) {
      await new Promise((resolve) => setTimeout(resolve, 60));
      appendFileSync(path('growing.pcapng'), capture.subarray(at, at + 100_000));
    }
    await new Promise((resolve) => setTimeout(resolve, 800));
    child.kill('SIGINT');
    expect(await ended).toBe(0);
    expect(out.trim().split('\n').at(-1)).toBe(String(json<Summary>([path('a.pcapng'), '--json']).totals.packets));
  });

  it('Ctrl-C ends a silent pipe and an empty growing file at once; what was cut short is said', async () => {
    writeFileSync(path('nothing.pcapng'), '');
    for (const [args, code] of [
      [['-'], 130],
      [['connections', path('nothing.pcapng'), '--follow'], 0],
    ] as const) {
      const child = spawn(process.execPath, [CLI, 'trace', ...args]);
      let stderr = '';
      child.stderr.on('data', (chunk: Buffer) => (stderr += String(chunk)));
      const ended = new Promise<number | null>((resolve) => child.once('close', resolve));
      await new Promise((resolve) => setTimeout(resolve, 900));
      child.kill('SIGINT');
      expect(await ended).toBe(code);
      expect(stderr).toBe(code === 130 ? 'INTERRUPTED: only the 0 packets before that were read\n' : '');
    }
  });

  it('a damaged file gives everything before the damage, says where it is, and does not end well', () => {
    const at = capture.length - 8000;
    const broken = capture.slice();
    broken.fill(0xff, at, at + 3000);
    writeFileSync(path('broken.pcapng'), broken);
    const { code, stdout, stderr } = subflow([path('broken.pcapng')]);
    expect(code).toBe(1);
    expect(stdout).toContain('1 Multipath TCP connection');
    expect(stderr).toMatch(/^DAMAGED_FILE: .*broken\.pcapng: .* at byte \d+ \((BAD_LENGTH|TRUNCATED)\); the \d+ packets before it were read\n$/);
    expect(Math.abs(Number(/at byte (\d+)/.exec(stderr)![1]) - at)).toBeLessThan(2000);
    const cut = gzipSync(capture);
    writeFileSync(path('cut.pcapng.gz'), cut.subarray(0, cut.length - 2000));
    const short = subflow([path('cut.pcapng.gz')]);
    expect(short.code).toBe(1);
    expect(short.stderr).toMatch(/^DAMAGED_FILE: .*BAD_COMPRESSION/);
    expect(short.stdout).toContain('1 Multipath TCP connection');
  });
});

describe('commands', () => {
  it('graph: terminal, SVG and PNG of every kind', () => {
    for (const kind of ['seq', 'ooo', 'flight', 'rtt', 'window', 'throughput', 'timeline', 'signalling']) {
      const drawn = subflow(['graph', kind, path('a.pcapng'), '--width', '100', '--height', '24']);
      expect({ kind, code: drawn.code, stderr: drawn.stderr }).toEqual({ kind, code: 0, stderr: '' });
      expect(drawn.stdout.split('\n').length).toBeGreaterThan(9);
      for (const end of ['svg', 'png']) {
        expect(subflow(['graph', kind, path('a.pcapng'), '-o', path(`${kind}.${end}`)]).code).toBe(0);
        const bytes = readFileSync(path(`${kind}.${end}`));
        expect(bytes.length).toBeGreaterThan(2000);
        if (end === 'png') expect(bytes.subarray(1, 4).toString()).toBe('PNG');
        else expect(bytes.toString()).toMatch(/^<svg/);
      }
    }
    const zoom = subflow(['graph', 'seq', path('phone.pcapng'), '--from', '4.7', '--to', '5.2', '--width', '100', '--height', '24']);
    expect(zoom.stdout).toMatch(/4\.8 s .*5\.1 s/);
  });

  it('export: CSV, Parquet and xplot hold the same rows', async () => {
    for (const format of ['csv', 'parquet', 'xplot']) expect(subflow(['export', path('a.pcapng'), '-d', path(format), '--format', format]).code).toBe(0);
    const csv = readFileSync(path('csv/seq.csv'), 'utf8').trim().split('\n');
    const file = readFileSync(path('parquet/seq.parquet'));
    const rows = await parquetReadObjects({ file: file.buffer.slice(file.byteOffset, file.byteOffset + file.length) });
    expect(rows).toHaveLength(csv.length - 1);
    expect(Object.values(rows[5]!).map(String)).toEqual(csv[6]!.split(','));
    // All that the server sent, each byte once.
    const sent = rows.filter((one) => one['direction'] === 's2c').toSorted((a, b) => Number(a['dsn_start']) - Number(b['dsn_start']));
    let end = 1;
    let total = 0;
    for (const one of sent) {
      total += Math.max(0, Number(one['dsn_end']) - Math.max(end, Number(one['dsn_start'])));
      end = Math.max(end, Number(one['dsn_end']));
    }
    expect(total).toBe(1_000_000);
    const xplot = readFileSync(path('xplot/s2c_seq_0.xpl'), 'utf8').split('\n');
    expect([xplot[0], xplot.at(-2)]).toEqual(['double double', 'go']);
    expect(readdirSync(path('csv'))).toHaveLength(8);
  });

  it('compare: losses, delays, and the clocks', () => {
    const result = json<{ clockOffset: number; connections: { subflows: { up: { lost: number; delay: { min: number } }; down: { lost: number } }[] }[] }>([
      'compare',
      path('a.pcapng'),
      path('server.pcapng'),
      '--json',
    ]);
    expect(result.clockOffset).toBeCloseTo(7_654_321, -1);
    const [wifi, lte] = result.connections[0]!.subflows;
    expect([wifi!.up.delay.min / 1000, lte!.up.delay.min / 1000].map(Math.round)).toEqual([10, 30]);
    const retransmitted = json<Summary>([path('server.pcapng'), '--json']).connections[0]!.subflows.reduce(
      (sum, one) => sum + one.sent[1].retransmittedPackets,
      0,
    );
    expect(wifi!.down.lost + lte!.down.lost).toBe(retransmitted);
  });

  it('scrub: the same story with other addresses, checksums right', () => {
    expect(subflow(['scrub', path('phone.pcapng'), '-o', path('public.pcapng')]).code).toBe(0);
    const strip = (one: ConnectionReport): object => ({
      ...one,
      client: '',
      server: '',
      tokens: [],
      subflows: one.subflows.map((sub) => ({ ...sub, source: '', destination: '' })),
      events: one.events.map((event) => ({ ...event, source: '', destination: '' })),
    });
    const before = json<Summary>([path('phone.pcapng'), '--json']).connections[0]!;
    const after = json<Summary>([path('public.pcapng'), '--json']).connections[0]!;
    expect(strip(after)).toEqual(strip(before));
    expect(after.tokens).not.toEqual(before.tokens);
    expect(after.subflows[1]).toMatchObject({ source: '10.0.0.3', hmac: 'right' });
    const bad = execFileSync(
      'tshark',
      [
        '-r',
        path('public.pcapng'),
        '-n',
        '-o',
        'tcp.check_checksum:TRUE',
        '-o',
        'ip.check_checksum:TRUE',
        '-Y',
        'tcp.checksum.status == 0 || ip.checksum.status == 0 || _ws.malformed',
      ],
      { encoding: 'utf8', stdio: ['ignore', 'pipe', 'ignore'] },
    );
    expect(bad).toBe('');
    for (const secret of [
      [192, 0, 2, 33],
      [198, 51, 100, 7],
      [203, 0, 113, 10],
    ])
      expect(readFileSync(path('public.pcapng')).includes(Buffer.from(secret))).toBe(false);
  });

  it('connections as JSON lines; packets by filter and by fields', () => {
    const lines = subflow(['connections', path('phone.pcapng'), '--json'])
      .stdout.trim()
      .split('\n');
    expect(lines).toHaveLength(1);
    expect((JSON.parse(lines[0]!) as ConnectionReport).version).toBe(0);
    const joins = subflow([
      'packets',
      path('phone.pcapng'),
      '--filter',
      'tcp.options.mptcp.subtype == 1 && tcp.flags.syn == 1',
      '--fields',
      'frame.number,ip.src,tcp.options.mptcp.backup.flag',
    ]);
    expect(
      joins.stdout
        .trim()
        .split('\n')
        .map((line) => line.split('\t').slice(1)),
    ).toEqual([
      ['192.0.2.33', '0'],
      ['203.0.113.10', '0'],
    ]);
    expect(
      subflow(['packets', path('a.pcapng'), '--count', '3', '--json'])
        .stdout.trim()
        .split('\n'),
    ).toHaveLength(3);
    expect(subflow(['fields']).stdout).toContain('tcp.options.mptcp.rawdataseqno');
  });

  it('every command has help with examples', () => {
    for (const command of [[], ['report'], ['graph'], ['connections'], ['compare'], ['export'], ['live'], ['scrub'], ['packets']]) {
      const { code, stdout } = subflow([...command, '--help']);
      expect({ command, code }).toEqual({ command, code: 0 });
      expect(stdout).toContain('Examples:');
    }
  });
});

describe('bad input', () => {
  const cases: [name: string, args: () => string[], message: RegExp][] = [
    [
      'not a capture',
      () => [write('text.txt', 'hello, this is not a capture file at all')],
      /^NOT_A_CAPTURE: .*text\.txt is not a capture: .*magic number.*expected pcap or pcapng/,
    ],
    ['an empty file', () => [write('empty.pcap', '')], /^EMPTY_FILE: .*empty\.pcap is empty; expected a capture file/],
    ['a file that is not there', () => [path('missing.pcap')], /^FILE_NOT_READ: .*missing\.pcap: ENOENT/],
    ['a directory', () => [directory], /^IS_DIRECTORY: .* is a directory; expected a capture file/],
    ['a few bytes', () => [write('short.pcap', Uint8Array.of(0xd4, 0xc3, 0xb2, 0xa1, 2, 0))], /^NOT_A_CAPTURE: .*begins with 24 bytes of header, found 6/],
    ['damaged gzip', () => [write('bad.gz', Uint8Array.of(0x1f, 0x8b, 8, 0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12))], /^BAD_COMPRESSION: .*gzip/],
    [
      'a typo in a filter',
      () => ['packets', path('a.pcapng'), '--filter', 'tcp.len > 0 && tcp.optoins.mptcp.subtype == 1'],
      /^BAD_FILTER: column 16: "tcp\.optoins\.mptcp\.subtype" is not a field; did you mean tcp\.options\.mptcp\.subtype\?\n.*\n {17}\^\n$/,
    ],
    ['an unfinished filter', () => ['packets', path('a.pcapng'), '--filter', 'tcp.len >'], /^BAD_FILTER: column 10: the filter ends where/],
    [
      'an address that is none',
      () => ['packets', path('a.pcapng'), '--filter', 'ip.addr == 300.1.2.3'],
      /^BAD_FILTER: column 12: "300\.1\.2\.3" is not an IPv4 address/,
    ],
    ['a field that is not there', () => ['packets', path('a.pcapng'), '--fields', 'tcp.port,nonsense'], /^NO_FIELD: "nonsense" is not a field/],
    [
      'a connection that is not there',
      () => ['graph', 'seq', path('a.pcapng'), '--connection', '7'],
      /^NO_CONNECTION: there is no Multipath TCP connection 7; the capture has one, number 0/,
    ],
    ['a graph that is not there', () => ['graph', 'pie', path('a.pcapng')], /^BAD_ARGUMENT: "pie" is not a graph; expected one of seq, ooo/],
    [
      'a picture of unknown kind',
      () => ['graph', 'seq', path('a.pcapng'), '-o', 'x.bmp'],
      /^BAD_ARGUMENT: --output "x\.bmp"; expected a name that ends in \.svg or \.png/,
    ],
    ['a place where nothing can be written', () => ['report', path('a.pcapng'), '-o', '/nowhere/r.html'], /^FILE_NOT_WRITTEN: \/nowhere\/r\.html/],
    ['nothing named', () => [], /^BAD_ARGUMENT: no capture was named/],
    ['an unknown option', () => [path('a.pcapng'), '--nonsense'], /^BAD_ARGUMENT: unknown option '--nonsense'/],
    [
      'captures with nothing in common',
      () => ['compare', path('a.pcapng'), path('phone.pcapng')],
      /^NOTHING_IN_COMMON: no Multipath TCP connection of .*a\.pcapng \(1\)/,
    ],
    ['an interface that is not there', () => ['live', 'nowhere0', '--for', '1'], /^NO_DEVICE: there is no interface "nowhere0"/],
    ['a format that is not there', () => ['export', path('a.pcapng'), '--format', 'xls'], /^BAD_ARGUMENT: --format "xls"/],
  ];
  for (const [name, args, message] of cases)
    it(name, () => {
      const { code, stderr, stdout } = subflow(args());
      expect(code).toBeGreaterThan(0);
      expect(stderr).toMatch(message);
      expect(stderr).not.toContain('    at ');
      expect(stdout).toBe('');
    });

  it('a file without permission', () => {
    const file = write('secret.pcap', 'x');
    mkdirSync(path('locked'), { recursive: true });
    execFileSync('chmod', ['0', file]);
    const { status, stderr } = spawnSync('setpriv', ['--reuid', '65534', '--clear-groups', process.execPath, CLI, 'trace', file], { encoding: 'utf8' });
    // Nobody may not even look into the directory: either way it is a file that cannot be read.
    expect(status).toBe(1);
    expect(stderr).toMatch(/FILE_NOT_READ|EACCES/);
  });
});

describeSystem('live', () => {
  it('sees a kernel transfer over two subflows as it happens, and changes nothing', async () => {
    const world = new KernelWorld([
      { name: 'wifi', link: { rate: 50e6, delay: 5_000 } },
      { name: 'lte', link: { rate: 50e6, delay: 10_000 } },
    ]);
    try {
      const server = world.start('server', 'mptcpize', ['run', 'iperf3', '-s', '-1']);
      await new Promise((resolve) => setTimeout(resolve, 700));
      const live = world.start('client', process.execPath, [CLI, 'trace', 'live', '--json']);
      const summary = world.start('client', process.execPath, [CLI, 'trace', 'live', 'wifi', '--for', '6']);
      let events = '';
      live.stdout!.on('data', (chunk: Buffer) => (events += String(chunk)));
      let text = '';
      summary.stdout!.on('data', (chunk: Buffer) => (text += String(chunk)));
      await new Promise((resolve) => setTimeout(resolve, 1500));
      const client = await world.run('client', 'mptcpize', ['run', 'iperf3', '-c', addressesOfPath(0).server, '-n', '5M']);
      expect(client.code, client.stderr + client.stdout).toBe(0);
      await new Promise((resolve) => setTimeout(resolve, 300));
      const ended = new Promise((resolve) => live.once('exit', resolve));
      live.kill('SIGINT');
      expect(await ended).toBe(0);
      await new Promise((resolve) => summary.once('close', resolve));
      const seen = events
        .trim()
        .split('\n')
        .map((line) => JSON.parse(line) as TraceEvent);
      expect(seen.filter((one) => one.type === 'subflow-created' && !one.join)).toHaveLength(2);
      expect(seen.filter((one) => one.type === 'subflow-created' && one.join).length).toBeGreaterThanOrEqual(2);
      expect(seen.filter((one) => one.type === 'hmac-wrong')).toEqual([]);
      expect(text).toMatch(/Multipath TCP v1, \d subflows?/);
      server.kill();
    } finally {
      world.remove();
    }
  }, 60_000);
});

function write(name: string, content: string | Uint8Array): string {
  writeFileSync(path(name), content);
  expect(existsSync(path(name))).toBe(true);
  return path(name);
}
