/** The pictures of a connection: what was recorded and reported of it, as plots. */
import { POINT } from '../analysis/data-level.ts';
import type { Connection } from '../analysis/connection.ts';
import type { Side } from '../analysis/events.ts';
import type { Recording } from '../analysis/recorder.ts';
import type { ConnectionReport } from '../analysis/report.ts';
import { PALETTE } from './plot.ts';
import type { Mark, Plot, Series } from './plot.ts';

export const GRAPHS = ['seq', 'ooo', 'flight', 'rtt', 'window', 'throughput', 'timeline'] as const;
export type Graph = (typeof GRAPHS)[number];

const SHORT: Record<Graph, string> = {
  seq: 'Sequence',
  ooo: 'Out of order',
  flight: 'In flight',
  rtt: 'RTT',
  window: 'Window',
  throughput: 'Throughput',
  timeline: 'Subflows',
};

const RETRANSMITTED = '#B00020';
const REINJECTED = '#000000';
const ACKED = '#777777';
const EDGE = '#BBBBBB';
const THROUGHPUT_BINS = 240;
/** Throughput is not averaged over less than this, microseconds. */
const LEAST_BIN = 10_000;

export interface Drawn {
  report: ConnectionReport;
  recording: Recording;
  /** The live object, for its throughput series. */
  connection: Connection;
}

/** One picture. `side`: whose data; null takes the side that sent more. */
export function plotOf(graph: Graph, drawn: Drawn, wanted: Side | null = null): Plot {
  const { report } = drawn;
  const side = wanted ?? largerSide(report);
  switch (graph) {
    case 'seq':
      return sequence(drawn, side);
    case 'ooo':
      return queue(drawn, side);
    case 'flight':
      return flight(drawn, side);
    case 'rtt':
      return rtt(drawn, side);
    case 'window':
      return window(drawn, side);
    case 'throughput':
      return throughputPlot(drawn.connection, report, side);
    case 'timeline':
      return timeline(drawn);
  }
}

/** Who sent more. */
function largerSide(report: ConnectionReport): Side {
  return report.directions[0].bytes > report.directions[1].bytes ? 0 : 1;
}

const WHO = ['the client', 'the server'] as const;

function base(report: ConnectionReport, graph: Graph, side: Side, title: string, yTitle: string, unit: Plot['unit']): Plot {
  return {
    id: `${graph}-${side === 0 ? 'up' : 'down'}`,
    short: graph === 'timeline' ? SHORT[graph] : `${SHORT[graph]} ${side === 0 ? '↑' : '↓'}`,
    title,
    yTitle,
    unit,
    xMin: 0,
    xMax: Math.max(1e-6, (report.end - report.start) / 1e6),
    yMin: 0,
    yMax: 1,
    series: [],
    marks: marks(report),
  };
}

/** Data sequence number over time: segments by subflow, what was sent again, DATA_ACKs, the right edge of the window. */
function sequence(drawn: Drawn, side: Side): Plot {
  const { report, recording } = drawn;
  const plot = base(drawn.report, 'seq', side, `Data sequence numbers of what ${WHO[side]} sent`, 'Data sequence number, relative', 'bytes');
  const { payload, acks } = recording;
  const from = payload.get('side');
  const kind = payload.get('kind');
  const owner = payload.get('subflow');
  const acker = acks.get('side');
  const rows = pick(acks.length, (i) => acker[i] !== side);
  const x = at(rows, acks.get('time'), (time) => seconds(drawn, time));
  const position = at(rows, acks.get('position'));
  const packet = at(rows, acks.get('packet'));
  const windows = at(rows, acks.get('window'));
  // From the bottom up: what was sent again must not be hidden.
  const edge: Series = { name: 'right edge of the window', loose: true, shape: 'steps', color: EDGE, x, y: position.map((value, i) => value + windows[i]!) };
  const rest: Series[] = [{ name: 'DATA_ACK', shape: 'crosses', color: ACKED, x, y: position, packet }];
  for (const one of report.subflows)
    rest.push(segments(drawn, `subflow ${one.number}`, PALETTE[(one.number - 1) % PALETTE.length]!, (i) => from[i] === side && owner[i] === one.number));
  const again = segments(drawn, 'retransmitted', RETRANSMITTED, (i) => from[i] === side && kind[i] === POINT.retransmission);
  const reinjected = segments(drawn, 'reinjected', REINJECTED, (i) => from[i] === side && kind[i] === POINT.reinjection);
  for (const one of [again, reinjected]) if (one.x.length > 0) rest.push({ ...one, strong: true });
  plot.series.push(edge, ...rest);
  fit(plot, rest);
  return plot;
}

