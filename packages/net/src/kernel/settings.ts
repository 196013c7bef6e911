/** What an application asks for, held against what the kernel has. */
import { readFileSync } from 'node:fs';
import { checkService } from '../backend.ts';
import type { MultipathSettings } from '../backend.ts';
import { NetError } from '../errors.ts';

/** Throws {@link NetError}: objects of one's own and the stack's schedulers cannot be given to the kernel. */
export function checkKernelSettings(settings: MultipathSettings): void {
  checkService(settings.service);
  for (const name of ['coupled', 'pathManager', 'versions'] as const) {
    if (settings[name] !== undefined) throw new NetError('NOT_SUPPORTED', `${name} cannot be chosen per connection in the kernel; expected the stack backend`);
  }
  if (settings.scheduler !== undefined) checkKernelScheduler(settings.scheduler);
  if (typeof settings.congestion === 'function')
    throw new NetError('NOT_SUPPORTED', 'a congestion controller of one’s own cannot run in the kernel; expected a name, or the stack backend');
  if (settings.congestion !== undefined) checkKernelCongestion(settings.congestion);
}

export function checkKernelScheduler(scheduler: unknown): void {
  const current = sysctl('/proc/sys/net/mptcp/scheduler');
  if (scheduler === current) return;
  if (typeof scheduler === 'function') throw new NetError('NOT_SUPPORTED', 'a scheduler of one’s own cannot run in the kernel; expected the stack backend');
  throw new NetError(
    'UNKNOWN_SCHEDULER',
    `scheduler "${String(scheduler)}" is not the kernel's; expected "${current}" (net.mptcp.scheduler, one for all), or the stack backend`,
  );
}

export function checkKernelCongestion(name: string): void {
  const available = sysctl('/proc/sys/net/ipv4/tcp_available_congestion_control').split(/\s+/);
  if (!available.includes(name)) throw new NetError('UNKNOWN_CONGESTION', `unknown congestion controller "${name}"; expected ${available.join(', ')}`);
}

function sysctl(path: string): string {
  try {
    return readFileSync(path, 'utf8').trim();
  } catch {
    return '';
  }
}
