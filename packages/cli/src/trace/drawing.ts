/** Chosen connections with every point: what graphs, reports and tables are made from. */
import { connectionReport, Recorder } from '@subflow/trace';
import type { Connection, Drawn, Recording, Totals } from '@subflow/trace';
import type { Damage } from '@subflow/trace/node';
import { noConnection } from './errors.ts';
import { analyse, spanOf } from './reading.ts';
import type { Span } from './reading.ts';

export interface DrawnCapture {
  drawn: Drawn[];
  damages: Damage[];
  totals: Totals;
  span: Span;
}

/**
 * Reads the captures twice: first to learn which connections are the largest, then to record those. A pipe can be read
 * only once: there the first ones are recorded, unless one is named.
 */
export async function draw(files: readonly string[], wanted: number | null, most: number): Promise<DrawnCapture> {
  let chosen: Set<number> | null = wanted === null ? null : new Set([wanted]);
  if (chosen === null && !files.includes('-')) {
    const sizes: { index: number; bytes: number }[] = [];
    await analyse(files, {
      detail: 'summary',
      onConnection: (connection) => {
        sizes.push({ index: connection.index, bytes: connection.subflows.reduce((total, one) => total + one.halves[0].bytes + one.halves[1].bytes, 0) });
        if (sizes.length > 10_000) keepLargest(sizes, most);
      },
    });
    keepLargest(sizes, most);
    chosen = new Set(sizes.map((one) => one.index));
  }
  const recorder = new Recorder(chosen === null ? null : (connection) => chosen.has(connection.index), most);
  const kept: Connection[] = [];
  const { analyzer, damages } = await analyse(files, {
    detail: 'full',
    points: recorder,
    onConnection: (connection) => {
      if (chosen === null ? recorder.recordings.has(connection.index) : chosen.has(connection.index)) kept.push(connection);
    },
  });
  const totals = analyzer.totals();
  if (wanted !== null && kept.length === 0) throw noConnection(wanted, totals.mptcpConnections);
  const drawn = kept
    .toSorted((a, b) => a.index - b.index)
    .map((connection) => ({ connection, report: connectionReport(connection), recording: recorder.recordings.get(connection.index) ?? emptyRecording() }));
  return { drawn, damages, totals, span: spanOf(analyzer) };
}

function emptyRecording(): Recording {
  const recorder = new Recorder(() => true);
  recorder.queue({ index: 0 } as Connection, 0, 0, 0);
  return recorder.recordings.get(0)!;
}

function keepLargest(sizes: { index: number; bytes: number }[], most: number): void {
  sizes.sort((a, b) => b.bytes - a.bytes);
  sizes.length = Math.min(sizes.length, most);
}
