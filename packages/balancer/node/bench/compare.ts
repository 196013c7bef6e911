/** The comparison with real kernels: the same changes as `simulate` of the package has them, with packets, in namespaces. */
import type { ChildProcess } from 'node:child_process';
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import type { Change } from '@subflow/balancer';
import { askDaemon } from '../control/daemon.ts';
import type { ControlRequest } from '../control/daemon.ts';
import { DESIGN_LETTER } from '../plan.ts';
import type { DesignName, Forwarding, PlaneName } from '../plan.ts';
import type { ClientFacts } from './peer-client.ts';
import { BalancerWorld, SERVICE, SERVICE_PORT } from './world.ts';
import type { BenchClient } from './world.ts';

export type RealChange = Change['kind'] | 'balancer-restarted';

export const REAL_CHANGES: readonly RealChange[] = [
  'none',
  'server-added',
  'server-drained',
  'weight-doubled',
  'two-changes',
  'balancer-replaced',
  'balancer-restarted',
  'balancer-stale',
];

export interface RealOptions {
  design: DesignName;
  dataPlane: PlaneName;
  forwarding: Forwarding;
  connections: number;
}

export interface RealResult extends RealOptions {
  change: RealChange;
  /** Share of connections that got their second subflow. */
  joined: number;
  subflowsAlive: number;
  connectionsAlive: number;
}

/** Idle subflows are asked after every second; what leads to the wrong server is reset. */
const SETTLE = 2500;
const JOIN_TIME = 700;
const SERVERS = 3;

/** A world for one design after the other. The third server is a spare. */
export class RealComparison {
  readonly world: BalancerWorld;
  private client!: BenchClient;
  private readonly directory = mkdtempSync(join(tmpdir(), 'subflow-compare-'));
  private turn = 0;

  constructor(returnThroughBalancer = false) {
    this.world = new BalancerWorld({ servers: SERVERS, balancers: 2, returnThroughBalancer });
  }

  async begin(): Promise<void> {
    await this.world.startServers();
    this.client = await this.world.startClient();
  }

  async run(options: RealOptions, change: RealChange): Promise<RealResult> {
    const { world, client } = this;
    const letter = DESIGN_LETTER[options.design];
    world.servers.forEach((_, i) => world.announce(i, letter === 'f' ? 'own-port' : letter === 'e' ? 'own-address' : 'nothing', 20_001 + i));
    if (options.forwarding === 'encapsulation') world.servers.forEach((_, i) => world.shim(i));
    world.route(0);
    this.turn++;
    const first = await this.start(options, 0);
    let second: Running | null = null;
    try {
      if (change === 'balancer-stale') second = await this.start(options, 1);
      const opened = await client.ask({ do: 'open', count: options.connections, address: SERVICE, port: SERVICE_PORT });
      await pause(JOIN_TIME);
      const before = await client.ask<ClientFacts>({ do: 'facts' });
      second = (await this.apply(options, change, first)) ?? second;
      await pause(SETTLE);
      const { alive } = await client.ask<{ alive: number }>({ do: 'check', timeout: 3000 });
      const after = await client.ask<ClientFacts>({ do: 'facts' });
      return {
        ...options,
        change,
        joined: before.joined / opened.connections,
        subflowsAlive: after.subflows / before.subflows,
        connectionsAlive: alive / opened.connections,
      };
    } finally {
      await client.ask({ do: 'close' });
      await stop(first);
      if (second !== null) await stop(second);
      world.removeShims();
    }
  }

  end(): void {
    this.world.close();
    rmSync(this.directory, { recursive: true, force: true });
  }

  /** Returns a balancer that took the place of the first, or stands beside it. */
  private async apply(options: RealOptions, change: RealChange, first: Running): Promise<Running | null> {
    const own = DESIGN_LETTER[options.design] === 'f' ? { ownPort: 20_000 + SERVERS } : {};
    const add: ControlRequest = {
      do: 'add',
      service: 'web',
      server: { name: `s${SERVERS}`, id: SERVERS, address: this.world.serverAddress(SERVERS - 1), ...own },
    };
    const drain: ControlRequest = { do: 'drain', service: 'web', server: 's1' };
    const say = async (request: ControlRequest): Promise<void> => {
      const { error } = await askDaemon(first.control, request);
      if (error !== undefined) throw new Error(`${error.code}: ${error.message}`);
    };
    switch (change) {
      case 'none':
        return null;
      case 'server-added':
        await say(add);
        return null;
      case 'server-drained':
        await say(drain);
        return null;
      case 'weight-doubled':
        await say({ do: 'weight', service: 'web', server: 's1', weight: 2 });
        return null;
      case 'two-changes':
        await say(add);
        await pause(500);
        await say(drain);
        return null;
      case 'balancer-replaced':
        // A clean end takes the tables with it; the new one has what the store knows.
        await stop(first);
        return this.start(options, 0);
      case 'balancer-restarted': {
        const gone = new Promise((resolve) => first.child.once('exit', resolve));
        first.child.kill('SIGKILL');
        await gone;
        return this.start(options, 0);
      }
      case 'balancer-stale':
        // Packets come to the second one from now on, which has not heard of the change.
        await say(add);
        this.world.route(1);
        return null;
    }
  }

  private async start(options: RealOptions, at: number): Promise<Running> {
    const { world, directory } = this;
    const name = `compare-${process.pid}-${this.turn}-${at}`;
    const own = (i: number): string => (DESIGN_LETTER[options.design] === 'f' ? `, ownPort: ${20_001 + i}` : '');
    const file = join(directory, `${name}.yaml`);
    const control = join(directory, `${name}.sock`);
    writeFileSync(
      file,
      [
        `name: ${name}`,
        `dataPlane: ${options.dataPlane}`,
        'interface: eth0',
        `control: ${control}`,
        `store: { log: ${join(directory, `${name}.log`)} }`,
        'services:',
        `  - { name: web, address: ${SERVICE}, port: ${SERVICE_PORT}, design: ${options.design}, forwarding: ${options.forwarding}, seed: 7, health: { type: none }, servers: [`,
        ...Array.from({ length: SERVERS - 1 }, (_, i) => `      { name: s${i + 1}, id: ${i + 1}, address: ${world.serverAddress(i)}${own(i)} },`),
        '    ] }',
        '',
      ].join('\n'),
    );
    return { child: await world.start(world.balancers[at]!, 'peer-balancer', [file]), control };
  }
}

interface Running {
  child: ChildProcess;
  control: string;
}

async function stop({ child }: Running): Promise<void> {
  if (child.exitCode !== null || child.signalCode !== null) return;
  const gone = new Promise((resolve) => child.once('exit', resolve));
  child.kill('SIGTERM');
  await gone;
}

function pause(milliseconds: number): Promise<void> {
  return new Promise((resolve) => setTimeout(resolve, milliseconds));
}
