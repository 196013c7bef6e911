/** The userspace data plane: the kernel routes the services' addresses to a TUN device, this process decides, the kernel carries on. */
import { closeDescriptor, rawSocket, sendRaw, Tun } from '@subflow/link';
import { SoftwareBalancer, StatefulCore } from '@subflow/balancer';
import type { DecisionCore } from '@subflow/balancer';
import { formatAddress, ipVersion, parseAddress } from '@subflow/wire';
import type { Segment } from '@subflow/wire';
import { reachable } from './next-hop.ts';
import { coreOf, obstacle, PlaneError } from './plan.ts';
import type { DataPlane, PlaneCounters, ServicePlan } from './plan.ts';
import { SystemChanges } from './system-changes.ts';

export interface UserspacePlaneOptions {
  name: string;
  /** Entries of the tables of designs a and d. */
  flows?: number;
}

/** Routing table for answers of servers, and the preference of the rules that lead there. */
const TABLE = '7600';

export class UserspacePlane implements DataPlane {
  readonly name = 'userspace';
  private readonly tun: Tun;
  /** Tunnels begin at an address of this machine: what comes out of a TUN device with such a source the kernel calls martian. */
  private readonly raw = { 4: rawSocket(4), 6: rawSocket(6) };
  private readonly changes: SystemChanges;
  private readonly flows: number | undefined;
  private balancer = new SoftwareBalancer([]);
  private readonly cores = new Map<string, { design: string; core: DecisionCore }>();
  private readonly routed = new Set<string>();
  private plans: readonly ServicePlan[] = [];

  /** Makes the device. Throws {@link LinkError}. */
  constructor(options: UserspacePlaneOptions) {
    this.changes = new SystemChanges(options.name);
    this.flows = options.flows;
    const device = `sflb${process.pid % 100_000}`;
    this.tun = new Tun(device, { offload: false });
    this.changes.run(['ip', 'link', 'set', device, 'up'], null);
    this.changes.sysctl('net.ipv4.ip_forward', '1');
    this.changes.sysctl('net.ipv6.conf.all.forwarding', '1');
    // Clients' packets come from where no route leads to them.
    for (const setting of ['rp_filter=2', 'send_redirects=0']) this.changes.run(['sysctl', '-q', '-w', `net.ipv4.conf.${device}.${setting}`], null);
    this.changes.run(['ip', 'route', 'replace', 'default', 'dev', device, 'table', TABLE], null);
    this.changes.run(['ip', '-6', 'route', 'replace', 'default', 'dev', device, 'table', TABLE], null);
    this.tun.onPackets({
      packet: (_view, bytes, offset, length) => this.packet(bytes.slice(offset, offset + length)),
      batchEnd: () => {},
    });
  }

  async apply(services: readonly ServicePlan[]): Promise<void> {
    for (const plan of services) {
      const why = obstacle('userspace', plan.design, plan.forwarding);
      if (why !== null) throw new PlaneError('IMPOSSIBLE_PAIR', `service "${plan.name}": ${why}`);
    }
    const own = new Map<number, Uint8Array>();
    let mtu = 1500;
    const plans: ServicePlan[] = [];
    for (const wanted of services) {
      const { plan, hops } = await reachable(wanted);
      plans.push(plan);
      for (const [id, hop] of hops) {
        mtu = hop.mtu;
        if (hop.source !== '') own.set(plan.details.get(id)!.address.length, parseAddress(hop.source));
      }
    }
    const now = Date.now() * 1000;
    const balancer = new SoftwareBalancer([...own.values()], mtu);
    for (const [name, counters] of this.balancer.counters) balancer.counters.set(name, counters);
    for (const [name, counters] of this.balancer.perServer) balancer.perServer.set(name, counters);
    balancer.setServices(
      plans.map((plan) => {
        const before = this.cores.get(plan.name);
        const core = coreOf(plan, now, before?.design === plan.design ? before.core : null, this.flows);
        this.cores.set(plan.name, { design: plan.design, core });
        const ownPorts = [...plan.details.values()].map((one) => one.ownPort).filter((port) => port !== null);
        const { name, address, port, forwarding, details: targets } = plan;
        return { name, address, port, ownPorts, core, forwarding, targets, generation: plan.servers.generation };
      }),
    );
    this.balancer = balancer;
    this.plans = services;
    this.routeAll();
  }

  counters(): PlaneCounters[] {
    return this.plans.map((plan) => ({
      service: plan.name,
      packets: { forwarded: 0, ...Object.fromEntries(this.balancer.counters.get(plan.name) ?? []) },
      servers: new Map(plan.servers.servers.map((one) => [one.id, this.balancer.perServer.get(plan.name)?.get(one.id) ?? 0])),
    }));
  }

  lookup(plan: ServicePlan, segment: Segment, token: number | null): { server: number; from: string } | null {
    const core = this.cores.get(plan.name)?.core;
    if (!(core instanceof StatefulCore)) return null;
    const server = core.known(segment, token, Date.now() * 1000);
    return server === null ? null : { server, from: token === null ? 'its entry' : 'the entry of its token' };
  }

  close(): void {
    this.tun.close();
    closeDescriptor(this.raw[4]);
    closeDescriptor(this.raw[6]);
    this.changes.takeBack();
  }

  private packet(packet: Uint8Array): void {
    const outcome = this.balancer.handle(packet, Date.now() * 1000);
    if (outcome.kind === 'forward' && outcome.packet !== packet) sendRaw(this.raw[ipVersion(outcome.packet) === 4 ? 4 : 6], outcome.packet);
    else if (outcome.kind === 'forward' || outcome.kind === 'back') this.tun.send(outcome.packet);
    else if (outcome.kind === 'pass') {
      const answer = this.balancer.handleAnswer(packet);
      if (answer !== null) this.tun.send(answer);
    }
  }

  /** Routes of the services' addresses, and rules for what their servers answer. */
  private routeAll(): void {
    const wanted = new Map<string, { add: string[]; remove: string[] }>();
    const put = (...words: string[]): void => {
      const [family, object, ...rest] = words as [string, string, ...string[]];
      wanted.set(words.join(' '), { add: ['ip', family, object, 'add', ...rest], remove: ['ip', family, object, 'del', ...rest] });
    };
    for (const plan of this.plans) {
      const family = (address: Uint8Array): string => (address.length === 4 ? '-4' : '-6');
      put(family(plan.address), 'route', formatAddress(plan.address), 'dev', this.tun.name);
      if (plan.forwarding !== 'nat') continue;
      for (const { address, port } of plan.details.values())
        put(family(address), 'rule', 'pref', TABLE, 'from', formatAddress(address), 'ipproto', 'tcp', 'sport', String(port), 'lookup', TABLE);
    }
    for (const [key, { add, remove }] of wanted) {
      if (this.routed.has(key)) continue;
      this.changes.run(add, remove);
      this.routed.add(key);
    }
    for (const key of this.routed) {
      if (wanted.has(key)) continue;
      const [family, object, ...rest] = key.split(' ') as [string, string, ...string[]];
      this.changes.run(['ip', family, object, 'del', ...rest], null);
      this.routed.delete(key);
    }
  }
}
