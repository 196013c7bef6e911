/** Load balancers to look at: a farm in virtual time, one design after the other through the same changes. */
import { DESIGNS, EmulatedFarm } from '@subflow/balancer';
import type { DesignId } from '@subflow/balancer';

export const FARM_DESIGNS = ['a', 'b-maglev', 'c', 'd', 'e', 'f'] as const;
export type FarmDesign = (typeof FARM_DESIGNS)[number];

export interface FarmState {
  /** Emulated seconds. */
  time: number;
  connections: { home: number; subflows: number; alive: boolean }[];
  servers: { id: number; state: string; connections: number; chained: number }[];
  joined: number;
  subflows: number;
  log: string[];
}

const SECOND = 1e6;
const SERVERS = 4;

export class FarmRun {
  readonly design: FarmDesign;
  private readonly farm: EmulatedFarm;
  private readonly log: string[] = [];

  constructor(design: FarmDesign, seed = 1) {
    this.design = design;
    this.farm = new EmulatedFarm({
      seed,
      design: (own) => DESIGNS[design satisfies DesignId].make(own, 4096),
      forwarding: design === 'f' ? 'encapsulation' : 'dsr',
      announce: design === 'f' ? 'own-port' : design === 'e' ? 'own-address' : 'nothing',
      nameServers: design === 'c',
      servers: SERVERS,
      active: SERVERS - 1,
    });
  }

  /** Opens connections, each with a second subflow that has to find its server. */
  open(count: number): void {
    for (let i = 0; i < count; i++) {
      this.farm.connect();
      this.farm.run(20_000);
    }
    this.farm.run(2 * SECOND);
    this.say(`${count} connections opened`);
  }

  addServer(): void {
    if (this.farm.set.server(SERVERS) !== undefined) return;
    this.change('server 4 added', () => this.farm.change(this.farm.set.with({ [`s${SERVERS}`]: { id: SERVERS, weight: 1, state: 'active' } })));
  }

  drain(): void {
    this.change('server 1 gets nothing new', () => this.farm.change(this.farm.set.with({ s1: { state: 'draining' } })));
  }

  crash(): void {
    this.change('server 2 crashed', () => {
      this.farm.servers[1]!.up = false;
      this.farm.change(this.farm.set.with({ s2: { state: 'down' } }));
    });
  }

  replace(): void {
    this.change('another balancer, with an empty memory', () => this.farm.replaceBalancer(0));
  }

  state(): FarmState {
    const { farm } = this;
    const { joined, subflows } = farm.facts();
    return {
      time: (farm.agenda.now - 1000 * SECOND) / SECOND,
      connections: farm.connections.map((one) => {
        const up = one.open ? one.subflows.filter((subflow) => subflow.established).length : 0;
        return { home: farm.homeOf(one), subflows: up, alive: up > 0 };
      }),
      servers: farm.servers.map((one) => ({
        id: one.id,
        state: one.up ? (farm.set.server(one.id)?.state ?? 'spare') : 'crashed',
        connections: farm.connections.filter((connection) => connection.open && farm.homeOf(connection) === one.id).length,
        chained: one.shim.chained,
      })),
      joined,
      subflows,
      log: [...this.log],
    };
  }

  /** What is lost shows within seconds: hosts ask after idle subflows. */
  private change(what: string, does: () => void): void {
    const before = this.farm.facts();
    does();
    this.farm.run(10 * SECOND);
    const after = this.farm.facts();
    this.say(`${what}: ${before.alive - after.alive} connections and ${before.subflows - after.subflows} subflows lost`);
  }

  private say(text: string): void {
    this.log.push(text);
  }
}
