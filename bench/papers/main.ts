/** `npm run bench:papers [-- --only ID] [--write]`: published tables beside our figures; `--write` renews docs/papers. */
import { mkdirSync, writeFileSync } from 'node:fs';
import { fileURLToPath } from 'node:url';
import { parseArgs } from 'node:util';
import { aggregation, fairness, heterogeneous, receiveBuffers, schedulersOnRows, simultaneousFlows } from './tables.ts';
import type { Table } from './tables.ts';

const TABLES: Record<string, () => Table> = {
  'simultaneous-flows': simultaneousFlows,
  'schedulers-rows': schedulersOnRows,
  aggregation,
  'receive-buffers': receiveBuffers,
  fairness,
  heterogeneous,
};

const { values } = parseArgs({
  options: {
    only: { type: 'string' },
    write: { type: 'boolean', default: false },
    json: { type: 'boolean', default: false },
    help: { type: 'boolean', default: false },
  },
});
if (values.help) {
  console.log(
    `npm run bench:papers                    all tables\nnpm run bench:papers -- --only fairness  one of: ${Object.keys(TABLES).join(', ')}\nnpm run bench:papers -- --write          and write docs/papers.md with its SVG files\nnpm run bench:papers -- --json           for programs`,
  );
  process.exit(0);
}
if (values.only !== undefined && TABLES[values.only] === undefined) {
  console.error(`BAD_ARGUMENT: --only "${values.only}"; expected one of ${Object.keys(TABLES).join(', ')}`);
  process.exit(2);
}

const done: Table[] = [];
let bad = 0;
for (const [id, make] of Object.entries(TABLES)) {
  if (values.only !== undefined && values.only !== id) continue;
  if (!values.json) process.stderr.write(`${id} …\n`);
  const table = make();
  done.push(table);
  bad += table.checks.filter((check) => !check.good).length;
  if (!values.json) console.log(`\n${markdown(table)}`);
}
if (values.json) console.log(JSON.stringify(done.map(({ svg: _svg, ...table }) => table)));
if (values.write) write(done);
process.exit(bad > 0 ? 1 : 0);

function markdown(table: Table): string {
  const line = (cells: readonly string[]): string => `| ${cells.join(' | ')} |`;
  return [
    `## ${table.title}`,
    '',
    table.source,
    '',
    line(table.head),
    line(table.head.map(() => '---')),
    ...table.rows.map(line),
    '',
    ...table.checks.map((check) => `- ${check.good ? 'holds' : 'DOES NOT HOLD'}: ${check.text}`),
  ].join('\n');
}

function write(tables: readonly Table[]): void {
  const docs = fileURLToPath(new URL('../../docs/', import.meta.url));
  mkdirSync(`${docs}papers`, { recursive: true });
  const parts = tables.map((table) => {
    writeFileSync(`${docs}papers/${table.id}.svg`, table.svg);
    return `${markdown(table)}\n\n![${table.title}](papers/${table.id}.svg)\n`;
  });
  writeFileSync(
    `${docs}papers.md`,
    `# The papers' tables, in our emulator\n\nMade by \`npm run bench:papers -- --write\`; virtual time, fixed seeds, so the figures repeat exactly.\n\n${parts.join('\n')}`,
  );
}
