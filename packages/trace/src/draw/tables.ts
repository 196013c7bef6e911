/** What was recorded of connections as tables: for spreadsheets, databases and other people's scripts. */
import type { Drawn } from './plots.ts';
import { POINT } from '../analysis/data-level.ts';

export const TABLES = ['seq', 'acks', 'flight', 'rtt', 'queue', 'goodput', 'subflows', 'events'] as const;
export type TableName = (typeof TABLES)[number];

export type CellType = 'number' | 'integer' | 'text' | 'boolean';

export interface Table {
  name: TableName;
  columns: { name: string; type: CellType }[];
  rows: Iterable<readonly (number | string | boolean | null)[]>;
}

const KINDS = ['new', 'retransmission', 'reinjection', 'reordered'] as const;
const DIRECTION = ['c2s', 's2c'] as const;
const GOODPUT_STEP = 100_000;
/** Longer connections have wider steps. */
const MOST_STEPS = 100_000;

if (POINT.reordered !== KINDS.length - 1) throw new Error('the names of the kinds do not fit');

/** A table over all connections. Times are seconds from the capture's first packet. */
export function tableOf(name: TableName, drawn: readonly Drawn[]): Table {
  const head = [column('connection', 'integer'), column('time', 'number')];
  switch (name) {
    case 'seq':
      return {
        name,
        columns: [
          ...head,
          column('direction', 'text'),
          column('subflow', 'integer'),
          column('dsn_start', 'integer'),
          column('dsn_end', 'integer'),
          column('kind', 'text'),
          column('packet', 'integer'),
        ],
        rows: rowsOf(drawn, function* ({ recording, report }) {
          const c = recording.payload;
          const [time, side, subflow, position, length, kind, packet] = [
            c.get('time'),
            c.get('side'),
            c.get('subflow'),
            c.get('position'),
            c.get('length'),
            c.get('kind'),
            c.get('packet'),
          ];
          for (let i = 0; i < c.length; i++)
            yield [
              report.index,
              time[i]! / 1e6,
              DIRECTION[side[i] as 0 | 1],
              subflow[i]!,
              position[i]!,
              position[i]! + length[i]!,
              KINDS[kind[i] as 0]!,
              packet[i]!,
            ];
        }),
      };
    case 'acks':
      return {
        name,
        columns: [
          ...head,
          column('direction', 'text'),
          column('subflow', 'integer'),
          column('data_ack', 'integer'),
          column('window', 'integer'),
          column('packet', 'integer'),
        ],
        rows: rowsOf(drawn, function* ({ recording, report }) {
          const c = recording.acks;
          const [time, side, subflow, position, window, packet] = [
            c.get('time'),
            c.get('side'),
            c.get('subflow'),
            c.get('position'),
            c.get('window'),
            c.get('packet'),
          ];
          // The direction is that of the data which is acknowledged.
          for (let i = 0; i < c.length; i++)
            yield [report.index, time[i]! / 1e6, DIRECTION[(1 - side[i]!) as 0 | 1], subflow[i]!, position[i]!, window[i]!, packet[i]!];
        }),
      };
    case 'flight':
    case 'rtt':
      return {
        name,
        columns: [...head, column('direction', 'text'), column('subflow', 'integer'), column(name === 'flight' ? 'bytes' : 'rtt_ms', 'number')],
        rows: rowsOf(drawn, function* ({ recording, report }) {
          const c = recording.flight;
          const [time, side, subflow, value] = [c.get('time'), c.get('side'), c.get('subflow'), c.get(name)];
          for (let i = 0; i < c.length; i++)
            if (!Number.isNaN(value[i]!))
              yield [report.index, time[i]! / 1e6, DIRECTION[side[i] as 0 | 1], subflow[i]!, name === 'flight' ? value[i]! : value[i]! / 1000];
        }),
      };
    case 'queue':
      return {
        name,
        columns: [...head, column('direction', 'text'), column('bytes', 'integer')],
        rows: rowsOf(drawn, function* ({ recording, report }) {
          const c = recording.queue;
          const [time, side, bytes] = [c.get('time'), c.get('side'), c.get('bytes')];
          for (let i = 0; i < c.length; i++) yield [report.index, time[i]! / 1e6, DIRECTION[side[i] as 0 | 1], bytes[i]!];
        }),
      };
    case 'goodput':
      return {
        name,
        columns: [...head, column('direction', 'text'), column('subflow', 'integer'), column('bits_per_second', 'number')],
        rows: rowsOf(drawn, function* ({ connection, report }) {
          const step = Math.max(GOODPUT_STEP, (report.end - report.start) / MOST_STEPS);
          const count = Math.ceil((report.end - report.start) / step) + 1;
          for (const subflow of connection.subflows)
            for (const side of [0, 1] as const) {
              const bins = subflow.halves[subflow.sideOf(side)].throughput.resampled(report.start, step, count);
              for (let i = 0; i < count; i++)
                if (bins[i]! > 0) yield [report.index, (report.start + i * step) / 1e6, DIRECTION[side], subflow.number, (bins[i]! * 8e6) / step];
            }
        }),
      };
    case 'subflows':
      return {
        name,
        columns: [
          column('connection', 'integer'),
          column('subflow', 'integer'),
          column('kind', 'text'),
          column('source', 'text'),
          column('source_port', 'integer'),
          column('destination', 'text'),
          column('destination_port', 'integer'),
          column('start', 'number'),
          column('end', 'number'),
          column('handshake_ms', 'number'),
          column('backup_client', 'boolean'),
          column('backup_server', 'boolean'),
          column('c2s_bytes', 'integer'),
          column('s2c_bytes', 'integer'),
          column('c2s_retransmitted', 'integer'),
          column('s2c_retransmitted', 'integer'),
          column('c2s_reinjected', 'integer'),
          column('s2c_reinjected', 'integer'),
        ],
        rows: rowsOf(drawn, function* ({ report }) {
          for (const one of report.subflows) {
            const [up, down] = one.sent;
            yield [
              report.index,
              one.number,
              one.kind,
              one.source,
              one.sourcePort,
              one.destination,
              one.destinationPort,
              one.start / 1e6,
              one.end / 1e6,
              one.handshake === null ? null : one.handshake / 1000,
              one.backup[0],
              one.backup[1],
              up.bytes,
              down.bytes,
              up.retransmittedBytes,
              down.retransmittedBytes,
              up.reinjectedBytes,
              down.reinjectedBytes,
            ];
          }
        }),
      };
    case 'events':
      return {
        name,
        columns: [
          ...head,
          column('packet', 'integer'),
          column('subflow', 'integer'),
          column('by', 'text'),
          column('severity', 'text'),
          column('type', 'text'),
          column('details', 'text'),
        ],
        rows: rowsOf(drawn, function* ({ report }) {
          for (const { time, packet, subflow, by, severity, type, connection, ...details } of report.events)
            yield [connection, time / 1e6, packet, subflow, by === 0 ? 'client' : 'server', severity, type, JSON.stringify(details)];
        }),
      };
  }
}

function column(name: string, type: CellType): { name: string; type: CellType } {
  return { name, type };
}

function rowsOf<T>(drawn: readonly Drawn[], each: (one: Drawn) => Generator<T>): Iterable<T> {
  return {
    *[Symbol.iterator]() {
      for (const one of drawn) yield* each(one);
    },
  };
}

/** RFC 4180. */
export function csvLine(cells: readonly (number | string | boolean | null)[]): string {
  return cells
    .map((cell) => (cell === null ? '' : typeof cell === 'string' && /[",\n]/.test(cell) ? `"${cell.replaceAll('"', '""')}"` : String(cell)))
    .join(',');
}
