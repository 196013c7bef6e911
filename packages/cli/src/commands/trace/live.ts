/** `subflow trace live`: the same views while it happens. */
import { Command } from 'commander';
import { LINKTYPE } from '@subflow/wire';
import { interfaceNames, PacketTap } from '@subflow/link';
import { Analyzer, connectionLines, connectionReport, PLAIN, sentence, terminalPlot, throughputPlot, totalsLines } from '@subflow/trace';
import type { Connection } from '@subflow/trace';
import { UsageError } from '../../errors.ts';
import { Redraw } from '../../network/terminal.ts';
import { spanOf } from '../../trace/reading.ts';
import { COLOURED } from './summary.ts';

const EXAMPLES = `
Examples:
  subflow trace live                       all interfaces, drawn twice a second; Ctrl-C ends with a summary
  subflow trace live wlan0 --for 30        one interface, half a minute
  subflow trace live --events              one line for each thing that happens
  subflow trace live --json | jq .type     the same as JSON

Needs CAP_NET_RAW (root). Nothing is sent and nothing is changed. Only headers are read.`;

/** Headers: IPv6 with extensions, TCP with options. */
const SNAP = 256;
const DRAW_EVERY = 500;
const RESCAN_EVERY = 1000;
const SHOWN = 4;

interface Flags {
  for?: string;
  events: boolean;
  json: boolean;
}

export function liveCommand(): Command {
  return new Command('live')
    .description('watch an interface: connections, subflows, events')
    .argument('[interface]', 'name of an interface; all of them by default')
    .option('--for <seconds>', 'stop after this time')
    .option('--events', 'a line for each event instead of drawing', false)
    .option('--json', 'a line of JSON for each event', false)
    .addHelpText('after', EXAMPLES)
    .action(async (name: string | undefined, flags: Flags) => {
      const limit = flags.for === undefined ? null : Number(flags.for);
      if (limit !== null && !(limit > 0)) throw new UsageError('BAD_ARGUMENT', `--for "${flags.for}"; expected seconds`);
      const known = new Map<number, Connection>();
      const paint = process.stdout.isTTY ? COLOURED : PLAIN;
      const analyzer: Analyzer = new Analyzer({
        detail: 'full',
        onConnection: (connection) => known.set(connection.index, connection),
        onEvent: (event) => {
          if (flags.json) process.stdout.write(`${JSON.stringify(event)}\n`);
          else if (flags.events) {
            const connection = [...analyzer.openConnections].find((one) => one.index === event.connection) ?? known.get(event.connection);
            if (connection !== undefined)
              process.stdout.write(`${(event.time / 1e6).toFixed(3).padStart(10)} s  #${event.connection}  ${sentence(event, connectionReport(connection))}\n`);
          }
        },
      });
      const started = Date.now();
      const clock = performance.now();
      const now = (): { seconds: number; nanoseconds: number } => {
        const micros = started * 1000 + (performance.now() - clock) * 1000;
        const seconds = Math.floor(micros / 1e6);
        return { seconds, nanoseconds: Math.floor((micros - seconds * 1e6) * 1000) };
      };
      const taps = new Map<string, PacketTap>();
      const open = (one: string): void => {
        const index = taps.size;
        // On loopback every packet comes by twice.
        const tap = new PacketTap({ interface: one, snapLength: SNAP, ignoreOutgoing: one === 'lo' }, (bytes, length) => {
          const { seconds, nanoseconds } = now();
          analyzer.frame(new DataView(bytes.buffer, 0, length), bytes, 0, length, length, LINKTYPE.raw, seconds, nanoseconds, index);
          for (const old of known.keys()) if (known.size > 64) known.delete(old);
        });
        taps.set(one, tap);
      };
      for (const one of name === undefined ? interfaceNames() : [name]) open(one);
      analyzer.severalInterfaces = name === undefined;
      // Interfaces that come later: a phone finds its Wi-Fi.
      const rescan = name === undefined ? setInterval(() => interfaceNames().forEach((one) => taps.has(one) || open(one)), RESCAN_EVERY) : null;
      const redraw = process.stdout.isTTY && !flags.json && !flags.events ? new Redraw(process.stdout) : null;
      const timer = setInterval(() => redraw?.draw(screen(analyzer, [...known.values()])), DRAW_EVERY);
      await new Promise<void>((resolve) => {
        process.once('SIGINT', resolve);
        process.once('SIGTERM', resolve);
        if (limit !== null) setTimeout(resolve, limit * 1000);
      });
      clearInterval(timer);
      if (rescan !== null) clearInterval(rescan);
      for (const tap of taps.values()) {
        tap.drain();
        tap.close();
      }
      redraw?.end();
      analyzer.end();
      if (flags.json) return;
      const lines = totalsLines(analyzer.totals(), [name ?? 'all interfaces'], spanOf(analyzer));
      for (const connection of [...known.values()].slice(-SHOWN)) lines.push('', ...connectionLines(connectionReport(connection), paint, { story: true }));
      process.stdout.write(`${lines.join('\n')}\n`);
    });
}

function screen(analyzer: Analyzer, finished: readonly Connection[]): string[] {
  const columns = process.stdout.columns ?? 100;
  const rows = process.stdout.rows ?? 30;
  const open = [...analyzer.openConnections].filter((one) => one.subflows.length > 0);
  const shown = [...open, ...finished.toReversed()].slice(0, SHOWN);
  const lines = totalsLines(analyzer.totals(), ['live'], spanOf(analyzer)).slice(0, 2);
  const first = shown[0];
  if (first !== undefined) lines.push(...terminalPlot(throughputPlot(first, connectionReport(first)), columns, Math.min(16, Math.floor(rows / 2)), COLOURED));
  for (const connection of shown) lines.push(...connectionLines(connectionReport(connection), COLOURED));
  return lines.slice(0, rows - 2);
}
