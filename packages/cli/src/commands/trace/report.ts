/** `subflow trace report`: one page with everything, to look at and to hand on. */
import { Command } from 'commander';
import { writeOutput } from '@subflow/link';
import { htmlReport } from '@subflow/trace/node';
import { UsageError } from '../../errors.ts';
import { draw } from '../../trace/drawing.ts';
import { noConnection, parseConnection } from '../../trace/errors.ts';
import { reportDamages } from '../../trace/reading.ts';
import { wordsBeside } from '../../outputs.ts';

const EXAMPLES = `
Examples:
  subflow trace report a.pcap                        report.html
  subflow trace report wifi.pcap lte.pcap -o walk.html --title 'The walk home'
  subflow trace report a.pcap --connection 3

The page needs nothing else: no server, no network. It zooms with the wheel and tells about each point under the mouse.`;

interface Flags {
  output: string;
  connection?: string;
  top: string;
  title?: string;
}

export function reportCommand(): Command {
  return new Command('report')
    .description('write one self-contained HTML page')
    .argument('<file...>', 'captures; - is standard input')
    .option('-o, --output <file>', 'where to; - is standard output', 'report.html')
    .option('--connection <n>', 'only this connection')
    .option('--top <n>', 'how many connections, the largest first', '5')
    .option('--title <text>', 'title of the page')
    .addHelpText('after', EXAMPLES)
    .action(async (files: string[], flags: Flags) => {
      const top = Number(flags.top);
      if (!(top >= 1 && top <= 100)) throw new UsageError('BAD_ARGUMENT', `--top "${flags.top}"; expected 1 to 100`);
      const words = wordsBeside({ '--output': flags.output });
      const capture = await draw(files, parseConnection(flags.connection), top);
      if (capture.drawn.length === 0) throw noConnection(0, 0);
      const page = htmlReport({
        title: flags.title ?? `Multipath TCP in ${files.join(', ')}`,
        totals: capture.totals,
        span: capture.span,
        files,
        drawn: capture.drawn,
        left: capture.totals.mptcpConnections - capture.drawn.length,
      });
      await writeOutput(flags.output, page);
      words.write(
        `${flags.output}: ${(page.length / 1e6).toFixed(1)} MB, ${capture.drawn.length} of ${capture.totals.mptcpConnections} Multipath TCP connections\n`,
      );
      reportDamages(capture.damages);
    });
}
