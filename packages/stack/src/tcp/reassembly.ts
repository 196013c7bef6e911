/** Runs of bytes that arrived ahead of order, and the SACK blocks that report them (RFC 2018 §4, RFC 2883). */
import type { Tcb } from './tcb.ts';

/** Bytes [position, end) that wait for a hole to be filled. */
export interface OutOfOrderRun {
  position: number;
  end: number;
  data: Uint8Array;
}

/**
 * Inserts a copy of the bytes [position, position + length), leaving out what is already held; `runs` stays sorted and
 * free of overlaps. Returns the bytes added.
 */
export function insertRun(runs: OutOfOrderRun[], bytes: Uint8Array, offset: number, length: number, position: number): number {
  let added = 0;
  let at = position;
  const end = position + length;
  let i = firstRunEndingAfter(runs, position);
  while (at < end) {
    const run = runs[i];
    const gapEnd = run === undefined ? end : Math.min(end, run.position);
    if (gapEnd > at) {
      const from = offset + (at - position);
      runs.splice(i, 0, { position: at, end: gapEnd, data: bytes.slice(from, from + (gapEnd - at)) });
      added += gapEnd - at;
      at = gapEnd;
      i++;
    }
    if (run === undefined) break;
    if (at < run.end) at = run.end;
    i++;
  }
  return added;
}

/** Index of the first run that ends after `position`. */
function firstRunEndingAfter(runs: OutOfOrderRun[], position: number): number {
  // Most arrivals append: look at the last run before searching.
  const last = runs[runs.length - 1];
  if (last === undefined || last.end <= position) return runs.length;
  let low = 0;
  let high = runs.length - 1;
  while (low < high) {
    const middle = (low + high) >>> 1;
    if (runs[middle]!.end <= position) low = middle + 1;
    else high = middle;
  }
  return low;
}

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
