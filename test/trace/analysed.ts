/** A capture through the analyzer, everything kept. */
import { Analyzer, connectionReport } from '@subflow/trace';
import type { ConnectionReport, TraceEvent, Totals } from '@subflow/trace';
import { INTERFACES_PER_FILE, readCaptures } from '@subflow/trace/node';
import { CaptureReader } from '@subflow/wire';

export interface AnalysedCapture {
  reports: ConnectionReport[];
  totals: Totals;
  events: TraceEvent[];
  /** Time 0, seconds since 1970. */
  base: number;
}

export async function analysed(files: readonly string[]): Promise<AnalysedCapture> {
  const out = collector(files.length > 1);
  await readCaptures(files, (reader, file) => out.take(reader, file));
  return out.end();
}

/** A capture in memory. */
export function analysedBytes(bytes: Uint8Array): AnalysedCapture {
  const out = collector(false);
  const reader = new CaptureReader(bytes.length);
  reader.push(bytes);
  while (reader.next()) out.take(reader, 0);
  return out.end();
}

function collector(several: boolean): { take: (reader: CaptureReader, file: number) => void; end: () => AnalysedCapture } {
  const reports: ConnectionReport[] = [];
  const events: TraceEvent[] = [];
  const analyzer = new Analyzer({ onConnection: (one) => reports.push(connectionReport(one)), onEvent: (event) => events.push(event) });
  analyzer.severalInterfaces = several;
  return {
    take: (reader, file) => void analyzer.read(reader, file * INTERFACES_PER_FILE + reader.interface),
    end: () => {
      analyzer.end();
      const { seconds, nanoseconds } = analyzer.base;
      return { reports: reports.toSorted((a, b) => a.index - b.index), totals: analyzer.totals(), events, base: seconds + nanoseconds / 1e9 };
    },
  };
}
