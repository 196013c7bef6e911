/**
 * The nftables data plane: rules generated for a list of servers and put in place in one transaction. Stateless choices are
 * nft's own hash (jhash) over a table of slots; with `dsr` packets leave where they came in, before the kernel routes them.
 */
import { command } from '@subflow/link';
import { formatAddress } from '@subflow/wire';
import { StatelessCore } from '@subflow/balancer';
import { reachable } from './next-hop.ts';
import type { NextHop } from './next-hop.ts';
import { DESIGN_LETTER, obstacle, PlaneError } from './plan.ts';
import type { DataPlane, PlaneCounters, ServicePlan } from './plan.ts';
import { SystemChanges } from './system-changes.ts';

export interface NftablesPlaneOptions {
  name: string;
  /** Where clients' packets come in. */
  device: string;
}

/** Slots of a rule's map: few enough to be written anew at every change, many enough for weights of a percent. */
const SLOTS = 1021;

export class NftablesPlane implements DataPlane {
  readonly name = 'nftables';
  private readonly table: string;
  private readonly device: string;
  private readonly changes: SystemChanges;
  private plans: readonly ServicePlan[] = [];
  /** The rules that are in place. */
  private text = '';

  constructor(options: NftablesPlaneOptions) {
    this.changes = new SystemChanges(options.name);
    this.table = `subflow_${options.name.replaceAll(/\W/g, '_')}`;
    this.device = options.device;
    this.changes.sysctl('net.ipv4.ip_forward', '1');
    this.changes.sysctl('net.ipv6.conf.all.forwarding', '1');
  }

  async apply(services: readonly ServicePlan[]): Promise<void> {
    for (const plan of services) {
      const why = obstacle('nftables', plan.design, plan.forwarding);
      if (why !== null) throw new PlaneError('IMPOSSIBLE_PAIR', `service "${plan.name}": ${why}`);
    }
    const hops = new Map<string, NextHop>();
    const plans: ServicePlan[] = [];
    for (const wanted of services) {
      const { plan, hops: found } = await reachable(wanted);
      plans.push(plan);
      for (const [id, hop] of found) hops.set(`${plan.name} ${id}`, hop);
    }
    const text = ruleset(this.families(), this.device, plans, hops);
    // Looked at again and nothing has changed: counters go on.
    if (text === this.text) return;
    // One transaction: packets see the old rules or the new ones. Counters live in the rules and start anew.
    if (this.plans.length === 0)
      for (const [family, table] of this.families()) this.changes.run(['nft', 'add', 'table', family, table], ['nft', 'delete', 'table', family, table]);
    command('nft', ['-f', '-'], text);
    this.text = text;
    this.plans = services;
  }

  counters(): PlaneCounters[] {
    const counters = new Map<string, number>();
    for (const [family, table] of this.families()) {
      let listing: { nftables: { counter?: { name: string; packets: number } }[] };
      try {
        listing = JSON.parse(command('nft', ['-j', 'list', 'counters', 'table', family, table])) as typeof listing;
      } catch {
        continue;
      }
      for (const { counter } of listing.nftables) if (counter !== undefined) counters.set(counter.name, (counters.get(counter.name) ?? 0) + counter.packets);
    }
    return this.plans.map((plan) => {
      const servers = new Map(plan.servers.servers.map((one) => [one.id, counters.get(counterName(plan, one.id)) ?? 0]));
      return { service: plan.name, packets: { forwarded: counters.get(counterName(plan, 0)) ?? 0 }, servers };
    });
  }

  close(): void {
    this.changes.takeBack();
  }

  private families(): [string, string][] {
    return [
      ['netdev', this.table],
      ['inet', this.table],
    ];
  }
}

function counterName(plan: ServicePlan, server: number): string {
  return `s${plan.id}_${server}`;
}

