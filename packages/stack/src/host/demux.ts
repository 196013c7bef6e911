/** Finding the connection of a packet: a hash over addresses and ports, chains through the control blocks. */
import { sameAddress } from '@subflow/wire';
import type { Segment } from '@subflow/wire';
import type { Demultiplexed, Ends } from '../ends.ts';

export class Demux {
  private readonly table = new Map<number, Demultiplexed>();
  private readonly seed: number;
  size = 0;

  /** `seed`: 32 random bits, so that nobody can choose addresses and ports that fall into one chain. */
  constructor(seed: number) {
    this.seed = seed | 0;
  }

  insert(entry: Demultiplexed): void {
    entry.hash = this.hashOfEnds(entry);
    entry.chain = this.table.get(entry.hash) ?? null;
    this.table.set(entry.hash, entry);
    this.size++;
  }

  remove(tcb: Demultiplexed): void {
    const first = this.table.get(tcb.hash);
    if (first === undefined) return;
    if (first === tcb) {
      if (tcb.chain === null) this.table.delete(tcb.hash);
      else this.table.set(tcb.hash, tcb.chain);
      tcb.chain = null;
      this.size--;
      return;
    }
    for (let before = first; before.chain !== null; before = before.chain) {
      if (before.chain !== tcb) continue;
      before.chain = tcb.chain;
      tcb.chain = null;
      this.size--;
      return;
    }
  }

  /** The connection a received segment belongs to, or null. */
  find(segment: Segment): Demultiplexed | null {
    let hash = mix(mix(mix(this.seed, (segment.sourcePort << 16) | segment.destinationPort), segment.source0), segment.destination0);
    if (segment.ipVersion === 6) {
      hash = mix(mix(mix(hash, segment.source1), segment.source2), segment.source3);
      hash = mix(mix(mix(hash, segment.destination1), segment.destination2), segment.destination3);
    }
    for (let entry = this.table.get(hash & SMALL) ?? null; entry !== null; entry = entry.chain) if (matches(entry, segment)) return entry;
    return null;
  }

  /** The connection between two given ends. */
  findEnds(ends: Ends): Demultiplexed | null {
    const { local, localPort, remote, remotePort } = ends;
    for (let entry = this.table.get(this.hashOfEnds(ends)) ?? null; entry !== null; entry = entry.chain) {
      if (entry.localPort === localPort && entry.remotePort === remotePort && sameAddress(entry.local, local) && sameAddress(entry.remote, remote))
        return entry;
    }
    return null;
  }

  private hashOfEnds({ local, localPort, remote, remotePort }: Ends): number {
    let hash = mix(mix(mix(this.seed, (remotePort << 16) | localPort), word(remote, 0)), word(local, 0));
    if (local.length === 16) {
      hash = mix(mix(mix(hash, word(remote, 4)), word(remote, 8)), word(remote, 12));
      hash = mix(mix(mix(hash, word(local, 4)), word(local, 8)), word(local, 12));
    }
    return hash & SMALL;
  }
}

/** 30 bits: small integers are the fast keys of a Map. */
const SMALL = 0x3fffffff;

/** One word into a hash (the finalizer of MurmurHash3, a round for each word). */
function mix(hash: number, word: number): number {
  let h = Math.imul(hash ^ word, 0x85ebca6b);
  h ^= h >>> 13;
  h = Math.imul(h, 0xc2b2ae35);
  return h ^ (h >>> 16);
}

function word(bytes: Uint8Array, at: number): number {
  return (bytes[at]! << 24) | (bytes[at + 1]! << 16) | (bytes[at + 2]! << 8) | bytes[at + 3]!;
}

function matches(tcb: Demultiplexed, segment: Segment): boolean {
  if (tcb.localPort !== segment.destinationPort || tcb.remotePort !== segment.sourcePort || tcb.ipVersion !== segment.ipVersion) return false;
  const { local, remote } = tcb;
  if (word(remote, 0) !== segment.source0 || word(local, 0) !== segment.destination0) return false;
  if (tcb.ipVersion === 4) return true;
  return (
    word(remote, 4) === segment.source1 &&
    word(remote, 8) === segment.source2 &&
    word(remote, 12) === segment.source3 &&
    word(local, 4) === segment.destination1 &&
    word(local, 8) === segment.destination2 &&
    word(local, 12) === segment.destination3
  );
}
