/** Rows, medians and the table. */
export interface Row {
  name: string;
  value: number;
  unit: string;
  peer: string | null;
  peerValue: number | null;
  /** Above 1 is better than the peer, or than the aim, whatever the unit. */
  ratio: number | null;
  /** Smaller is better. */
  less: boolean;
  runs: number[];
}

export type Benchmark = () => Promise<Row[]> | Row[];

export function median(values: readonly number[]): number {
  const sorted = values.toSorted((a, b) => a - b);
  const middle = sorted.length >>> 1;
  return sorted.length % 2 === 1 ? sorted[middle]! : (sorted[middle - 1]! + sorted[middle]!) / 2;
}

/** A row from runs. `less`: smaller is better. */
export function row(name: string, unit: string, runs: number[], peer: string | null, peerValue: number | null, less = false): Row {
  const value = median(runs);
  return { name, value, unit, peer, peerValue, ratio: peerValue === null ? null : less ? peerValue / value : value / peerValue, less, runs };
}

export function print(rows: readonly Row[]): void {
  const show = (value: number): string => (value >= 100 ? value.toFixed(0) : value >= 10 ? value.toFixed(1) : value.toFixed(2));
  for (const one of rows) {
    const against = one.peer === null ? '' : `   ${one.ratio!.toFixed(2)} × ${one.peer} (${show(one.peerValue!)})`;
    console.log(`${one.name.padEnd(44)} ${show(one.value).padStart(9)} ${one.unit.padEnd(8)}${against}   [${one.runs.map(show).join(' ')}]`);
  }
}
