/** Real kernel clients and servers behind each data plane and design: which joins find their server. */
import { afterAll, beforeAll, expect, it } from 'vitest';
import type { ClientFacts } from '@subflow/balancer/node';
import { describeSystem } from '../interop/require-system.ts';
import { Farm, pause } from './farm.ts';
import type { Design } from './farm.ts';

const ALL: readonly Design[] = [
  { dataPlane: 'xdp', design: 'stateful', forwarding: 'dsr' },
  { dataPlane: 'xdp', design: 'maglev', forwarding: 'dsr' },
  { dataPlane: 'xdp', design: 'token-learned', forwarding: 'dsr' },
  { dataPlane: 'xdp', design: 'token-learned', forwarding: 'encapsulation' },
  { dataPlane: 'xdp', design: 'direct-address', forwarding: 'dsr' },
  { dataPlane: 'xdp', design: 'beamer', forwarding: 'encapsulation' },
  { dataPlane: 'userspace', design: 'beamer', forwarding: 'encapsulation' },
  { dataPlane: 'nftables', design: 'rendezvous', forwarding: 'dsr' },
  { dataPlane: 'nftables', design: 'direct-address', forwarding: 'dsr' },
  { dataPlane: 'userspace', design: 'token-learned', forwarding: 'encapsulation' },
];
const TRANSLATING: readonly Design[] = [
  { dataPlane: 'nftables', design: 'stateful', forwarding: 'nat' },
  { dataPlane: 'nftables', design: 'maglev', forwarding: 'nat' },
  { dataPlane: 'userspace', design: 'stateful', forwarding: 'nat' },
  { dataPlane: 'userspace', design: 'crc-ranges', forwarding: 'nat' },
  { dataPlane: 'userspace', design: 'token-learned', forwarding: 'nat' },
];
/** Joins that must all find their server: 200 or more. */
const MANY = 204;
const FEW = 60;

for (const servers of [2, 4]) {
  for (const [kind, designs] of [
    ['direct answers', ALL],
    ['answers through the balancer', TRANSLATING],
  ] as const) {
    describeSystem(`${servers} kernel servers, ${kind}`, () => {
      let farm: Farm;

      beforeAll(async () => {
        farm = new Farm({ servers, returnThroughBalancer: designs === TRANSLATING });
        await farm.begin();
      });
      afterAll(() => farm.end());

      it.each(designs)('$dataPlane, $design, $forwarding', { timeout: 60_000 }, async (design) => {
        const { world, client } = farm;
        farm.announce(design.design);
        const shims = design.forwarding === 'encapsulation' ? world.servers.map((_, i) => world.shim(i)) : [];
        const balancer = await farm.balancer(farm.config(`planes-${process.pid}`, design));
        try {
          const sure = ['token-learned', 'direct-address', 'beamer'].includes(design.design);
          const count = sure && servers === 2 ? MANY : FEW;
          const opened = await client.ask({ do: 'open', count, address: '203.0.113.10', port: 443 });
          expect(opened).toMatchObject({ connections: count, alive: count, failed: 0, multipath: count });
          expect(Object.keys(opened.servers)).toHaveLength(servers);
          await pause(500);
          const facts = await client.ask<ClientFacts>({ do: 'facts' });
          if (sure) {
            expect(facts.joined).toBe(count);
          } else {
            // A share of 1/N, give or take four standard deviations.
            const expected = count / servers;
            const deviation = Math.sqrt(count * (1 / servers) * (1 - 1 / servers));
            expect(Math.abs(facts.joined - expected)).toBeLessThan(4 * deviation);
          }
          expect(await client.ask({ do: 'check', timeout: 5000 })).toMatchObject({ alive: count });
          const [service] = balancer.status().services;
          expect(service!.packets['forwarded']).toBeGreaterThan(count);
          for (const counters of shims) {
            expect(counters()).toMatchObject({ foreign: 0, malformed: 0, chained: 0 });
            expect(counters()['taken']).toBeGreaterThan(0);
          }
        } finally {
          await client.ask({ do: 'close' });
          await balancer.stop();
          world.removeShims();
        }
        expect(balancer.output).toContain('everything is as it was');
        expect(world.balancers[0]!.run('nft', 'list', 'ruleset')).toBe('');
        expect(world.balancers[0]!.ip('rule')).not.toContain('7600');
      });
    });
  }
}
