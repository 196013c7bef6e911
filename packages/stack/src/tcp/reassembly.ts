/** Runs of bytes that arrived ahead of order. */

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
