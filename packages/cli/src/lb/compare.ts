/** `subflow lb compare`: the designs through the same changes. */
import { Command } from 'commander';
import { DESIGNS, simulate } from '@subflow/balancer';
import type { Change, DesignId, SimulationResult } from '@subflow/balancer';
import { numberOf, UsageError } from '../errors.ts';

const EXAMPLES = `
Examples:
  subflow lb compare                                   every design through every change, 20,000 connections
  subflow lb compare --connections 1000000 --designs b-maglev,e,f
  subflow lb compare --changes server-added,two-changes --json`;

const CHANGES: readonly Change['kind'][] = ['none', 'server-added', 'server-drained', 'weight-doubled', 'two-changes', 'balancer-replaced', 'balancer-stale'];

interface Flags {
  connections: string;
  servers: string;
  subflows: string;
  seed: string;
  designs?: string;
  changes?: string;
  json?: boolean;
}

export function compareCommand(): Command {
  return new Command('compare')
    .description('simulate the designs on the same work: which joins find their server, what survives a change')
    .option('--connections <n>', 'connections', '20000')
    .option('--servers <n>', 'servers', '10')
    .option('--subflows <n>', 'subflows of each connection, the first included', '2')
    .option('--seed <n>', 'everything follows from it', '1')
    .option('--designs <ids>', `with commas between; default all: ${Object.keys(DESIGNS).join(', ')}`)
    .option('--changes <ids>', `with commas between; default all: ${CHANGES.join(', ')}`)
    .option('--json', 'a line of JSON for each run')
    .addHelpText('after', EXAMPLES)
    .action(compare);
}

function compare(flags: Flags): void {
  const designs = chosen('--designs', flags.designs, Object.keys(DESIGNS)) as DesignId[];
  const changes = chosen('--changes', flags.changes, CHANGES) as Change['kind'][];
  const work = {
    connections: numberOf('--connections', flags.connections, 1, 5e6),
    servers: numberOf('--servers', flags.servers, 2, 200),
    subflows: numberOf('--subflows', flags.subflows, 1, 8),
    seed: numberOf('--seed', flags.seed, 0, 2 ** 31),
  };
  const results = new Map<string, SimulationResult>();
  for (const design of designs) {
    for (const kind of changes) {
      if (process.stderr.isTTY) process.stderr.write(`\r\x1b[2K${DESIGNS[design].name}, ${kind} …`);
      const result = simulate({ design, change: { kind }, ...work });
      results.set(`${design} ${kind}`, result);
      if (flags.json === true) process.stdout.write(`${JSON.stringify(result)}\n`);
    }
  }
  if (process.stderr.isTTY) process.stderr.write('\r\x1b[2K');
  if (flags.json !== true) process.stdout.write(`${table(designs, changes, results, work).join('\n')}\n`);
}

function table(
  designs: readonly DesignId[],
  changes: readonly Change['kind'][],
  results: ReadonlyMap<string, SimulationResult>,
  work: { connections: number; servers: number; subflows: number },
): string[] {
  const percent = (value: number): string => (value === 1 ? '100 %' : `${(Math.floor(value * 1000) / 10).toFixed(1)} %`);
  const width = 20;
  const out = [
    `${work.connections.toLocaleString('en')} connections of ${work.subflows} subflows, ${work.servers} servers; subflows / connections that live on`,
    '',
  ];
  out.push(`${''.padEnd(50)}${'joins'.padStart(8)}${'B each'.padStart(9)}${changes.map((kind) => kind.padStart(width)).join('')}`);
  for (const design of designs) {
    const first = results.get(`${design} ${changes[0]!}`)!;
    const cells = changes.map((kind) => {
      const result = results.get(`${design} ${kind}`)!;
      return `${percent(result.subflowsAlive)} / ${percent(result.connectionsAlive)}`.padStart(width);
    });
    out.push(
      `${`${design.padEnd(13)} ${DESIGNS[design].name}`.padEnd(50)}${percent(first.joined).padStart(8)}${(first.entries === 0 ? '–' : (first.bytes / work.connections).toFixed(0)).padStart(9)}${cells.join('')}`,
    );
  }
  return out;
}

function chosen(flag: string, text: string | undefined, all: readonly string[]): string[] {
  const list = text === undefined ? [...all] : text.split(',');
  const wrong = list.find((one) => !all.includes(one));
  if (wrong !== undefined) throw new UsageError('BAD_ARGUMENT', `${flag} "${wrong}"; expected ${all.join(', ')}`);
  return list;
}
