/** `subflow probe`: does Multipath TCP get through, and who is in the way? */
import { Command, Option } from 'commander';
import { writeOutput } from '@subflow/link';
import { parseAddress } from '@subflow/wire';
import { converse, httpRequest, observePath, probeReport, readTable, readYaml, reportHtml, reportJson, reportText, STEPS } from '@subflow/probe';
import type { KnownTable } from '@subflow/probe';
import { resolveTarget, reverseNames } from '@subflow/probe/node';
import { numberOf, readText, UsageError } from '../errors.ts';
import { wordsBeside } from '../outputs.ts';
import { serveEcho } from '../probe/serve.ts';
import { paintFor, ProbeSession, withPort } from '../probe/session.ts';
import type { PortFlags } from '../probe/session.ts';
import { runScripts } from '../probe/scripts.ts';

const EXAMPLES = `
Examples:
  subflow probe www.example.org                   conversation with port 80, and the path there
  subflow probe www.example.org:443 --no-path     does the server speak Multipath TCP, and how well?
  subflow probe www.example.org --path-only       which hop strips, changes or fakes it?
  subflow probe --serve 8443                      on the other machine: an echo server …
  subflow probe other.example.org:8443            … so that both directions can be told
  subflow probe HOST --html a.html --pcapng a.pcapng --json > a.json
  subflow probe HOST --steps join,mp-fail         single steps; --list-steps names them all
  subflow probe HOST --script mine.yaml           your own packets and expectations

The kernel's TCP is not used: packets are made by hand. CAP_NET_RAW is enough (root, or
setcap cap_net_raw+ep on node). --firewall keeps the kernel's resets away by an nft rule instead (CAP_NET_ADMIN).`;

interface Flags extends PortFlags {
  version?: '0' | '1';
  steps?: string;
  listSteps?: boolean;
  conversation: boolean;
  path: boolean;
  pathOnly?: boolean;
  echo: boolean;
  maxHops: string;
  second?: string;
  closedPort?: string;
  patient?: boolean;
  table: string[];
  names?: boolean;
  packets?: boolean;
  json?: boolean;
  html?: string;
  pcapng?: string;
  serve?: string | true;
  script: string[];
  key?: string;
  ipv4?: boolean;
  ipv6?: boolean;
  timeout: string;
}

export function probeCommand(): Command {
  const collect = (value: string, all: string[]): string[] => [...all, value];
  const command = new Command('probe')
    .description('actively probe a server and the path to it')
    .argument('[target]', 'HOST, HOST:PORT or [IPv6]:PORT')
    .addOption(new Option('--version <version>', 'version of Multipath TCP; found out by default').choices(['0', '1']))
    .option('--steps <ids>', 'steps of the conversation, with commas between')
    .option('--list-steps', 'name the steps and end')
    .option('--no-conversation', 'leave the conversation out')
    .option('--no-path', 'leave the path out')
    .option('--path-only', 'the same as --no-conversation')
    .option('--no-echo', 'do not ask for an echo server')
    .option('--max-hops <n>', 'longest path', '24')
    .option('--second <address>', 'local address for second subflows; the same one by default')
    .option('--closed-port <port>', 'a port of the target where nobody listens, for one step')
    .option('--patient', 'also steps that wait for minutes')
    .option('--table <file>', 'a table of a known implementation (YAML or JSON); may be repeated', collect, [])
    .option('--names', 'look up the names of routers')
    .option('-4, --ipv4', 'IPv4 only')
    .option('-6, --ipv6', 'IPv6 only')
    .option('--packets', 'show what was sent and what came back in each step')
    .option('--json', 'JSON instead of text')
    .option('--html <file>', 'a page with everything: sequence diagrams, hops, changes')
    .option('--pcapng <file>', 'every packet sent and received')
    .option('--serve [port]', 'be the echo server at the other end (default port 8443)')
    .option('--script <file>', 'run probes of your own; may be repeated', collect, [])
    .option('--key <hex>', 'our key, 16 hexadecimal digits, instead of one that is drawn')
    .option('--timeout <seconds>', 'longest time for the whole', '180')
    .addHelpText('after', EXAMPLES);
  return withPort(command).action(async (target: string | undefined, flags: Flags) => {
    if (flags.listSteps === true) {
      for (const step of STEPS) process.stdout.write(`${step.id.padEnd(28)} v${step.versions.join(', v')}  ${step.title}\n`);
      return;
    }
    if (flags.serve !== undefined) {
      await serveEcho(flags.serve === true ? '8443' : flags.serve, flags);
      return;
    }
    if (target === undefined) throw new UsageError('BAD_ARGUMENT', 'no target; expected HOST, HOST:PORT or --serve');
    await probe(target, flags);
  });
}

