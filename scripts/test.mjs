// `npm test`: installs what is missing, compiles, checks style and documents, runs every test.
import { spawn, spawnSync } from 'node:child_process';
import { existsSync, mkdtempSync, readFileSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { build, ensureModules, ensurePrograms, PROGRAMS, root } from './setup.mjs';

const started = Date.now();
ensureModules();
ensurePrograms(Object.keys(PROGRAMS));
build();

let failures = 0;

function run(title, command, args) {
  console.log(`\n== ${title}`);
  const result = spawnSync(command, args, { cwd: root, stdio: 'inherit' });
  if (result.status !== 0) {
    failures++;
    console.log(`FAILED: ${title} (exit code ${result.status})`);
  }
}

const bin = (name) => join(root, 'node_modules', '.bin', name);
const code = ['packages', 'test', 'bench', 'scripts', 'examples'].filter((folder) => existsSync(join(root, folder)));
run('lint', bin('oxlint'), ['--config', '.oxlintrc.json', ...code]);
run('format', bin('oxfmt'), ['--check', ...code]);
run('types of tests and benchmarks', bin('tsc'), ['-p', 'tsconfig.test.json']);
run('conformance list', process.execPath, ['scripts/check-conformance.mjs']);

const directory = mkdtempSync(join(tmpdir(), 'subflow-test-'));
let passed = 0;
let failed = 0;
let skipped = 0;

const reportOf = (project) => join(directory, `${project}.json`);

function vitest(project, ...more) {
  return ['run', '--project', project, '--reporter=default', '--reporter=json', `--outputFile.json=${reportOf(project)}`, ...more, ...process.argv.slice(2)];
}

function take(project) {
  if (!existsSync(reportOf(project))) return;
  const result = JSON.parse(readFileSync(reportOf(project), 'utf8'));
  passed += result.numPassedTests;
  failed += result.numFailedTests;
  skipped += result.numPendingTests;
}

// What mostly waits runs beside what mostly computes; its words come when it is done.
let words = '';
const beside = spawn(bin('vitest'), vitest('beside', '--maxWorkers=3'), { cwd: root, stdio: ['ignore', 'pipe', 'pipe'] });
beside.stdout.on('data', (chunk) => (words += chunk));
beside.stderr.on('data', (chunk) => (words += chunk));
const besideDone = new Promise((resolve) => beside.once('close', resolve));
const unit = spawn(bin('vitest'), vitest('unit'), { cwd: root, stdio: 'inherit' });
const unitCode = await new Promise((resolve) => unit.once('close', resolve));
if (unitCode !== 0) {
  failures++;
  console.log(`FAILED: unit tests (exit code ${unitCode})`);
}
const besideCode = await besideDone;
console.log(`\n== tests beside the unit tests\n${words}`);
if (besideCode !== 0) {
  failures++;
  console.log(`FAILED: tests beside the unit tests (exit code ${besideCode})`);
}
run('system tests', bin('vitest'), vitest('system'));
for (const project of ['unit', 'beside', 'system']) take(project);
rmSync(directory, { recursive: true, force: true });
if (process.env.CI === 'true' && skipped > 0) {
  failures++;
  console.log(`FAILED: ${skipped} tests were skipped, and with CI=true a skip is a failure`);
}
console.log(`\nAll of it took ${Math.round((Date.now() - started) / 1000)} s`);
console.log(`${passed} passed, ${failed} failed, ${skipped} skipped`);
process.exit(failures > 0 || failed > 0 || passed === 0 ? 1 : 0);
