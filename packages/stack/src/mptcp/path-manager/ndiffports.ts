/**
 * ndiffports (multipath-tcp.org's kernel): several subflows between the same two addresses from different ports, so that
 * equal-cost routing in a datacenter spreads them over different paths (Raiciu et al., SIGCOMM 2011).
 */
import { sameAddress } from '@subflow/wire';
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
    if (connection.initialLocal !== null) this.fill(connection, connection.initialLocal, now);
  }

  onAddressLost(_connection: ManagedConnection, address: Uint8Array): void {
    this.rejoin.forgetLocal(address);
  }

  onAddressFound(connection: ManagedConnection, address: Uint8Array, now: number): void {
    if (connection.confirmed && connection.initialLocal !== null && sameAddress(address, connection.initialLocal)) this.fill(connection, address, now);
  }

  onSubflowEstablished(_connection: ManagedConnection, subflow: ManagedSubflow): void {
    this.rejoin.established(subflow);
  }

  onSubflowClosed(connection: ManagedConnection, subflow: ManagedSubflow, reason: CloseReason, transient: boolean, now: number): void {
    this.rejoin.closed(connection, subflow, reason, transient, now);
  }

  /** Opens subflows between the two ends at which the connection began until there are as many as wanted. */
  private fill(connection: ManagedConnection, local: Uint8Array, now: number): void {
    if (!connection.active || connection.peerDeniesJoin) return;
    const { remoteAddress: remote, remotePort } = connection;
    for (let i = connection.subflows.length; i < this.count; i++) connection.join({ local, localId: 0, remote, remotePort, remoteId: 0 }, now);
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
