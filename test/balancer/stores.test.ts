/** Three balancers that agree through a cluster of three NATS servers, and through the embedded log served over TCP. */
import { afterAll, beforeAll, expect, it } from 'vitest';
import { pinFolder, removePins, SERVICE, SERVICE_PORT } from '@subflow/balancer/node';
import type { ClientFacts } from '@subflow/balancer/node';
import { describeSystem } from '../interop/require-system.ts';
import { Farm, pause } from './farm.ts';
import type { Design, RunningBalancer } from './farm.ts';
import { bucketLeader, NATS_PASSWORD, NATS_USER, natsCluster } from './nats.ts';
import type { NatsNode } from './nats.ts';

const TO = { address: SERVICE, port: SERVICE_PORT } as const;
const DESIGNS: readonly Design[] = [
  { dataPlane: 'xdp', design: 'beamer', forwarding: 'encapsulation' },
  { dataPlane: 'xdp', design: 'direct-address', forwarding: 'dsr' },
];

/** When a balancer said that it has a generation, milliseconds. */
function appliedAt(balancer: RunningBalancer, generation: number): number {
  for (const line of balancer.output.split('\n')) {
    if (!line.includes(`generation ${generation}"`)) continue;
    const event = JSON.parse(line) as { time: string; type: string };
    if (event.type === 'applied') return Date.parse(event.time);
  }
  return Number.NaN;
}

async function until(condition: () => boolean, patience: number): Promise<boolean> {
  const end = Date.now() + patience;
  while (!condition()) {
    if (Date.now() > end) return false;
    await pause(20);
  }
  return true;
}

describeSystem('three balancers, three NATS servers', () => {
  let farm: Farm;
  let nodes: NatsNode[];
  let store: string;
  const BUCKET = 'balancers';

  beforeAll(async () => {
    farm = new Farm({ servers: 4, balancers: 3 });
    await farm.begin();
    const cluster = await natsCluster(farm.world, farm.directory);
    nodes = cluster.nodes;
    const urls = farm.world.balancers.map((_, i) => `"tls://${farm.world.balancerAddress(i)}:4222"`);
    store = `{ nats: [ ${urls.join(', ')} ], bucket: ${BUCKET}, replicas: 3, user: ${NATS_USER}, password: "${NATS_PASSWORD}", tls: { ca: ${cluster.ca}, name: nats.test } }`;
  }, 60_000);
  afterAll(() => {
    for (const { child } of nodes ?? []) child.kill('SIGKILL');
    farm.end();
  });

  it.each(DESIGNS)(
    '$design: a change reaches all in under a second; a leader and a balancer die under load, nothing is lost',
    { timeout: 90_000 },
    async (design) => {
      const { client, world } = farm;
      farm.announce(design.design);
      if (design.forwarding === 'encapsulation') world.servers.forEach((_, i) => world.shim(i));
      const name = `nats-${design.design}-${process.pid}`;
      const text = farm.config(name, design, { servers: [0, 1, 2], store });
      const balancers: RunningBalancer[] = [];
      for (let i = 0; i < 3; i++) balancers.push(await farm.balancer(text.replace('dataPlane:', `instance: b${i}\ndataPlane:`), i));
      world.route(0, 1, 2);
      try {
        await client.ask({ do: 'open', count: 60, ...TO });
        await pause(700);
        const before = await client.ask<ClientFacts>({ do: 'facts' });
        expect(before).toMatchObject({ alive: 60, joined: 60, subflows: 120 });

        const began = Date.now();
        const own = design.design === 'beamer' ? ['--own-port', '20004'] : [];
        const said = balancers[1]!.say('add', 's4', world.serverAddress(3), '--id', '4', ...own);
        expect(said, said.stderr).toMatchObject({ status: 0 });
        const generation = Number(said.stdout.trim().split(' ')[1]);
        expect(await until(() => balancers.every((one) => appliedAt(one, generation) > 0), 5000)).toBe(true);
        const times = balancers.map((one) => appliedAt(one, generation));
        const spread = Math.max(...times) - Math.min(...times);
        console.log(
          `${design.design}: generation ${generation} in all three within ${spread} ms, ${Math.max(...times) - began} ms after the command was typed`,
        );
        expect(spread).toBeLessThan(1000);
        await pause(2500);
        const added = await client.ask<ClientFacts>({ do: 'facts' });
        expect(added.alive).toBe(60);
        if (design.design === 'beamer') expect(added.subflows).toBe(120);

        // Under load: the leader of the bucket, and with it a balancer of another machine.
        const leader = bucketLeader(
          nodes.find((one) => one.child.exitCode === null && one.child.signalCode === null)!,
          BUCKET,
        );
        expect(leader).not.toBeNull();
        const load = client.ask<{ bytes: number; broken: number; longest: number }>({ do: 'load', seconds: 6 });
        await pause(1000);
        if (design === DESIGNS[0]) nodes.find((one) => one.name === leader)!.child.kill('SIGKILL');
        await balancers[2]!.stop('SIGKILL');
        // The machine is gone as far as packets go; its NATS server is another one.
        removePins(pinFolder(`${name}-b2`));
        world.route(0, 1);
        await pause(3000);
        const drained = balancers[0]!.say('drain', 's1');
        expect(drained, drained.stderr).toMatchObject({ status: 0 });
        const { broken, bytes, longest } = await load;
        console.log(
          `${design.design}: leader ${leader} and a balancer killed, ${(bytes / 1e6).toFixed(0)} MB echoed, ${broken} broken, longest wait ${longest} ms`,
        );
        expect(broken).toBe(0);
        expect(await client.ask({ do: 'check', timeout: 5000 })).toMatchObject({ alive: 60 });
      } finally {
        await client.ask({ do: 'close' });
        for (const one of balancers) await one.stop();
        world.removeShims();
      }
    },
  );
});

