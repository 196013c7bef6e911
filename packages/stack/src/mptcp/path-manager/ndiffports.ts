/**
 * ndiffports (multipath-tcp.org's kernel): several subflows between the same two addresses from different ports, so that
 * equal-cost routing in a datacenter spreads them over different paths (Raiciu et al., SIGCOMM 2011).
 */
import type { Connection } from '../connection.ts';
import type { Subflow } from '../subflow.ts';
import type { CloseReason } from '../../tcp/state.ts';
import { Rejoin } from './rejoin.ts';
import type { PathManager, PathManagerFactory } from './types.ts';

class NDiffPorts implements PathManager {
  readonly name = 'ndiffports';
  private readonly rejoin = new Rejoin();
  private readonly count: number;

  constructor(count: number) {
    this.count = count;
  }

  onEstablished(connection: Connection, now: number): void {
    const first = connection.subflows[0];
    if (!connection.active || first === undefined || connection.peerDeniesJoin) return;
    for (let i = 1; i < this.count; i++) connection.join(first.tcb.local, 0, connection.remoteAddress, connection.remotePort, 0, false, now);
  }

  onSubflowEstablished(_connection: Connection, subflow: Subflow): void {
    this.rejoin.established(subflow);
  }

  onSubflowClosed(connection: Connection, subflow: Subflow, reason: CloseReason, transient: boolean, now: number): void {
    this.rejoin.closed(connection, subflow, reason, transient, now);
  }

  deadline(): number {
    return this.rejoin.deadline();
  }

  onTimer(connection: Connection, now: number): void {
    this.rejoin.fire(connection, now);
  }
}

/** `count` subflows in all, the first included. */
export function ndiffports(count = 2): PathManagerFactory {
  return () => new NDiffPorts(count);
}
