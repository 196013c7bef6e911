/** Faults, with real kernels: floods, crashes, packets that are too big, a balancer that is killed under load. */
import { execFileSync } from 'node:child_process';
import type { ChildProcess } from 'node:child_process';
import { existsSync } from 'node:fs';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { afterAll, beforeAll, expect, it } from 'vitest';
import { BpfMap, MAP_TYPE } from '@subflow/link';
import { SERVICE, SERVICE_PORT } from '@subflow/balancer/node';
import type { ClientFacts } from '@subflow/balancer/node';
import { describeSystem } from '../interop/require-system.ts';
import { Farm, pause } from './farm.ts';
import type { Design } from './farm.ts';

const FLOOD = fileURLToPath(new URL('./flood.ts', import.meta.url));
const BEAMER: Design = { dataPlane: 'xdp', design: 'beamer', forwarding: 'encapsulation' };
const LEARNT: Design = { dataPlane: 'xdp', design: 'token-learned', forwarding: 'dsr' };
const TO = { address: SERVICE, port: SERVICE_PORT } as const;
const FLOODED = 60_000;

describeSystem('faults', () => {
  let farm: Farm;
  let servers: ChildProcess[];

  beforeAll(async () => {
    farm = new Farm({ servers: 4 });
    servers = await farm.world.startServers();
    farm.client = await farm.world.startClient();
    // What is answered to nobody goes nowhere.
    farm.world.fabric.ip('route', 'add', 'blackhole', '198.18.0.0/15');
  });
  afterAll(() => farm.end());

  const flooding = async (kind: 'syn' | 'join'): Promise<{ done: Promise<number> }> => {
    const child = await farm.world.start(farm.world.client, FLOOD, [kind, SERVICE, String(SERVICE_PORT), String(FLOODED)]);
    let text = '';
    child.stdout!.on('data', (chunk: Buffer) => (text += String(chunk)));
    return { done: new Promise((resolve) => child.once('close', () => resolve(Number(text.trim())))) };
  };

  it.each(['syn', 'join'] as const)(
    'a flood of %s packets: state is bounded, connections live on, new ones come through',
    { timeout: 90_000 },
    async (kind) => {
      const name = `flood-${process.pid}-${kind}`;
      farm.announce(LEARNT.design);
      const balancer = await farm.balancer(farm.config(name, LEARNT, { lines: ['flows: 4096'] }));
      const { client } = farm;
      try {
        await client.ask({ do: 'open', count: 60, ...TO });
        await pause(500);
        const sent = await flooding(kind);
        await pause(300);
        const during = await client.ask({ do: 'open', count: 60, atOnce: 4, ...TO });
        const packets = await sent.done;
        await pause(1500);
        const facts = await client.ask<ClientFacts>({ do: 'facts' });
        console.log(`${kind} flood of ${packets} packets: ${during.failed} of 60 new connections lost, ${facts.alive} of 120 alive, ${facts.joined} joined`);
        expect(packets).toBe(FLOODED);
        expect(during.failed).toBe(0);
        expect(facts.alive).toBe(120);
        // What came before the flood has its second subflow still.
        expect(facts.joined).toBeGreaterThanOrEqual(60);
        const [service] = balancer.status().services;
        if (kind === 'join') expect(service!.packets['unknownToken']).toBeGreaterThan(FLOODED * 0.9);
        const folder = ['/sys/fs/bpf', '/run/subflow/bpf'].map((one) => join(one, `subflow-${name}`)).find((one) => existsSync(one))!;
        const size = (map: string, entries: number): number =>
          [...BpfMap.pinned(join(folder, map), { type: MAP_TYPE.lruHash, keySize: map === 'tokens' ? 8 : 24, valueSize: 8, entries, flags: 0 })!.keys()].length;
        // Tokens of 120 connections, twice as many flows; nothing of the flood.
        expect(size('tokens', 4096)).toBeGreaterThanOrEqual(120);
        expect(size('tokens', 4096)).toBeLessThan(160);
        expect(size('flows', 4096)).toBeLessThanOrEqual(4096);
        expect(size('half_open', 65_536)).toBeLessThanOrEqual(65_536);
      } finally {
        await client.ask({ do: 'close' });
        await balancer.stop();
      }
    },
  );

  it('a server that crashes: found by its health check, the others do not notice', { timeout: 60_000 }, async () => {
    farm.announce(BEAMER.design);
    const { client, world } = farm;
    world.servers.forEach((_, i) => world.shim(i));
    const balancer = await farm.balancer(
      farm.config(`crash-${process.pid}`, BEAMER, { health: '{ type: mptcp, interval: 200 ms, timeout: 500 ms, rise: 1, fall: 2 }' }),
    );
    try {
      const opened = await client.ask({ do: 'open', count: 80, ...TO });
      await pause(700);
      const began = Date.now();
      servers[0]!.kill('SIGKILL');
      while (balancer.status().services[0]!.servers[0]!.healthy && Date.now() - began < 10_000) await pause(50);
      const found = Date.now() - began;
      console.log(`crash found and taken out of the table after ${found} ms`);
      expect(found).toBeLessThan(5000);
      const others = 80 - opened.servers['s1']!;
      expect(await client.ask({ do: 'check', timeout: 3000 })).toMatchObject({ alive: others });
      const again = await client.ask({ do: 'open', count: 40, ...TO });
      expect(again.failed).toBe(0);
      expect(again.servers['s1']).toBeUndefined();
      // It comes back, and gets its share again.
      servers[0] = await world.start(world.servers[0]!, 'peer-server', ['s1', String(SERVICE_PORT)]);
      while (!balancer.status().services[0]!.servers[0]!.healthy && Date.now() - began < 20_000) await pause(50);
      const back = await client.ask({ do: 'open', count: 40, ...TO });
      expect(back.failed).toBe(0);
      expect(back.servers['s1']).toBeGreaterThan(0);
      expect((await client.ask<ClientFacts>({ do: 'facts' })).alive).toBe(others + 80);
    } finally {
      await client.ask({ do: 'close' });
      await balancer.stop();
      world.removeShims();
    }
  });

  it('packets too big for the tunnel, and too big behind the fabric: every subflow hears of it', { timeout: 60_000 }, async () => {
    farm.announce(BEAMER.design);
    const { client, world } = farm;
    world.servers.forEach((_, i) => world.shim(i));
    const balancer = await farm.balancer(farm.config(`mtu-${process.pid}`, BEAMER));
    // Towards the client both ways are narrower than anybody's MSS says: servers hear it from ICMP, through the balancer.
    const narrow = (path: number, ...mtu: string[]): void => {
      world.fabric.ip('route', 'replace', `192.0.2.${4 * path}/30`, 'dev', `client${path}`, 'src', `192.0.2.${4 * path + 2}`, ...mtu);
    };
    narrow(0, 'mtu', 'lock', '1400');
    narrow(1, 'mtu', 'lock', '1400');
    try {
      await client.ask({ do: 'open', count: 12, ...TO });
      await pause(500);
      const load = await client.ask<{ bytes: number; broken: number }>({ do: 'load', seconds: 3 });
      expect(load.broken).toBe(0);
      expect(load.bytes).toBeGreaterThan(12 << 18);
      const { packets } = balancer.status().services[0]!;
      console.log(
        `${(load.bytes / 1e6).toFixed(1)} MB echoed; ${packets['tooBig']} packets too big for the tunnel, ${packets['icmpErrors']} ICMP errors passed to servers`,
      );
      expect(packets['tooBig']).toBeGreaterThan(0);
      expect(packets['icmpErrors']).toBeGreaterThan(0);
      expect((await client.ask<ClientFacts>({ do: 'facts' })).joined).toBe(12);
    } finally {
      narrow(0);
      narrow(1);
      await client.ask({ do: 'close' });
      await balancer.stop();
      world.removeShims();
    }
  });

  it('a balancer killed under load and started again: nothing is lost, no tables, no connections', { timeout: 60_000 }, async () => {
    farm.announce(LEARNT.design);
    const { client } = farm;
    const text = farm.config(`killed-${process.pid}`, LEARNT);
    let balancer = await farm.balancer(text);
    try {
      await client.ask({ do: 'open', count: 40, ...TO });
      await pause(500);
      const load = client.ask<{ bytes: number; broken: number; longest: number }>({ do: 'load', seconds: 4 });
      await pause(1000);
      await balancer.stop('SIGKILL');
      await pause(700);
      balancer = await farm.balancer(text);
      const { broken, bytes, longest } = await load;
      console.log(`killed under load: ${(bytes / 1e6).toFixed(0)} MB echoed, ${broken} broken, longest wait ${longest} ms`);
      expect(broken).toBe(0);
      expect(await client.ask<ClientFacts>({ do: 'facts' })).toMatchObject({ alive: 40, joined: 40, subflows: 80 });
    } finally {
      await client.ask({ do: 'close' });
      await balancer.stop();
    }
    // Nothing is left: neither program nor pins.
    // The kernel frees an XDP link some time after its last pin is gone.
    await expect.poll(() => farm.world.balancers[0]!.ip('link', 'show', 'eth0'), { timeout: 5000 }).not.toContain('xdp');
    expect(execFileSync('sh', ['-c', 'ls -d /sys/fs/bpf/subflow-* /run/subflow/bpf/subflow-* 2>/dev/null || true'], { encoding: 'utf8' })).not.toContain(
      `killed-${process.pid}`,
    );
  });
});
