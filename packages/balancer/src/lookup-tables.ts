/** From a hash to a server without state: tables that every balancer computes alike. 0 in a slot: there is no server. */
import { hashPair, hashText } from './hash.ts';
import { BalancerError } from './servers.ts';
import type { ServerSet } from './servers.ts';

export type TableKind = 'modulo' | 'crc-ranges' | 'maglev' | 'rendezvous';

export type TableBuilder = (servers: ServerSet, size: number) => Uint8Array;

/** Maglev's table has a prime number of slots (Eisenbud et al., NSDI 2016, §3.4). */
export const MAGLEV_SIZE = 65_537;
export const TABLE_SIZE = 65_536;

export const TABLES: Readonly<Record<TableKind, { size: number; build: TableBuilder }>> = {
  modulo: { size: TABLE_SIZE, build: modulo },
  'crc-ranges': { size: TABLE_SIZE, build: ranges },
  maglev: { size: MAGLEV_SIZE, build: maglev },
  rendezvous: { size: TABLE_SIZE, build: rendezvous },
};

/** Slot i belongs to server i modulo their number: nearly everything moves when that changes. Weights repeat a server. */
function modulo(servers: ServerSet, size: number): Uint8Array {
  const turns = servers.takers.flatMap((one) => Array.from({ length: Math.max(1, Math.round(one.weight)) }, () => one.id));
  return Uint8Array.from({ length: size }, (_, i) => turns[i % Math.max(1, turns.length)] ?? 0);
}

/** Contiguous ranges as wide as the weights: about half moves when one is added (the "CRC ranges" of hardware balancers). */
function ranges(servers: ServerSet, size: number): Uint8Array {
  const { takers } = servers;
  const total = takers.reduce((sum, one) => sum + one.weight, 0);
  const table = new Uint8Array(size);
  let at = 0;
  let weight = 0;
  for (const server of takers) {
    weight += server.weight;
    const end = Math.round((weight / total) * size);
    table.fill(server.id, at, end);
    at = end;
  }
  return table;
}

/** Maglev hashing: servers take turns to claim the next free slot of their permutation; with weights some take more turns. */
function maglev(servers: ServerSet, size: number): Uint8Array {
  const { takers } = servers;
  if (takers.length > size) throw new BalancerError('BAD_SIZE', `${takers.length} servers for ${size} slots; expected fewer servers than slots`);
  const table = new Uint8Array(size);
  if (takers.length === 0) return table;
  const heaviest = Math.max(...takers.map((one) => one.weight));
  const offsets = takers.map((one) => hashText(one.name) % size);
  const skips = takers.map((one) => 1 + (hashText(`${one.name}/skip`) % (size - 1)));
  const credit = takers.map(() => 0);
  for (let filled = 0; filled < size;) {
    for (let i = 0; i < takers.length && filled < size; i++) {
      credit[i] = credit[i]! + takers[i]!.weight / heaviest;
      if (credit[i]! < 1) continue;
      credit[i] = credit[i]! - 1;
      while (table[offsets[i]!] !== 0) offsets[i] = (offsets[i]! + skips[i]!) % size;
      table[offsets[i]!] = takers[i]!.id;
      filled++;
    }
  }
  return table;
}

/** Rendezvous (highest random weight) hashing by slot: only what must move moves (Thaler and Ravishankar, 1998). */
function rendezvous(servers: ServerSet, size: number): Uint8Array {
  const { takers } = servers;
  const seeds = takers.map((one) => hashText(one.name));
  const table = new Uint8Array(size);
  for (let slot = 0; slot < size; slot++) {
    let best = Number.NEGATIVE_INFINITY;
    for (let i = 0; i < takers.length; i++) {
      // -w / ln(u): each server wins in proportion to its weight.
      const score = -takers[i]!.weight / Math.log((hashPair(seeds[i]!, slot) + 0.5) / 0x1_0000_0000);
      if (score <= best) continue;
      best = score;
      table[slot] = takers[i]!.id;
    }
  }
  return table;
}
