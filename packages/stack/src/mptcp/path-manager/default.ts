/**
 * The default path manager: endpoints and limits as in the kernel (Linux, net/mptcp/pm_kernel.c and `man ip-mptcp`),
 * and what its users ask for most: a subflow that was lost is established again once the path works.
 */
import { sameAddress } from '@subflow/wire';
import { Rejoin, rejoinInitial } from './rejoin.ts';
import { TriedPairs } from './tried.ts';
import type { Endpoint, ManagedConnection, ManagedSubflow, PathManager, PathManagerFactory, RemoteAddress } from './types.ts';
import type { CloseReason } from '../../tcp/state.ts';

class DefaultPathManager implements PathManager {
  readonly name = 'default';
  private readonly rejoin = new Rejoin();
  private readonly tried = new TriedPairs();

  onEstablished(connection: ManagedConnection, now: number): void {
    // The connection began where it should not stay: the peer hears that this path is a backup (MP_PRIO, RFC 8684 §3.3.8).
    const [first] = connection.subflows;
    if (first !== undefined && !first.joining && !first.localBackup && connection.host.isBackup(first.tcb.local)) connection.setBackup(first, true, now);
    for (const endpoint of connection.host.endpoints) if (endpoint.signal) connection.announce(endpoint.id, endpoint.address, endpoint.port, now);
    for (const endpoint of connection.host.endpoints) this.openFrom(connection, endpoint, now);
    for (const remote of connection.remoteAddresses ?? []) this.onAnnounced(connection, remote, now);
  }

  onAnnounced(connection: ManagedConnection, remote: RemoteAddress, now: number): void {
    const { host } = connection;
    // Too early for a join: `onEstablished` comes back to it.
    if (!connection.confirmed) return;
    const port = remote.port ?? connection.remotePort;
    const family = host.endpoints.filter((endpoint) => endpoint.address.length === remote.address.length);
    const mesh = family.filter((endpoint) => endpoint.fullmesh);
    if (mesh.length > 0) {
      for (const endpoint of mesh) this.open(connection, endpoint, { id: remote.id, address: remote.address, port }, now);
      return;
    }
    const laminar = family.filter((endpoint) => endpoint.laminar);
    const candidates = laminar.length > 0 ? laminar : family.filter((endpoint) => endpoint.subflow);
    // Endpoints that do not carry a subflow yet come first, as in the kernel.
    const free = candidates.find((endpoint) => !connection.subflows.some((subflow) => sameAddress(subflow.tcb.local, endpoint.address)));
    const local = free ?? candidates[0];
    if (local !== undefined) {
      connection.join(
        { local: local.address, localId: local.id, remote: remote.address, remotePort: port, remoteId: remote.id, backup: local.backup, device: local.device },
        now,
      );
      return;
    }
    const source = host.sourceFor(remote.address);
    if (source === null) return;
    connection.join({ local: source, localId: connection.localIdOf(source), remote: remote.address, remotePort: port, remoteId: remote.id }, now);
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

  onEndpointAdded(connection: ManagedConnection, endpoint: Endpoint, now: number): void {
    if (!connection.confirmed) return;
    if (endpoint.signal) connection.announce(endpoint.id, endpoint.address, endpoint.port, now);
    this.openFrom(connection, endpoint, now);
  }

  onEndpointRemoved(_connection: ManagedConnection, endpoint: Endpoint | null): void {
    if (endpoint === null) return;
    this.rejoin.forgetLocal(endpoint.address);
    this.tried.forgetLocal(endpoint.id);
  }

  onEndpointChanged(connection: ManagedConnection, endpoint: Endpoint, now: number): void {
    if (endpoint.fullmesh) this.openFrom(connection, endpoint, now);
  }

  onAddressLost(connection: ManagedConnection, address: Uint8Array): void {
    this.rejoin.forgetLocal(address);
    for (const endpoint of connection.host.endpoints) if (sameAddress(endpoint.address, address)) this.tried.forgetLocal(endpoint.id);
  }

  /** What was opened from an address is opened again; the initial address, which may have no endpoint, to where the connection began. */
  onAddressFound(connection: ManagedConnection, address: Uint8Array, now: number): void {
    for (const endpoint of connection.host.endpoints) if (sameAddress(endpoint.address, address)) this.onEndpointAdded(connection, endpoint, now);
    rejoinInitial(connection, address, now);
    for (const remote of connection.remoteAddresses ?? []) {
      if (!connection.subflows.some((one) => one.remoteId === remote.id)) this.onAnnounced(connection, remote, now);
    }
  }

  onLimitsChanged(connection: ManagedConnection, now: number): void {
    if (!connection.confirmed) return;
    for (const endpoint of connection.host.endpoints) this.openFrom(connection, endpoint, now);
  }

  deadline(): number {
    return this.rejoin.deadline();
  }

  onTimer(connection: ManagedConnection, now: number): void {
    this.rejoin.fire(connection, now);
  }

  /** Subflows from an endpoint to the peer's initial address, with `fullmesh` to every address it has announced too. */
  private openFrom(connection: ManagedConnection, endpoint: Endpoint, now: number): void {
    if (!endpoint.subflow && !endpoint.fullmesh) return;
    // Only who opened the connection knows that the peer is reachable where it answered; the kernel's rule as well.
    if (connection.active) this.open(connection, endpoint, { id: 0, address: connection.remoteAddress, port: connection.remotePort }, now);
    if (!endpoint.fullmesh) return;
    for (const remote of connection.remoteAddresses ?? []) this.open(connection, endpoint, { ...remote, port: remote.port ?? connection.remotePort }, now);
  }

  private open(connection: ManagedConnection, endpoint: Endpoint, remote: { id: number; address: Uint8Array; port: number }, now: number): void {
    const remoteId = remote.id;
    if (this.tried.has(endpoint.id, remoteId) || endpoint.address.length !== remote.address.length) return;
    // Flag C: not to the initial address (RFC 8684 §3.1).
    if (remoteId === 0 && connection.peerDeniesJoin) return;
    // The initial subflow already joins these two addresses.
    const initial = connection.initialLocal !== null && sameAddress(endpoint.address, connection.initialLocal);
    if (initial && remoteId === 0) return;
    const localId = initial ? 0 : endpoint.id;
    const { address, backup, device } = endpoint;
    if (connection.join({ local: address, localId, remote: remote.address, remotePort: remote.port, remoteId, backup, device }, now) !== null)
      this.tried.add(endpoint.id, remoteId);
  }
}

export const defaultPathManager: PathManagerFactory = () => new DefaultPathManager();
