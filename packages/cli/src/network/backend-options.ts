/** The options by which a command chooses its backend, the same everywhere. */
import { Command, Option } from 'commander';
import { kernelBackend, openStack, publishStatus } from '@subflow/net';
import type { Backend, MultipathOptions, StackInterface } from '@subflow/net';
import { SERVICE_TYPES } from '@subflow/stack';
import type { ServiceType } from '@subflow/stack';
import { removeLeftovers } from '@subflow/link';
import { UsageError } from '../errors.ts';

export interface BackendFlags {
  backend: 'kernel' | 'stack';
  interface: string[];
  service?: string;
  scheduler?: string;
  congestion?: string;
}

export const BACKEND_HELP = `
Backends:
  kernel    the system's Multipath TCP; plain TCP where it has none
  stack     ours. Each --interface is KIND:DEVICE=ADDRESS/BITS[,ADDRESS/BITS…][,gateway=ADDRESS][,backup]
            packet:eth0=192.0.2.9/24,gateway=192.0.2.254   on a device that is there, with an address nobody else has
            tun:sf0=192.0.2.1/30                           a TUN device made under this name
            Without --interface the stack reaches itself only.`;

/** Adds --backend, --interface, --service, --scheduler, --congestion. */
export function withBackend(command: Command): Command {
  return command
    .addOption(new Option('--backend <name>', 'whose Multipath TCP').choices(['kernel', 'stack']).default('kernel'))
    .option('--interface <spec>', 'interface of our stack; may be repeated', (value: string, all: string[]) => [...all, value], [] as string[])
    .option('--service <type>', `what is wanted of several paths: ${SERVICE_TYPES.join(', ')}`)
    .option('--scheduler <name>', 'scheduler (stack)')
    .option('--congestion <name>', 'congestion controller');
}

/** The backend that was asked for, and settings for sockets. Throws {@link UsageError}. */
export function openBackend(flags: BackendFlags): MultipathOptions & { backend: Backend } {
  if (flags.backend === 'kernel' && flags.interface.length > 0) throw new UsageError('BAD_ARGUMENT', '--interface needs --backend stack');
  if (flags.service !== undefined && !(SERVICE_TYPES as readonly string[]).includes(flags.service))
    throw new UsageError('UNKNOWN_SERVICE_TYPE', `--service "${flags.service}"; expected ${SERVICE_TYPES.join(', ')}`);
  if (flags.backend === 'stack') removeLeftovers();
  const stack = flags.backend === 'stack' ? openStack({ interfaces: flags.interface.map(parseInterface) }) : null;
  if (stack !== null) publishStatus(stack);
  const backend = stack ?? kernelBackend;
  return {
    backend,
    ...(flags.service === undefined ? {} : { service: flags.service as ServiceType }),
    ...(flags.scheduler === undefined ? {} : { scheduler: flags.scheduler }),
    ...(flags.congestion === undefined ? {} : { congestion: flags.congestion }),
  };
}

/** `packet:eth0=192.0.2.9/24,gateway=192.0.2.254,backup`. Throws {@link UsageError} `BAD_INTERFACE`. */
export function parseInterface(spec: string): StackInterface {
  const match = /^(tun|packet):([^=]+)=(.+)$/.exec(spec);
  if (match === null) throw new UsageError('BAD_INTERFACE', `--interface "${spec}"; expected KIND:DEVICE=ADDRESS/BITS, for example packet:eth0=192.0.2.9/24`);
  const addresses: string[] = [];
  const gateway: string[] = [];
  let backup = false;
  for (const part of match[3]!.split(',')) {
    if (part === 'backup') backup = true;
    else if (part.startsWith('gateway=')) gateway.push(part.slice('gateway='.length));
    else if (/^[0-9a-f.:]+\/\d+$/i.test(part)) addresses.push(part);
    else throw new UsageError('BAD_INTERFACE', `--interface "${spec}": "${part}"; expected ADDRESS/BITS, gateway=ADDRESS or backup`);
  }
  if (addresses.length === 0) throw new UsageError('BAD_INTERFACE', `--interface "${spec}" has no address; expected at least one ADDRESS/BITS`);
  return { name: match[2]!, port: match[1] as 'tun' | 'packet', addresses, backup, gateway };
}

/** A port number. Throws {@link UsageError} `BAD_PORT`. */
export function parsePort(text: string, lowest = 1): number {
  const port = Number(text);
  if (!Number.isInteger(port) || port < lowest || port > 65535) throw new UsageError('BAD_PORT', `port "${text}"; expected ${lowest} to 65535`);
  return port;
}