/** Rules for all services; tables are emptied and filled in the same transaction. */
export function ruleset(families: readonly [string, string][], device: string, services: readonly ServicePlan[], hops: ReadonlyMap<string, NextHop>): string {
  const [netdev, inet] = families as [[string, string], [string, string]];
  const lines: string[] = [];
  for (const [family, table] of families) lines.push(`add table ${family} ${table}`, `delete table ${family} ${table}`, `add table ${family} ${table}`);
  lines.push(
    `add chain netdev ${netdev[1]} in { type filter hook ingress device "${device}" priority 0; }`,
    `add chain inet ${inet[1]} early { type filter hook prerouting priority -350; }`,
    `add chain inet ${inet[1]} translate { type nat hook prerouting priority -100; }`,
  );
  for (const plan of services) {
    const v4 = plan.address.length === 4;
    const ip = v4 ? 'ip' : 'ip6';
    const match = `${ip} daddr ${formatAddress(plan.address)} tcp dport ${plan.port}`;
    const letter = DESIGN_LETTER[plan.design];
    const [family, table] = letter === 'a' || plan.forwarding === 'nat' ? inet : netdev;
    lines.push(`add counter ${family} ${table} ${counterName(plan, 0)}`);
    for (const server of plan.servers.servers) lines.push(`add counter ${family} ${table} ${counterName(plan, server.id)}`);
    const count = `counter name ${counterName(plan, 0)}`;
    const hash = `jhash ${ip} saddr . tcp sport mod ${SLOTS} seed 0x${(plan.seed >>> 0).toString(16)}`;
    const slots = tableOf(plan);
    const live = plan.servers.servers.filter((one) => one.state !== 'down');
    if (live.length === 0 || slots.every((id) => id === 0)) {
      lines.push(`add rule ${family} ${table} ${family === 'netdev' ? 'in' : 'early'} ${match} ${count} drop`);
      continue;
    }
    const address = (id: number): string => formatAddress(plan.details.get(id)!.address);
    const port = (id: number): number => plan.details.get(id)!.port;
    if (family === 'netdev') {
      const mac = (id: number): string => [...hops.get(`${plan.name} ${id}`)!.mac].map((octet) => octet.toString(16).padStart(2, '0')).join(':');
      const hop = hops.get(`${plan.name} ${live[0]!.id}`)!;
      const own = [...hop.ownMac].map((octet) => octet.toString(16).padStart(2, '0')).join(':');
      for (const server of live)
        lines.push(
          `add chain netdev ${table} to_${plan.id}_${server.id}`,
          `add rule netdev ${table} to_${plan.id}_${server.id} counter name ${counterName(plan, server.id)} ether saddr set ${own} ether daddr set ${mac(server.id)} fwd to "${hop.device}"`,
        );
      const go = (id: number): string => `goto to_${plan.id}_${id}`;
      if (letter === 'c') {
        // A join by the first octet of its token, all else by the last octet of the echoed timestamp; first SYNs by hash.
        for (const server of live) {
          lines.push(
            `add rule netdev ${table} in ${match} tcp flags & (syn|ack) == syn tcp option @30,32,8 ${server.id} tcp option mptcp subtype 1 ${count} ${go(server.id)}`,
            `add rule netdev ${table} in ${match} tcp flags & (syn|ack) != syn tcp option timestamp tsecr & 0xff == ${server.id} ${count} ${go(server.id)}`,
          );
        }
      }
      lines.push(`add rule netdev ${table} in ${match} ${count} ${hash} vmap { ${ranges(slots, go)} }`);
    } else if (letter === 'a') {
      lines.push(`add rule inet ${table} translate ${match} ${count} dnat ${ip} to ${hash} map { ${ranges(slots, (id) => `${address(id)} . ${port(id)}`)} }`);
    } else {
      // Without conntrack: addresses and ports are written there and back.
      for (const server of live) {
        lines.push(
          `add chain inet ${table} to_${plan.id}_${server.id}`,
          `add rule inet ${table} to_${plan.id}_${server.id} counter name ${counterName(plan, server.id)} notrack ${ip} daddr set ${address(server.id)} tcp dport set ${port(server.id)} accept`,
          `add rule inet ${table} early ${ip} saddr ${address(server.id)} tcp sport ${port(server.id)} notrack ${ip} saddr set ${formatAddress(plan.address)} tcp sport set ${plan.port} accept`,
        );
      }
      lines.push(`add rule inet ${table} early ${match} ${count} ${hash} vmap { ${ranges(slots, (id) => `goto to_${plan.id}_${id}`)} }`);
    }
  }
  return `${lines.join('\n')}\n`;
}

function tableOf(plan: ServicePlan): Uint8Array {
  const { design } = plan;
  return new StatelessCore(design === 'modulo' || design === 'crc-ranges' || design === 'rendezvous' ? design : 'maglev', plan.seed).slots(plan.servers, SLOTS);
}

/** Slots as ranges of a map: `0-3 : x, 4 : y`. */
function ranges(slots: Uint8Array, value: (id: number) => string): string {
  const out: string[] = [];
  for (let from = 0; from < slots.length;) {
    let to = from;
    while (to + 1 < slots.length && slots[to + 1] === slots[from]) to++;
    if (slots[from] !== 0) out.push(`${from === to ? from : `${from}-${to}`} : ${value(slots[from]!)}`);
    from = to + 1;
  }
  return out.join(', ');
}
