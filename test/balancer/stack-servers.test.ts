/** Design c: servers on our stack, whose tokens and timestamps name them; real kernel clients behind each data plane. */
import { fileURLToPath } from 'node:url';
import { afterAll, beforeAll, expect, it } from 'vitest';
import { SERVICE, SERVICE_PORT } from '@subflow/balancer/node';
import type { ClientFacts } from '@subflow/balancer/node';
import { describeSystem } from '../interop/require-system.ts';
import { Farm, pause } from './farm.ts';
import type { Design } from './farm.ts';

const SERVER = fileURLToPath(new URL('./stack-server.ts', import.meta.url));
const DESIGNS: readonly Design[] = [
  { dataPlane: 'xdp', design: 'token-keys', forwarding: 'dsr' },
  { dataPlane: 'nftables', design: 'token-keys', forwarding: 'dsr' },
];

for (const servers of [2, 4]) {
  describeSystem(`${servers} servers on our stack`, () => {
    let farm: Farm;

    beforeAll(async () => {
      farm = new Farm({ servers });
      const { world } = farm;
      await Promise.all(
        world.servers.map((where, i) => {
          where.ip('address', 'del', `${SERVICE}/32`, 'dev', 'lo');
          where.sysctl('net.ipv4.ip_forward', 1);
          return world.start(where, SERVER, [`s${i + 1}`, String(i + 1), SERVICE, String(SERVICE_PORT)]);
        }),
      );
      farm.client = await world.startClient();
    });
    afterAll(() => farm.end());

    it.each(DESIGNS)('$dataPlane: all joins, nothing lost when a server is drained or the balancer replaced', { timeout: 60_000 }, async (design) => {
      const { client } = farm;
      const count = servers === 2 ? 204 : 60;
      let balancer = await farm.balancer(farm.config(`c-${process.pid}-${design.dataPlane}`, design));
      try {
        const opened = await client.ask({ do: 'open', count, address: SERVICE, port: SERVICE_PORT });
        expect(opened).toMatchObject({ connections: count, alive: count, failed: 0, multipath: count });
        expect(Object.keys(opened.servers)).toHaveLength(servers);
        await pause(500);
        expect((await client.ask<ClientFacts>({ do: 'facts' })).joined).toBe(count);
        // Its clients go on to reach it: their packets name it.
        expect(balancer.say('drain', 's1').status).toBe(0);
        expect(await client.ask({ do: 'check', timeout: 5000 })).toMatchObject({ alive: count });
        await balancer.stop();
        balancer = await farm.balancer(farm.config(`c-${process.pid}-${design.dataPlane}-fresh`, design));
        expect(await client.ask({ do: 'check', timeout: 5000 })).toMatchObject({ alive: count });
        await pause(2500);
        expect(await client.ask<ClientFacts>({ do: 'facts' })).toMatchObject({ alive: count, joined: count, subflows: 2 * count });
      } finally {
        await client.ask({ do: 'close' });
        await balancer.stop();
      }
    });
  });
}
