/** What a kernel socket says of itself, and the kernel's path manager by netlink; beside it what `ss` and `ip mptcp` say. */
import { fileURLToPath } from 'node:url';
import { afterAll, beforeAll, expect, it } from 'vitest';
import type { MultipathInfo, StatusSnapshot } from '@subflow/net';
import { describeSystem } from '../interop/require-system.ts';
import { addressesOfPath, KernelWorld } from './kernel-world.ts';

const script = fileURLToPath(new URL('./facts-peer.ts', import.meta.url));

interface Facts {
  joined: boolean;
  info: MultipathInfo;
  snapshot: StatusSnapshot;
  limits: object;
  newLimits: object;
  endpoints: { id: number; address: string; flags: number }[];
  backup: boolean;
  removed: boolean;
  added: boolean;
  codes: string[];
  events: string[];
  after: boolean;
}

describeSystem('facts and controls on the kernel backend', () => {
  let world: KernelWorld;
  let facts: Facts;

  beforeAll(async () => {
    world = new KernelWorld([
      { name: 'wifi', link: { rate: 50e6, delay: 2_000 } },
      { name: 'lte', link: { rate: 50e6, delay: 4_000 } },
    ]);
    const echo = `require('net').createServer((s)=>{s.on('error',()=>0);s.pipe(s)}).listen(7000,'0.0.0.0',()=>console.log('up'))`;
    const server = world.start('server', 'mptcpize', ['run', process.execPath, '-e', echo]);
    await new Promise((resolve) => server.stdout!.once('data', resolve));
    const result = await world.run('client', process.execPath, ['--import', 'tsx', script, addressesOfPath(0).server, '7000']);
    expect({ code: result.code, stderr: result.stderr }).toEqual({ code: 0, stderr: '' });
    facts = JSON.parse(result.stdout) as Facts;
  }, 40_000);
  afterAll(() => world?.remove());

  it('MPTCP_INFO and MPTCP_FULL_INFO: version, tokens, subflows with addresses and numbers', () => {
    expect(facts.joined).toBe(true);
    expect(facts.info).toMatchObject({ backend: 'kernel', multipath: true, version: 1, fallback: null, scheduler: 'default' });
    expect(facts.info.localToken).toBeGreaterThan(0);
    expect(facts.info.remoteToken).toBeGreaterThan(0);
    expect(facts.info.subflows.map((one) => [one.interface, one.localAddress, one.remoteAddress, one.remotePort])).toEqual([
      ['wifi', '192.0.2.1', '192.0.2.2', 7000],
      ['lte', '192.0.2.5', '192.0.2.2', 7000],
    ]);
    const [wifi, lte] = facts.info.subflows;
    expect(wifi!.bytesSent + lte!.bytesSent).toBeGreaterThanOrEqual(100_000);
    expect(wifi!.srtt).toBeGreaterThan(3500);
    expect(wifi).toMatchObject({ congestion: 'reno', backup: false });
  });

  it('the monitor’s snapshot says the same', () => {
    expect(facts.snapshot.connections).toHaveLength(1);
    const [connection] = facts.snapshot.connections;
    expect(connection).toMatchObject({ version: 1, localToken: facts.info.localToken, remote: '192.0.2.2:7000' });
    expect(connection!.subflows.map((one) => one.interface).toSorted()).toEqual(['lte', 'wifi']);
    expect(facts.snapshot.counters['MPJoinSynAckRx']).toBeGreaterThanOrEqual(1);
    expect(facts.snapshot.interfaces.find((one) => one.name === 'wifi')!.bytesSent).toBeGreaterThan(0);
  });

  it('endpoints and limits by generic netlink are those of `ip mptcp`', () => {
    expect(facts.limits).toEqual({ addressesAccepted: 8, subflows: 8 });
    expect(facts.newLimits).toEqual({ addressesAccepted: 3, subflows: 5 });
    expect(facts.endpoints.map((one) => one.address)).toEqual(['192.0.2.1', '192.0.2.5']);
    expect(world.client.run('ip', 'mptcp', 'limits')).toMatch(/add_addr_accepted 3 subflows 5/);
    expect(world.client.run('ip', 'mptcp', 'endpoint')).toMatch(/192\.0\.2\.5 .*subflow/);
  });

  it('backup, remove and add an address; events tell', () => {
    expect([facts.backup, facts.removed, facts.added, facts.after]).toEqual([true, true, true, true]);
    expect(facts.events).toContain('down 192.0.2.5');
    expect(facts.events.at(-1)).toBe('up 192.0.2.5');
  });

  it('what the kernel cannot do per connection is refused with a code', () => {
    expect(facts.codes).toEqual(['UNKNOWN_SCHEDULER', 'NOT_SUPPORTED', 'NO_SUCH_ADDRESS', 'NOT_SUPPORTED', 'NOT_SUPPORTED', 'UNKNOWN_CONGESTION']);
  });
});

describeSystem('connecting by name on the kernel backend', () => {
  const peer = fileURLToPath(new URL('./by-name-peer.ts', import.meta.url));

  it.each([
    ['userspace', ['192.0.2.2', '192.0.2.6'], 0],
    ['kernel', ['192.0.2.2'], 1],
  ])(
    'path manager %s: subflows to %j',
    async (manager, expected, notes) => {
      const world = new KernelWorld([{ name: 'wifi' }, { name: 'lte' }], { endpoints: false });
      try {
        world.client.sysctl('net.mptcp.path_manager', manager);
        const echo = `require('net').createServer((s)=>{s.on('error',()=>0);s.pipe(s)}).listen(7000,'0.0.0.0',()=>console.log('up'))`;
        const server = world.start('server', 'mptcpize', ['run', process.execPath, '-e', echo]);
        await new Promise((resolve) => server.stdout!.once('data', resolve));
        const result = await world.run('client', process.execPath, ['--import', 'tsx', peer, '7000', '192.0.2.2', '192.0.2.6']);
        expect({ code: result.code, stderr: result.stderr }).toEqual({ code: 0, stderr: '' });
        const facts = JSON.parse(result.stdout) as { subflows: string[]; notes: string[] };
        expect(facts.subflows.toSorted()).toEqual(expected);
        // Where the kernel manages its paths itself it says so.
        expect(facts.notes).toHaveLength(notes);
      } finally {
        world.remove();
      }
    },
    30_000,
  );
});
