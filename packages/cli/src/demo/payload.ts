/** The bytes that are served: pseudo-random, so that a misplaced byte cannot go unnoticed. */
export function payload(size: number, seed: number): Uint8Array {
  const out = new Uint8Array((size + 3) & ~3);
  const words = new Uint32Array(out.buffer);
  let state = (seed * 2654435761 + 1) >>> 0;
  for (let i = 0; i < words.length; i++) {
    state ^= state << 13;
    state ^= state >>> 17;
    state ^= state << 5;
    words[i] = state;
  }
  return out.subarray(0, size);
}
