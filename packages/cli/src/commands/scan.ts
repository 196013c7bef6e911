/** `subflow scan`: which of many servers speak Multipath TCP? */
import { createReadStream, existsSync, readFileSync } from 'node:fs';
import { createInterface } from 'node:readline';
import { Command } from 'commander';
import { OutputFile, outputTarget } from '@subflow/link';
import { formatAddress } from '@subflow/wire';
import type { IpAddress } from '@subflow/wire';
import { blocked, DEFAULT_RATE, NEVER, prefix, Scanner, ScanSummary, targetsOf } from '@subflow/probe';
import type { Prefix, ScanResult } from '@subflow/probe';
import { resolveTarget } from '@subflow/probe/node';
import { numberOf, readText, UsageError } from '../errors.ts';
import { wordsBeside } from '../outputs.ts';
import { ProbeSession, withPort } from '../probe/session.ts';
import type { PortFlags } from '../probe/session.ts';

const EXAMPLES = `
Examples:
  subflow scan hosts.txt -o results.jsonl         a host a line: NAME, NAME:PORT, ADDRESS, [IPv6]:PORT
  subflow scan hosts.txt -o results.jsonl         again after an interruption: what is in the file is not asked again
  cut -f1 sites.tsv | subflow scan - --port 443   from a pipe, results on standard output
  subflow scan list --i-own-this 192.0.2.0/24     ranges are refused unless somebody says that they are his
  subflow scan list --block never.txt --rate 50   prefixes that are left alone; SYNs a second

Each target gets a SYN with version 1 and, if it answers as plain TCP, one with version 0; what was opened is reset.
The default is ${DEFAULT_RATE} SYNs a second. Loopback (unless --i-own-this says so), multicast and reserved ranges are never asked.`;

const MOST_RATE = 100_000;

interface Flags extends PortFlags {
  output?: string;
  port: string;
  rate: string;
  atOnce: string;
  iOwnThis: string[];
  block?: string;
  wait: string;
  tries: string;
  pcapng?: string;
  fresh?: boolean;
}

export function scanCommand(): Command {
  const collect = (value: string, all: string[]): string[] => [...all, value];
  const command = new Command('scan')
    .description('find out which of many servers speak Multipath TCP')
    .argument('<file>', 'list of targets; - is standard input')
    .option('-o, --output <file>', 'JSON lines, appended to what is there; standard output by default')
    .option('--fresh', 'begin anew: overwrite the output')
    .option('--port <n>', 'port of targets without one', '80')
    .option('--rate <n>', 'SYNs a second', String(DEFAULT_RATE))
    .option('--at-once <n>', 'targets asked at the same time', '500')
    .option('--tries <n>', 'SYNs for each question', '3')
    .option('--wait <seconds>', 'first wait for an answer, doubled each time', '1')
    .option('--i-own-this <prefix>', 'a range that may be scanned; may be repeated', collect, [])
    .option('--block <file>', 'prefixes that must not be asked, one a line')
    .option('--pcapng <file>', 'every packet sent and received')
    .addHelpText('after', EXAMPLES);
  return withPort(command).action(scan);
}

