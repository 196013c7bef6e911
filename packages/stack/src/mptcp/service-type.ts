/** What an application wants from several paths, in one word; the names are those of iOS. */
import { StackError } from '../errors.ts';
import { blest } from './scheduler/blest.ts';
import { ecf } from './scheduler/ecf.ts';
import { handover } from './scheduler/handover.ts';
import { interactive } from './scheduler/interactive.ts';
import { lowestRtt } from './scheduler/lowest-rtt.ts';
import { redundant } from './scheduler/redundant.ts';
import { roundRobin } from './scheduler/round-robin.ts';
import type { SchedulerFactory } from './scheduler/types.ts';

/**
 * `none`: plain TCP. `handover`: a further path only when the first fails or fades; it is marked as backup to the peer.
 * `interactive`: lowest latency. `aggregate`: the sum of all paths.
 */
export type ServiceType = 'none' | 'handover' | 'interactive' | 'aggregate';

export const SERVICE_TYPES: readonly ServiceType[] = ['none', 'handover', 'interactive', 'aggregate'];

/** The scheduler of a service type. */
export function schedulerOf(service: Exclude<ServiceType, 'none'>): SchedulerFactory {
  return service === 'handover' ? handover : service === 'interactive' ? interactive : lowestRtt;
}

/** Every scheduler by name. */
export const SCHEDULERS: Readonly<Record<string, SchedulerFactory>> = {
  'lowest-rtt': lowestRtt,
  'round-robin': roundRobin,
  redundant,
  blest,
  ecf,
  handover,
  interactive,
};

/** Resolves a name; throws {@link StackError} `BAD_OPTION`. */
export function schedulerNamed(name: string): SchedulerFactory {
  const factory = Object.hasOwn(SCHEDULERS, name) ? SCHEDULERS[name] : undefined;
  if (factory === undefined) throw new StackError('BAD_OPTION', `unknown scheduler "${name}"; expected ${Object.keys(SCHEDULERS).join(', ')}`);
  return factory;
}
