/** The trace analyzer in a worker: a file is read piece by piece, nothing of it leaves the machine. */
import { Analyzer, connectionLines, connectionReport, GRAPHS, Largest, PLAIN, plotOf, Recorder, svgOf, TraceError } from '@subflow/trace';
import type { Connection, ConnectionReport } from '@subflow/trace';
import { CaptureReader } from '@subflow/wire';

export type FromCapture =
  | { type: 'progress'; share: number; packets: number }
  | {
      type: 'done';
      packets: number;
      totals: Record<string, number>;
      seconds: number;
      connections: { index: number; title: string; lines: string[]; graphs: { name: string; svg: string }[] }[];
      more: number;
      damage: string | null;
    }
  | { type: 'error'; message: string };

const PIECE = 4 << 20;
const SHOWN = 8;

const scope = self as unknown as { postMessage(message: FromCapture): void; onmessage: ((event: MessageEvent<File>) => void) | null };

async function analyse(file: File): Promise<void> {
  const kept = new Largest<{ report: ConnectionReport; connection: Connection }>(SHOWN);
  const recorder = new Recorder(null, SHOWN);
  const analyzer = new Analyzer({
    detail: 'full',
    points: recorder,
    onConnection: (connection) => {
      const bytes = connection.subflows.reduce((total, one) => total + one.halves[0].bytes + one.halves[1].bytes, 0);
      kept.offer(bytes, () => ({ report: connectionReport(connection), connection }));
    },
  });
  const reader = new CaptureReader();
  let damage: string | null = null;
  const take = (): void => {
    while (reader.next()) {
      if (reader.interface > 0) analyzer.severalInterfaces = true;
      analyzer.read(reader, reader.interface);
    }
  };
  try {
    for (let at = 0; at < file.size && reader.damage === null; at += PIECE) {
      reader.push(new Uint8Array(await file.slice(at, at + PIECE).arrayBuffer()));
      take();
      scope.postMessage({ type: 'progress', share: Math.min(1, (at + PIECE) / file.size), packets: analyzer.totals().packets });
    }
    reader.finish();
    take();
    if (reader.damage !== null) damage = reader.damage.reason;
    if (analyzer.totals().packets === 0 && damage !== null) throw new Error(damage);
  } catch (error) {
    // What was read before the damage is shown.
    if (analyzer.totals().packets === 0) throw error;
    damage = (error as Error).message;
  }
  analyzer.end();
  const totals = analyzer.totals();
  const connections = kept.values
    .toSorted((a, b) => a.report.index - b.report.index)
    .map(({ report, connection }) => {
      const recording = recorder.recordings.get(report.index);
      const drawn = { report, connection, recording } as Parameters<typeof plotOf>[1];
      const graphs = GRAPHS.flatMap((name) => {
        try {
          return recording === undefined ? [] : [{ name, svg: svgOf(plotOf(name, drawn)) }];
        } catch {
          return [];
        }
      });
      return { index: report.index, title: `Connection ${report.index}`, lines: connectionLines(report, PLAIN, { story: true, all: false }), graphs };
    });
  const numbers = Object.fromEntries(Object.entries(totals).filter((entry): entry is [string, number] => typeof entry[1] === 'number'));
  scope.postMessage({
    type: 'done',
    packets: totals.packets,
    totals: numbers,
    seconds: analyzer.time / 1e6,
    connections,
    more: kept.seen - kept.values.length,
    damage,
  });
}

scope.onmessage = ({ data }) => {
  analyse(data).catch((error: Error) =>
    scope.postMessage({ type: 'error', message: error instanceof TraceError ? `${error.code}: ${error.message}` : error.message }),
  );
};
