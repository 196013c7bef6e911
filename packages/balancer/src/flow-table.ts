/**
 * Tables of bounded size that never grow: sets of eight entries, all in one typed array. What finds its set full takes the
 * place of an expired entry, else of the oldest that is only half open; established ones are never pushed out.
 */
import { BalancerError } from './servers.ts';

const WAYS = 8;

/** States of an entry. */
export const ENTRY = { halfOpen: 1, established: 2, closing: 3 } as const;

export interface Lifetimes {
  /** Seconds without a packet until an entry of a state may be reused. */
  halfOpen: number;
  established: number;
  closing: number;
}

/** As Linux' conntrack has them, a day less for established ones. */
export const DEFAULT_LIFETIMES: Lifetimes = { halfOpen: 60, established: 86_400, closing: 120 };

export class FlowTable {
  readonly capacity: number;
  /** Entries that could not be made: every one of their set is established. */
  full = 0;
  /** Half-open entries that had to go for newer ones. */
  evicted = 0;
  used = 0;
  private readonly words: Int32Array;
  private readonly keyWords: number;
  private readonly stride: number;
  private readonly mask: number;
  private readonly lifetimes: readonly number[];

  /** `keyWords` numbers of 32 bits are a key. `capacity` is rounded up to eight times a power of two. Throws {@link BalancerError} `BAD_SIZE`. */
  constructor(keyWords: number, capacity: number, lifetimes: Lifetimes = DEFAULT_LIFETIMES) {
    if (!(capacity >= WAYS && capacity <= 1 << 28)) throw new BalancerError('BAD_SIZE', `a table of ${capacity} entries; expected 8 to ${1 << 28}`);
    const sets = 1 << Math.ceil(Math.log2(capacity / WAYS));
    this.capacity = sets * WAYS;
    this.mask = sets - 1;
    this.keyWords = keyWords;
    // Key, value with state, time of the last packet.
    this.stride = keyWords + 2;
    this.words = new Int32Array(this.capacity * this.stride);
    this.lifetimes = [0, lifetimes.halfOpen, lifetimes.established, lifetimes.closing];
  }

  /** Bytes that the table takes, whatever is in it. */
  get bytes(): number {
    return this.words.byteLength;
  }

  /** Place of an entry, or -1. `key` has its words from 0 on; `hash` chooses the set. */
  find(key: Int32Array, hash: number, seconds: number): number {
    const { words, stride, keyWords } = this;
    let at = (hash & this.mask) * WAYS * stride;
    for (let way = 0; way < WAYS; way++, at += stride) {
      if (words[at] !== key[0]) continue;
      let same = true;
      for (let i = 1; i < keyWords && same; i++) same = words[at + i] === key[i];
      if (!same || words[at + keyWords] === 0) continue;
      if (this.expired(at, seconds)) return -1;
      return at;
    }
    return -1;
  }

  /** Makes or changes an entry. Returns its place, or -1 when there is no room. */
  put(key: Int32Array, hash: number, server: number, state: number, seconds: number): number {
    const { words, stride, keyWords } = this;
    const first = (hash & this.mask) * WAYS * stride;
    let free = -1;
    let oldest = -1;
    for (let way = 0, at = first; way < WAYS; way++, at += stride) {
      const value = words[at + keyWords]!;
      if (value !== 0 && words[at] === key[0]) {
        let same = true;
        for (let i = 1; i < keyWords && same; i++) same = words[at + i] === key[i];
        if (same) {
          this.write(at, server, state, seconds);
          return at;
        }
      }
      if (free >= 0) continue;
      if (value === 0 || this.expired(at, seconds)) free = at;
      else if (value >>> 16 === ENTRY.halfOpen && (oldest < 0 || words[at + keyWords + 1]! < words[oldest + keyWords + 1]!)) oldest = at;
    }
    let place = free;
    if (place < 0) {
      place = oldest;
      if (place < 0) {
        this.full++;
        return -1;
      }
      this.evicted++;
    } else if (words[place + keyWords] === 0) {
      this.used++;
    }
    for (let i = 0; i < keyWords; i++) words[place + i] = key[i]!;
    this.write(place, server, state, seconds);
    return place;
  }

  server(place: number): number {
    return this.words[place + this.keyWords]! & 0xffff;
  }

  state(place: number): number {
    return this.words[place + this.keyWords]! >>> 16;
  }

  touch(place: number, state: number, seconds: number): void {
    this.write(place, this.server(place), state, seconds);
  }

  remove(place: number): void {
    if (this.words[place + this.keyWords] !== 0) this.used--;
    this.words.fill(0, place, place + this.stride);
  }

  private write(at: number, server: number, state: number, seconds: number): void {
    this.words[at + this.keyWords] = (state << 16) | server;
    this.words[at + this.keyWords + 1] = seconds;
  }

  private expired(at: number, seconds: number): boolean {
    const { words, keyWords } = this;
    return seconds - words[at + keyWords + 1]! > this.lifetimes[words[at + keyWords]! >>> 16]!;
  }
}
