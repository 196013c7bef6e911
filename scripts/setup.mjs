// What a fresh clone lacks, installed on the first command: node modules always, Debian packages when root.
import { spawnSync } from 'node:child_process';
import { existsSync, readdirSync, readFileSync, statSync } from 'node:fs';
import { dirname, join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { buildBpf } from './build-bpf.mjs';

export const root = dirname(dirname(fileURLToPath(import.meta.url)));
const quiet = { cwd: root, stdio: ['ignore', 'ignore', 'inherit'] };

/** Programs that the system tests and the kernel demonstration use, and the Debian packages they come in. */
export const PROGRAMS = {
  ip: 'iproute2',
  nft: 'nftables',
  iptables: 'iptables',
  tc: 'iproute2',
  tcpdump: 'tcpdump',
  tshark: 'tshark',
  editcap: 'wireshark-common',
  zstd: 'zstd',
  curl: 'curl',
  nginx: 'nginx-light',
  iperf3: 'iperf3',
  mptcpize: 'mptcpize',
  ssh: 'openssh-client',
  sshd: 'openssh-server',
  openssl: 'openssl',
  chromium: 'chromium',
  ethtool: 'ethtool',
  clang: 'clang',
  '/usr/include/bpf/bpf_helpers.h': 'libbpf-dev',
  'nats-server': 'nats-server',
  // Text in PNGs.
  '/usr/share/fonts/truetype/dejavu/DejaVuSans.ttf': 'fonts-dejavu-core',
};

function fail(code, message) {
  console.error(`${code}: ${message}`);
  process.exit(1);
}

export function ensureNode() {
  const [major, minor] = process.versions.node.split('.').map(Number);
  if (major < 20 || (major === 20 && minor < 19)) fail('NODE_TOO_OLD', `this is Node ${process.versions.node}; expected 20.19 or later`);
}

/** Runs `npm install` unless the installed modules are those of the lockfile. */
export function ensureModules() {
  ensureNode();
  const stamp = join(root, 'node_modules', '.package-lock.json');
  const lock = join(root, 'package-lock.json');
  if (existsSync(stamp) && existsSync(join(root, 'node_modules', 'typescript')) && statSync(stamp).mtimeMs + 1000 >= statSync(lock).mtimeMs) return;
  if (existsSync(stamp) && sameVersions(stamp, lock)) return;
  console.log('Installing node modules (npm install, versions of the lockfile) …');
  // Not `npm ci`: it insists on entries for the optional binaries of every platform, which some registries do not have.
  const result = spawnSync('npm', ['install', '--no-save', '--no-audit', '--no-fund', '--ignore-scripts', '--loglevel=error'], quiet);
  if (result.status !== 0) fail('NPM_INSTALL_FAILED', 'npm install did not succeed; is the npm registry reachable?');
}

function sameVersions(installed, wanted) {
  const have = JSON.parse(readFileSync(installed, 'utf8')).packages;
  const want = JSON.parse(readFileSync(wanted, 'utf8')).packages;
  return Object.entries(want).every(
    ([name, entry]) => name === '' || entry.link || entry.optional || name.startsWith('packages/') || have[name]?.version === entry.version,
  );
}

/** Compiles the packages; incremental, so that nothing happens when nothing changed. */
export function build() {
  const tsc = join(root, 'node_modules', 'typescript', 'bin', 'tsc');
  const result = spawnSync(process.execPath, [tsc, '-b'], { cwd: root, stdio: ['ignore', 'inherit', 'inherit'] });
  if (result.status !== 0) fail('BUILD_FAILED', 'the compiler reported errors (above)');
  buildPage();
  // Only one of four data planes needs it, and says so when it is missing.
  if (process.platform === 'linux' && onPath('clang')) buildBpf();
}

/** The page is bundled when a source of it, or of what it is made of, is newer. */
function buildPage() {
  const page = join(root, 'packages', 'web', 'dist', 'page', 'index.html');
  const newest = (folder) =>
    Math.max(
      0,
      ...readdirSync(folder, { recursive: true, withFileTypes: true })
        .filter((one) => one.isFile())
        .map((one) => statSync(join(one.parentPath ?? one.path, one.name)).mtimeMs),
    );
  const sources = ['web/page', 'web/play', 'wire/src', 'stack/src', 'emulator/src', 'trace/src', 'balancer/src'].map((one) =>
    newest(join(root, 'packages', one)),
  );
  if (existsSync(page) && statSync(page).mtimeMs >= Math.max(...sources)) return;
  const vite = join(root, 'node_modules', 'vite', 'bin', 'vite.js');
  const result = spawnSync(process.execPath, [vite, 'build', '--config', join('packages', 'web', 'vite.config.mjs')], {
    cwd: root,
    stdio: ['ignore', 'inherit', 'inherit'],
  });
  if (result.status !== 0) fail('BUILD_FAILED', 'the page could not be bundled (above)');
}

function onPath(program) {
  if (program.startsWith('/')) return existsSync(program);
  return ['/usr/local/sbin', '/usr/local/bin', '/usr/sbin', '/usr/bin', '/sbin', '/bin'].some((folder) => existsSync(join(folder, program)));
}

/** Installs the Debian packages of missing programs. Returns the programs that are still missing. */
export function ensurePrograms(programs) {
  let missing = programs.filter((program) => !onPath(program));
  if (missing.length === 0) return [];
  if (process.getuid?.() !== 0 || !existsSync('/usr/bin/apt-get')) return missing;
  const packages = [...new Set(missing.map((program) => PROGRAMS[program]))];
  console.log(`Installing Debian packages: ${packages.join(', ')} …`);
  const env = { ...process.env, DEBIAN_FRONTEND: 'noninteractive' };
  const install = () =>
    spawnSync('apt-get', ['install', '-y', '-qq', '--no-install-recommends', ...packages], { ...quiet, stdio: ['ignore', 'ignore', 'ignore'], env });
  if (install().status !== 0) {
    spawnSync('apt-get', ['update', '-qq'], { ...quiet, stdio: ['ignore', 'ignore', 'ignore'], env });
    install();
  }
  missing = programs.filter((program) => !onPath(program));
  if (missing.length > 0) console.log(`Not installed: ${missing.join(', ')}`);
  return missing;
}