async function probe(text: string, flags: Flags): Promise<void> {
  const family = flags.ipv4 === true ? 4 : flags.ipv6 === true ? 6 : null;
  const tables = flags.table.map(tableFrom);
  const maxHops = numberOf('--max-hops', flags.maxHops, 1, 64);
  const limit = numberOf('--timeout', flags.timeout, 1, 3600);
  if (flags.key !== undefined && !/^[0-9a-fA-F]{16}$/.test(flags.key))
    throw new UsageError('BAD_ARGUMENT', `--key "${flags.key}"; expected 16 hexadecimal digits`);
  const words = wordsBeside({ '--html': flags.html, '--pcapng': flags.pcapng }, flags.json);
  const { host, address, port } = await resolveTarget(text, family);
  const session = await ProbeSession.open(flags, flags.pcapng);
  const progress = flags.json !== true && process.stderr.isTTY ? (line: string) => process.stderr.write(`\r\x1b[2K${line} …`) : () => undefined;
  const timer = setTimeout(() => {
    session.close();
    process.stderr.write(`TIMED_OUT: the probe took more than ${limit} s (--timeout)\n`);
    process.exit(1);
  }, limit * 1000);
  try {
    if (flags.script.length > 0) {
      process.exitCode = await runScripts(session.hub, flags.script, { host, address, port, json: flags.json === true, words });
      return;
    }
    const version = flags.version === undefined ? undefined : (Number(flags.version) as 0 | 1);
    const chosen = version === undefined ? {} : { version };
    let done = 0;
    const conversation =
      flags.conversation && flags.pathOnly !== true
        ? await converse(session.hub, {
            address,
            port,
            ...chosen,
            request: httpRequest(host),
            tables,
            patient: flags.patient === true,
            ...(flags.steps === undefined ? {} : { steps: flags.steps.split(',') }),
            ...(flags.second === undefined ? {} : { second: parseAddress(flags.second) }),
            ...(flags.closedPort === undefined ? {} : { closedPort: numberOf('--closed-port', flags.closedPort, 1, 65_535) }),
            ...(flags.key === undefined ? {} : { key: BigInt(`0x${flags.key}`) }),
            onStep: (step) => progress(`${++done} steps: ${step.title}`),
          })
        : null;
    const facts =
      flags.path && flags.steps === undefined
        ? await observePath(session.hub, { target: address, port, ...chosen, maxHops, ...(flags.echo ? {} : { echo: false }), onProgress: progress })
        : null;
    const routers = (facts?.observations ?? []).flatMap((one) => (one.hops ?? []).flatMap((hop) => hop.answers.map((answer) => answer.from)));
    const names = flags.names === true ? await reverseNames(routers) : new Map<string, string>();
    const report = probeReport(address, port, conversation, facts, session.packets, names);
    if (process.stderr.isTTY) process.stderr.write('\r\x1b[2K');
    if (flags.html !== undefined) await writeOutput(flags.html, reportHtml(report));
    if (flags.json === true) process.stdout.write(`${JSON.stringify(reportJson(report), null, 1)}\n`);
    else words.write(`${reportText(report, paintFor(words), flags.packets === true).join('\n')}\n`);
    const silent = conversation?.kind === 'silent' || conversation?.kind === 'refused' || (conversation === null && facts?.answers.plain === 'nothing');
    if (silent) process.exitCode = 1;
  } finally {
    clearTimeout(timer);
    await session.hub.settle();
    session.close();
  }
}

function tableFrom(file: string): KnownTable {
  return readTable(readYaml(readText(file), file));
}
