/** What the trace commands share: reading with progress, Ctrl-C, and what is said of damaged files. */
import { Analyzer } from '@subflow/trace';
import type { AnalyzerOptions } from '@subflow/trace';
import { INTERFACES_PER_FILE, readCaptures } from '@subflow/trace/node';
import type { Damage, InputOptions } from '@subflow/trace/node';
import type { CaptureReader } from '@subflow/wire';

const PROGRESS_AFTER = 1000;

export interface Analysed {
  analyzer: Analyzer;
  damages: Damage[];
  /** Names of the interfaces, by number. */
  interfaceNames: Map<number, string>;
  interrupted: boolean;
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
  const interfaceNames = new Map<number, string>();
  const started = performance.now();
  const progress = process.stderr.isTTY
    ? (read: number, size: number): void => {
        if (performance.now() - started < PROGRESS_AFTER || Number.isNaN(size)) return;
        process.stderr.write(`\r\x1b[2Kreading ${((read / size) * 100).toFixed(0)} %, ${(read / 1e6).toFixed(0)} MB\r`);
      }
    : undefined;
  const { damages } = await readCaptures(
    files,
    (reader, file) => {
      const index = file * INTERFACES_PER_FILE + reader.interface;
      if (reader.interface > 0) analyzer.severalInterfaces = true;
      const tcp = analyzer.frame(
        reader.view,
        reader.bytes,
        reader.offset,
        reader.length,
        reader.originalLength,
        reader.linkType,
        reader.seconds,
        reader.nanoseconds,
        index,
      );
      return each?.(reader, analyzer, tcp);
    },
    { ...input, signal: abort.signal, ...(progress === undefined ? {} : { onProgress: progress }) },
  );
  process.removeListener('SIGINT', interrupt);
  if (process.stderr.isTTY && performance.now() - started >= PROGRESS_AFTER) process.stderr.write('\x1b[2K\r');
  analyzer.end();
  return { analyzer, damages, interfaceNames, interrupted: abort.signal.aborted };
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
