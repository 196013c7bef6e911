/** `subflow trace export`: tables and xplot files for other tools. */
import { join } from 'node:path';
import { Command } from 'commander';
import { withOutput, writeOutput } from '@subflow/link';
import { csvLine, GRAPHS, plotOf, tableOf, TABLES, xplotLines } from '@subflow/trace';
import type { Drawn } from '@subflow/trace';
import { parquetOf } from '@subflow/trace/node';
import { UsageError } from '../../errors.ts';
import { draw } from '../../trace/drawing.ts';
import { noConnection, parseConnection } from '../../trace/errors.ts';
import { reportDamages } from '../../trace/reading.ts';
import { makeFolder } from '../../outputs.ts';

const FORMATS = ['csv', 'parquet', 'xplot'] as const;
const EXAMPLES = `
Tables: seq (each payload: data sequence numbers, subflow, new or sent again), acks (DATA_ACKs with the window), flight, rtt,
queue (out of order), goodput (bits per second in steps of 0.1 s), subflows, events. Times are seconds from the first packet.

Examples:
  subflow trace export a.pcap -d tables                        CSV of everything
  subflow trace export a.pcap -d tables --format parquet       for DuckDB: select * from 'tables/seq.parquet'
  subflow trace export a.pcap -d plots --format xplot          for xplot`;

interface Flags {
  directory: string;
  format: string;
  connection?: string;
  top: string;
}

export function exportCommand(): Command {
  return new Command('export')
    .description('write tables (CSV, Parquet) or xplot files')
    .argument('<file...>', 'captures; - is standard input')
    .option('-d, --directory <path>', 'where to', 'trace')
    .option('--format <name>', FORMATS.join(', '), 'csv')
    .option('--connection <n>', 'only this connection')
    .option('--top <n>', 'how many connections, the largest first', '100')
    .addHelpText('after', EXAMPLES)
    .action(async (files: string[], flags: Flags) => {
      if (!(FORMATS as readonly string[]).includes(flags.format))
        throw new UsageError('BAD_ARGUMENT', `--format "${flags.format}"; expected one of ${FORMATS.join(', ')}`);
      const top = Number(flags.top);
      if (!(top >= 1)) throw new UsageError('BAD_ARGUMENT', `--top "${flags.top}"; expected a number of connections`);
      const { drawn, damages, totals } = await draw(files, parseConnection(flags.connection), top);
      if (drawn.length === 0) throw noConnection(0, totals.mptcpConnections);
      makeFolder(flags.directory);
      const written = flags.format === 'xplot' ? await xplot(drawn, flags.directory) : await tables(drawn, flags.directory, flags.format as 'csv' | 'parquet');
      process.stdout.write(`${written.join('\n')}\n`);
      reportDamages(damages);
    });
}

async function tables(drawn: readonly Drawn[], directory: string, format: 'csv' | 'parquet'): Promise<string[]> {
  const out: string[] = [];
  for (const name of TABLES) {
    const table = tableOf(name, drawn);
    const file = join(directory, `${name}.${format}`);
    if (format === 'parquet') await writeOutput(file, parquetOf(table));
    else
      await writeLines(
        file,
        csvLines(
          table.columns.map((one) => one.name),
          table.rows,
        ),
      );
    out.push(file);
  }
  return out;
}

function* csvLines(names: readonly string[], rows: Iterable<readonly (number | string | boolean | null)[]>): Generator<string> {
  yield csvLine(names);
  for (const row of rows) yield csvLine(row);
}

async function xplot(drawn: readonly Drawn[], directory: string): Promise<string[]> {
  const out: string[] = [];
  for (const one of drawn)
    for (const graph of GRAPHS)
      for (const side of graph === 'timeline' ? ([0] as const) : ([0, 1] as const)) {
        const plot = plotOf(graph, one, side);
        if (plot.series.every((series) => series.x.length === 0)) continue;
        const file = join(directory, `${graph === 'timeline' ? '' : side === 0 ? 'c2s_' : 's2c_'}${graph}_${one.report.index}.xpl`);
        await writeLines(file, xplotLines(plot));
        out.push(file);
      }
  return out;
}

async function writeLines(file: string, lines: Iterable<string>): Promise<void> {
  await withOutput(file, {}, async (output) => {
    let piece = '';
    for (const line of lines) {
      piece += `${line}\n`;
      if (piece.length < 1 << 16) continue;
      output.write(piece);
      await output.drained();
      piece = '';
    }
    output.write(piece);
  });
}
