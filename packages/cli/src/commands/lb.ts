/** `subflow lb`: load balancers for Multipath TCP. */
import { Command } from 'commander';
import { Daemon, parseConfig } from '@subflow/balancer/node';
import { readText, UsageError } from '../errors.ts';
import { compareCommand } from '../lb/compare.ts';
import { controlCommands } from '../lb/control.ts';
import { serverCommand } from '../lb/server.ts';

const EXAMPLES = `
Examples:
  subflow lb --config lb.yaml                 runs until Ctrl-C
  subflow lb --config lb.yaml --check         reads the configuration, changes nothing
  subflow lb --config lb.yaml --keep          xdp: packets go on after the end, until the next start
  subflow lb drain s1                         says something to the balancer that runs here
  subflow lb compare                          the published designs on the same work

A configuration, with everything that has no default:

  interface: eth0
  services:
    - name: web
      address: 203.0.113.10
      port: 443
      servers:
        - { name: s1, id: 1, address: 192.0.2.11, ownPort: 20001 }
        - { name: s2, id: 2, address: 192.0.2.12, ownPort: 20002 }

The rest, and what servers need: docs/lb.md.`;

interface Flags {
  config?: string;
  check?: boolean;
  keep?: boolean;
  json?: boolean;
}

export function lbCommand(): Command {
  const command = new Command('lb')
    .description('load balancers for Multipath TCP: all published designs, one that runs')
    .enablePositionalOptions()
    .option('--config <file>', 'services, servers, data plane (YAML)')
    .option('--check', 'read the configuration only')
    .option('--keep', 'leave the data plane in place at the end (xdp)')
    .option('--json', 'events as lines of JSON')
    .addHelpText('after', EXAMPLES)
    .action(run);
  for (const one of [...controlCommands(), serverCommand(), compareCommand()]) command.addCommand(one);
  return command;
}

async function run(flags: Flags): Promise<void> {
  if (flags.config === undefined)
    throw new UsageError('BAD_ARGUMENT', 'expected --config FILE, or a command: add, drain, undrain, remove, weight, status, explain, server, compare');
  const config = parseConfig(readText(flags.config), flags.config);
  if (flags.check === true) {
    process.stdout.write(`${flags.config}: ${config.services.length} service${config.services.length === 1 ? '' : 's'}, data plane ${config.dataPlane}\n`);
    return;
  }
  const say = (type: string, text: string): void => {
    process.stdout.write(
      flags.json === true
        ? `${JSON.stringify({ time: new Date().toISOString(), type, text })}\n`
        : `${new Date().toISOString().slice(11, 23)} ${type}: ${text}\n`,
    );
  };
  // Before anything is changed: who ends it while it starts gets everything back, too.
  const stopped = new Promise<void>((resolve) => {
    const alive = setInterval(() => {}, 60_000);
    const stop = (): void => {
      clearInterval(alive);
      resolve();
    };
    process.once('SIGINT', stop);
    process.once('SIGTERM', stop);
  });
  const daemon = await Daemon.start(config, (event) => say(event.type, event.text));
  say('ready', `${config.services.map((one) => one.name).join(', ')} on ${config.dataPlane}; Ctrl-C ends it`);
  await stopped;
  await daemon.close(flags.keep === true);
  say('ended', flags.keep === true ? 'the data plane goes on' : 'everything is as it was');
  // What a store's library keeps open would keep us.
  process.exit(0);
}
