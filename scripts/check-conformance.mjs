// Checks docs/conformance.md: every file exists, every test title exists in its file. Prints how many requirements have both.
import { existsSync, readFileSync } from 'node:fs';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';

const root = fileURLToPath(new URL('..', import.meta.url));
const lines = readFileSync(join(root, 'docs/conformance.md'), 'utf8').split('\n');
const problems = [];
let rows = 0;
let missing = 0;
lines.forEach((line, i) => {
  const cells = line.split('|').map((cell) => cell.trim());
  if (cells.length < 6 || cells[1] === 'Section' || /^-+$/.test(cells[1])) return;
  const [, section, requirement, file, test] = cells;
  rows++;
  if (!/^(RFC \d+|§)/.test(section) || requirement === '') problems.push(`line ${i + 1}: section "${section}", requirement "${requirement}"`);
  if (file.startsWith('not implemented:')) {
    missing++;
    return;
  }
  for (const name of file.split(',').map((one) => one.trim().replace(/`/g, ''))) {
    if (!existsSync(join(root, name))) problems.push(`line ${i + 1}: no file ${name}`);
  }
  const match = /^`([^`]+)`(?:: "(.+)")?$/.exec(test);
  if (match === null) problems.push(`line ${i + 1}: test "${test}"; expected \`file\`: "part of a title"`);
  else if (!existsSync(join(root, match[1]))) problems.push(`line ${i + 1}: no test file ${match[1]}`);
  else if (match[2] !== undefined && !readFileSync(join(root, match[1]), 'utf8').includes(match[2]))
    problems.push(`line ${i + 1}: ${match[1]} has no "${match[2]}"`);
});
for (const problem of problems) console.error(`CONFORMANCE: ${problem}`);
console.log(`${rows} requirements, ${rows - missing} with code and test, ${missing} not implemented`);
process.exit(problems.length > 0 || rows === 0 ? 1 : 0);