function segments(drawn: Drawn, name: string, color: string, keep: (row: number) => boolean): Series {
  const { payload } = drawn.recording;
  const rows = pick(payload.length, keep);
  const position = at(rows, payload.get('position'));
  const length = at(rows, payload.get('length'));
  return {
    name,
    shape: 'segments',
    color,
    x: at(rows, payload.get('time'), (time) => seconds(drawn, time)),
    y: position,
    y2: position.map((value, i) => value + length[i]!),
    packet: at(rows, payload.get('packet')),
  };
}

function queue(drawn: Drawn, side: Side): Plot {
  const plot = base(drawn.report, 'ooo', side, `Out-of-order queue of what ${WHO[side]} sent, where the capture was made`, 'Bytes behind a hole', 'bytes');
  const { queue: rows } = drawn.recording;
  const from = rows.get('side');
  const chosen = pick(rows.length, (i) => from[i] === side);
  plot.series.push({
    name: 'queue',
    shape: 'steps',
    color: PALETTE[4],
    x: at(chosen, rows.get('time'), (time) => seconds(drawn, time)),
    y: at(chosen, rows.get('bytes')),
  });
  fit(plot, plot.series);
  return plot;
}

function flight(drawn: Drawn, side: Side): Plot {
  const plot = base(drawn.report, 'flight', side, `Bytes in flight, sent by ${WHO[side]}`, 'Bytes in flight', 'bytes');
  bySubflow(drawn, side, plot, 'flight', (value) => value);
  fit(plot, plot.series);
  return plot;
}

function rtt(drawn: Drawn, side: Side): Plot {
  const plot = base(drawn.report, 'rtt', side, `Round-trip time of what ${WHO[side]} sent, by sequence numbers`, 'Round-trip time', 'milliseconds');
  bySubflow(drawn, side, plot, 'rtt', (value) => value / 1000, 'points');
  fit(plot, plot.series);
  return plot;
}

function bySubflow(drawn: Drawn, side: Side, plot: Plot, column: 'flight' | 'rtt', convert: (value: number) => number, shape: Series['shape'] = 'steps'): void {
  const rows = drawn.recording.flight;
  const from = rows.get('side');
  const owner = rows.get('subflow');
  const values = rows.get(column);
  for (const one of drawn.report.subflows) {
    const chosen = pick(rows.length, (i) => from[i] === side && owner[i] === one.number && !Number.isNaN(values[i]!));
    if (chosen.length === 0) continue;
    plot.series.push({
      name: `subflow ${one.number}`,
      shape,
      color: PALETTE[(one.number - 1) % PALETTE.length]!,
      x: at(chosen, rows.get('time'), (time) => seconds(drawn, time)),
      y: at(chosen, values, convert),
    });
  }
}

function window(drawn: Drawn, side: Side): Plot {
  const reader = side === 0 ? 1 : 0;
  const plot = base(drawn.report, 'window', side, `Receive window that ${WHO[reader]} advertised`, 'Window', 'bytes');
  const { acks } = drawn.recording;
  const acker = acks.get('side');
  const owner = acks.get('subflow');
  for (const one of drawn.report.subflows) {
    const rows = pick(acks.length, (i) => acker[i] === reader && owner[i] === one.number);
    if (rows.length === 0) continue;
    plot.series.push({
      name: `subflow ${one.number}`,
      shape: 'steps',
      color: PALETTE[(one.number - 1) % PALETTE.length]!,
      x: at(rows, acks.get('time'), (time) => seconds(drawn, time)),
      y: at(rows, acks.get('window')),
      packet: at(rows, acks.get('packet')),
    });
  }
  fit(plot, plot.series);
  return plot;
}

/** Throughput of the payload on the wire, the subflows on top of one another; needs no recording. */
export function throughputPlot(connection: Connection, report: ConnectionReport, side: Side = largerSide(report)): Plot {
  const plot = base(report, 'throughput', side, `Throughput of what ${WHO[side]} sent, subflows on top of one another`, 'Throughput', 'bits per second');
  const width = Math.max(LEAST_BIN, (report.end - report.start) / THROUGHPUT_BINS);
  const count = Math.ceil((report.end - report.start) / width) + 1;
  const x = Float64Array.from({ length: count }, (_, i) => ((i + 0.5) * width) / 1e6);
  let below = new Float64Array(count);
  for (const subflow of connection.subflows) {
    const bins = subflow.halves[subflow.sideOf(side)].throughput.resampled(report.start, width, count);
    if (bins.every((amount) => amount === 0)) continue;
    const top = below.map((value, i) => value + (bins[i]! * 8e6) / width);
    plot.series.push({ name: `subflow ${subflow.number}`, shape: 'area', color: PALETTE[(subflow.number - 1) % PALETTE.length]!, x, y: below, y2: top });
    below = top;
  }
  fit(plot, plot.series);
  plot.yMin = 0;
  return plot;
}

