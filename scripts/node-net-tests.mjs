// Node's own tests of net (test/parallel/test-net-*.js), fetched, not kept: run on node:net, on the kernel backend, under the
// preload and on the stack backend. With --http those of http, as they are and under the preload.
// node scripts/node-net-tests.mjs [FILTER] [--http] [--list] [--verbose]
import { spawnSync } from 'node:child_process';
import { existsSync, mkdirSync, readdirSync, readFileSync, writeFileSync } from 'node:fs';
import { homedir } from 'node:os';
import { join } from 'node:path';
import { pathToFileURL } from 'node:url';
import { machineSources } from './apt-sources.mjs';
import { build, ensureModules, root } from './setup.mjs';

const args = process.argv.slice(2);
const filter = args.find((arg) => !arg.startsWith('--')) ?? '';
const verbose = args.includes('--verbose');
const http = args.includes('--http');
const pattern = http ? /^test-http-.*\.m?js$/ : /^test-net-.*\.m?js$/;
const cache = join(process.env.XDG_CACHE_HOME ?? join(homedir(), '.cache'), 'subflow-node-tests');

ensureModules();
build();
const folder = fetchTests();
const files = readdirSync(folder)
  .filter((name) => pattern.test(name) && name.includes(filter))
  .sort();
if (args.includes('--list')) {
  const covered = new Set();
  for (const name of readdirSync(join(root, 'packages/net/test/behaviours')))
    for (const match of readFileSync(join(root, 'packages/net/test/behaviours', name), 'utf8').matchAll(/: \[\s*'([a-z0-9-]+)'/g)) covered.add(match[1]);
  for (const name of files) console.log(`${covered.has(name.replace(/^test-net-|\.m?js$/g, '')) ? 'covered ' : '        '} ${name}`);
  process.exit(0);
}

const replace = pathToFileURL(join(root, 'test/net/replace-net.mjs')).href;
const variants = [
  { name: 'node:net', args: [], env: {} },
  { name: 'kernel', args: ['--import', replace], env: { SUBFLOW_TEST_BACKEND: 'kernel' } },
  { name: 'preload', args: ['--import', pathToFileURL(join(root, 'packages/net/dist/preload.js')).href], env: {} },
  { name: 'stack', args: ['--import', replace], env: { SUBFLOW_TEST_BACKEND: 'stack' } },
];
// http holds on to node:net's own classes: what it can be given is the preload.
if (http) variants.splice(0, variants.length, ...variants.filter((one) => one.name === 'node:net' || one.name === 'preload'));
const passed = variants.map(() => 0);
const only = [];
for (const file of files) {
  const flags = (/^\/\/ Flags: (.*)$/m.exec(readFileSync(join(folder, file), 'utf8'))?.[1] ?? '').split(/\s+/).filter(Boolean);
  const results = variants.map((variant, i) => {
    const run = spawnSync(process.execPath, [...flags, ...variant.args, join(folder, file)], {
      // Loaded modules of ours leave globals that the tests would complain about.
      env: { ...process.env, NODE_TEST_KNOWN_GLOBALS: '0', ...variant.env },
      timeout: 20_000,
      encoding: 'utf8',
    });
    if (run.status === 0) passed[i]++;
    else if (verbose) console.log(`${variant.name}: ${file}\n${run.stderr.slice(0, 1500)}`);
    return run.status === 0;
  });
  if (results[0] && results.includes(false))
    only.push(
      `${file}: fails on ${variants
        .filter((_, i) => !results[i])
        .map((one) => one.name)
        .join(', ')}`,
    );
}
for (const line of only) console.log(line);
console.log(`${files.length} files; passed: ${variants.map((variant, i) => `${variant.name} ${passed[i]}`).join(', ')}`);

/** The source package of Debian's nodejs has them; this machine's own lists of sources say where that is. */
function fetchTests() {
  const find = () => (existsSync(cache) ? readdirSync(cache).find((name) => existsSync(join(cache, name, 'test/parallel'))) : undefined);
  if (find() === undefined) {
    console.log(`Fetching Node's tests from Debian's source package into ${cache} …`);
    mkdirSync(join(cache, 'lists/partial'), { recursive: true });
    mkdirSync(join(cache, 'parts'), { recursive: true });
    for (const [name, text] of machineSources()) writeFileSync(join(cache, 'parts', name), text);
    writeFileSync(
      join(cache, 'apt.conf'),
      `Dir::Etc::sourcelist "/dev/null";\nDir::Etc::sourceparts "${cache}/parts";\nDir::State::lists "${cache}/lists";\nAPT::Sandbox::User "root";\n`,
    );
    const env = { ...process.env, APT_CONFIG: join(cache, 'apt.conf') };
    spawnSync('apt-get', ['update', '-qq'], { env, stdio: 'ignore' });
    spawnSync('apt-get', ['source', '--download-only', '-qq', 'nodejs'], { env, cwd: cache, stdio: 'ignore' });
    const archive = readdirSync(cache).find((name) => /^nodejs_.*orig\.tar\.xz$/.test(name));
    if (archive !== undefined)
      spawnSync('tar', ['xf', archive, '--wildcards', '*/test/parallel/test-net-*', '*/test/parallel/test-http-*', '*/test/common/*', '*/test/fixtures/*'], {
        cwd: cache,
        stdio: 'ignore',
      });
  }
  const release = find();
  if (release === undefined) {
    console.error(`FETCH_FAILED: no tests of Node under ${cache}; expected \`apt-get source nodejs\` to bring them from where this machine has its packages`);
    process.exit(1);
  }
  return join(cache, release, 'test/parallel');
}
