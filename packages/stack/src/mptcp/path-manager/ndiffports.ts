/**
 * ndiffports (multipath-tcp.org's kernel): several subflows between the same two addresses from different ports, so that
 * equal-cost routing in a datacenter spreads them over different paths (Raiciu et al., SIGCOMM 2011).
 */
import { Rejoin } from './rejoin.ts';
import type { ManagedConnection, ManagedSubflow, PathManager, PathManagerFactory } from './types.ts';
import type { CloseReason } from '../../tcp/state.ts';

class NDiffPorts implements PathManager {
  readonly name = 'ndiffports';
  private readonly rejoin = new Rejoin();
  private readonly count: number;

  constructor(count: number) {
    this.count = count;
  }

  onEstablished(connection: ManagedConnection, now: number): void {
    const first = connection.subflows[0];
    if (!connection.active || first === undefined || connection.peerDeniesJoin) return;
    const request = { local: first.tcb.local, localId: 0, remote: connection.remoteAddress, remotePort: connection.remotePort, remoteId: 0 };
    for (let i = 1; i < this.count; i++) connection.join(request, now);
  }

  onSubflowEstablished(_connection: ManagedConnection, subflow: ManagedSubflow): void {
    this.rejoin.established(subflow);
  }

  onSubflowClosed(connection: ManagedConnection, subflow: ManagedSubflow, reason: CloseReason, transient: boolean, now: number): void {
    this.rejoin.closed(connection, subflow, reason, transient, now);
  }

  deadline(): number {
    return this.rejoin.deadline();
  }

  onTimer(connection: ManagedConnection, now: number): void {
    this.rejoin.fire(connection, now);
  }
}

/** `count` subflows in all, the first included. */
export function ndiffports(count = 2): PathManagerFactory {
  return () => new NDiffPorts(count);
}
