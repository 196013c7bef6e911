/** What the trace commands share: reading with progress, Ctrl-C, and what is said of damaged files. */
import { Analyzer, compareCaptures, Fingerprints } from '@subflow/trace';
import type { AnalyzerOptions, CaptureComparison } from '@subflow/trace';
import { INTERFACES_PER_FILE, readCaptures } from '@subflow/trace/node';
import type { Damage, InputOptions } from '@subflow/trace/node';
import type { CaptureReader } from '@subflow/wire';

const PROGRESS_AFTER = 1000;

export interface Analysed {
  analyzer: Analyzer;
  damages: Damage[];
}

/** Runs the captures through an analyzer. `each` sees every frame after it; false stops. */
export async function analyse(
  files: readonly string[],
  options: AnalyzerOptions,
  each: ((reader: CaptureReader, analyzer: Analyzer, tcp: boolean) => boolean | void) | null = null,
  input: InputOptions = {},
): Promise<Analysed> {
  const abort = new AbortController();
  const interrupt = (): void => abort.abort();
  process.once('SIGINT', interrupt);
  const analyzer = new Analyzer(options);
  if (files.length > 1) analyzer.severalInterfaces = true;
  const started = performance.now();
  const progress = process.stderr.isTTY
    ? (read: number, size: number): void => {
        if (performance.now() - started < PROGRESS_AFTER || Number.isNaN(size)) return;
        process.stderr.write(`\r\x1b[2Kreading ${((read / size) * 100).toFixed(0)} %, ${(read / 1e6).toFixed(0)} MB\r`);
      }
    : undefined;
  const shifts = files.length > 1 && !files.includes('-') && input.follow !== true ? await alignClocks(files, abort.signal) : [];
  const { damages } = await readCaptures(
    files,
    (reader, file) => {
      const index = file * INTERFACES_PER_FILE + reader.interface;
      if (reader.interface > 0) analyzer.severalInterfaces = true;
      const tcp = analyzer.read(reader, index);
      return each?.(reader, analyzer, tcp);
    },
    { ...input, shifts, signal: abort.signal, ...(progress === undefined ? {} : { onProgress: progress }) },
  );
  process.removeListener('SIGINT', interrupt);
  if (process.stderr.isTTY && performance.now() - started >= PROGRESS_AFTER) process.stderr.write('\x1b[2K\r');
  analyzer.end();
  if (abort.signal.aborted && input.follow !== true) {
    process.stderr.write(`INTERRUPTED: only the ${analyzer.totals().packets} packets before that were read\n`);
    process.exitCode = 130;
  }
  return { analyzer, damages };
}

/** Connections of a capture with the fingerprints of their packets. */
export async function fingerprints(file: string, signal?: AbortSignal): Promise<{ prints: Fingerprints; analyzer: Analyzer; damages: Damage[] }> {
  const prints = new Fingerprints();
  const analyzer = new Analyzer({ detail: 'summary', onConnection: (connection) => prints.connections.push(connection) });
  const { damages } = await readCaptures(
    [file],
    (reader) => {
      analyzer.read(reader);
      prints.take(analyzer);
    },
    signal === undefined ? {} : { signal },
  );
  analyzer.end();
  return { prints, analyzer, damages };
}

/** What must be added to the second capture's clock, microseconds, so that it agrees with the first; null when they have nothing in common. */
export function clockDifference(first: Analyzer, second: Analyzer, compared: CaptureComparison): number | null {
  if (compared.clockOffset === null) return null;
  // Times are counted from each file's own first packet: the difference of the two belongs to the offset.
  return compared.clockOffset + (first.base.seconds - second.base.seconds) * 1e6 + (first.base.nanoseconds - second.base.nanoseconds) / 1e3;
}

/** Captures of both ends of the same connections may have clocks of their own: those of the later files are brought to the first one's. */
async function alignClocks(files: readonly string[], signal: AbortSignal): Promise<number[]> {
  const first = await fingerprints(files[0]!, signal);
  const shifts = [0];
  for (const file of files.slice(1)) {
    const other = await fingerprints(file, signal);
    const compared = compareCaptures(first.prints, other.prints);
    const shift = clockDifference(first.analyzer, other.analyzer, compared);
    // Within what delays explain, the clocks may well agree.
    const sure = shift !== null && Math.abs(shift) > compared.uncertainty;
    if (sure)
      process.stderr.write(`the clock of ${file} is ${(Math.abs(shift) / 1e6).toFixed(6)} s ${shift < 0 ? 'ahead' : 'behind'}; its times are shifted\n`);
    shifts.push(sure ? shift : 0);
  }
  return shifts;
}

export interface Span {
  /** When the first packet was captured. */
  start: string;
  seconds: number;
}

export function spanOf(analyzer: Analyzer): Span {
  const { seconds, nanoseconds } = analyzer.base;
  return { start: Number.isNaN(seconds) ? 'never' : new Date(seconds * 1000 + nanoseconds / 1e6).toISOString(), seconds: analyzer.time / 1e6 };
}

/** Says which files were damaged and where; the exit code is 1 then, because not everything was seen. */
export function reportDamages(damages: readonly Damage[]): void {
  for (const one of damages)
    process.stderr.write(`DAMAGED_FILE: ${one.file}: ${one.reason} at byte ${one.offset} (${one.code}); the ${one.packets} packets before it were read\n`);
  if (damages.length > 0) process.exitCode = 1;
}
