/** A balancer of the bench. Usage: peer-balancer CONFIGURATION */
import { readFileSync } from 'node:fs';
import { parseConfig } from '../config.ts';
import { Daemon } from '../control/daemon.ts';

const file = process.argv[2]!;
const daemon = await Daemon.start(parseConfig(readFileSync(file, 'utf8'), file), () => {});
process.stdout.write('ready\n');
process.once('SIGTERM', () => {
  void daemon.close().then(() => process.exit(0));
});
setInterval(() => {}, 60_000);
