/** `subflow lb server`: a kernel server made ready to stand behind a balancer. */
import { Command, Option } from 'commander';
import { parseConfig, ServerSetup, setupScript } from '@subflow/balancer/node';
import { numberOf, readText } from '../errors.ts';

const EXAMPLES = `
Examples:
  subflow lb server s1 --config lb.yaml --interface eth0 --balancers 192.0.2.10,192.0.2.11
        sets everything up, loads the shim, takes it all back on Ctrl-C (or at the next start after a crash)
  subflow lb server s1 --config lb.yaml --interface eth0 --print      the same as a script, without the shim`;

interface Flags {
  config: string;
  interface: string;
  balancers: string;
  mode: 'native' | 'generic';
  mtu: string;
  print?: boolean;
}

export function serverCommand(): Command {
  return new Command('server')
    .description('make a kernel server ready: service address, flag C, announced address or port, shim')
    .argument('<name>', 'of the server in the configuration')
    .requiredOption('--config <file>', "the balancer's configuration")
    .requiredOption('--interface <name>', 'towards the balancer')
    .option('--balancers <addresses>', 'where tunnels may begin, with commas between', '')
    .addOption(new Option('--mode <mode>', 'of the XDP program').choices(['native', 'generic']).default('native'))
    .option('--mtu <octets>', 'of the link: the MSS leaves room for the tunnel', '1500')
    .option('--print', 'print a script, change nothing')
    .addHelpText('after', EXAMPLES)
    .action(async (server: string, flags: Flags) => {
      const config = parseConfig(readText(flags.config), flags.config);
      const options = {
        config,
        server,
        device: flags.interface,
        balancers: flags.balancers.split(',').filter(Boolean),
        mode: flags.mode,
        mtu: numberOf('--mtu', flags.mtu, 576, 65_535),
      };
      if (flags.print === true) {
        process.stdout.write(setupScript(options));
        return;
      }
      const setup = new ServerSetup(options);
      process.stdout.write(`ready${setup.shim === null ? '' : ': the shim takes tunnels apart'}; Ctrl-C takes everything back\n`);
      await new Promise<void>((resolve) => {
        const alive = setInterval(() => {}, 60_000);
        const stop = (): void => {
          clearInterval(alive);
          resolve();
        };
        process.once('SIGINT', stop);
        process.once('SIGTERM', stop);
      });
      const counters = setup.shim?.counters();
      setup.close();
      if (counters !== undefined) process.stdout.write(`${JSON.stringify(counters)}\n`);
    });
}
