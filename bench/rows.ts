/** Rows, medians, the table, and runs that may have no result. */
export interface Row {
  name: string;
  /** NaN when no run had a result. */
  value: number;
  unit: string;
  peer: string | null;
  peerValue: number | null;
  /** Above 1 is better than the peer, or than the aim, whatever the unit. */
  ratio: number | null;
  /** Smaller is better. */
  less: boolean;
  runs: number[];
  /** Runs that stalled or failed, of ours or of the peer's. */
  note: string | null;
}

export type Benchmark = () => Promise<Row[]> | Row[];

/** Longest time for one run of a peer, milliseconds: `command` of the link package ends programs after as much. */
export const PATIENCE = 20_000;

/** Runs of one contender. One that stalls or fails is noted in its rows, and the benchmark goes on. */
export class Runs {
  readonly values: number[] = [];
  private lost = 0;
  private reason = '';

  async take(run: () => number | Promise<number>): Promise<void> {
    try {
      this.values.push(await run());
    } catch (error) {
      // A program that is not installed is no stall: nothing can be measured at all.
      if ((error as { code?: string }).code === 'PROGRAM_MISSING') throw error;
      this.lost++;
      const message = (error as Error).message.split('\n')[0]!;
      this.reason = message.includes('ETIMEDOUT') ? `stalled for more than ${PATIENCE / 1000} s` : message;
    }
  }

  get note(): string | null {
    return this.lost === 0 ? null : `${this.lost} of ${this.lost + this.values.length} runs without result (${this.reason})`;
  }
}

/** Rejects when the promise takes longer than {@link PATIENCE}; `stop` ends what it waits for. */
export async function within<T>(what: string, promise: Promise<T>, stop: () => void, patience = PATIENCE): Promise<T> {
  let timer: NodeJS.Timeout | undefined;
  const late = new Promise<never>((_, reject) => {
    timer = setTimeout(() => {
      reject(new Error(`${what} stalled for more than ${patience / 1000} s`));
      stop();
    }, patience);
  });
  try {
    return await Promise.race([promise, late]);
  } finally {
    clearTimeout(timer);
    // Whatever comes of it later concerns nobody.
    promise.catch(() => undefined);
  }
}

export function median(values: readonly number[]): number {
  if (values.length === 0) return Number.NaN;
  const sorted = values.toSorted((a, b) => a - b);
  const middle = sorted.length >>> 1;
  return sorted.length % 2 === 1 ? sorted[middle]! : (sorted[middle - 1]! + sorted[middle]!) / 2;
}

/** A row from runs. `less`: smaller is better. */
export function row(name: string, unit: string, runs: number[] | Runs, peer: string | null, peerRuns: number | Runs | null, less = false): Row {
  const values = runs instanceof Runs ? runs.values : runs;
  const value = median(values);
  const peerMedian = peerRuns instanceof Runs ? median(peerRuns.values) : peerRuns;
  const peerValue = peerMedian === null || Number.isNaN(peerMedian) ? null : peerMedian;
  const ratio = peerValue === null || Number.isNaN(value) ? null : less ? peerValue / value : value / peerValue;
  const notes = [runs instanceof Runs ? runs.note : null, peerRuns instanceof Runs && peerRuns.note !== null ? `${peer}: ${peerRuns.note}` : null];
  return { name, value, unit, peer, peerValue, ratio, less, runs: values, note: notes.filter((one) => one !== null).join('; ') || null };
}

export function print(rows: readonly Row[]): void {
  const show = (value: number): string =>
    Number.isNaN(value) ? 'no result' : value >= 100 ? value.toFixed(0) : value >= 10 ? value.toFixed(1) : value.toFixed(2);
  for (const one of rows) {
    const against =
      one.peer === null ? '' : one.ratio === null ? `   nothing of ${one.peer}` : `   ${one.ratio.toFixed(2)} × ${one.peer} (${show(one.peerValue!)})`;
    const note = one.note === null ? '' : `   ${one.note}`;
    console.log(`${one.name.padEnd(44)} ${show(one.value).padStart(9)} ${one.unit.padEnd(8)}${against}   [${one.runs.map(show).join(' ')}]${note}`);
  }
}
