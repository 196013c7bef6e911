/**
 * Branch coverage for the fuzzer. Compiled packages are instrumented with istanbul, and its counters replaced by a test
 * of one byte: after the first hit a branch costs one load, and whether an input has found something new is one flag.
 */
import { mkdirSync, readdirSync, readFileSync, statSync, writeFileSync } from 'node:fs';
import { dirname, join, relative } from 'node:path';
import { fileURLToPath, pathToFileURL } from 'node:url';
import { createInstrumenter } from 'istanbul-lib-instrument';

const root = fileURLToPath(new URL('../../', import.meta.url));
const out = join(root, 'out', 'fuzz');
const PACKAGES = ['wire', 'stack', 'emulator', 'trace', 'probe'] as const;
/** What needs Node or a browser reads no bytes from the network by itself. */
const LEFT_OUT = /^(node|browser)\//;

/** What the instrumented code and the fuzzer share. */
export interface CoverageMap {
  hits: Uint8Array;
  points: number;
  /** Set when a point was hit for the first time. */
  fresh: boolean;
}

export interface Instrumented {
  wire: typeof import('@subflow/wire');
  stack: typeof import('@subflow/stack');
  emulator: typeof import('@subflow/emulator');
  trace: typeof import('@subflow/trace');
  probe: typeof import('@subflow/probe');
  coverage: CoverageMap;
}

/** Instruments the compiled packages `measured`, copies the others, and loads them. */
export async function loadInstrumented(measured: readonly string[] = ['wire', 'stack']): Promise<Instrumented> {
  let points = 0;
  for (const name of PACKAGES) {
    const from = join(root, 'packages', name, 'dist');
    for (const file of filesUnder(from)) {
      if (LEFT_OUT.test(relative(from, file))) continue;
      const target = join(out, name, relative(from, file));
      mkdirSync(dirname(target), { recursive: true });
      const source = readFileSync(file, 'utf8').replace(/from '@subflow\/(\w+)'/g, (_match, other: string) => {
        const path = relative(dirname(target), join(out, other, 'index.js'));
        return `from '${path.startsWith('.') ? path : `./${path}`}'`;
      });
      const bare = source.replace(/^\/\/# sourceMappingURL=.*$/m, '');
      writeFileSync(target, measured.includes(name) ? instrument(bare, file) : bare);
    }
  }
  const coverage: CoverageMap = { hits: new Uint8Array(points), points, fresh: false };
  const shared = globalThis as unknown as { __cov: Uint8Array; __new: (point: number) => number };
  shared.__cov = coverage.hits;
  shared.__new = (point) => {
    coverage.hits[point] = 1;
    coverage.fresh = true;
    return 1;
  };
  const load = async (name: string): Promise<unknown> => import(pathToFileURL(join(out, name, 'index.js')).href);
  return {
    wire: (await load('wire')) as Instrumented['wire'],
    stack: (await load('stack')) as Instrumented['stack'],
    emulator: (await load('emulator')) as Instrumented['emulator'],
    trace: (await load('trace')) as Instrumented['trace'],
    probe: (await load('probe')) as Instrumented['probe'],
    coverage,
  };

  function instrument(source: string, file: string): string {
    const code = createInstrumenter({ esModules: true, compact: false, produceSourceMap: false }).instrumentSync(source, file);
    // Statements and functions say nothing that branches do not; entering a function is a point of its own.
    return code
      .replace(/cov_\w+\(\)\.s\[\d+\]\+\+;/g, '')
      .replace(/cov_\w+\(\)\.s\[\d+\]\+\+,/g, '')
      .replace(/cov_\w+\(\)\.(?:f\[\d+\]|b\[\d+\]\[\d+\])\+\+/g, () => {
        const point = points++;
        return `(__cov[${point}]||__new(${point}))`;
      });
  }
}

function filesUnder(folder: string): string[] {
  return readdirSync(folder).flatMap((name) => {
    const path = join(folder, name);
    if (statSync(path).isDirectory()) return filesUnder(path);
    return path.endsWith('.js') ? [path] : [];
  });
}
