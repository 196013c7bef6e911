/** What was meant, perhaps: for messages about names that nobody knows. */

/** Names that are listed when none is close. */
const LISTED = 12;

/** `expected "mss"` for a name that is nearly one of the known ones, otherwise all of them. */
export function proposal(name: string, known: readonly string[]): string {
  const most = Math.max(1, Math.floor(name.length / 3));
  const near = known
    .map((one) => ({ one, distance: distance(name.toLowerCase(), one.toLowerCase(), most) }))
    .filter((candidate) => candidate.distance <= most)
    .sort((a, b) => a.distance - b.distance)[0];
  if (near !== undefined) return `did you mean "${near.one}"?`;
  if (known.length === 0) return 'expected none';
  return `expected ${known.slice(0, LISTED).join(', ')}${known.length > LISTED ? ', …' : ''}`;
}

/** Insertions, deletions, substitutions and transpositions from one to the other; more than `most` is as good as endless. */
function distance(a: string, b: string, most: number): number {
  if (Math.abs(a.length - b.length) > most) return Number.POSITIVE_INFINITY;
  let before: number[] = [];
  let last = Array.from({ length: b.length + 1 }, (_, j) => j);
  for (let i = 1; i <= a.length; i++) {
    const row = [i];
    for (let j = 1; j <= b.length; j++) {
      let best = Math.min(row[j - 1]! + 1, last[j]! + 1, last[j - 1]! + (a[i - 1] === b[j - 1] ? 0 : 1));
      if (i > 1 && j > 1 && a[i - 1] === b[j - 2] && a[i - 2] === b[j - 1]) best = Math.min(best, before[j - 2]! + 1);
      row.push(best);
    }
    before = last;
    last = row;
  }
  return last[b.length]!;
}
