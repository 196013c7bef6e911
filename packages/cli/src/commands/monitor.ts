/** `subflow monitor`: connections and their subflows, live. */
import { Command } from 'commander';
import { kernelMptcpObstacle } from '@subflow/link';
import { kernelSnapshot, RateMeter, stackSnapshots } from '@subflow/net';
import type { StatusSnapshot, View } from '@subflow/net';
import { fail, UsageError } from '../errors.ts';
import { serveMetrics } from '../monitor/prometheus.ts';
import { drawView } from '../monitor/screen.ts';
import { parsePort } from '../network/backend-options.ts';
import { Redraw } from '../network/terminal.ts';

const EXAMPLES = `
Examples:
  subflow monitor                                 the kernel and every stack of ours, once a second
  subflow monitor --interval 0.2 --interfaces wifi,lte
  subflow monitor --json | jq .connections        a line of JSON for each look
  subflow monitor --prometheus 9464               /metrics for Prometheus, nothing drawn
  ip netns exec NAME subflow monitor              another namespace

The kernel's side comes from netlink (as ss -M and nstat have it); root sees the subflows' tokens. Our stacks are those of
\`subflow … --backend stack\` and of programs that call publishStatus().`;

interface Flags {
  interval: string;
  interfaces?: string;
  json: boolean;
  once: boolean;
  plain: boolean;
  prometheus?: string;
  bind: string;
}

export function monitorCommand(): Command {
  return new Command('monitor')
    .description('live view of Multipath TCP connections and their subflows')
    .option('--interval <seconds>', 'time between looks', '1')
    .option('--interfaces <names>', 'interfaces to draw, with commas between; default: those in use')
    .option('--json', 'a line of JSON for each look', false)
    .option('--once', 'two looks and the end', false)
    .option('--plain', 'no colours, no redrawing: blocks of lines', false)
    .option('--prometheus <port>', 'serve /metrics instead of drawing')
    .option('--bind <address>', 'address for --prometheus', '127.0.0.1')
    .addHelpText('after', EXAMPLES)
    .action(async (flags: Flags) => {
      const interval = Number(flags.interval);
      if (!(interval >= 0.05 && interval <= 3600)) throw new UsageError('BAD_ARGUMENT', `--interval "${flags.interval}"; expected 0.05 to 3600 seconds`);
      const meter = new RateMeter();
      const look = async (): Promise<View> => meter.update(await snapshots());
      if (flags.prometheus !== undefined) {
        const port = parsePort(flags.prometheus, 0);
        const server = serveMetrics(port, flags.bind, look, () =>
          process.stdout.write(`metrics on http://${flags.bind}:${(server.address() as { port: number }).port}/metrics\n`),
        );
        server.on('error', fail);
        return;
      }
      const interfaces = flags.interfaces?.split(',') ?? null;
      const redraw = new Redraw(process.stdout);
      const live = process.stdout.isTTY && !flags.plain && !flags.json && !flags.once;
      for (let looks = 0; ; looks++) {
        const view = await look();
        if (flags.json) process.stdout.write(`${JSON.stringify(view)}\n`);
        else if (live) redraw.draw(drawView(view, { columns: process.stdout.columns, rows: process.stdout.rows, interfaces, plain: false }));
        else if (!flags.once || looks > 0) process.stdout.write(`${drawView(view, { columns: 120, rows: 1000, interfaces, plain: true }).join('\n')}\n\n`);
        if (flags.once && looks > 0) return;
        await new Promise((resolve) => setTimeout(resolve, interval * 1000));
      }
    });
}

const obstacle = process.platform === 'linux' ? kernelMptcpObstacle() : null;

async function snapshots(): Promise<StatusSnapshot[]> {
  return [...(process.platform === 'linux' && obstacle === null ? [kernelSnapshot()] : []), ...(await stackSnapshots())];
}
