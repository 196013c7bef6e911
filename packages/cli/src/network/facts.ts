/** A connection's facts in words. */
import type { Multipath, MultipathInfo, SubflowFacts } from '@subflow/net';

/** `Multipath TCP version 1, 2 subflows`, or why not. */
export function summary(info: MultipathInfo | null): string {
  if (info === null) return 'not connected';
  if (!info.multipath) return `plain TCP (${info.fallback ?? 'unknown'})`;
  return `Multipath TCP version ${info.version}, ${info.subflows.length} subflow${info.subflows.length === 1 ? '' : 's'}`;
}

export function subflowName(subflow: SubflowFacts): string {
  return subflow.interface ?? subflow.localAddress;
}

export function endpoint(address: string, port: number): string {
  return address.includes(':') ? `[${address}]:${port}` : `${address}:${port}`;
}

/** Tells on stderr what happens to a connection. */
export function narrate(multipath: Multipath | null, say: (text: string) => void): void {
  if (multipath === null) return;
  multipath.on('subflow-established', (one) => say(`subflow ${one.local} → ${one.remote} established`));
  multipath.on('subflow-closed', (one) => say(`subflow ${one.local} → ${one.remote} closed: ${one.reason}`));
  multipath.on('subflow-priority', (one) => say(`subflow ${one.local} → ${one.remote} is ${one.backup ? 'backup' : 'regular'} now`));
  multipath.on('address-announced', (one) => say(`${one.byPeer ? 'peer' : 'we'} announced ${one.address} (id ${one.addressId})`));
  multipath.on('address-removed', (one) => say(`${one.byPeer ? 'peer' : 'we'} removed address id ${one.addressId}`));
  multipath.on('fallback', (reason) => say(`fallback to TCP: ${reason}`));
}
