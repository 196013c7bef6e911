/** From what an application asks for to what the stack takes. */
import { COUPLED_CONTROLLERS, CONGESTION_CONTROLLERS, defaultPathManager, SCHEDULERS } from '@subflow/stack';
import type { ConnectionSettings, ConnectOptions, ManagedConnection, PathManagerFactory, SchedulerFactory } from '@subflow/stack';
import { sameAddress } from '@subflow/wire';
import { checkService } from '../backend.ts';
import type { MultipathSettings } from '../backend.ts';
import { NetError } from '../errors.ts';

export function schedulerFactory(choice: string | SchedulerFactory): SchedulerFactory {
  if (typeof choice === 'function') return choice;
  return known(SCHEDULERS, choice, 'UNKNOWN_SCHEDULER', 'scheduler');
}

/** Refuses names the stack does not know. Throws {@link NetError}. */
export function checkSettings(settings: MultipathSettings): void {
  checkService(settings.service);
  if (settings.scheduler !== undefined) schedulerFactory(settings.scheduler);
  if (typeof settings.congestion === 'string') known(CONGESTION_CONTROLLERS, settings.congestion, 'UNKNOWN_CONGESTION', 'congestion controller');
  if (typeof settings.coupled === 'string' && settings.coupled !== 'none')
    known(COUPLED_CONTROLLERS, settings.coupled, 'UNKNOWN_CONGESTION', 'coupled congestion controller');
}

function known<T>(table: Readonly<Record<string, T>>, name: string, code: 'UNKNOWN_SCHEDULER' | 'UNKNOWN_CONGESTION', what: string): T {
  const found = Object.hasOwn(table, name) ? table[name] : undefined;
  if (found === undefined) throw new NetError(code, `unknown ${what} "${name}"; expected ${Object.keys(table).join(', ')}`);
  return found;
}

/** Settings for accepted connections. */
export function connectionSettings(settings: MultipathSettings): ConnectionSettings {
  const { service, scheduler, congestion, coupled, pathManager } = settings;
  return {
    ...(service === undefined || service === 'none' ? {} : { service }),
    ...(scheduler === undefined ? {} : { scheduler: schedulerFactory(scheduler) }),
    ...(congestion === undefined ? {} : { congestion }),
    ...(coupled === undefined ? {} : { coupled }),
    ...(pathManager === undefined ? {} : { pathManager }),
  };
}

/** Settings for a connection to be opened; `alternatives` are asked for once it may have further subflows. */
export function connectOptions(
  settings: MultipathSettings,
  alternatives: () => readonly { address: Uint8Array; port: number }[],
): Omit<ConnectOptions, 'remote' | 'port'> {
  return {
    ...connectionSettings(settings),
    ...(settings.service === 'none' ? { service: 'none' } : {}),
    ...(settings.versions === undefined ? {} : { versions: settings.versions }),
    pathManager: withAlternatives(settings.pathManager ?? defaultPathManager, alternatives),
  };
}

/** A path manager that also joins addresses of the peer known from its name (RFC 8305 says which; RFC 8684 §3.4 allows any known way). */
function withAlternatives(inner: PathManagerFactory, alternatives: () => readonly { address: Uint8Array; port: number }[]): PathManagerFactory {
  return () => {
    const manager = inner();
    const onEstablished = manager.onEstablished?.bind(manager);
    manager.onEstablished = (connection, now) => {
      onEstablished?.(connection, now);
      for (const { address, port } of alternatives()) joinAlternative(connection, address, port, now);
    };
    return manager;
  };
}

/** Joins another address of the peer unless a subflow leads there already. The peer tells its id in the SYN+ACK (RFC 8684 §3.2). */
export function joinAlternative(connection: ManagedConnection, address: Uint8Array, port: number, now: number): void {
  const { host } = connection;
  if (connection.subflows.some((subflow) => sameAddress(subflow.tcb.remote, address))) return;
  const source = host.sourceFor(address);
  if (source === null) return;
  const localId = connection.localIdOf(source);
  connection.join({ local: source, localId, remote: address, remotePort: port, remoteId: -1, backup: host.isBackup(source) }, now);
}
