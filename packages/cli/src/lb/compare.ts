/** `subflow lb compare`: the designs through the same changes, simulated or with real kernels; tables and a picture. */
import { Command } from 'commander';
import { DESIGNS, simulate } from '@subflow/balancer';
import type { Change, DesignId } from '@subflow/balancer';
import { REAL_CHANGES, RealComparison } from '@subflow/balancer/node';
import type { RealChange, RealOptions } from '@subflow/balancer/node';
import { writeOutput } from '@subflow/link';
import { numberOf, UsageError } from '../errors.ts';
import { wordsBeside } from '../outputs.ts';
import { comparisonSvg } from './compare-svg.ts';
import { percent } from './table.ts';
import type { Cell, Table } from './table.ts';

const EXAMPLES = `
Examples:
  subflow lb compare                                   every design through every change, 20,000 connections
  subflow lb compare --connections 1000000 --designs b-maglev,e,f
  subflow lb compare --changes server-added,two-changes --json
  subflow lb compare --svg compare.svg                 a picture of the table
  subflow lb compare --real --connections 60           with real kernels in namespaces (root): packets, not arithmetic`;

const CHANGES: readonly Change['kind'][] = ['none', 'server-added', 'server-drained', 'weight-doubled', 'two-changes', 'balancer-replaced', 'balancer-stale'];

/** Designs with kernel servers; c needs servers of our stack. */
const REAL: Readonly<Record<string, Omit<RealOptions, 'connections'>>> = {
  a: { design: 'stateful', dataPlane: 'xdp', forwarding: 'dsr' },
  'a-nft': { design: 'stateful', dataPlane: 'nftables', forwarding: 'nat' },
  'b-modulo': { design: 'modulo', dataPlane: 'xdp', forwarding: 'dsr' },
  'b-crc': { design: 'crc-ranges', dataPlane: 'xdp', forwarding: 'dsr' },
  'b-maglev': { design: 'maglev', dataPlane: 'xdp', forwarding: 'dsr' },
  'b-nft': { design: 'maglev', dataPlane: 'nftables', forwarding: 'dsr' },
  d: { design: 'token-learned', dataPlane: 'xdp', forwarding: 'dsr' },
  e: { design: 'direct-address', dataPlane: 'xdp', forwarding: 'dsr' },
  f: { design: 'beamer', dataPlane: 'xdp', forwarding: 'encapsulation' },
  'f-userspace': { design: 'beamer', dataPlane: 'userspace', forwarding: 'encapsulation' },
};

interface Flags {
  connections?: string;
  servers: string;
  subflows: string;
  seed: string;
  designs?: string;
  changes?: string;
  json?: boolean;
  real?: boolean;
  svg?: string;
}

export function compareCommand(): Command {
  return new Command('compare')
    .description('the designs on the same work: which joins find their server, what survives a change')
    .option('--connections <n>', 'connections; default 20000, with --real 60')
    .option('--servers <n>', 'servers (simulated)', '10')
    .option('--subflows <n>', 'subflows of each connection, the first included (simulated)', '2')
    .option('--seed <n>', 'everything simulated follows from it', '1')
    .option('--designs <ids>', `with commas between; default all: ${Object.keys(DESIGNS).join(', ')}; with --real: ${Object.keys(REAL).join(', ')}`)
    .option('--changes <ids>', `with commas between; default all: ${CHANGES.join(', ')}; with --real also balancer-restarted`)
    .option('--real', 'real kernel clients and servers in network namespaces (root)')
    .option('--svg <file>', 'a picture of the table; - is standard output')
    .option('--json', 'a line of JSON for each run')
    .addHelpText('after', EXAMPLES)
    .action(compare);
}

async function compare(flags: Flags): Promise<void> {
  const words = wordsBeside({ '--svg': flags.svg }, flags.json === true);
  const table = flags.real === true ? await real(flags) : simulated(flags);
  if (process.stderr.isTTY) process.stderr.write('\r\x1b[2K');
  if (flags.json !== true) words.write(`${lines(table).join('\n')}\n`);
  if (flags.svg !== undefined) await writeOutput(flags.svg, comparisonSvg(table));
}

