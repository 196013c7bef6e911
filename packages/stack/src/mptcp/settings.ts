/** What an application chooses per connection, when it is made or later. */
import { StackError } from '../errors.ts';
import { congestionFactory, coupledFactory } from './congestion/controllers.ts';
import type { CoupledFactory } from './congestion/controllers.ts';
import type { PathManagerFactory } from './path-manager/types.ts';
import type { Scheduler, SchedulerFactory } from './scheduler/types.ts';
import { schedulerOf, SERVICE_TYPES } from './service-type.ts';
import type { ServiceType } from './service-type.ts';
import type { ConnectionState } from './state.ts';
import { wakeSenders } from './wake.ts';
import type { CongestionFactory } from '../tcp/congestion/types.ts';

/** Everything optional: what is absent stays as it is. */
export interface ConnectionSettings {
  service?: Exclude<ServiceType, 'none'>;
  scheduler?: SchedulerFactory;
  /** Counts for connections that are not established yet. */
  pathManager?: PathManagerFactory;
  /** By name or a factory; counts for subflows to come. */
  congestion?: string | CongestionFactory;
  /** Coupled controller by name (`none`: uncoupled) or a factory; counts for subflows to come. */
  coupled?: string | CoupledFactory;
  /** Send small segments at once (no Nagle). */
  noDelay?: boolean;
  /** Idle time before keepalive probes (RFC 9293 §3.8.4), microseconds; 0 turns them off. */
  keepaliveIdle?: number;
}

const KEYS: ReadonlySet<string> = new Set(['service', 'scheduler', 'pathManager', 'congestion', 'coupled', 'noDelay', 'keepaliveIdle']);

/** Checks settings before anything uses them. Throws {@link StackError} `BAD_OPTION` or `UNKNOWN_CONGESTION`. */
export function checkSettings(settings: ConnectionSettings): void {
  const wrong = (key: keyof ConnectionSettings, expected: string): never => {
    throw new StackError('BAD_OPTION', `setting ${key} is ${String(settings[key])}; expected ${expected}`);
  };
  for (const key of Object.keys(settings)) {
    if (!KEYS.has(key)) throw new StackError('BAD_OPTION', `unknown setting "${key}"; expected ${[...KEYS].join(', ')}`);
  }
  const { service, scheduler, pathManager, congestion, coupled, noDelay, keepaliveIdle } = settings;
  if (service !== undefined && !SERVICE_TYPES.includes(service)) wrong('service', SERVICE_TYPES.join(', '));
  if (scheduler !== undefined && typeof scheduler !== 'function') wrong('scheduler', 'a factory, one of SCHEDULERS or your own');
  if (pathManager !== undefined && typeof pathManager !== 'function') wrong('pathManager', 'a path manager factory');
  if (congestion !== undefined) congestionFactory(congestion);
  if (coupled !== undefined) coupledFactory(coupled);
  if (noDelay !== undefined && typeof noDelay !== 'boolean') wrong('noDelay', 'true or false');
  if (keepaliveIdle !== undefined && !(typeof keepaliveIdle === 'number' && keepaliveIdle >= 0)) wrong('keepaliveIdle', 'microseconds, 0 for none');
}

/** Applies settings. Throws as {@link checkSettings}. */
export function applySettings(connection: ConnectionState, settings: ConnectionSettings, now: number): void {
  checkSettings(settings);
  if (settings.congestion !== undefined) {
    connection.congestionFactory = congestionFactory(settings.congestion);
    // A controller that was asked for stands above the host's coupled one.
    if (settings.coupled === undefined) connection.coupledFactory = null;
  }
  if (settings.coupled !== undefined) connection.coupledFactory = coupledFactory(settings.coupled);
  if (settings.pathManager !== undefined) connection.pathManagerFactory = settings.pathManager;
  if (settings.service !== undefined) {
    connection.service = settings.service;
    if (settings.scheduler === undefined && connection.scheduler !== null) connection.scheduler = schedulerOf(settings.service)();
  }
  if (settings.scheduler !== undefined) {
    connection.schedulerFactory = settings.scheduler;
    if (connection.scheduler !== null) connection.scheduler = settings.scheduler();
  }
  if (settings.noDelay !== undefined) connection.noDelay = settings.noDelay;
  if (settings.keepaliveIdle !== undefined) {
    connection.keepaliveIdle = settings.keepaliveIdle;
    for (const { tcb } of connection.subflows) {
      tcb.keepaliveIdle = settings.keepaliveIdle;
      tcb.keepaliveAt = settings.keepaliveIdle === 0 ? 0 : now + settings.keepaliveIdle;
      tcb.context.reschedule(tcb);
    }
  }
  wakeSenders(connection);
}

/** The scheduler a connection starts with. */
export function makeScheduler(connection: ConnectionState): Scheduler {
  return (connection.schedulerFactory ?? (connection.service === null ? connection.host.mptcp.scheduler : schedulerOf(connection.service)))();
}
