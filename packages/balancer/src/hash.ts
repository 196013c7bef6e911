/** Hashes of flows: 32 bits, seeded, the same on every balancer with the same seed. */
import type { Segment } from '@subflow/wire';

/** Of the client's address and port and the service's: a subflow's own (designs a, b, c, d, e). */
export function hashFlow(segment: Segment, seed: number): number {
  return finish(
    mix(
      mix(mixAddress(seed, segment.source0, segment.source1, segment.source2, segment.source3), (segment.sourcePort << 16) | segment.destinationPort),
      segment.destination0 ^ segment.destination3,
    ),
  );
}

/** Of the client's address and port only: Beamer's (Olteanu et al., NSDI 2018, §4). */
export function hashSource(segment: Segment, seed: number): number {
  return finish(mix(mixAddress(seed, segment.source0, segment.source1, segment.source2, segment.source3), segment.sourcePort));
}

/** Of two numbers: names of servers and buckets. */
export function hashPair(a: number, b: number): number {
  return finish(mix(mix(0x9e3779b9, a), b));
}

/** Of a text, FNV-1a with a finish: a server's name in permutations, so that its place does not depend on the others'. */
export function hashText(text: string): number {
  let hash = 0x811c9dc5;
  for (let i = 0; i < text.length; i++) hash = Math.imul(hash ^ text.charCodeAt(i), 0x01000193);
  return finish(hash);
}

function mixAddress(seed: number, a: number, b: number, c: number, d: number): number {
  // IPv4 has one word: three rounds less on the common path.
  const first = mix(seed, a);
  return (b | c | d) === 0 ? first : mix(mix(mix(first, b), c), d);
}

/** One round of MurmurHash3's body. */
function mix(hash: number, word: number): number {
  let k = Math.imul(word, 0xcc9e2d51);
  k = (k << 15) | (k >>> 17);
  const h = hash ^ Math.imul(k, 0x1b873593);
  return (Math.imul((h << 13) | (h >>> 19), 5) + 0xe6546b64) | 0;
}

/** MurmurHash3's finish. */
function finish(hash: number): number {
  let h = hash ^ (hash >>> 16);
  h = Math.imul(h, 0x85ebca6b);
  h = Math.imul(h ^ (h >>> 13), 0xc2b2ae35);
  return (h ^ (h >>> 16)) >>> 0;
}