function progress(text: string): void {
  if (process.stderr.isTTY) process.stderr.write(`\r\x1b[2K${text} …`);
}

function simulated(flags: Flags): Table {
  const designs = chosen('--designs', flags.designs, Object.keys(DESIGNS)) as DesignId[];
  const changes = chosen('--changes', flags.changes, CHANGES) as Change['kind'][];
  const work = {
    connections: numberOf('--connections', flags.connections ?? '20000', 1, 5e6),
    servers: numberOf('--servers', flags.servers, 2, 200),
    subflows: numberOf('--subflows', flags.subflows, 1, 8),
    seed: numberOf('--seed', flags.seed, 0, 2 ** 31),
  };
  const rows = designs.map((design) => ({
    id: design as string,
    name: DESIGNS[design].name,
    cells: new Map(
      changes.map((kind) => {
        progress(`${DESIGNS[design].name}, ${kind}`);
        const result = simulate({ design, change: { kind }, ...work });
        if (flags.json === true) process.stdout.write(`${JSON.stringify(result)}\n`);
        return [kind as string, { ...result, bytes: result.entries === 0 ? 0 : result.bytes / work.connections }];
      }),
    ),
  }));
  const title = `${work.connections.toLocaleString('en')} connections of ${work.subflows} subflows, ${work.servers} servers, simulated; subflows / connections that live on`;
  return { title, rows, changes };
}

async function real(flags: Flags): Promise<Table> {
  const designs = chosen('--designs', flags.designs, Object.keys(REAL));
  const changes = chosen('--changes', flags.changes, REAL_CHANGES) as RealChange[];
  const connections = numberOf('--connections', flags.connections ?? '60', 1, 1000);
  const rows: Table['rows'] = [];
  for (const translating of [false, true]) {
    const some = designs.filter((id) => (REAL[id]!.forwarding === 'nat') === translating);
    if (some.length === 0) continue;
    const comparison = new RealComparison(translating);
    try {
      await comparison.begin();
      for (const id of some) {
        const cells = new Map<string, Cell>();
        for (const change of changes) {
          // A second balancer gets no answers of servers that send them to the first.
          if (translating && change === 'balancer-stale') continue;
          progress(`${id}, ${change}`);
          const result = await comparison.run({ ...REAL[id]!, connections }, change);
          if (flags.json === true) process.stdout.write(`${JSON.stringify({ id, ...result })}\n`);
          cells.set(change, { ...result, bytes: 0 });
        }
        rows.push({ id, name: `${REAL[id]!.design}, ${REAL[id]!.dataPlane}`, cells });
      }
    } finally {
      comparison.end();
    }
  }
  rows.sort((a, b) => designs.indexOf(a.id) - designs.indexOf(b.id));
  return { title: `${connections} connections of kernel clients, 2 kernel servers and a spare one; subflows / connections that live on`, rows, changes };
}

function lines(table: Table): string[] {
  const width = 20;
  const out = [table.title, ''];
  out.push(`${''.padEnd(62)}${'joins'.padStart(8)}${'B each'.padStart(9)}${table.changes.map((kind) => kind.padStart(width)).join('')}`);
  for (const { id, name, cells } of table.rows) {
    const first = cells.values().next().value!;
    const row = table.changes.map((change) => {
      const cell = cells.get(change);
      return (cell === undefined ? '–' : `${percent(cell.subflowsAlive)} / ${percent(cell.connectionsAlive)}`).padStart(width);
    });
    out.push(
      `${`${id.padEnd(13)} ${name}`.padEnd(62)}${percent(first.joined).padStart(8)}${(first.bytes === 0 ? '–' : first.bytes.toFixed(0)).padStart(9)}${row.join('')}`,
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
