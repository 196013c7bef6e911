/** One end of the protocols test on the kernel backend; runs inside a namespace: `serve CERT KEY`, or `fetch PROTOCOL HOST`. */
import { readFileSync } from 'node:fs';
import { kernelBackend } from '@subflow/net';
import { serveAll, transfer } from './protocols.ts';
import type { Protocol } from './protocols.ts';

const [role, a, b] = process.argv.slice(2);
if (role === 'serve') {
  await serveAll(kernelBackend, { cert: readFileSync(a!, 'utf8'), key: readFileSync(b!, 'utf8') });
  process.stdout.write('serving\n');
} else {
  const outcome = await transfer(a as Protocol, kernelBackend, b!, () => process.stdout.write('middle\n'));
  process.stdout.write(`${JSON.stringify(outcome)}\n`);
  process.exit(0);
}
