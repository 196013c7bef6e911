/** From addresses and ports to a small number, both directions of a conversation together. Open addressing in typed arrays: no strings, no objects per packet. */
import type { Segment } from '@subflow/wire';

/** Address words of both ends, one word of both ports, and which IP version. */
const WORDS = 10;

export class FlowTable {
  /** Of the packet looked up last: whether it goes from the key's first end to its second. */
  forward = true;
  size = 0;
  private slots: Int32Array = new Int32Array(64).fill(-1);
  private keys: Int32Array = new Int32Array(32 * WORDS);
  private readonly free: number[] = [];
  private used = 0;
  private deleted = 0;
  private readonly key: Int32Array = new Int32Array(WORDS);
  /** The conversation of the packet before: packets come in trains. */
  private latest = -1;

  /** Number of the packet's conversation; -1 when it is new. */
  find(segment: Segment): number {
    const { key } = this;
    const hash = this.keyOf(segment);
    if (this.latest >= 0 && this.matches(this.latest, key)) return this.latest;
    const mask = this.slots.length - 1;
    for (let at = hash & mask; ; at = (at + 1) & mask) {
      const entry = this.slots[at]!;
      if (entry === -1) return -1;
      if (entry >= 0 && this.matches(entry, key)) {
        this.latest = entry;
        return entry;
      }
    }
  }

  /** Adds the conversation of the packet looked up last; numbers of removed ones are used again. */
  add(segment: Segment): number {
    if ((this.size + this.deleted + 1) * 2 > this.slots.length) this.rebuild();
    const hash = this.keyOf(segment);
    const entry = this.free.pop() ?? this.used++;
    if ((entry + 1) * WORDS > this.keys.length) {
      const larger = new Int32Array(this.keys.length * 2);
      larger.set(this.keys);
      this.keys = larger;
    }
    this.keys.set(this.key, entry * WORDS);
    this.place(hash, entry);
    this.size++;
    this.latest = entry;
    return entry;
  }

  remove(entry: number): void {
    const mask = this.slots.length - 1;
    for (let at = this.hashOf(entry) & mask; this.slots[at] !== -1; at = (at + 1) & mask) {
      if (this.slots[at] !== entry) continue;
      this.slots[at] = -2;
      this.deleted++;
      this.size--;
      this.free.push(entry);
      this.latest = -1;
      return;
    }
  }

  private place(hash: number, entry: number): void {
    const mask = this.slots.length - 1;
    let at = hash & mask;
    while (this.slots[at] !== -1) at = (at + 1) & mask;
    this.slots[at] = entry;
  }

  private rebuild(): void {
    const old = this.slots;
    this.slots = new Int32Array(this.size * 4 > old.length ? old.length * 2 : old.length).fill(-1);
    this.deleted = 0;
    for (const entry of old) if (entry >= 0) this.place(this.hashOf(entry), entry);
  }

  private matches(entry: number, key: Int32Array): boolean {
    const { keys } = this;
    const at = entry * WORDS;
    // Ports differ most often, then the first words; the others are zero in IPv4.
    if (keys[at] !== key[0] || keys[at + 1] !== key[1] || keys[at + 2] !== key[2]) return false;
    for (let i = 3; i < WORDS; i++) if (keys[at + i] !== key[i]) return false;
    return true;
  }

  private hashOf(entry: number): number {
    const { keys } = this;
    const at = entry * WORDS;
    return mix(keys[at]!, keys[at + 1]! ^ keys[at + 5]! ^ keys[at + 4]!, keys[at + 2]! ^ keys[at + 8]! ^ keys[at + 7]!);
  }

  /** Puts the smaller end first. */
  private keyOf(s: Segment): number {
    const { key } = this;
    const forward = before(s);
    this.forward = forward;
    key[0] = forward ? (s.sourcePort << 16) | s.destinationPort : (s.destinationPort << 16) | s.sourcePort;
    key[1] = forward ? s.source0 : s.destination0;
    key[2] = forward ? s.destination0 : s.source0;
    if (s.ipVersion === 4) {
      for (let i = 3; i < WORDS; i++) key[i] = 0;
      return mix(key[0], key[1], key[2]);
    }
    key[3] = forward ? s.source1 : s.destination1;
    key[4] = forward ? s.source2 : s.destination2;
    key[5] = forward ? s.source3 : s.destination3;
    key[6] = forward ? s.destination1 : s.source1;
    key[7] = forward ? s.destination2 : s.source2;
    key[8] = forward ? s.destination3 : s.source3;
    key[9] = 6;
    return mix(key[0], key[1] ^ key[5] ^ key[4], key[2] ^ key[8] ^ key[7]);
  }
}

function before(s: Segment): boolean {
  if (s.source0 !== s.destination0) return s.source0 < s.destination0;
  if (s.source3 !== s.destination3) return s.source3 < s.destination3;
  if (s.source2 !== s.destination2) return s.source2 < s.destination2;
  if (s.source1 !== s.destination1) return s.source1 < s.destination1;
  return s.sourcePort <= s.destinationPort;
}

function mix(a: number, b: number, c: number): number {
  let h = Math.imul(a ^ (a >>> 15), 0x2c1b3c6d);
  h = Math.imul(h ^ b ^ (h >>> 13), 0x297a2d39);
  h = Math.imul(h ^ c ^ (h >>> 16), 0x85ebca6b);
  return h ^ (h >>> 15);
}
