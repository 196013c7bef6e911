/** Commands to a running balancer, over its control socket. */
import { Command } from 'commander';
import { askDaemon, controlPath, liveSockets, parseConfig } from '@subflow/balancer/node';
import type { ControlAnswer, ControlRequest, Report } from '@subflow/balancer/node';
import { numberOf, readText, UsageError } from '../errors.ts';

interface Flags {
  config?: string;
  control?: string;
  service?: string;
  json?: boolean;
}

interface AddFlags extends Flags {
  id?: string;
  port?: string;
  ownPort?: string;
  weight?: string;
}

/** The socket that is meant: named, of a configuration, or the only one there is. */
async function socketOf(flags: Flags): Promise<string> {
  if (flags.control !== undefined) return flags.control;
  if (flags.config !== undefined) return controlPath(parseConfig(readText(flags.config), flags.config));
  const found = await liveSockets();
  if (found.length === 1) return found[0]!;
  throw new UsageError(
    'BAD_ARGUMENT',
    found.length === 0
      ? 'no balancer runs here; expected --control with its socket, or --config'
      : `${found.length} balancers run here; expected --control with one of ${found.join(', ')}`,
  );
}

async function ask(flags: Flags, request: ControlRequest): Promise<ControlAnswer> {
  const answer = await askDaemon(await socketOf(flags), request);
  if (answer.error !== undefined) throw new UsageError(answer.error.code, answer.error.message);
  return answer;
}

/** The service that is meant: named, or the only one. */
async function serviceOf(flags: Flags): Promise<string> {
  if (flags.service !== undefined) return flags.service;
  const { report } = await ask(flags, { do: 'status' });
  if (report!.services.length === 1) return report!.services[0]!.name;
  throw new UsageError(
    'BAD_ARGUMENT',
    `the balancer has ${report!.services.length} services; expected --service with one of ${report!.services.map((one) => one.name).join(', ')}`,
  );
}

async function change(flags: Flags, request: ControlRequest): Promise<void> {
  const answer = await ask(flags, request);
  process.stdout.write(flags.json === true ? `${JSON.stringify(answer)}\n` : `generation ${answer.generation}\n`);
}

function withSocket(command: Command): Command {
  return command
    .option('--control <socket>', 'of the balancer that is meant')
    .option('--config <file>', 'its configuration, which names the socket')
    .option('--json', 'JSON');
}

function withService(command: Command): Command {
  return withSocket(command).option('--service <name>', 'needed when there are several');
}

export function controlCommands(): Command[] {
  const number = (flag: string, text: string | undefined, low: number, high: number): number | undefined =>
    text === undefined ? undefined : numberOf(flag, text, low, high);
  return [
    withService(new Command('add'))
      .description('add a server to a service')
      .argument('<name>')
      .argument('<address>')
      .option('--id <n>', '1 to 255; default: the lowest free one')
      .option('--port <n>', 'of the service on the server (NAT)')
      .option('--own-port <n>', 'from 1024 on: names this server')
      .option('--weight <n>', 'share of new connections', '1')
      .addHelpText('after', '\nExamples:\n  subflow lb add s3 192.0.2.13 --own-port 20003\n  subflow lb add s3 192.0.2.13 --weight 2 --service web')
      .action(async (name: string, address: string, flags: AddFlags) => {
        const server = {
          name,
          address,
          id: number('--id', flags.id, 1, 255),
          port: number('--port', flags.port, 1, 65_535),
          ownPort: number('--own-port', flags.ownPort, 1024, 65_535),
          weight: number('--weight', flags.weight, 0, 65_535),
        };
        await change(flags, { do: 'add', service: await serviceOf(flags), server });
      }),
    ...(['drain', 'undrain', 'remove'] as const).map((verb) =>
      withService(new Command(verb))
        .description({ drain: 'no new connections for a server; it keeps what it has', undrain: 'new connections again', remove: 'take a server out' }[verb])
        .argument('<name>')
        .addHelpText('after', `\nExamples:\n  subflow lb ${verb} s1\n  subflow lb ${verb} s1 --service web`)
        .action(async (server: string, flags: Flags) => change(flags, { do: verb, service: await serviceOf(flags), server })),
    ),
    withService(new Command('weight'))
      .description('change the share of new connections that a server gets')
      .argument('<name>')
      .argument('<weight>', '0 to 65535')
      .addHelpText('after', '\nExamples:\n  subflow lb weight s1 3')
      .action(async (server: string, weight: string, flags: Flags) =>
        change(flags, { do: 'weight', service: await serviceOf(flags), server, weight: numberOf('weight', weight, 0, 65_535) }),
      ),
    withSocket(new Command('status'))
      .description('services, servers, their health and packets')
      .addHelpText('after', '\nExamples:\n  subflow lb status\n  subflow lb status --json')
      .action(async (flags: Flags) => {
        const { report } = await ask(flags, { do: 'status' });
        process.stdout.write(flags.json === true ? `${JSON.stringify(report)}\n` : status(report!));
      }),
    withSocket(new Command('explain'))
      .description('why a packet goes where it goes')
      .argument('<packet...>', 'octets in hexadecimal, or ADDRESS:PORT > ADDRESS:PORT [syn|ack|fin|rst] [token=HEX] [tsecr=NUMBER]')
      .addHelpText(
        'after',
        "\nExamples:\n  subflow lb explain '192.0.2.1:40000 > 203.0.113.10:443 syn'\n  subflow lb explain '192.0.2.5:40001 > 203.0.113.10:443 syn token=0x1f2e3d4c'",
      )
      .action(async (packet: string[], flags: Flags) => {
        const { explanation } = await ask(flags, { do: 'explain', packet: packet.join(' ') });
        process.stdout.write(
          flags.json === true
            ? `${JSON.stringify(explanation)}\n`
            : `${explanation!.steps.join('\n')}\n${explanation!.reason === null ? '' : `dropped: ${explanation!.reason}\n`}`,
        );
      }),
  ];
}

function status(report: Report): string {
  const lines = [
    `${report.name}: data plane ${report.dataPlane}, generation ${report.generation}${report.leading ? ', checks the servers' : ''}${report.storeAway ? ', the store is away' : ''}`,
  ];
  for (const service of report.services) {
    const total = service.servers.reduce((sum, one) => sum + one.packets, 0);
    const end = service.address.includes(':') ? `[${service.address}]:${service.port}` : `${service.address}:${service.port}`;
    lines.push('', `${service.name}  ${end}  ${service.design}, ${service.forwarding}`);
    for (const one of service.servers) {
      const share = total === 0 ? 0 : one.packets / total;
      const state = one.healthy ? one.wanted : `down: ${one.problem ?? 'found by another balancer'}`;
      const port = one.ownPort === null ? '' : ` port ${one.ownPort}`;
      lines.push(
        `  ${one.name.padEnd(12)} ${String(one.id).padStart(3)}  ${`${one.address}${port}`.padEnd(28)} weight ${String(one.weight).padEnd(5)} ${'█'.repeat(Math.round(share * 20)).padEnd(20)} ${String(one.packets).padStart(9)} packets  ${state}`,
      );
    }
    const others = Object.entries(service.packets).filter(([name, count]) => count > 0 && name !== 'forwarded');
    if (others.length > 0) lines.push(`  ${others.map(([name, count]) => `${name} ${count}`).join(', ')}`);
  }
  return `${lines.join('\n')}\n`;
}