/** When each subflow was there, and when it carried data. */
function timeline(drawn: Drawn): Plot {
  const { report, connection } = drawn;
  const plot = base(drawn.report, 'timeline', 1, 'Subflows: when they were there, and when they carried data', '', 'count');
  plot.rows = report.subflows.map((one) => `${one.number}  ${one.source}:${one.sourcePort} → ${one.destination}:${one.destinationPort}`);
  plot.yMax = report.subflows.length;
  for (const [i, one] of report.subflows.entries()) {
    const color = PALETTE[i % PALETTE.length]!;
    const row = report.subflows.length - 1 - i;
    plot.series.push({
      name: `subflow ${one.number}`,
      shape: 'bars',
      color: `${color}40`,
      x: Float64Array.of(seconds(drawn, one.start), seconds(drawn, one.end)),
      y: Float64Array.of(row + 0.4, row + 0.4),
      y2: Float64Array.of(row + 0.6, row + 0.6),
    });
    const subflow = connection.subflows[i]!;
    for (const half of subflow.halves) {
      const { throughput: bins } = half;
      const from: number[] = [];
      for (let k = 0; k < bins.used; k++) {
        if (bins.bins[k] === 0) continue;
        from.push(seconds(drawn, bins.origin + k * bins.width), seconds(drawn, bins.origin + (k + 1) * bins.width));
      }
      if (from.length === 0) continue;
      const up = half === subflow.halves[subflow.sideOf(0)];
      const x = Float64Array.from(from);
      plot.series.push({
        name: `subflow ${one.number} ${up ? 'up' : 'down'}`,
        shape: 'bars',
        color,
        x,
        y: x.map(() => row + (up ? 0.62 : 0.12)),
        y2: x.map(() => row + (up ? 0.88 : 0.38)),
      });
    }
  }
  plot.id = 'timeline';
  return plot;
}

/** Beginnings, ends and moves of subflows, as lines across. */
function marks(report: ConnectionReport): Mark[] {
  const out: Mark[] = [];
  for (const event of report.events) {
    const color = PALETTE[Math.max(0, event.subflow - 1) % PALETTE.length]!;
    const x = (event.time - report.start) / 1e6;
    if (event.type === 'subflow-created' && event.join) out.push({ x, label: `join ${event.subflow}`, color });
    else if (event.type === 'subflow-reset') out.push({ x, label: `RST ${event.subflow}`, color: RETRANSMITTED });
    else if (event.type === 'zero-window') out.push({ x, label: `zero window ${event.subflow}`, color: RETRANSMITTED });
    else if (event.type === 'subflow-priority') out.push({ x, label: `MP_PRIO ${event.subflow} ${event.backup ? 'backup' : 'regular'}`, color });
    else if (event.type === 'traffic-moved') out.push({ x, label: `to ${event.to}`, color: PALETTE[(event.to - 1) % PALETTE.length]! });
    else if (event.type === 'connection-fallback') out.push({ x, label: 'fallback', color: RETRANSMITTED });
    if (out.length >= 60) break;
  }
  return out;
}

function fit(plot: Plot, series: readonly Series[]): void {
  let low = Number.POSITIVE_INFINITY;
  let high = Number.NEGATIVE_INFINITY;
  for (const one of series)
    for (let i = 0; i < one.y.length; i++) {
      const a = one.y[i]!;
      const b = one.y2?.[i] ?? a;
      if (a < low) low = a;
      if (b > high) high = b;
    }
  if (!(high > low)) return;
  plot.yMin = Math.min(0, low);
  plot.yMax = high * 1.03;
}

function pick(count: number, keep: (row: number) => boolean): Int32Array {
  const out = new Int32Array(count);
  let n = 0;
  for (let i = 0; i < count; i++) if (keep(i)) out[n++] = i;
  return out.subarray(0, n);
}

function at(rows: Int32Array, column: Float64Array, convert: (value: number) => number = (value) => value): Float64Array {
  const out = new Float64Array(rows.length);
  for (let i = 0; i < rows.length; i++) out[i] = convert(column[rows[i]!]!);
  return out;
}

function seconds(drawn: Drawn, time: number): number {
  return (time - drawn.report.start) / 1e6;
}