describeSystem('three balancers, the embedded log over TCP', () => {
  let farm: Farm;

  beforeAll(async () => {
    farm = new Farm({ servers: 3, balancers: 3 });
    await farm.begin();
  }, 60_000);
  afterAll(() => farm.end());

  it('go on while the store is away, and agree again when it is back', { timeout: 90_000 }, async () => {
    const { client, world } = farm;
    const design = DESIGNS[0]!;
    farm.announce(design.design);
    world.servers.forEach((_, i) => world.shim(i));
    const name = `log-${process.pid}`;
    const at = `${world.balancerAddress(0)}:7601`;
    const texts = [0, 1, 2].map((i) =>
      farm
        .config(name, design, {
          servers: [0, 1],
          store: i === 0 ? `{ log: ${farm.directory}/${name}.log, listen: "${at}", token: secret }` : `{ remote: "${at}", token: secret }`,
        })
        .replace('dataPlane:', `instance: b${i}\ncontrol: ${farm.directory}/${name}-${i}.sock\ndataPlane:`),
    );
    const balancers: RunningBalancer[] = [];
    for (let i = 0; i < 3; i++) balancers.push(await farm.balancer(texts[i]!, i));
    world.route(1, 2);
    try {
      await client.ask({ do: 'open', count: 40, ...TO });
      await pause(700);
      // The one with the log is killed: the others go on, and say so when they are told to change something.
      await balancers[0]!.stop('SIGKILL');
      const refused = balancers[1]!.say('drain', 's1');
      expect(refused.status).toBe(1);
      expect(refused.stderr).toMatch(/^UNAVAILABLE: .*the store/);
      await client.ask({ do: 'open', count: 20, ...TO });
      expect(await client.ask({ do: 'check', timeout: 5000 })).toMatchObject({ alive: 60 });
      expect(await until(() => balancers[1]!.status().storeAway, 10_000)).toBe(true);
      // Back, with the same log.
      balancers[0] = await farm.balancer(texts[0]!, 0);
      expect(await until(() => !balancers[1]!.status().storeAway, 10_000)).toBe(true);
      const said = balancers[2]!.say('add', 's3', world.serverAddress(2), '--id', '3', '--own-port', '20003');
      expect(said, said.stderr).toMatchObject({ status: 0 });
      const generation = Number(said.stdout.trim().split(' ')[1]);
      expect(await until(() => balancers.every((one) => appliedAt(one, generation) > 0), 5000)).toBe(true);
      // A partition: no packet between a balancer and the store. It keeps its generation, and its connections.
      world.balancers[2]!.run('nft', 'add', 'table', 'inet', 'cut');
      world.balancers[2]!.run('nft', 'add', 'chain', 'inet', 'cut', 'out', '{ type filter hook output priority 0; }');
      world.balancers[2]!.run('nft', 'add', 'chain', 'inet', 'cut', 'in', '{ type filter hook input priority 0; }');
      world.balancers[2]!.run('nft', 'add', 'rule', 'inet', 'cut', 'out', 'tcp', 'dport', '7601', 'drop');
      world.balancers[2]!.run('nft', 'add', 'rule', 'inet', 'cut', 'in', 'tcp', 'sport', '7601', 'drop');
      const drained = balancers[1]!.say('drain', 's1');
      expect(drained, drained.stderr).toMatchObject({ status: 0 });
      const next = Number(drained.stdout.trim().split(' ')[1]);
      await pause(2500);
      expect(appliedAt(balancers[2]!, next)).toBeNaN();
      expect(await client.ask({ do: 'check', timeout: 5000 })).toMatchObject({ alive: 60 });
      world.balancers[2]!.run('nft', 'delete', 'table', 'inet', 'cut');
      expect(await until(() => appliedAt(balancers[2]!, next) > 0, 15_000)).toBe(true);
      await pause(1500);
      expect(await client.ask<ClientFacts>({ do: 'facts' })).toMatchObject({ alive: 60, subflows: 120 });
      // One checks the servers, not three.
      expect(balancers.filter((one) => one.status().leading)).toHaveLength(1);
    } finally {
      await client.ask({ do: 'close' });
      for (const one of balancers) await one.stop();
      world.removeShims();
    }
  });
});
