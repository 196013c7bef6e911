/** The operating system's randomness for hosts in real networks. */
import { randomFillSync } from 'node:crypto';

const words = new Uint32Array(256);
let next = words.length;

/** A random number, 0 to 2^32 - 1; drawn in batches because one call costs 5 µs. */
export function systemEntropy(): number {
  if (next === words.length) {
    randomFillSync(words);
    next = 0;
  }
  const value = words[next]!;
  words[next++] = 0;
  return value;
}
