/** The kernel's truth: what is known of a transfer between kernel peers, and what the analyzer says of its captures. */
import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { afterAll, beforeAll, expect, it } from 'vitest';
import { describeSystem } from '../interop/require-system.ts';
import { addressesOfPath, KernelWorld } from '../net/kernel-world.ts';
import { analysed } from './analysed.ts';
import type { AnalysedCapture } from './analysed.ts';
import { compareWithTshark, MPTCP_FIELDS, OTHER_FIELDS, unexplained } from './tshark-fields.ts';

const PEER = fileURLToPath(new URL('./kernel-peer.ts', import.meta.url));
const SIZE = 6_000_000;
const CUT_AFTER = 1200;

interface Counters {
  rx: number;
  tx: number;
}

describeSystem('a kernel transfer whose first path is cut', () => {
  const directory = mkdtempSync(join(tmpdir(), 'subflow-kernel-'));
  let world: KernelWorld;
  let cutAt = 0;
  let clientSays: { received: number; gaps: { from: number; to: number }[]; late: number };
  let serverSays: { bytesRetransmitted: number; bytesSent: number; subflows: { sent: number; again: number }[] };
  let client: AnalysedCapture;
  let server: AnalysedCapture;
  const counters = new Map<string, Counters>();

  beforeAll(async () => {
    world = new KernelWorld([
      { name: 'wifi', link: { rate: 20e6, delay: 10_000, queueTime: 60_000 } },
      { name: 'lte', link: { rate: 20e6, delay: 20_000, queueTime: 60_000 }, backup: true },
    ]);
    for (const side of ['client', 'server'] as const) world[side].sysctl('net.ipv6.conf.all.disable_ipv6', 1);
    const files = { client: join(directory, 'client.pcap'), server: join(directory, 'server.pcap') };
    const dumps = (['client', 'server'] as const).map((side) =>
      world.start(side, 'tcpdump', ['-i', 'any', '-s', '128', '--immediate-mode', '-B', '32768', '-U', '-w', files[side]]),
    );
    await Promise.all(dumps.map((dump) => new Promise((resolve) => dump.stderr!.once('data', resolve))));
    // The last router solicitations of the interfaces that have just come up.
    await new Promise((resolve) => setTimeout(resolve, 500));
    const before = await readCounters(world);
    const peer = world.start('server', process.execPath, ['--import', 'tsx', PEER, 'server', '7000', String(SIZE)]);
    let output = '';
    peer.stdout!.on('data', (chunk: Buffer) => (output += String(chunk)));
    await new Promise((resolve) => peer.stdout!.once('data', resolve));
    const running = world.run('client', process.execPath, ['--import', 'tsx', PEER, 'client', addressesOfPath(0).server, '7000'], { timeout: 60_000 });
    await until(async () => (await readCounters(world)).get('client wifi')!.rx > 100_000);
    await new Promise((resolve) => setTimeout(resolve, CUT_AFTER));
    cutAt = performance.timeOrigin + performance.now();
    world.paths[0]!.cut();
    const result = await running;
    expect(result.code, result.stderr).toBe(0);
    clientSays = JSON.parse(result.stdout) as typeof clientSays;
    await until(async () => output.split('\n').length > 2);
    serverSays = JSON.parse(output.split('\n')[1]!) as typeof serverSays;
    await new Promise((resolve) => setTimeout(resolve, 300));
    const after = await readCounters(world);
    for (const [name, value] of after) counters.set(name, { rx: value.rx - before.get(name)!.rx, tx: value.tx - before.get(name)!.tx });
    for (const dump of dumps) dump.kill('SIGINT');
    await Promise.all(dumps.map((dump) => new Promise((resolve) => dump.once('exit', resolve))));
    client = await analysed([files.client]);
    server = await analysed([files.server]);
  }, 90_000);
  afterAll(() => {
    world?.remove();
    if (process.env['SUBFLOW_KEEP'] === undefined) rmSync(directory, { recursive: true, force: true });
  });

  it('one connection of version 1, two subflows, every byte', () => {
    for (const capture of [client, server]) {
      expect(capture.totals).toMatchObject({ mptcpConnections: 1, subflows: 2, fallbacks: 0, versions: { v0: 0, v1: 1, unknown: 0 } });
      expect(capture.reports[0]!.directions[1].bytes).toBe(SIZE);
      expect(capture.reports[0]!.subflows.map((one) => one.hmac)).toEqual(['none', 'right']);
      expect(capture.reports[0]!.subflows[1]!.backup[0]).toBe(true);
    }
    expect(clientSays.received).toBe(SIZE);
    expect([client.reports[0]!.vantage, server.reports[0]!.vantage]).toEqual(['client', 'server']);
  });

  it('the handover gap: its beginning within 5 ms of the cut, its end within 5 ms of the next bytes that the application got', () => {
    // On a busy machine the application learns of everything later, by as much as its event loop was late.
    const tolerance = 5 + clientSays.late;
    const gap = client.reports[0]!.events.find((event) => event.type === 'gap' && event.from === 1 && event.to === 2);
    if (gap?.type !== 'gap') throw new Error(`no handover gap: ${JSON.stringify(client.reports[0]!.events.filter((one) => one.type === 'gap'))}`);
    const started = client.base * 1000 + gap.start / 1000;
    const ended = client.base * 1000 + gap.end / 1000;
    console.log(`gap ${(gap.start / 1e6).toFixed(4)}–${(gap.end / 1e6).toFixed(4)} s: begins ${(started - cutAt).toFixed(2)} ms after the cut`);
    expect(Math.abs(started - cutAt)).toBeLessThan(tolerance);
    const application = clientSays.gaps.reduce((a, b) => (b.to - b.from > a.to - a.from ? b : a));
    console.log(
      `application: ${(application.to - application.from).toFixed(2)} ms; analyzer: ${(ended - started).toFixed(2)} ms; its event loop was at most ${clientSays.late.toFixed(2)} ms late`,
    );
    expect(Math.abs(ended - application.to)).toBeLessThan(tolerance);
    expect(Math.abs(application.to - application.from - (ended - started))).toBeLessThan(tolerance);
  });

  it("reinjected bytes: within 1 % of the kernel's counters", () => {
    const { reinjected } = server.reports[0]!.directions[1];
    // What the subflows sent for the first time, less what the connection sent for the first time. (MPTCP_INFO's own
    // bytes_retrans leaves out what Linux sends again when it has declared a subflow stale.)
    const kernel = serverSays.subflows.reduce((total, one) => total + one.sent - one.again, 0) - serverSays.bytesSent;
    console.log(
      `reinjected: analyzer ${reinjected.bytes} (same subflow ${reinjected.sameSubflow}), kernel ${kernel} (bytes_retrans alone: ${serverSays.bytesRetransmitted})`,
    );
    expect(reinjected.bytes).toBeGreaterThan(10_000);
    expect(Math.abs(reinjected.bytes - kernel)).toBeLessThanOrEqual(kernel * 0.01);
  });

  it('bytes per subflow equal those of the interfaces', () => {
    const [wifi, lte] = client.reports[0]!.subflows;
    for (const [name, one] of [
      ['wifi', wifi!],
      ['lte', lte!],
    ] as const) {
      expect({ name, rx: one.sent[1].wireBytes, tx: one.sent[0].wireBytes }).toEqual({ name, ...counters.get(`client ${name}`)! });
      const there = server.reports[0]!.subflows[one.number - 1]!;
      expect({ name, tx: there.sent[1].wireBytes, rx: there.sent[0].wireBytes }).toEqual({ name, ...counters.get(`server ${name}`)! });
    }
  });

  it('every field as tshark shows it', async () => {
    const { packets, differences } = await compareWithTshark(join(directory, 'client.pcap'), [...MPTCP_FIELDS, ...OTHER_FIELDS]);
    expect(packets).toBeGreaterThan(4000);
    expect(unexplained(differences)).toEqual([]);
  });
});

