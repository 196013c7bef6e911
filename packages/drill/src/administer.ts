/** Carries a script's commands out: before the host runs they are what it begins with, later they change it. */
import { StackError } from '@subflow/stack';
import type { Host } from '@subflow/stack';
import { ScriptError } from './script.ts';
import type { Command, Expression } from './script.ts';
import { SYSCTLS } from './sysctls.ts';
import type { Setup } from './sysctls.ts';

export interface Administered {
  /** Null before the first event that needs it. */
  host: Host | null;
  setup: Setup;
  now: number;
  resolve(address: Expression & { kind: 'address' }): Uint8Array;
}

/** Throws {@link ScriptError} for what the host does not take. */
export function administer(command: Exclude<Command, { kind: 'sleep' }>, target: Administered): void {
  const { host, setup, now } = target;
  switch (command.kind) {
    case 'nothing':
      return;
    case 'sysctl':
      if (host !== null)
        throw new ScriptError(
          'SCRIPT_UNSUPPORTED',
          command.place,
          `sysctl ${command.name} while the host runs; expected it before the first socket and packet`,
        );
      SYSCTLS[command.name]!.take(command.value, setup);
      return;
    case 'limits': {
      const limits = {
        ...(command.subflows === null ? {} : { subflows: command.subflows }),
        ...(command.accepted === null ? {} : { addressesAccepted: command.accepted }),
      };
      Object.assign(setup.limits, limits);
      host?.setLimits(limits, now);
      return;
    }
    case 'endpoint-add':
      addEndpoint(command, target);
      return;
    case 'endpoint-flush':
      setup.endpoints.length = 0;
      for (const { id } of [...(host?.endpoints ?? [])]) host!.removeEndpoint(id, now);
      return;
    default: {
      const { id } = command;
      const done = command.kind === 'endpoint-delete' ? host?.removeEndpoint(id, now) : host?.changeEndpoint(id, { [command.flag]: command.on }, now);
      if (host === null)
        throw new ScriptError('SCRIPT_UNSUPPORTED', command.place, 'endpoints are changed before the host runs; expected the first socket or packet above');
      const known = host.endpoints.map((one) => one.id).join(', ');
      if (done !== true)
        throw new ScriptError('SCRIPT_SYNTAX', command.place, `no endpoint ${id}; expected ${known === '' ? 'one to be added before' : known}`);
    }
  }
}

function addEndpoint(command: Command & { kind: 'endpoint-add' }, { host, setup, now, resolve }: Administered): void {
  const { id, port, flags } = command;
  const endpoint = {
    address: resolve(command.address),
    ...(id === null ? {} : { id }),
    port,
    subflow: flags.has('subflow'),
    signal: flags.has('signal'),
    backup: flags.has('backup'),
    fullmesh: flags.has('fullmesh'),
    laminar: flags.has('laminar'),
  };
  setup.endpoints.push(endpoint);
  try {
    host?.addEndpoint(endpoint, now);
  } catch (error) {
    throw error instanceof StackError ? new ScriptError('SCRIPT_SYNTAX', command.place, error.message) : error;
  }
}
