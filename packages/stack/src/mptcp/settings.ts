/** What an application chooses per connection, when it is made or later. */
import { congestionFactory, coupledFactory } from './congestion/controllers.ts';
import type { CoupledFactory } from './congestion/controllers.ts';
import type { PathManagerFactory } from './path-manager/types.ts';
import type { Scheduler, SchedulerFactory } from './scheduler/types.ts';
import { schedulerOf } from './service-type.ts';
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

export function applySettings(connection: ConnectionState, settings: ConnectionSettings, now: number): void {
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