async function until(condition: () => Promise<boolean>): Promise<void> {
  for (let i = 0; i < 1000; i++) {
    if (await condition()) return;
    await new Promise((resolve) => setTimeout(resolve, 10));
  }
  throw new Error('waited 10 s in vain');
}

/** What the interfaces have carried, by side and name. */
async function readCounters(world: KernelWorld): Promise<Map<string, Counters>> {
  const out = new Map<string, Counters>();
  for (const side of ['client', 'server'] as const) {
    const { stdout } = await world.run(side, 'cat', ['/proc/net/dev']);
    for (const path of ['wifi', 'lte']) {
      const line = stdout.split('\n').find((one) => one.trim().startsWith(`${path}:`));
      const fields = line!.split(':')[1]!.trim().split(/\s+/).map(Number);
      out.set(`${side} ${path}`, { rx: fields[0]!, tx: fields[8]! });
    }
  }
  return out;
}

describeSystem('a kernel connection with checksums, an announced address and its removal', () => {
  const directory = mkdtempSync(join(tmpdir(), 'subflow-kernel-'));
  let world: KernelWorld;
  let capture: AnalysedCapture;
  const file = join(directory, 'server.pcap');

  beforeAll(async () => {
    world = new KernelWorld(
      [
        { name: 'wifi', link: { rate: 20e6, delay: 5_000, queueTime: 60_000 } },
        { name: 'lte', link: { rate: 20e6, delay: 10_000, queueTime: 60_000 } },
      ],
      { endpoints: false },
    );
    for (const side of ['client', 'server'] as const) {
      world[side].sysctl('net.ipv6.conf.all.disable_ipv6', 1);
      world[side].sysctl('net.mptcp.checksum_enabled', 1);
    }
    world.server.mptcpEndpoint(addressesOfPath(1).server, 'lte', 'signal', 'id', '9');
    world.client.ip('route', 'add', addressesOfPath(1).server, 'dev', 'lte');
    const dump = world.start('server', 'tcpdump', ['-i', 'any', '--immediate-mode', '-B', '65536', '-U', '-w', file, 'tcp port 5201']);
    await new Promise((resolve) => dump.stderr!.once('data', resolve));
    const iperf = world.start('server', 'mptcpize', ['run', 'iperf3', '-s', '-1']);
    await new Promise((resolve) => setTimeout(resolve, 700));
    const before = (await readCounters(world)).get('client lte')!.tx;
    const running = world.run('client', 'mptcpize', ['run', 'iperf3', '-c', addressesOfPath(0).server, '-t', '3', '-b', '8M']);
    // Both connections of iperf3 have joined over the announced address: two handshakes.
    await until(async () => (await readCounters(world)).get('client lte')!.tx > before + 300);
    await new Promise((resolve) => setTimeout(resolve, 1000));
    world.server.run('ip', 'mptcp', 'endpoint', 'delete', 'id', '9');
    const { code, stderr } = await running;
    expect(code, stderr).toBe(0);
    await new Promise((resolve) => setTimeout(resolve, 300));
    iperf.kill();
    dump.kill('SIGINT');
    await new Promise((resolve) => dump.once('exit', resolve));
    capture = await analysed([file]);
  }, 60_000);
  afterAll(() => {
    world?.remove();
    rmSync(directory, { recursive: true, force: true });
  });

  it('is told so', () => {
    const types = capture.events.map((one) => one.type);
    expect(capture.totals).toMatchObject({ mptcpConnections: 2, fallbacks: 0 });
    for (const report of capture.reports) expect(report.checksum).toEqual({ askedByClient: true, askedByServer: true, used: true });
    const announced = capture.events.filter((one) => one.type === 'address-announced');
    expect(announced.length).toBeGreaterThanOrEqual(2);
    for (const one of announced) expect(one).toMatchObject({ by: 1, addressId: 9, address: addressesOfPath(1).server, authentic: true });
    expect(types).toContain('address-echoed');
    expect(capture.events.find((one) => one.type === 'address-removed')).toMatchObject({ by: 1, addressIds: [9] });
    expect(types).not.toContain('checksum-failure');
    expect(types).not.toContain('hmac-wrong');
    const data = capture.reports.find((one) => one.directions[0].bytes > 100_000)!;
    expect(data.subflows.map((one) => one.hmac)).toEqual(['none', 'right']);
    expect(data.subflows[0]!.sent[0].checksums).toBeGreaterThan(50);
  });

  it('every field as tshark shows it', async () => {
    const { packets, differences } = await compareWithTshark(file, [...MPTCP_FIELDS, ...OTHER_FIELDS]);
    expect(packets).toBeGreaterThan(300);
    expect(unexplained(differences)).toEqual([]);
  });
});
