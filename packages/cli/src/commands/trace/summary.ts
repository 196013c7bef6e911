/** `subflow trace FILE…`: connections, subflows, verdicts. */
import { styleText } from 'node:util';
import type { Command } from 'commander';
import { connectionLines, connectionReport, Largest, PLAIN, totalsLines } from '@subflow/trace';
import type { ConnectionReport, Paint } from '@subflow/trace';
import { UsageError } from '../../errors.ts';
import { color } from '../../network/terminal.ts';
import { noConnection, parseConnection } from '../../trace/errors.ts';
import { analyse, reportDamages, spanOf } from '../../trace/reading.ts';

interface Flags {
  all: boolean;
  brief: boolean;
  connection?: string;
  json: boolean;
  top: string;
}

export function withSummary(command: Command): Command {
  return command
    .argument('[file...]', 'captures (pcap, pcapng, also .gz or .zst); several are merged by time; - is standard input')
    .option('--connection <n>', 'only this one, with its whole story')
    .option('--top <n>', 'how many connections to show, the largest first', '10')
    .option('--all', 'every connection and subflow, none left out', false)
    .option('--brief', 'counts alone: handshakes, options, bytes; no retransmissions, no data level (fastest)', false)
    .option('--json', 'one JSON object', false)
    .action(async (files: string[], flags: Flags) => {
      if (files.length === 0)
        throw new UsageError('BAD_ARGUMENT', 'no capture was named; expected `subflow trace FILE…` (- is standard input), see `subflow trace --help`');
      const top = flags.all ? Number.MAX_SAFE_INTEGER : Number(flags.top);
      if (!(top >= 0)) throw new UsageError('BAD_ARGUMENT', `--top "${flags.top}"; expected a number of connections`);
      const only = parseConnection(flags.connection);
      const kept = new Largest<ConnectionReport>(only === null ? top : 1);
      const { analyzer, damages } = await analyse(files, {
        detail: flags.brief ? 'summary' : 'full',
        onConnection: (connection) => {
          if (only !== null && connection.index !== only) return;
          const bytes = connection.subflows.reduce((total, one) => total + one.halves[0].bytes + one.halves[1].bytes, 0);
          kept.offer(bytes, () => connectionReport(connection));
        },
      });
      const totals = analyzer.totals();
      if (only !== null && kept.values.length === 0) throw noConnection(only, totals.mptcpConnections);
      const reports = kept.values.toSorted((a, b) => a.index - b.index);
      const span = spanOf(analyzer);
      if (flags.json) {
        process.stdout.write(
          `${JSON.stringify({ files, start: span.start, seconds: span.seconds, totals: { ...totals, options: [...totals.options] }, connections: reports, damages })}\n`,
        );
      } else {
        const paint = process.stdout.isTTY ? COLOURED : PLAIN;
        const lines = totalsLines(totals, files, span);
        for (const report of reports)
          lines.push('', ...connectionLines(report, paint, { story: only !== null || (!flags.brief && reports.length <= 3), all: flags.all }));
        if (kept.seen > reports.length) lines.push('', `and ${kept.seen - reports.length} smaller Multipath TCP connections (--all, --top N)`);
        process.stdout.write(`${lines.join('\n')}\n`);
      }
      reportDamages(damages);
    });
}

export const COLOURED: Paint = {
  bold: (text) => styleText('bold', text),
  dim: (text) => styleText('dim', text),
  subflow: (index, text) => color(index, text),
  severity: (severity, text) => (severity === 'error' ? styleText('red', text) : severity === 'warning' ? styleText('yellow', text) : text),
};
