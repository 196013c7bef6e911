/** Finding the connection of a packet: a hash over addresses and ports, chains through the control blocks. */
import { sameAddress } from '@subflow/wire';
import type { Segment } from '@subflow/wire';
import type { Demultiplexed, Ends } from '../ends.ts';

export class Demux {
  private readonly table = new Map<number, Demultiplexed>();
  size = 0;

  insert(tcb: Demultiplexed): void {
    tcb.hash = hashOf(wordsOf(tcb.remote), wordsOf(tcb.local), tcb.remotePort, tcb.localPort);
    tcb.chain = this.table.get(tcb.hash) ?? null;
    this.table.set(tcb.hash, tcb);
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
    const source = segment.source0 ^ Math.imul(segment.source1, 3) ^ Math.imul(segment.source2, 5) ^ Math.imul(segment.source3, 7);
    const destination = segment.destination0 ^ Math.imul(segment.destination1, 3) ^ Math.imul(segment.destination2, 5) ^ Math.imul(segment.destination3, 7);
    const hash = hashOf(source, destination, segment.sourcePort, segment.destinationPort);
    for (let tcb = this.table.get(hash) ?? null; tcb !== null; tcb = tcb.chain) if (matches(tcb, segment)) return tcb;
    return null;
  }

  /** The connection between two given ends. */
  findEnds({ local, localPort, remote, remotePort }: Ends): Demultiplexed | null {
    const hash = hashOf(wordsOf(remote), wordsOf(local), remotePort, localPort);
    for (let tcb = this.table.get(hash) ?? null; tcb !== null; tcb = tcb.chain) {
      if (tcb.localPort === localPort && tcb.remotePort === remotePort && sameAddress(tcb.local, local) && sameAddress(tcb.remote, remote)) return tcb;
    }
    return null;
  }
}

/** A 30-bit hash: small integers are the fast keys of a Map. */
function hashOf(source: number, destination: number, sourcePort: number, destinationPort: number): number {
  let h = Math.imul(source ^ (destination << 7) ^ (destination >>> 25), 0x9e3779b1) ^ Math.imul((sourcePort << 16) | destinationPort, 0x85ebca6b);
  h ^= h >>> 15;
  h = Math.imul(h, 0xc2b2ae35);
  return (h ^ (h >>> 13)) & 0x3fffffff;
}

function wordsOf(address: Uint8Array): number {
  let mixed = word(address, 0);
  if (address.length === 16) mixed ^= Math.imul(word(address, 4), 3) ^ Math.imul(word(address, 8), 5) ^ Math.imul(word(address, 12), 7);
  return mixed;
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
