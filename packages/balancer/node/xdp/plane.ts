/**
 * The xdp data plane: bpf/balancer.c on an interface. Maps, program and link are pinned: packets go on when this process ends,
 * however it ends, and the next one finds the tables as they were.
 */
import { existsSync, mkdirSync, readdirSync, readFileSync, rmSync } from 'node:fs';
import { dirname, join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { BpfMap, BpfObject, command, interfaceIndex, loadXdp, MAP_TYPE, XdpLink } from '@subflow/link';
import type { MapDefinition, XdpMode } from '@subflow/link';
import { parseAddress } from '@subflow/wire';
import type { Segment } from '@subflow/wire';
import { reachable } from '../next-hop.ts';
import type { NextHop } from '../next-hop.ts';
import { obstacle, PlaneError, slotsOf } from '../plan.ts';
import type { DataPlane, PlaneCounters, ServicePlan } from '../plan.ts';
import { COUNTER_NAMES, GENERATION_SIZE, generationValue, MOST_SERVICES, REASONS, serviceKey, serviceValue } from './layout.ts';

export interface XdpPlaneOptions {
  /** Of the balancer: pins lie under it. */
  name: string;
  device: string;
  /** `native`: in the driver; `generic`: after the kernel made an skb, with any device, at less than half the speed. */
  mode?: XdpMode;
  /** Entries of the tables of designs a and d. */
  flows?: number;
}

const SYSTEM_BPFFS = '/sys/fs/bpf';
const OWN_BPFFS = '/run/subflow/bpf';
const NO_HOP = { device: '', mac: new Uint8Array(6), ownMac: new Uint8Array(6), mtu: 1500, source: '' };

/** Object code beside the compiled package. Throws {@link PlaneError} `NO_PROGRAM`. */
export function bpfObject(name: string): BpfObject {
  let folder = dirname(fileURLToPath(import.meta.url));
  while (!existsSync(join(folder, 'package.json'))) folder = dirname(folder);
  const path = join(folder, 'dist', 'bpf', `${name}.o`);
  if (!existsSync(path))
    throw new PlaneError('NO_PROGRAM', `${path} is missing; expected it compiled (apt install clang libbpf-dev; node scripts/build-bpf.mjs)`);
  return new BpfObject(readFileSync(path));
}

/** A folder for pins; the file system is mounted when it is not there. Throws {@link LinkError}. */
export function pinFolder(name: string): string {
  const mounts = readFileSync('/proc/self/mounts', 'utf8');
  const root = [SYSTEM_BPFFS, OWN_BPFFS].find((one) => mounts.includes(` ${one} bpf `));
  const base = root ?? OWN_BPFFS;
  if (root === undefined) {
    mkdirSync(base, { recursive: true });
    command('mount', ['-t', 'bpf', 'bpf', base]);
  }
  const folder = join(base, `subflow-${name}`);
  mkdirSync(folder, { recursive: true });
  return folder;
}

export class XdpPlane implements DataPlane {
  readonly name = 'xdp';
  private readonly maps = new Map<string, BpfMap>();
  private readonly folder: string;
  private readonly link: XdpLink;
  private services = new Map<string, { key: Uint8Array; value: Uint8Array }>();
  private plans: readonly ServicePlan[] = [];

  /** Loads the program and puts it on the interface, or takes over what an earlier process left. Throws {@link LinkError}, {@link PlaneError}. */
  constructor(options: XdpPlaneOptions) {
    interfaceIndex(options.device);
    this.folder = pinFolder(options.name);
    const object = bpfObject('balancer');
    const plain = object.maps.filter((one) => one.inner === null);
    for (const definition of [...plain, ...object.maps.filter((one) => one.inner !== null)]) this.openMap(definition, options.flows);
    const program = loadXdp('subflow_lb', object.instructions('xdp', this.maps));
    const linkPin = join(this.folder, 'link');
    const existing = XdpLink.pinned(linkPin);
    if (existing !== null && attachedTo(options.device)) {
      existing.replace(program);
      this.link = existing;
    } else {
      existing?.close();
      rmSync(linkPin, { force: true });
      this.link = XdpLink.attach(program, options.device, options.mode ?? 'native');
      this.link.pin(linkPin);
    }
    for (const key of this.maps.get('services')!.keys()) this.services.set(textOf(key), { key, value: this.maps.get('services')!.lookup(key)! });
  }

  /** Every service gets a whole new list before packets see its key; what is no longer served goes last. */
  async apply(services: readonly ServicePlan[]): Promise<void> {
    if (services.length > MOST_SERVICES) throw new PlaneError('TOO_MANY', `${services.length} services; expected at most ${MOST_SERVICES}`);
    for (const plan of services) {
      const why = obstacle('xdp', plan.design, plan.forwarding);
      if (why !== null) throw new PlaneError('IMPOSSIBLE_PAIR', `service "${plan.name}": ${why}`);
    }
    // All that can fail comes first.
    const values = new Map<ServicePlan, Buffer>();
    for (const plan of services) values.set(plan, await this.compile(plan));
    const keys = new Map<string, { key: Uint8Array; value: Uint8Array }>();
    for (const plan of services) {
      const inner = BpfMap.create('generation', { type: MAP_TYPE.array, keySize: 4, valueSize: GENERATION_SIZE, entries: 1, flags: 0 });
      try {
        inner.update(new Uint8Array(4), values.get(plan)!);
        this.maps.get('generations')!.updateMap(number(plan.id), inner);
      } finally {
        inner.close();
      }
      const value = serviceValue(plan);
      const own = [...plan.details.values()].map((one) => one.ownPort).filter((port) => port !== null);
      for (const port of new Set([plan.port, ...own, 0])) {
        const key = serviceKey(plan.address, port);
        if (!keys.has(textOf(key))) keys.set(textOf(key), { key, value });
      }
    }
    const map = this.maps.get('services')!;
    for (const { key, value } of keys.values()) map.update(key, value);
    for (const [text, { key }] of this.services) if (!keys.has(text)) map.delete(key);
    this.services = keys;
    this.plans = services;
  }

  counters(): PlaneCounters[] {
    const counters = this.maps.get('counters')!;
    const perServer = this.maps.get('server_packets')!;
    return this.plans.map((plan) => {
      // Every id that ever was: servers come and go, what was forwarded stays. One counter a packet is enough for both.
      const all = Array.from({ length: 256 }, (_, id) => sumOfCpus(perServer.lookup(number(plan.id * 256 + id))));
      const packets = Object.fromEntries(COUNTER_NAMES.map((name, i) => [name, i === 0 ? 0 : sumOfCpus(counters.lookup(number(plan.id * REASONS + i)))]));
      packets['forwarded'] = all.reduce((total, one) => total + one, 0);
      return { service: plan.name, packets, servers: new Map(plan.servers.servers.map((one) => [one.id, all[one.id]!])) };
    });
  }

  /** Entries of the tables: counted one by one, so not for every second. */
  entries(): { flows: number; halfOpen: number; tokens: number } {
    const size = (name: string): number => {
      let count = 0;
      for (const _ of this.maps.get(name)!.keys()) count++;
      return count;
    };
    return { flows: size('flows'), halfOpen: size('half_open'), tokens: size('tokens') };
  }

  lookup(plan: ServicePlan, segment: Segment, token: number | null): { server: number; from: string } | null {
    const key = new Uint8Array(24);
    const view = new DataView(key.buffer);
    [segment.source0, segment.source1, segment.source2, segment.source3, (segment.sourcePort << 16) | segment.destinationPort, plan.id].forEach((word, i) =>
      view.setInt32(4 * i, word, true),
    );
    for (const [name, from] of [
      ['flows', 'its entry'],
      ['half_open', 'its half-open entry'],
    ] as const) {
      const value = this.maps.get(name)!.lookup(key);
      if (value !== null) return { server: value[0]!, from };
    }
    if (token === null) return null;
    view.setInt32(0, token, true);
    view.setUint32(4, plan.id, true);
    const value = this.maps.get('tokens')!.lookup(key.subarray(0, 8));
    return value === null || value[0] === 0 ? null : { server: value[0]!, from: 'the entry of its token' };
  }

  close(keep = false): void {
    this.link.close();
    for (const map of this.maps.values()) map.close();
    if (!keep) removePins(this.folder);
  }

  private openMap(definition: MapDefinition, flows: number | undefined): void {
    const { name } = definition;
    const shape = { ...definition, entries: flows !== undefined && (name === 'flows' || name === 'tokens') ? flows : definition.entries };
    const path = join(this.folder, name);
    const inner = definition.inner === null ? null : this.maps.get(definition.inner)!;
    let map = BpfMap.pinned(path, shape);
    if (map === null) {
      rmSync(path, { force: true });
      map = BpfMap.create(name, shape, inner);
      map.pin(path);
    }
    this.maps.set(name, map);
  }

  private async compile(wanted: ServicePlan): Promise<Buffer> {
    const { plan, hops: found } = await reachable(wanted);
    const hops = new Map<number, NextHop & { index: number }>();
    let any: NextHop = NO_HOP;
    let own4: Uint8Array = new Uint8Array(4);
    let own6: Uint8Array = new Uint8Array(16);
    for (const [id, hop] of found) {
      hops.set(id, { ...hop, index: interfaceIndex(hop.device) });
      any = hop;
      if (hop.source === '') continue;
      if (plan.details.get(id)!.address.length === 4) own4 = parseAddress(hop.source);
      else own6 = parseAddress(hop.source);
    }
    return generationValue(plan, {
      slots: slotsOf(plan),
      hops,
      own4,
      own6,
      mtu: any.mtu,
      mac: any.ownMac,
      clockOffset: Date.now() * 1000 - Number(process.hrtime.bigint() / 1000n),
    });
  }
}

/** Removes what an xdp data plane has left pinned: the program leaves the interface with its link. */
export function removePins(folder: string): void {
  if (!existsSync(folder)) return;
  for (const name of readdirSync(folder)) rmSync(join(folder, name), { force: true });
  rmSync(folder, { recursive: true, force: true });
}

function attachedTo(device: string): boolean {
  const [link] = JSON.parse(command('ip', ['-j', 'link', 'show', 'dev', device])) as { xdp?: unknown }[];
  return link?.xdp !== undefined;
}

/** A key of a Map: a Buffer's own text is another than that of the same octets elsewhere. */
function textOf(key: Uint8Array): string {
  return key.join();
}

function number(value: number): Uint8Array {
  return new Uint8Array(Uint32Array.of(value).buffer);
}

/** Sum of a per-CPU counter. */
export function sumOfCpus(value: Uint8Array | null): number {
  if (value === null) return 0;
  const view = new DataView(value.buffer, value.byteOffset, value.length);
  let total = 0;
  for (let at = 0; at < value.length; at += 8) total += Number(view.getBigUint64(at, true));
  return total;
}
