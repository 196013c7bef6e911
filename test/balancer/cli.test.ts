/** `subflow lb` as people meet it: refusals, commands, metrics, a capture that tshark reads. */
import { spawnSync } from 'node:child_process';
import { writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { afterAll, beforeAll, expect, it } from 'vitest';
import { SERVICE, SERVICE_PORT } from '@subflow/balancer/node';
import type { ClientFacts } from '@subflow/balancer/node';
import { describeSystem } from '../interop/require-system.ts';
import { CLI, Farm, pause } from './farm.ts';
import type { Design } from './farm.ts';

const DIRECT: Design = { dataPlane: 'xdp', design: 'direct-address', forwarding: 'dsr' };
const USERSPACE: Design = { dataPlane: 'userspace', design: 'beamer', forwarding: 'encapsulation' };

describeSystem('subflow lb', () => {
  let farm: Farm;

  beforeAll(async () => {
    farm = new Farm({ servers: 2 });
    await farm.begin();
  });
  afterAll(() => farm.end());

  const lb = (...args: string[]): { status: number | null; stdout: string; stderr: string } => {
    const { status, stdout, stderr } = spawnSync('nsenter', [`--net=/run/netns/${farm.world.balancers[0]!.name}`, process.execPath, CLI, 'lb', ...args], {
      encoding: 'utf8',
      timeout: 30_000,
    });
    return { status, stdout, stderr };
  };
  const file = (text: string): string => {
    const path = join(farm.directory, `${Math.random().toString(36).slice(2)}.yaml`);
    writeFileSync(path, text);
    return path;
  };

  it('refuses what cannot be, and leaves nothing behind', { timeout: 60_000 }, () => {
    const good = farm.config(`cli-${process.pid}`, DIRECT);
    const cases: [string, string[], RegExp][] = [
      ['no configuration', [], /^BAD_ARGUMENT: expected --config FILE/],
      ['no such file', ['--config', '/nowhere.yaml'], /^FILE_NOT_READ: \/nowhere.yaml/],
      ['a broken configuration', ['--config', file(good.replace('port: 443', 'port: x'))], /^BAD_CONFIG: .*\.yaml:8: services\[0\]\.port: /],
      ['no such interface', ['--config', file(good.replace('eth0', 'eth9'))], /^NO_DEVICE: no interface "eth9"/],
      [
        'servers that are all away',
        ['--config', file(good.replaceAll('198.51.100.10', '198.51.100.25'))],
        /^NO_NEIGHBOUR: 198\.51\.100\.252 on eth0 does not answer ARP/,
      ],
      [
        'a store that is away',
        ['--config', file(good.replace(/^store: .*$/m, 'store: { remote: "127.0.0.1:9" }'))],
        /^UNAVAILABLE: the store at 127\.0\.0\.1:9/,
      ],
      ['nobody to talk to', ['status', '--control', '/run/nobody.sock'], /^NOT_RUNNING: \/run\/nobody\.sock has nobody behind it/],
      ['a packet that is none', ['explain', 'x', '--control', '/run/nobody.sock'], /^NOT_RUNNING/],
      ['a server that is not there', ['server', 's9', '--config', file(good), '--interface', 'eth0', '--print'], /^NO_ROUTE: no server "s9"/],
      ['an option that is not there', ['--conf', 'x'], /unknown option '--conf'/],
    ];
    for (const [name, args, expected] of cases) {
      const { status, stderr } = lb(...args);
      expect(stderr, name).toMatch(expected);
      expect(status, name).not.toBe(0);
    }
    // Nothing half-applied.
    expect(farm.world.balancers[0]!.ip('link', 'show', 'eth0')).not.toContain('xdp');
    expect(farm.world.balancers[0]!.ip('-br', 'link')).not.toContain('sflb');
    expect(lb('--config', file(good), '--check')).toMatchObject({ status: 0, stdout: expect.stringContaining('1 service, data plane xdp') as string });
  });

  it('starts although one server is away, and sends nobody there', { timeout: 60_000 }, async () => {
    farm.announce('direct-address');
    const text = farm.config(`away-${process.pid}`, { dataPlane: 'xdp', design: 'maglev', forwarding: 'dsr' }).replace('198.51.100.102', '198.51.100.250');
    const balancer = await farm.balancer(text);
    try {
      const opened = await farm.client.ask({ do: 'open', count: 20, address: SERVICE, port: SERVICE_PORT });
      expect(opened).toMatchObject({ alive: 20, failed: 0, servers: { s1: 20 } });
      await farm.client.ask({ do: 'close' });
    } finally {
      await balancer.stop();
    }
  });

  it('says what it lacks without privileges', () => {
    const path = file(farm.config(`nobody-${process.pid}`, USERSPACE, { store: '{ log: /tmp/subflow-lb-nobody.log }' }));
    const { status, stderr } = spawnSync('setpriv', ['--reuid', '65534', '--clear-groups', process.execPath, CLI, 'lb', '--config', path], {
      encoding: 'utf8',
      timeout: 20_000,
    });
    expect(status).toBe(1);
    expect(stderr).toMatch(/^(NO_PRIVILEGE|EACCES|UNAVAILABLE|FILE_NOT_READ): /);
  });

  it('is told what to do, says how it is, and why a packet goes where it goes', { timeout: 60_000 }, async () => {
    farm.announce('beamer');
    farm.world.servers.forEach((_, i) => farm.world.shim(i));
    const balancer = await farm.balancer(farm.config(`told-${process.pid}`, USERSPACE, { lines: ['metrics: 127.0.0.1:9464'] }));
    try {
      const { client } = farm;
      await client.ask({ do: 'open', count: 30, address: SERVICE, port: SERVICE_PORT });
      const twice = lb('--config', balancer.file);
      expect(twice.stderr).toMatch(/^ALREADY_RUNNING: /);
      for (const [words, expected] of [
        [['drain', 's1'], /^generation 2/],
        [['drain', 's1'], /^generation 2/],
        [['undrain', 's1'], /^generation 3/],
        [['weight', 's2', '3'], /^generation 4/],
      ] as const)
        expect(balancer.say(...words).stdout).toMatch(expected);
      for (const [words, expected] of [
        [['drain', 's7'], /^UNKNOWN_SERVER: service "web" has no server "s7"; expected s1, s2/],
        [['drain', 's1', '--service', 'mail'], /^UNKNOWN_SERVICE: no service "mail"; expected web/],
        [['weight', 's1', 'heavy'], /^BAD_ARGUMENT: weight "heavy"; expected 0 to 65535/],
        [['add', 's3', 'nowhere'], /^BAD_CHANGE: "nowhere" is no address/],
        [['add', 's3', '198.51.100.103', '--id', '1'], /^BAD_SERVER: .*both have id 1/],
        [['explain', 'hello'], /^BAD_CHANGE: "hello" is no packet; expected/],
      ] as const) {
        const said = balancer.say(...words);
        expect(said.stderr).toMatch(expected);
        expect(said.status).not.toBe(0);
      }
      expect(balancer.status().generation).toBe(4);
      expect(balancer.say('explain', '192.0.2.1:40000 > 203.0.113.10:20002 syn').stdout).toMatch(
        /design f, beamer; generation 4[\s\S]*port 20002 is a server's own\nto s2/,
      );
      expect(balancer.say('status').stdout).toMatch(
        /web {2}203\.0\.113\.10:443 {2}beamer, encapsulation\n {2}s1 .* weight 1 .*packets {2}active\n {2}s2 .* weight 3 /,
      );
      const metrics = farm.world.balancers[0]!.run('curl', '-s', 'http://127.0.0.1:9464/metrics');
      expect(metrics).toContain('subflow_lb_generation 4');
      expect(metrics).toMatch(/subflow_lb_server_packets_total{service="web",server="s1"} \d\d/);
      expect(await client.ask({ do: 'check', timeout: 5000 })).toMatchObject({ alive: 30 });
      await client.ask({ do: 'close' });
    } finally {
      await balancer.stop('SIGINT');
      farm.world.removeShims();
    }
    expect(farm.world.balancers[0]!.ip('-br', 'link')).not.toContain('sflb');
    expect(farm.world.balancers[0]!.ip('route')).not.toContain(SERVICE);
  });

  it('makes kernel servers ready, and takes it all back', { timeout: 60_000 }, async () => {
    const { world, client } = farm;
    const text = farm.config(`ready-${process.pid}`, { dataPlane: 'xdp', design: 'beamer', forwarding: 'encapsulation' });
    const path = file(text);
    // Other tests have announced ports here: these servers begin as kernels are.
    for (const where of world.servers) {
      where.run('ip', 'mptcp', 'endpoint', 'flush');
      where.sysctl('net.mptcp.allow_join_initial_addr_port', 1);
      where.ip('address', 'del', `${SERVICE}/32`, 'dev', 'lo');
    }
    const more = text.replaceAll('ownPort: 2000', 'ownPort: 2100');
    writeFileSync(path, more);
    const setups = await Promise.all(
      world.servers.map((where, i) =>
        world.start(where, CLI, ['lb', 'server', `s${i + 1}`, '--config', path, '--interface', 'eth0', '--balancers', world.balancerAddress(0)]),
      ),
    );
    const balancer = await farm.balancer(more);
    try {
      await client.ask({ do: 'open', count: 40, address: SERVICE, port: SERVICE_PORT });
      await pause(700);
      expect(await client.ask<ClientFacts>({ do: 'facts' })).toMatchObject({ alive: 40, joined: 40 });
      for (const where of world.servers) expect(where.ip('route', 'show', 'default')).toContain('advmss 1424');
      await client.ask({ do: 'close' });
    } finally {
      for (const child of setups) {
        const gone = new Promise((resolve) => child.once('exit', resolve));
        child.kill('SIGTERM');
        await gone;
      }
      await balancer.stop();
    }
    world.servers.forEach((where, i) => {
      expect(where.run('ip', 'mptcp', 'endpoint')).toBe('');
      expect(where.run('sysctl', '-n', 'net.mptcp.allow_join_initial_addr_port').trim()).toBe('1');
      expect(where.ip('route', 'show', 'default')).not.toContain('advmss');
      expect(where.ip('address', 'show', 'dev', 'lo')).not.toContain(SERVICE);
      expect(where.ip('link', 'show', 'eth0')).not.toContain('xdp');
      // As the other tests expect it.
      where.ip('address', 'add', `${SERVICE}/32`, 'dev', 'lo');
      world.forgetAnnounced(i);
    });
  });

  it('e, as tshark sees it: flag C, the announced address, joins that never come to the balancer', { timeout: 60_000 }, async () => {
    farm.announce('direct-address');
    const { world, client } = farm;
    const balancer = await farm.balancer(farm.config(`seen-${process.pid}`, DIRECT));
    const captures = await Promise.all(
      [world.client, world.balancers[0]!].map(async (where, i) => {
        const path = join(farm.directory, `capture${i}.pcap`);
        // In immediate mode a slot of the ring is as large as the snapshot length: with the default one eight packets fill it.
        const child = where.start('tcpdump', ['-i', 'any', '-w', path, '-U', '--immediate-mode', '-s', '256', '-B', '8192', 'tcp']);
        // It says so when it listens.
        await new Promise<void>((resolve) => {
          let said = '';
          child.stderr!.on('data', (chunk: Buffer) => {
            said += String(chunk);
            if (said.includes('listening on')) resolve();
          });
        });
        await pause(300);
        return { path, child };
      }),
    );
    const [atClient, atBalancer] = captures.map((one) => one.path) as [string, string];
    const fields = (path: string, filter: string, ...names: string[]): string[] => {
      const { stdout, stderr, status } = spawnSync('tshark', ['-r', path, '-Y', filter, '-T', 'fields', ...names.flatMap((name) => ['-e', name])], {
        encoding: 'utf8',
      });
      // A file that is being written may end within a packet.
      expect(status === 0 || stderr.includes('cut short'), stderr).toBe(true);
      return stdout.trim().split('\n').filter(Boolean);
    };
    const JOINS = 'tcp.flags.syn == 1 and tcp.flags.ack == 0 and tcp.options.mptcp.subtype == 1';
    try {
      await client.ask({ do: 'open', count: 20, address: SERVICE, port: SERVICE_PORT });
      await pause(1000);
      expect((await client.ask<ClientFacts>({ do: 'facts' })).joined).toBe(20);
      // What tcpdump has not read when it is told to end is lost, and a busy machine keeps it waiting.
      for (let tries = 0; tries < 20 && fields(atClient, JOINS, 'ip.dst').length < 20; tries++) await pause(500);
      await client.ask({ do: 'close' });
    } finally {
      for (const { child } of captures) child.kill('SIGTERM');
      await balancer.stop();
      await pause(300);
    }
    const capable = fields(atClient, 'tcp.flags.syn == 1 and tcp.flags.ack == 1 and tcp.options.mptcp.subtype == 0', 'tcp.options.mptcp.nomoresubflows.flag');
    const announced = new Set(fields(atClient, 'tcp.options.mptcp.subtype == 3 and tcp.options.mptcp.echo == 0', 'tcp.options.mptcp.ipv4'));
    const joins = fields(atClient, JOINS, 'ip.dst');
    expect(capable.length).toBeGreaterThanOrEqual(20);
    expect(capable.every((one) => one === '1' || one === 'True')).toBe(true);
    expect([...announced].toSorted()).toEqual(['198.51.100.101', '198.51.100.102']);
    expect(joins.length).toBeGreaterThanOrEqual(20);
    expect(new Set(joins)).toEqual(announced);
    expect(fields(atBalancer, 'tcp.options.mptcp.subtype == 1', 'ip.dst')).toEqual([]);
  });
});
