/** The shapes of the maps in bpf/balancer.c, written. Host byte order. */
import { DROP, DROP_NAMES } from '@subflow/balancer';
import { DESIGN_LETTER } from '../plan.ts';
import type { ServicePlan } from '../plan.ts';
import type { NextHop } from '../next-hop.ts';

export const MOST_SERVICES = 64;
export const REASONS = 16;
const SERVERS_AT = 48;
const SERVER_SIZE = 32;
const BUCKETS_AT = SERVERS_AT + 256 * SERVER_SIZE;
const BUCKETS = 4096;
const SLOTS_AT = BUCKETS_AT + 8 * BUCKETS;
const SLOTS = 65_544;
const PORTS_AT = SLOTS_AT + SLOTS;
export const GENERATION_SIZE = PORTS_AT + 65_536;
const FORWARDING = { dsr: 0, encapsulation: 1, nat: 2 } as const;

/** Names of the counters: reasons of the cores, and what the plane adds. */
export const COUNTER_NAMES: readonly string[] = [
  'forwarded',
  ...Object.values(DROP).map((value) => DROP_NAMES[value]!),
  'tooBig',
  'tokenCollisions',
  'tokensLearnt',
  'firstFragments',
  'icmpErrors',
];

/** Addresses are four numbers in host byte order, as in a Segment. */
export function writeAddress(view: DataView, at: number, address: Uint8Array): void {
  const from = new DataView(address.buffer, address.byteOffset, address.length);
  for (let i = 0; i < 4; i++) view.setUint32(at + 4 * i, 4 * i < address.length ? from.getUint32(4 * i) : 0, true);
}

export function serviceKey(address: Uint8Array, port: number): Uint8Array {
  const out = new Uint8Array(20);
  const view = new DataView(out.buffer);
  writeAddress(view, 0, address);
  view.setUint16(16, port, true);
  view.setUint16(18, address.length === 4 ? 4 : 6, true);
  return out;
}

export function serviceValue(plan: ServicePlan): Uint8Array {
  const out = new Uint8Array(12);
  const view = new DataView(out.buffer);
  view.setUint32(0, plan.id, true);
  view.setUint32(4, plan.seed, true);
  out[8] = DESIGN_LETTER[plan.design].charCodeAt(0) - 97;
  out[9] = FORWARDING[plan.forwarding];
  return out;
}

export interface GenerationParts {
  slots: Uint8Array;
  hops: ReadonlyMap<number, NextHop & { index: number }>;
  own4: Uint8Array;
  own6: Uint8Array;
  mtu: number;
  mac: Uint8Array;
  /** Wall clock less monotonic clock, microseconds: buckets carry the first, the program reads the second. */
  clockOffset: number;
}

export function generationValue(plan: ServicePlan, parts: GenerationParts): Buffer {
  const out = Buffer.alloc(GENERATION_SIZE);
  const view = new DataView(out.buffer, out.byteOffset, out.length);
  view.setUint32(0, plan.servers.generation, true);
  view.setUint32(4, parts.slots.length, true);
  view.setUint32(8, parts.mtu, true);
  view.setUint32(16, new DataView(parts.own4.buffer, parts.own4.byteOffset).getUint32(0), true);
  writeAddress(view, 20, parts.own6);
  out.set(parts.mac, 36);
  for (const server of plan.servers.servers) {
    const hop = parts.hops.get(server.id);
    const { address } = plan.details.get(server.id)!;
    const at = SERVERS_AT + server.id * SERVER_SIZE;
    writeAddress(view, at, address);
    if (hop === undefined) continue;
    out.set(hop.mac, at + 16);
    out[at + 22] = plan.servers.alive(server.id) ? 1 : 0;
    out[at + 23] = address.length === 16 ? 1 : 0;
    view.setUint32(at + 24, hop.index, true);
  }
  out.set(parts.slots, SLOTS_AT);
  const { buckets } = plan;
  if (buckets !== null) {
    for (let i = 0; i < BUCKETS; i++) {
      const at = BUCKETS_AT + 8 * i;
      out[at] = buckets.current[i]!;
      out[at + 1] = buckets.previous[i]!;
      view.setUint32(at + 4, Math.max(0, Math.floor((buckets.changedAt[i]! - parts.clockOffset) / 1e6)), true);
    }
    out.set(buckets.ports, PORTS_AT);
  }
  return out;
}
