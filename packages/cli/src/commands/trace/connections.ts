/** `subflow trace connections`: one connection after the other, as it ends. */
import { Command } from 'commander';
import { connectionReport } from '@subflow/trace';
import { size } from '@subflow/trace';
import { LineWriter } from '../../trace/lines.ts';
import { analyse, reportDamages } from '../../trace/reading.ts';

const EXAMPLES = `
Examples:
  subflow trace connections a.pcap                           a line for each
  subflow trace connections a.pcap --json | jq 'select(.fallback != null)'
  subflow trace connections growing.pcap --follow --json     as they end, while the file grows

The JSON is that of docs/trace.md. Memory follows the number of open connections, not the length of the capture.`;

interface Flags {
  json: boolean;
  follow: boolean;
  events: boolean;
}

export function connectionsCommand(): Command {
  return new Command('connections')
    .description('every Multipath TCP connection, streamed as it ends')
    .argument('<file...>', 'captures; - is standard input')
    .option('--json', 'a JSON object for each', false)
    .option('--no-events', 'leave the list of events out')
    .option('--follow', 'wait for more at the end of the file', false)
    .addHelpText('after', EXAMPLES)
    .action(async (files: string[], flags: Flags) => {
      const out = new LineWriter(process.stdout);
      const { damages } = await analyse(
        files,
        {
          detail: 'full',
          onConnection: (connection) => {
            const report = connectionReport(connection);
            if (flags.json) {
              out.line(JSON.stringify(flags.events ? report : { ...report, events: undefined }));
              return;
            }
            const [up, down] = report.directions;
            out.line(
              `#${report.index}\t${report.client} → ${report.server}\t${report.version === null ? 'v?' : `v${report.version}`}\t${report.subflows.length} subflows\t${((report.end - report.start) / 1e6).toFixed(3)} s\tup ${size(up.bytes)}\tdown ${size(down.bytes)}\t${report.fallback === null ? 'multipath' : `fallback: ${report.fallback.reason}`}`,
            );
          },
        },
        () => !out.closed,
        { follow: flags.follow },
      );
      await out.end();
      reportDamages(damages);
    });
}
