/** The prober against kernels: every row of the table of Linux's answers, over a path of three kernel routers. */
import { spawn } from 'node:child_process';
import { chownSync, mkdtempSync, readFileSync, rmSync, symlinkSync, truncateSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { afterAll, beforeAll, expect, it } from 'vitest';
import { command } from '@subflow/link';
import { describeSystem } from '../interop/require-system.ts';
import { PathBench } from '@subflow/probe/node';

const ROOT = fileURLToPath(new URL('../..', import.meta.url));
const CLI = join(ROOT, 'packages/cli/bin/subflow.mjs');
const SERVER = join(ROOT, 'test/probe/kernel-http.ts');

interface Report {
  verdict: string[];
  conversation: {
    kind: string;
    version: number | null;
    microseconds: number;
    resembles: { name: string; agrees: number; of: number } | null;
    steps: { id: string; outcome: string; details: string[]; judgement: string; known: { name: string; agrees: boolean }[] }[];
  } | null;
  path: {
    distance: number;
    findings: unknown[];
    walks: { stage: string; hops: { ttl: number; routers: { address: string; quoted: number; differences: unknown[] }[] }[] }[];
  } | null;
}

/** Rows of the table, by the step that shows them. */
const ROWS: readonly (readonly [row: string, step: string, outcome: string])[] = [
  ['compliant', 'capable', 'v1'],
  ['compliant: first data with DSS', 'data', 'mptcp'],
  ['compliant: MP_CAPABLE(22) with data', 'capable-data', 'mptcp'],
  ['a 4-byte DSN gets a 4-byte DATA_ACK', 'dsn4', 'ack4'],
  ['an 8-byte DSN gets an 8-byte DATA_ACK', 'dsn8', 'ack8'],
  ['compliant: MP_JOIN, fourth ACK', 'join', 'joined+data'],
  ['client sets A: checksums in both directions', 'checksum-asked', 'mptcp+checksums'],
  ['third ACK echoes a wrong receiver key', 'wrong-key', 'mptcp+joined'],
  ['sender key differs from the one whose IDSN is used', 'wrong-sender-key', 'undelivered'],
  ['third ACK bare', 'bare-third-ack', 'fallback'],
  ['third ACK with MP_CAPABLE of length 12', 'short-third-ack', 'fallback'],
  ['third ACK of version 0', 'third-ack-version-0', 'fallback'],
  ['checksum required, first DSS without one', 'no-checksum-first', 'fallback'],
  ['checksum required, later DSS without one', 'no-checksum-later', 'fallback'],
  ['checksum present though not negotiated', 'stray-checksum', 'fallback'],
  ['wrong checksum in the first mapping (DSS)', 'bad-checksum-first', 'fallback'],
  ['wrong checksum in the first mapping (MP_CAPABLE)', 'bad-checksum-capable', 'fallback'],
  ['wrong checksum later: MP_FAIL, data delivered', 'bad-checksum-later', 'mp-fail+mptcp'],
  ['… then plain data', 'bad-checksum-then-plain', 'mp-fail+mptcp, then fallback'],
  ['… then data-level length 0', 'bad-checksum-then-infinite', 'mp-fail+mptcp, then fallback'],
  ['… then good data', 'bad-checksum-then-good', 'mp-fail+mptcp, then mptcp'],
  ['wrong checksum, two SFs', 'bad-checksum-two', 'mp-fail+reset:6, other mptcp'],
  ['payload longer than its mapping', 'long-payload', 'mp-fail+fallback'],
  ['infinite mapping, one SF', 'infinite-mapping', 'fallback'],
  ['infinite mapping, two SFs', 'infinite-mapping-two', 'reset:1'],
  ['plain data first, one SF', 'plain-first', 'fallback'],
  ['plain data later, one SF', 'plain-later', 'fallback'],
  ['plain data on a second SF', 'plain-two', 'reset:6'],
  ['MP_JOIN, unknown token', 'join-token', 'join-reset:1'],
  ['MP_JOIN before the third ACK', 'join-early', 'join-reset:1'],
  ['MP_JOIN after the third ACK, before data', 'join-before-data', 'joined'],
  ['MP_JOIN with wrong HMAC', 'join-bad-hmac', 'join-synack-reset:1'],
  ['third ACK of a join without the option', 'join-no-hmac', 'join-synack-reset:1'],
  ['MP_JOIN beyond the subflow limit', 'join-limit', 'join-synack-reset:3'],
  ['MP_JOIN after FB', 'join-after-fallback', 'fallback, join-synack-reset:3'],
  ['MP_JOIN after a fallback at the third ACK', 'join-after-bare', 'fallback, join-reset:1'],
  ['MP_JOIN to a closed port', 'join-closed-port', 'join-reset'],
  ['ADD_ADDR, right HMAC, with port', 'add-addr-port', 'echo+joins'],
  ['ADD_ADDR, wrong HMAC', 'add-addr-bad-hmac', 'silence'],
  ['ADD_ADDR, v0 form', 'add-addr-v0', 'silence'],
  ['MP_FASTCLOSE on ACK, right key', 'fastclose-ack', 'reset:0, other reset:0'],
  ['MP_FASTCLOSE on RST', 'fastclose-rst', 'other reset:0'],
  ['MP_FASTCLOSE, wrong key', 'fastclose-wrong', 'open, other open, mptcp'],
  ['MP_FAIL from the client', 'mp-fail', 'mp-fail+infinite-mapping'],
  ['application closes with unread data', 'unread-data', 'reset:0+fastclose'],
  ["REMOVE_ADDR of an SF's id", 'remove-addr', 'fin, other mptcp'],
  ['v0 SYN (12)', 'syn-v0', 'plain'],
  ['v0 with length 4', 'syn-v0-short', 'plain'],
  ['v1 with length 12', 'syn-v1-long', 'plain'],
  ['flags 0x00', 'syn-flags-00', 'plain'],
  ['flags 0x41', 'syn-flags-41', 'plain'],
  ['flags 0x1f', 'syn-flags-1f', 'plain'],
  ['v2 SYN', 'syn-v2', 'v1'],
  ['v0 and v1 options in one SYN', 'syn-both', 'v1'],
  ['MP_CAPABLE and MP_JOIN in one SYN', 'syn-capable-join', 'plain'],
  ['one mapping over two segments, DSS on both', 'split-both', 'mptcp'],
  ['one mapping over two segments, DSS on the first', 'split-first', 'mptcp'],
  ['two mappings coalesced, one DSS kept', 'coalesced', 'fallback'],
  ['wrong subflow sequence number', 'wrong-ssn', 'fallback'],
  ['DSN hole', 'dsn-hole', 'hole-kept, mptcp'],
  ['DSN far outside the window', 'dsn-outside', 'undelivered, then mptcp'],
  ['DSN duplicate', 'dsn-duplicate', 'undelivered, then mptcp'],
  ['a peer that does not send DATA_ACK is reinjected', 'no-data-ack', 'reinjected'],
];

describeSystem('the prober and the kernel', () => {
  const world = new PathBench({ routers: 3 });
  const directory = mkdtempSync(join(tmpdir(), 'subflow-probe-'));
  const runner = ['--import', 'tsx'];
  const target = `${world.serverAddress}:8080`;

  const start = (...args: string[]) => world.startAndWait(world.server, process.execPath, [...runner, SERVER, ...args]);
  const probe = async (...args: string[]): Promise<Report> => {
    const { code, stdout, stderr } = await world.run(world.client, process.execPath, [CLI, 'probe', ...args, '--json'], 200_000);
    expect(code, `${stdout}\n${stderr}`).toBe(0);
    return JSON.parse(stdout) as Report;
  };
  const outcomes = (report: Report): Map<string, string> => new Map(report.conversation!.steps.map((step) => [step.id, step.outcome]));

  beforeAll(async () => {
    await start('8080');
    await start('8081', 'plain');
  });

  afterAll(() => {
    world.remove();
    rmSync(directory, { recursive: true });
  });

  it('reports every row of the table as the table says, and the same in a second run', { timeout: 90_000 }, async () => {
    const first = await probe(target, '--no-path', '--closed-port', '81');
    const second = await probe(target, '--no-path', '--closed-port', '81');
    for (const report of [first, second]) {
      const seen = outcomes(report);
      expect(ROWS.map(([row, step]) => `${row}: ${seen.get(step)}`)).toEqual(ROWS.map(([row, , outcome]) => `${row}: ${outcome}`));
      expect(report.conversation!.steps.filter((step) => step.judgement === 'new deviation').map((step) => step.id)).toEqual([]);
    }
    expect(outcomes(second)).toEqual(outcomes(first));
    expect(first.conversation!.resembles!.name).toBe('Linux upstream');
    expect(first.verdict.join(' ')).toContain('speaks Multipath TCP version 1');
  });

  it('reports checksums that the server asks for', { timeout: 60_000 }, async () => {
    world.server.sysctl('net.mptcp.checksum_enabled', 1);
    try {
      const report = await probe(target, '--no-path', '--steps', 'data,capable-data,checksum-asked');
      expect(report.conversation!.steps[0]!.details).toContain('SYN+ACK: version 1, flags 0x81');
      expect([...outcomes(report).values()]).toEqual(['v1', 'mptcp', 'mptcp', 'mptcp+checksums']);
    } finally {
      world.server.sysctl('net.mptcp.checksum_enabled', 0);
    }
  });

  it('reports flag C, and that the join to the initial address is taken all the same', { timeout: 60_000 }, async () => {
    world.server.sysctl('net.mptcp.allow_join_initial_addr_port', 0);
    try {
      const report = await probe(target, '--no-path', '--steps', 'flag-c');
      expect(report.conversation!.steps[0]!.details).toContain('SYN+ACK: version 1, flags 0x21');
      expect(outcomes(report).get('flag-c')).toBe('flag-c+joined');
    } finally {
      world.server.sysctl('net.mptcp.allow_join_initial_addr_port', 1);
    }
  });

  it("reports the server's own ADD_ADDR: at once, then at 0.2 s and 0.6 s without an echo", { timeout: 60_000 }, async () => {
    world.server.ip('address', 'add', '198.51.100.7/32', 'dev', 'lo');
    world.server.run('ip', 'mptcp', 'endpoint', 'add', '198.51.100.7', 'id', '3', 'signal');
    try {
      const report = await probe(target, '--no-path', '--steps', 'server-add-addr');
      const step = report.conversation!.steps.find((one) => one.id === 'server-add-addr')!;
      expect(step.outcome).toBe('announced+repeated');
      expect(step.details[0]).toMatch(/^198\.51\.100\.7, id 3, at \+0\.0 s, \+0\.2 s, \+0\.6 s$/);
    } finally {
      world.server.run('ip', 'mptcp', 'endpoint', 'flush');
    }
  });

  it('echoes and joins an announced address without a port, from a second address of ours', { timeout: 60_000 }, async () => {
    world.client.ip('address', 'add', '203.0.113.9/32', 'dev', 'lo');
    for (const router of world.routers)
      router.ip('route', 'add', '203.0.113.9/32', 'via', router === world.routers[0] ? '192.0.2.1' : `192.0.2.${4 * world.routers.indexOf(router) + 1}`);
    world.server.ip('route', 'add', '203.0.113.9/32', 'via', '192.0.2.13');
    const report = await probe(target, '--no-path', '--second', '203.0.113.9', '--steps', 'add-addr,join,join-backup');
    expect(outcomes(report).get('add-addr')).toBe('echo+joins');
    expect(outcomes(report).get('join')).toBe('joined+data');
  });

  it('tells a plain TCP server from one with Multipath TCP, and joins to it get a plain SYN+ACK', { timeout: 60_000 }, async () => {
    const plain = await probe(`${world.serverAddress}:8081`, '--no-path');
    expect(plain.conversation!.kind).toBe('plain');
    expect(plain.verdict[0]).toContain('No Multipath TCP');
    const joined = await probe(target, '--no-path', '--closed-port', '8081', '--steps', 'join-closed-port');
    expect(outcomes(joined).get('join-closed-port')).toBe('join-plain');
  });

  it('walks the three hops over both families, quotes in full, nothing changed', { timeout: 60_000 }, async () => {
    for (const [address, hops] of [
      [target, ['192.0.2.2', '192.0.2.6', '192.0.2.10']],
      [`[${world.serverAddress6}]:8080`, ['2001:db8::2', '2001:db8:1::2', '2001:db8:2::2']],
    ] as const) {
      const report = await probe(address, '--path-only');
      expect(report.path!.distance).toBe(4);
      expect(report.path!.findings).toEqual([]);
      const syn = report.path!.walks.find((walk) => walk.stage === 'syn')!;
      expect(syn.hops.map((hop) => hop.routers.map((router) => router.address))).toEqual(hops.map((one) => [one]));
      expect(syn.hops.every((hop) => hop.routers[0]!.quoted > 40 && hop.routers[0]!.differences.length === 0)).toBe(true);
      // The kernel's server is no echo server: the report says what could not be seen.
      expect(report.verdict.join(' ')).toContain('cannot be told');
    }
  });

  it('works as nobody with CAP_NET_RAW alone, the kernel resets nothing, nothing is left behind', { timeout: 120_000 }, async () => {
    const wire = join(directory, 'wire.pcap');
    const own = join('/tmp', `subflow-own-${process.pid}.pcapng`);
    const tcpdump = spawn('ip', ['netns', 'exec', world.routers[0]!.name, 'tcpdump', '-i', 'l0', '-B', '65536', '-w', wire, '-U', '-Z', 'root', 'tcp'], {
      stdio: ['ignore', 'ignore', 'pipe'],
    });
    await new Promise((resolve) => tcpdump.stderr.once('data', resolve));
    try {
      // Seen through a mount of its own: nobody may not read into root's directories.
      const shell = `mount --bind ${ROOT} /mnt && exec setpriv --reuid=65534 --regid=65534 --clear-groups --inh-caps=-all,+net_raw --ambient-caps=+net_raw --bounding-set=-all,+net_raw ${process.execPath} /mnt/packages/cli/bin/subflow.mjs probe ${target} --json --pcapng ${own}`;
      const { code, stdout, stderr } = await world.run(world.client, 'unshare', ['-m', 'sh', '-c', shell]);
      expect(code, stderr).toBe(0);
      const report = JSON.parse(stdout) as Report;
      expect(report.conversation!.steps.length).toBeGreaterThan(60);
      expect(report.conversation!.steps.filter((step) => step.judgement === 'new deviation')).toEqual([]);
      // The kernel must have had its chance to answer what came late.
      await new Promise((resolve) => setTimeout(resolve, 2_500));
    } finally {
      tcpdump.kill('SIGINT');
      await new Promise((resolve) => tcpdump.once('exit', resolve));
    }
    const resets = (file: string): string[] =>
      command('tshark', [
        '-r',
        file,
        '-Y',
        `tcp.flags.reset == 1 && ip.src == ${world.clientAddress}`,
        '-T',
        'fields',
        '-e',
        'tcp.srcport',
        '-e',
        'tcp.seq_raw',
      ])
        .trim()
        .split('\n')
        .filter((line) => line !== '')
        .sort();
    const ours = resets(own);
    const ports = new Set(
      command('tshark', ['-r', own, '-Y', `ip.src == ${world.clientAddress} && tcp`, '-T', 'fields', '-e', 'tcp.srcport'])
        .trim()
        .split('\n'),
    );
    rmSync(own, { force: true });
    expect(ours.length).toBeGreaterThan(50);
    // Every reset on the wire is one that the prober has sent itself.
    // (Another prober is at work in this namespace: its ports are others.)
    expect(resets(wire).filter((line) => ports.has(line.split('\t')[0]!))).toEqual(ours);
    const listening = world.client.run('ss', '-Htln').match(/:(\d+) /g) ?? [];
    expect(listening.filter((port) => ports.has(port.slice(1, -1)))).toEqual([]);
    expect(world.client.run('nft', 'list', 'ruleset').trim()).toBe('');
  });

  it('says what it lacks without CAP_NET_RAW', { timeout: 30_000 }, async () => {
    const { code, stderr } = await world.run(world.client, 'setpriv', ['--bounding-set=-all', '--inh-caps=-all', process.execPath, CLI, 'probe', target]);
    expect(code).toBe(1);
    expect(stderr).toMatch(/^NO_PRIVILEGE: .*expected CAP_NET_RAW/);
  });

  it('keeps resets away by a rule with --firewall, removes it, also after a crash', { timeout: 90_000 }, async () => {
    const report = await probe(target, '--no-path', '--firewall', '--steps', 'data,join');
    expect([...outcomes(report).values()]).toEqual(['v1', 'mptcp', 'joined+data']);
    expect(world.client.run('nft', 'list', 'ruleset').trim()).toBe('');
    const killed = world.start(world.client, process.execPath, [
      CLI,
      'probe',
      target,
      '--firewall',
      '--patient',
      '--steps',
      'bad-checksum-then-silence',
      '--no-path',
    ]);
    for (let i = 0; i < 100 && !world.client.run('nft', 'list', 'ruleset').includes('subflow_probe_'); i++)
      await new Promise((resolve) => setTimeout(resolve, 50));
    expect(world.client.run('nft', 'list', 'ruleset')).toContain('subflow_probe_');
    killed.kill('SIGKILL');
    // ip netns exec has replaced itself by node: the signal reached it.
    await new Promise((resolve) => killed.once('exit', resolve));
    expect(world.client.run('nft', 'list', 'ruleset')).toContain('subflow_probe_');
    await probe(target, '--no-path', '--firewall', '--steps', 'data');
    expect(world.client.run('nft', 'list', 'ruleset').trim()).toBe('');
  });

  it('needs no privilege at all on a macvtap that root has made', { timeout: 60_000 }, async () => {
    const { client } = world;
    // A neighbour on an Ethernet: the first router's second interface.
    command('ip', ['link', 'add', 'eth', 'netns', client.name, 'type', 'veth', 'peer', 'name', 'eth', 'netns', world.routers[0]!.name]);
    client.ip('link', 'set', 'eth', 'up');
    world.routers[0]!.ip('address', 'add', '198.51.100.254/24', 'dev', 'eth');
    world.routers[0]!.ip('link', 'set', 'eth', 'up');
    for (const [i, router] of [...world.routers, world.server].entries())
      if (i > 0) router.ip('route', 'add', '198.51.100.0/24', 'via', `192.0.2.${4 * i + 1}`);
    client.ip('link', 'add', 'link', 'eth', 'name', 'tap', 'type', 'macvtap', 'mode', 'bridge');
    client.ip('link', 'set', 'tap', 'up');
    const device = `/dev/tap${client.run('cat', '/sys/class/net/tap/ifindex').trim()}`;
    chownSync(device, 65534, 65534);
    const shell = `mount --bind ${ROOT} /mnt && exec setpriv --reuid=65534 --regid=65534 --clear-groups --inh-caps=-all --bounding-set=-all ${process.execPath} /mnt/packages/cli/bin/subflow.mjs probe ${target} --json --interface tap --address 198.51.100.9/24 --gateway 198.51.100.254 --steps data,join,join-token`;
    const { code, stdout, stderr } = await world.run(client, 'unshare', ['-m', 'sh', '-c', shell]);
    expect(code, stderr).toBe(0);
    expect([...outcomes(JSON.parse(stdout) as Report).values()]).toEqual(['v1', 'mptcp', 'joined+data', 'join-reset:1']);
    client.ip('link', 'del', 'eth');
  });

  it('scans: resumes, refuses ranges, honours the block list, says which servers speak it', { timeout: 60_000 }, async () => {
    const list = join(directory, 'list');
    const out = join(directory, 'out.jsonl');
    writeFileSync(
      list,
      `${world.serverAddress}:8080\n${world.serverAddress}:8081 # plain\n${world.serverAddress}:82\n192.0.2.6\n[${world.serverAddress6}]:8080\n`,
    );
    writeFileSync(join(directory, 'block'), '192.0.2.4/30\n');
    const scan = (...args: string[]) => world.run(world.client, process.execPath, [CLI, 'scan', ...args]);
    const first = await scan(list, '-o', out, '--block', join(directory, 'block'));
    expect(first.code, first.stderr).toBe(0);
    const lines = readFileSync(out, 'utf8')
      .trim()
      .split('\n')
      .map((line) => JSON.parse(line) as { target: string; v1: string; v0: string; skipped: string | null });
    expect(Object.fromEntries(lines.map((one) => [one.target, one.skipped ?? `${one.v1} ${one.v0}`]))).toEqual({
      [`${world.serverAddress}:8080`]: 'yes not asked',
      [`${world.serverAddress}:8081`]: 'no no',
      [`${world.serverAddress}:82`]: 'refused not asked',
      '192.0.2.6': '192.0.2.6 is in the block list (192.0.2.4/30)',
      [`[${world.serverAddress6}]:8080`]: 'yes not asked',
    });
    const again = await scan(list, '-o', out);
    expect(again.stderr).toContain('5 were there already');
    expect(readFileSync(out, 'utf8').trim().split('\n')).toHaveLength(5);
    // Cut by a crash, behind a link: that target is asked again, and its line begins on its own.
    const link = join(directory, 'link.jsonl');
    symlinkSync(out, link);
    truncateSync(out, readFileSync(out).length - 5);
    const resumed = await scan(list, '-o', link);
    expect(resumed.stderr).toContain('4 were there already');
    const all = readFileSync(out, 'utf8').trim().split('\n');
    expect(all).toHaveLength(6);
    expect((JSON.parse(all[5]!) as { target: string }).target).toBe(/"target":"([^"]*)"/.exec(all[4]!)![1]);
    writeFileSync(list, '192.0.2.12/30\n');
    const refused = await scan(list);
    expect(refused.code).toBe(1);
    expect(refused.stderr).toMatch(/^NOT_ALLOWED: the range 192\.0\.2\.12\/30 was not released/);
    const owned = await scan(list, '--i-own-this', '192.0.2.0/24', '--tries', '1', '--wait', '0.3', '--port', '8080');
    expect(owned.code, owned.stderr).toBe(0);
    expect(owned.stdout.trim().split('\n')).toHaveLength(4);
  });

  it('stops on Ctrl-C with everything closed', { timeout: 30_000 }, async () => {
    const child = world.start(world.client, process.execPath, [CLI, 'probe', target, '--no-path', '--patient', '--steps', 'bad-checksum-then-silence']);
    await new Promise((resolve) => setTimeout(resolve, 2_500));
    child.kill('SIGINT');
    const code = await new Promise((resolve) => child.once('exit', resolve));
    expect(code).toBe(130);
  });

  it('names real boxes between namespaces: nft, tc-BPF, TCPOPTSTRIP, TUN', { timeout: 120_000 }, async () => {
    // (Joining segments depends on two of them meeting within 2 ms of real time: that row is the campaign's, in virtual time.)
    const rows = ['strip-synack', 'strip-data', 'strip-all', 'nat', 'clamp-mss', 'split-first', 'proxy', 'drop-syn', 'proactive-ack'].flatMap((name) => [
      '--box',
      name,
    ]);
    const child = spawn(process.execPath, [CLI, 'bench-path', ...rows, '--seed', '11', '--json'], { stdio: ['ignore', 'pipe', 'pipe'] });
    let text = '';
    let errors = '';
    child.stdout.on('data', (chunk: Buffer) => (text += String(chunk)));
    child.stderr.on('data', (chunk: Buffer) => (errors += String(chunk)));
    const code = await new Promise((resolve) => child.once('close', resolve));
    const lines = text
      .trim()
      .split('\n')
      .filter((line) => line !== '')
      .map((line) => JSON.parse(line) as { box: string; kind: string; at: number; named: boolean; placed: boolean; found: unknown });
    expect(lines.filter((one) => !one.named || !one.placed)).toEqual([]);
    expect(new Set(lines.map((one) => one.kind))).toEqual(new Set(['userspace', 'nft', 'iptables', 'tc-bpf']));
    expect(code, errors).toBe(0);
  });
});
