/** `subflow trace graph`: one picture of one connection, in the terminal or in a file. */
import { Command } from 'commander';
import { outputTarget, writeOutput } from '@subflow/link';
import { GRAPHS, PLAIN, plotOf, signallingLines, signallingSvg, svgOf, terminalPlot, zoomed } from '@subflow/trace';
import type { Graph } from '@subflow/trace';
import { UsageError } from '../../errors.ts';
import { noConnection, parseConnection } from '../../trace/errors.ts';
import { draw } from '../../trace/drawing.ts';
import { pngOf } from '../../trace/png.ts';
import { reportDamages } from '../../trace/reading.ts';
import { COLOURED } from './summary.ts';

const KINDS = [...GRAPHS, 'signalling'] as const;
const EXAMPLES = `
Graphs:
  seq          data sequence numbers over time, coloured by subflow; DATA_ACKs, reinjections, the right edge of the window
  ooo          bytes that wait behind a hole        flight      bytes in flight on each subflow
  rtt          round-trip times                     window      receive window on each subflow
  throughput   subflows on top of one another       timeline    when each subflow was there and carried data
  signalling   the signalling packets as a sequence diagram

Examples:
  subflow trace graph seq a.pcap                      in the terminal
  subflow trace graph seq a.pcap -o seq.svg           SVG; .png for a PNG
  subflow trace graph throughput a.pcap --connection 2 --up
  subflow trace graph seq a.pcap --from 4.7 --to 5.2  zoom to the handover`;

interface Flags {
  connection?: string;
  output?: string;
  up: boolean;
  down: boolean;
  from?: string;
  to?: string;
  width?: string;
  height?: string;
}

export function graphCommand(): Command {
  return new Command('graph')
    .description('draw one graph of one connection')
    .argument('<kind>', KINDS.join(', '))
    .argument('<file...>', 'captures; - is standard input')
    .option('--connection <n>', 'which connection; default: the largest')
    .option('-o, --output <file>', 'write .svg or .png instead of drawing in the terminal; - is standard output (SVG)')
    .option('--up', "the client's data", false)
    .option('--down', "the server's data", false)
    .option('--from <seconds>', 'begin here, seconds from the start of the connection')
    .option('--to <seconds>', 'end here')
    .option('--width <n>', 'columns, or pixels of a file')
    .option('--height <n>', 'rows, or pixels of a file')
    .addHelpText('after', EXAMPLES)
    .action(async (kind: string, files: string[], flags: Flags) => {
      if (!(KINDS as readonly string[]).includes(kind)) throw new UsageError('BAD_ARGUMENT', `"${kind}" is not a graph; expected one of ${KINDS.join(', ')}`);
      // What is not a file by name gets SVG.
      if (flags.output !== undefined && !/\.(svg|png)$/.test(flags.output) && ['file', 'absent'].includes(outputTarget(flags.output).kind))
        throw new UsageError('BAD_ARGUMENT', `--output "${flags.output}"; expected a name that ends in .svg or .png`);
      const width = size(flags.width, '--width');
      const height = size(flags.height, '--height');
      const { drawn, damages, totals } = await draw(files, parseConnection(flags.connection), 1);
      const one = drawn[0];
      if (one === undefined) throw noConnection(0, totals.mptcpConnections);
      if (kind === 'signalling') {
        const svg = signallingSvg(one.report);
        if (flags.output === undefined) process.stdout.write(`${signallingLines(one.report).join('\n')}\n`);
        else await writeOutput(flags.output, flags.output.endsWith('.png') ? pngOf(svg) : svg);
      } else {
        let plot = plotOf(kind as Graph, one, flags.up ? 0 : flags.down ? 1 : null);
        const from = seconds(flags.from, '--from') ?? plot.xMin;
        const to = seconds(flags.to, '--to') ?? plot.xMax;
        if (!(from < to)) throw new UsageError('BAD_ARGUMENT', `--from ${from} is not before --to ${to}; the connection lasts ${plot.xMax.toFixed(3)} s`);
        if (from !== plot.xMin || to !== plot.xMax) plot = zoomed(plot, from, to);
        if (flags.output === undefined) {
          const lines = terminalPlot(
            plot,
            width ?? process.stdout.columns ?? 110,
            height ?? Math.min(40, (process.stdout.rows ?? 34) - 2),
            process.stdout.isTTY ? COLOURED : PLAIN,
          );
          process.stdout.write(`${lines.join('\n')}\n`);
        } else {
          const svg = svgOf(plot, { ...(width === null ? {} : { width }), ...(height === null ? {} : { height }) });
          await writeOutput(flags.output, flags.output.endsWith('.png') ? pngOf(svg) : svg);
        }
      }
      reportDamages(damages);
    });
}

function size(text: string | undefined, option: string): number | null {
  if (text === undefined) return null;
  const value = Number(text);
  if (!(value >= 8 && value <= 20_000)) throw new UsageError('BAD_ARGUMENT', `${option} "${text}"; expected 8 to 20000`);
  return value;
}

function seconds(text: string | undefined, option: string): number | null {
  if (text === undefined) return null;
  const value = Number(text);
  if (Number.isNaN(value)) throw new UsageError('BAD_ARGUMENT', `${option} "${text}"; expected seconds from the start of the connection`);
  return value;
}
