/** `subflow iperf`: throughput, with a line for each subflow. */
import type { AddressInfo } from 'node:net';
import { Command } from 'commander';
import { fail, UsageError } from '../errors.ts';
import { iperfClient } from '../iperf/client.ts';
import { LONGEST_TEST, MOST_CONNECTIONS } from '../iperf/protocol.ts';
import type { Interval } from '../iperf/protocol.ts';
import { iperfServer } from '../iperf/server.ts';
import { BACKEND_HELP, openBackend, parsePort, withBackend } from '../network/backend-options.ts';
import type { BackendFlags } from '../network/backend-options.ts';
import { endpoint, summary } from '../network/facts.ts';
import { rateText, sizeText } from '../network/terminal.ts';

const EXAMPLES = `
Examples:
  subflow iperf -s                              the server, on every address
  subflow iperf -c server.example               upload for ten seconds
  subflow iperf -c server.example -R -t 30      download
  subflow iperf -c server.example -n 100M --json | jq .bitsPerSecond
${BACKEND_HELP}

It does not speak iperf3's protocol; for that: mptcpize run iperf3.`;

interface Flags extends BackendFlags {
  server: boolean;
  client?: string;
  port: string;
  bind?: string;
  reverse: boolean;
  time: string;
  bytes?: string;
  parallel: string;
  interval: string;
  json: boolean;
}

export function iperfCommand(): Command {
  return withBackend(new Command('iperf'))
    .description('throughput test, per subflow')
    .option('-s, --server', 'be the server', false)
    .option('-c, --client <host>', 'be the client of this server')
    .option('-p, --port <port>', 'port', '5301')
    .option('--bind <address>', 'server: address to listen on', '::')
    .option('-R, --reverse', 'the server sends', false)
    .option('-t, --time <seconds>', 'how long', '10')
    .option('-n, --bytes <amount>', 'how much instead, such as 100M')
    .option('-P, --parallel <connections>', 'connections at once', '1')
    .option('-i, --interval <seconds>', 'between lines', '1')
    .option('--json', 'the result as JSON and nothing else', false)
    .addHelpText('after', EXAMPLES)
    .action(async (flags: Flags) => {
      if (flags.server === (flags.client !== undefined)) throw new UsageError('BAD_ARGUMENT', 'expected either -s or -c HOST');
      const multipath = openBackend(flags);
      const port = parsePort(flags.port, flags.server ? 0 : 1);
      if (flags.server) {
        const server = iperfServer(multipath, (line) => process.stdout.write(`${line}\n`));
        server.on('error', fail);
        server.listen({ port, host: flags.bind! }, () => {
          const { address, port: bound } = server.address() as AddressInfo;
          process.stdout.write(`listening on ${endpoint(address, bound)}\n`);
        });
        return;
      }
      const bytes = flags.bytes === undefined ? 0 : parseAmount(flags.bytes);
      const result = await iperfClient({
        host: flags.client!,
        port,
        reverse: flags.reverse,
        seconds: flags.bytes === undefined ? number('--time', flags.time, 0.1, LONGEST_TEST) : LONGEST_TEST,
        bytes,
        connections: number('--parallel', flags.parallel, 1, MOST_CONNECTIONS),
        interval: number('--interval', flags.interval, 0.1, LONGEST_TEST),
        multipath,
        onInterval: (interval) => {
          if (!flags.json) process.stdout.write(lines(interval));
        },
      });
      if (flags.json) process.stdout.write(`${JSON.stringify(result)}\n`);
      else {
        process.stdout.write(
          `${sizeText(result.bytes)} ${result.reverse ? 'received' : 'sent'} in ${result.seconds.toFixed(2)} s: ${rateText(result.bitsPerSecond)}; ${summary(result.connections[0] ?? null)}\n`,
        );
      }
      process.exit(0);
    });
}

function lines(interval: Interval): string {
  const span = `${interval.from.toFixed(1).padStart(6)} – ${interval.to.toFixed(1).padEnd(6)} s`;
  const head = `${span} ${rateText(interval.bitsPerSecond).padStart(13)}\n`;
  const rest = interval.subflows.map(
    (one) =>
      `                  ${rateText(one.bitsPerSecond).padStart(13)}  ${one.name.padEnd(10)} ${one.local} → ${one.remote}  RTT ${(one.srtt / 1000).toFixed(1)} ms  cwnd ${sizeText(one.cwnd)}  retrans ${one.retransmissions}\n`,
  );
  return head + rest.join('');
}

function number(flag: string, text: string, low: number, high: number): number {
  const value = Number(text);
  if (!(value >= low && value <= high)) throw new UsageError('BAD_ARGUMENT', `${flag} "${text}"; expected ${low} to ${high}`);
  return value;
}

function parseAmount(text: string): number {
  const match = /^(\d+(?:\.\d+)?)([kMG]?)$/.exec(text);
  if (match === null || Number(match[1]) === 0) throw new UsageError('BAD_ARGUMENT', `--bytes "${text}"; expected an amount such as 100M`);
  return Math.round(Number(match[1]) * { '': 1, k: 1e3, M: 1e6, G: 1e9 }[match[2] as '' | 'k' | 'M' | 'G']);
}