async function scan(file: string, flags: Flags): Promise<void> {
  const owned = flags.iOwnThis.map(prefix);
  const block =
    flags.block === undefined
      ? []
      : readText(flags.block)
          .split('\n')
          .map((line) => line.replace(/#.*/, '').trim())
          .filter((line) => line !== '')
          .map(prefix);
  const rate = numberOf('--rate', flags.rate, 0.1, MOST_RATE);
  const port = numberOf('--port', flags.port, 1, 65_535);
  const options = {
    rate,
    atOnce: numberOf('--at-once', flags.atOnce, 1, 20_000),
    tries: numberOf('--tries', flags.tries, 1, 10),
    wait: numberOf('--wait', flags.wait, 0.01, 60) * 1e6,
  };
  if (file !== '-' && !existsSync(file)) throw new UsageError('FILE_NOT_READ', `${file}: no such file; expected a list of targets, or - for standard input`);
  const { done, torn } = flags.output !== undefined && flags.fresh !== true ? finished(flags.output) : { done: new Set<string>(), torn: false };
  const output = flags.output ?? '-';
  wordsBeside({ '--output': output, '--pcapng': flags.pcapng });
  const out = await OutputFile.open(output, { how: flags.fresh === true ? 'grow' : 'append' });
  if (torn) out.write('\n');
  const session = await ProbeSession.open(flags, flags.pcapng, false);
  const summary = new ScanSummary();
  const started = performance.now();
  let shown = 0;
  const report = (result: ScanResult): void => {
    summary.add(result);
    out.write(`${JSON.stringify(result)}\n`);
    if (process.stderr.isTTY && performance.now() - shown > 200) {
      shown = performance.now();
      process.stderr.write(`\r\x1b[2K${summary.targets} targets, ${((summary.targets * 1000) / (shown - started)).toFixed(0)} a second …`);
    }
  };
  try {
    const targets = readTargets(file, { owned, block, port, done, onSkipped: (name, why) => report(skipped(name, why)) });
    await new Scanner(session.hub, options).scan(targets, report);
  } finally {
    await session.hub.settle();
    session.close();
    await out.finish();
  }
  if (process.stderr.isTTY) process.stderr.write('\r\x1b[2K');
  const seconds = (performance.now() - started) / 1000;
  const lines = [...summary.counts].sort(([, a], [, b]) => b - a).map(([kind, count]) => `  ${String(count).padStart(8)} ${kind}`);
  process.stderr.write(
    `${summary.targets} targets in ${seconds.toFixed(1)} s${done.size > 0 ? `, ${done.size} were there already` : ''}\n${lines.join('\n')}\n`,
  );
}

interface Reading {
  owned: readonly Prefix[];
  block: readonly Prefix[];
  port: number;
  done: ReadonlySet<string>;
  onSkipped(name: string, why: string): void;
}

/** Targets of a list as they are needed: a list may be longer than memory. */
async function* readTargets(file: string, reading: Reading): AsyncGenerator<{ name: string; address: IpAddress; port: number }> {
  const lines = createInterface({ input: file === '-' ? process.stdin : createReadStream(file), crlfDelay: Number.POSITIVE_INFINITY });
  for await (const line of lines) {
    for (const target of targetsOf(line, reading.owned, reading.port)) {
      if (reading.done.has(target.name)) continue;
      let { address } = target;
      if (address === null) {
        try {
          ({ address } = await resolveTarget(target.name, null, target.port));
        } catch {
          reading.onSkipped(target.name, 'no address');
          continue;
        }
      }
      const found = address;
      const never = reading.owned.some((one) => blocked(found, [one]) !== null) ? null : blocked(found, NEVER);
      const stop = blocked(found, reading.block) ?? never;
      if (stop !== null) {
        reading.onSkipped(target.name, `${formatAddress(found)} is in the block list (${stop.text})`);
        continue;
      }
      yield { name: target.name, address: found, port: target.port };
    }
  }
}

function skipped(target: string, why: string): ScanResult {
  return { target, address: '', v1: 'not asked', v0: 'not asked', mirror: false, checksum: false, noJoin: false, rtt: null, skipped: why };
}

/** Targets that have a line in the output. A last line that was cut (`torn`) is asked again. */
function finished(file: string): { done: Set<string>; torn: boolean } {
  const done = new Set<string>();
  // What is not a file has nothing to remember, and a pipe would wait for it.
  if (outputTarget(file).kind !== 'file') return { done, torn: false };
  const text = readFileSync(file, 'utf8');
  for (const line of text.split('\n')) {
    try {
      const { target } = JSON.parse(line) as { target?: unknown };
      if (typeof target === 'string') done.add(target);
    } catch {
      // Cut by an interruption.
    }
  }
  return { done, torn: text !== '' && !text.endsWith('\n') };
}
