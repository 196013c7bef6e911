/**
 * Full mesh (the `fullmesh` module of multipath-tcp.org's kernel): every address of ours to every address of the peer;
 * all addresses are announced, whether there are endpoints for them or not.
 */
import { sameAddress } from '@subflow/wire';
import { Rejoin, rejoinInitial } from './rejoin.ts';
import { TriedPairs } from './tried.ts';
import type { ManagedConnection, ManagedSubflow, PathManager, PathManagerFactory } from './types.ts';
import type { CloseReason } from '../../tcp/state.ts';

class FullMesh implements PathManager {
  readonly name = 'fullmesh';
  private readonly rejoin = new Rejoin();
  private readonly tried = new TriedPairs();

  onEstablished(connection: ManagedConnection, now: number): void {
    for (const address of ownAddresses(connection)) {
      if (connection.initialLocal !== null && sameAddress(address, connection.initialLocal)) continue;
      connection.announce(connection.host.addressIdOf(address), address, null, now);
    }
    this.mesh(connection, now);
  }

  onAnnounced(connection: ManagedConnection, _address: unknown, now: number): void {
    this.mesh(connection, now);
  }

  onRemoved(_connection: ManagedConnection, addressId: number): void {
    this.rejoin.forgetRemote(addressId);
    this.tried.forgetRemote(addressId);
  }

  onSubflowEstablished(_connection: ManagedConnection, subflow: ManagedSubflow): void {
    this.rejoin.established(subflow);
  }

  onSubflowClosed(connection: ManagedConnection, subflow: ManagedSubflow, reason: CloseReason, transient: boolean, now: number): void {
    this.rejoin.closed(connection, subflow, reason, transient, now);
  }

  onAddressLost(connection: ManagedConnection, address: Uint8Array): void {
    this.rejoin.forgetLocal(address);
    this.tried.forgetLocal(idOf(connection, address));
  }

  onAddressFound(connection: ManagedConnection, address: Uint8Array, now: number): void {
    if (connection.confirmed && !isInitial(connection, address)) connection.announce(idOf(connection, address), address, null, now);
    rejoinInitial(connection, address, now);
    this.mesh(connection, now);
  }

  onLimitsChanged(connection: ManagedConnection, now: number): void {
    this.mesh(connection, now);
  }

  deadline(): number {
    return this.rejoin.deadline();
  }

  onTimer(connection: ManagedConnection, now: number): void {
    this.rejoin.fire(connection, now);
  }

  /** Only the side that opened the connection opens subflows: both would open each pair twice (RFC 8684 §3.9). */
  private mesh(connection: ManagedConnection, now: number): void {
    if (!connection.active || !connection.confirmed) return;
    const remotes = [
      ...(connection.peerDeniesJoin ? [] : [{ id: 0, address: connection.remoteAddress, port: connection.remotePort }]),
      ...(connection.remoteAddresses ?? []).map((one) => ({ id: one.id, address: one.address, port: one.port ?? connection.remotePort })),
    ];
    for (const remote of remotes) {
      for (const address of ownAddresses(connection)) {
        if (address.length !== remote.address.length) continue;
        if (remote.id === 0 && isInitial(connection, address)) continue;
        const localId = idOf(connection, address);
        if (this.tried.has(localId, remote.id)) continue;
        if (connection.join({ local: address, localId, remote: remote.address, remotePort: remote.port, remoteId: remote.id }, now) !== null)
          this.tried.add(localId, remote.id);
      }
    }
  }
}

function isInitial(connection: ManagedConnection, address: Uint8Array): boolean {
  return connection.initialLocal !== null && sameAddress(address, connection.initialLocal);
}

/** The id under which the peer knows an address of ours: that of the first subflow is 0 (RFC 8684 §3.2). */
function idOf(connection: ManagedConnection, address: Uint8Array): number {
  return isInitial(connection, address) ? 0 : connection.host.addressIdOf(address);
}

function ownAddresses(connection: ManagedConnection): Uint8Array[] {
  return connection.host.interfaces.filter((one) => one.up).flatMap((one) => one.addresses.map((own) => own.address));
}

export const fullMesh: PathManagerFactory = () => new FullMesh();
