/** Mutations of byte strings, some of them aware of TCP options. */
import type { FuzzRandom } from './random.ts';

const INTERESTING = [0, 1, 2, 3, 4, 7, 8, 12, 16, 20, 22, 24, 28, 30, 34, 64, 127, 128, 254, 255];

/** Fills `target` with a mutation of `source`; returns its length. */
export function mutate(source: Uint8Array, other: Uint8Array, target: Uint8Array, random: FuzzRandom): number {
  let length = Math.min(source.length, target.length);
  for (let i = 0; i < length; i++) target[i] = source[i]!;
  const rounds = 1 + random.below(4);
  for (let round = 0; round < rounds; round++) length = once(target, length, other, random);
  return length;
}

function once(bytes: Uint8Array, length: number, other: Uint8Array, random: FuzzRandom): number {
  if (length === 0) return length;
  const at = random.below(length);
  switch (random.below(11)) {
    case 0:
      bytes[at] = bytes[at]! ^ (1 << random.below(8));
      return length;
    case 1:
      bytes[at] = INTERESTING[random.below(INTERESTING.length)]!;
      return length;
    case 2:
      bytes[at] = random.next() & 0xff;
      return length;
    case 3:
      bytes[at] = (bytes[at]! + random.below(33) - 16) & 0xff;
      return length;
    case 4:
      return random.below(length + 1);
    case 5: {
      // Delete a few bytes.
      const count = Math.min(length - at, 1 + random.below(8));
      bytes.copyWithin(at, at + count, length);
      return length - count;
    }
    case 6: {
      // Repeat a few bytes.
      const count = Math.min(1 + random.below(16), length - at, bytes.length - length);
      if (count <= 0) return length;
      bytes.copyWithin(at + count, at, length);
      return length + count;
    }
    case 7: {
      // A piece of another input.
      if (other.length === 0) return length;
      const from = random.below(other.length);
      const count = Math.min(1 + random.below(32), other.length - from, bytes.length - at);
      for (let i = 0; i < count; i++) bytes[at + i] = other[from + i]!;
      return Math.max(length, at + count);
    }
    case 8:
      return optionLength(bytes, length, random);
    case 9:
      return optionKind(bytes, length, random);
    default: {
      // A 16- or 32-bit field.
      const size = random.below(2) === 0 ? 2 : 4;
      const value = random.below(3) === 0 ? random.next() : INTERESTING[random.below(INTERESTING.length)]!;
      for (let i = 0; i < size && at + i < length; i++) bytes[at + i] = (value >>> (8 * (size - 1 - i))) & 0xff;
      return length;
    }
  }
}

/** Where the TCP options of an IPv4 or IPv6 packet begin and end; null when it is too short for that. */
function optionsOf(bytes: Uint8Array, length: number): [number, number] | null {
  if (length < 40) return null;
  const tcp = bytes[0]! >>> 4 === 6 ? 40 : (bytes[0]! & 15) * 4;
  if (tcp + 20 > length) return null;
  return [tcp + 20, Math.min(length, tcp + (bytes[tcp + 12]! >>> 4) * 4)];
}

function optionLength(bytes: Uint8Array, length: number, random: FuzzRandom): number {
  const place = pickOption(bytes, length, random);
  if (place >= 0 && place + 1 < length) bytes[place + 1] = random.below(44);
  return length;
}

function optionKind(bytes: Uint8Array, length: number, random: FuzzRandom): number {
  const place = pickOption(bytes, length, random);
  if (place < 0 || place + 2 >= length) return length;
  if (random.below(2) === 0) bytes[place] = [2, 3, 4, 5, 8, 30, 34][random.below(7)]!;
  else bytes[place + 2] = (random.below(10) << 4) | random.below(16);
  return length;
}

function pickOption(bytes: Uint8Array, length: number, random: FuzzRandom): number {
  const range = optionsOf(bytes, length);
  if (range === null) return -1;
  let place = -1;
  let seen = 0;
  for (let at = range[0]; at < range[1];) {
    const kind = bytes[at]!;
    if (kind === 0) break;
    if (random.below(++seen) === 0) place = at;
    at += kind === 1 ? 1 : Math.max(2, bytes[at + 1] ?? 2);
  }
  return place;
}
