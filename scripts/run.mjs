// Builds if necessary and runs a TypeScript program of the repository: node scripts/run.mjs FILE [ARGUMENTS].
import { spawnSync } from 'node:child_process';
import { build, ensureModules } from './setup.mjs';

ensureModules();
build();
const [file, ...args] = process.argv.slice(2);
const result = spawnSync(process.execPath, ['--import', 'tsx', '--expose-gc', file, ...args], { stdio: 'inherit' });
process.exit(result.status ?? 1);
