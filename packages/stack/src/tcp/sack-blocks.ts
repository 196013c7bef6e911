/** The SACK blocks of outgoing ACKs (RFC 2018 §4, RFC 2883). */
import type { Tcb } from './tcb.ts';

/** Scratch for {@link sackBlocks}: left and right positions of up to four blocks. */
export const sackScratch = new Float64Array(8);

/**
 * Fills {@link sackScratch} with up to `limit` blocks: a duplicate report first (RFC 2883 §4), then the block of the
 * most recent arrival (RFC 2018 §4), then the others. Returns the count.
 */
export function sackBlocks(tcb: Tcb, limit: number): number {
  let count = 0;
  if (tcb.dsackRight > tcb.dsackLeft && limit > 0) {
    sackScratch[0] = tcb.dsackLeft;
    sackScratch[1] = tcb.dsackRight;
    count = 1;
  }
  const runs = tcb.outOfOrder;
  if (runs === null || runs.length === 0) return count;
  const first = count;
  let i = 0;
  while (i < runs.length) {
    const left = runs[i]!.position;
    let right = runs[i]!.end;
    while (i + 1 < runs.length && runs[i + 1]!.position === right) right = runs[++i]!.end;
    i++;
    const recent = tcb.lastSackPosition >= left && tcb.lastSackPosition < right;
    if (recent && count > first && first < limit) {
      // Most recent goes first; the block that stood there moves to the end if there is room.
      const oldLeft = sackScratch[first * 2]!;
      const oldRight = sackScratch[first * 2 + 1]!;
      sackScratch[first * 2] = left;
      sackScratch[first * 2 + 1] = right;
      if (count < limit) {
        sackScratch[count * 2] = oldLeft;
        sackScratch[count * 2 + 1] = oldRight;
        count++;
      }
    } else if (count < limit) {
      sackScratch[count * 2] = left;
      sackScratch[count * 2 + 1] = right;
      count++;
    }
  }
  return count;
}
