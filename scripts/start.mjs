// `npm start`: installs what is missing, compiles, runs the handover demonstration.
import { spawn } from 'node:child_process';
import { join } from 'node:path';
import { build, ensureModules, ensurePrograms, root } from './setup.mjs';

ensureModules();
if (process.platform === 'linux') ensurePrograms(['ip']);
build();
const child = spawn(process.execPath, [join(root, 'packages/cli/bin/subflow.mjs'), 'demo', ...process.argv.slice(2)], { cwd: root, stdio: 'inherit' });
// Ctrl-C reaches the child by itself; waiting for it keeps its clean-up in front of the prompt.
process.on('SIGINT', () => undefined);
process.on('SIGTERM', () => child.kill('SIGTERM'));
child.once('exit', (code, signal) => process.exit(code ?? (signal === 'SIGINT' ? 130 : 1)));
