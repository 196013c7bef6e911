// Compiles the BPF programs of the balancer with clang: packages/balancer/bpf/*.c → packages/balancer/dist/bpf/*.o.
import { spawnSync } from 'node:child_process';
import { existsSync, mkdirSync, readdirSync, statSync } from 'node:fs';
import { dirname, join } from 'node:path';
import { fileURLToPath } from 'node:url';

const packageRoot = join(dirname(fileURLToPath(import.meta.url)), '..', 'packages', 'balancer');
const multiarch = { x64: 'x86_64-linux-gnu', arm64: 'aarch64-linux-gnu' }[process.arch];

/** Returns false, with a word why, when clang or the headers are missing: only the xdp data plane needs them. */
export function buildBpf() {
  const from = join(packageRoot, 'bpf');
  const to = join(packageRoot, 'dist', 'bpf');
  const sources = readdirSync(from);
  const newest = Math.max(...sources.map((file) => statSync(join(from, file)).mtimeMs));
  for (const file of sources.filter((one) => one.endsWith('.c'))) {
    const out = join(to, file.replace(/\.c$/, '.o'));
    if (existsSync(out) && statSync(out).mtimeMs >= newest) continue;
    mkdirSync(to, { recursive: true });
    const args = ['-O2', '-Wall', '-Wno-unused-function', '-target', 'bpf', '-mcpu=v3', `-I/usr/include/${multiarch}`, '-c', join(from, file), '-o', out];
    const result = spawnSync('clang', args, { encoding: 'utf8' });
    if (result.error !== undefined || result.status !== 0) {
      console.log(`BPF programs not compiled: ${result.error?.message ?? result.stderr.trim()} (the balancer's xdp data plane needs clang and libbpf-dev)`);
      return false;
    }
  }
  return true;
}

if (process.argv[1] === fileURLToPath(import.meta.url)) process.exit(buildBpf() ? 0 : 1);
