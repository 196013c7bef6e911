/**
 * The default path manager: endpoints and limits as in the kernel, and what its users ask for most: a subflow that was
 * lost is established again once the path works.
 */
import { sameAddress } from '@subflow/wire';
import type { Connection } from '../connection.ts';
import type { Subflow } from '../subflow.ts';
import type { RemoteAddress } from '../address.ts';
import type { CloseReason } from '../../tcp/state.ts';
import type { PathManager, PathManagerFactory } from './types.ts';

/** A pair of addresses that had a subflow and shall have one again. */
interface LostPath {
  local: Uint8Array;
  localId: number;
  remote: Uint8Array;
  remotePort: number;
  remoteId: number;
  backup: boolean;
  /** The attempt in progress, null while waiting for the next. */
  attempt: Subflow | null;
  interval: number;
  nextAt: number;
}

class DefaultPathManager implements PathManager {
  readonly name = 'default';
  private lost: LostPath[] = [];

  onEstablished(connection: Connection, now: number): void {
    const { host } = connection;
    const initial = connection.subflows[0];
    for (const endpoint of host.endpoints) {
      if (endpoint.signal) connection.announce(endpoint.id, endpoint.address, endpoint.port, now);
      if (!connection.active || !endpoint.subflow || initial === undefined) continue;
      if (sameAddress(endpoint.address, initial.tcb.local)) continue;
      if (endpoint.address.length === connection.remoteAddress.length && !connection.peerDeniesJoin) {
        connection.join(endpoint.address, endpoint.id, connection.remoteAddress, connection.remotePort, 0, endpoint.backup, now);
      }
    }
    for (const remote of connection.remoteAddresses ?? []) this.onAnnounced(connection, remote, now);
  }

  onAnnounced(connection: Connection, remote: RemoteAddress, now: number): void {
    const { host } = connection;
    // Too early for a join: `onEstablished` comes back to it.
    if (!connection.confirmed) return;
    const port = remote.port ?? connection.remotePort;
    const candidates = host.endpoints.filter((endpoint) => endpoint.subflow && endpoint.address.length === remote.address.length);
    // Only endpoints that do not carry a subflow yet are used, as the kernel does without `fullmesh`.
    const free = candidates.find((endpoint) => !connection.subflows.some((subflow) => sameAddress(subflow.tcb.local, endpoint.address)));
    const local = free ?? candidates[0];
    if (local !== undefined) {
      connection.join(local.address, local.id, remote.address, port, remote.id, local.backup, now);
      return;
    }
    const source = host.sourceFor(remote.address);
    if (source !== null) connection.join(source, connection.localIdOf(source), remote.address, port, remote.id, false, now);
  }

  onSubflowEstablished(_connection: Connection, subflow: Subflow, _now: number): void {
    this.lost = this.lost.filter((path) => path.attempt !== subflow);
  }

  onSubflowClosed(connection: Connection, subflow: Subflow, reason: CloseReason, transient: boolean, now: number): void {
    const { rejoinInterval, rejoinMaxInterval } = connection.host.mptcp;
    const waiting = this.lost.find((path) => path.attempt === subflow);
    if (waiting !== undefined) {
      waiting.attempt = null;
      // A refusal for good is final (RFC 8684 §3.6); silence is not.
      if (reason === 'refused' || (reason === 'reset' && !transient)) this.lost = this.lost.filter((path) => path !== waiting);
      waiting.nextAt = now + waiting.interval;
      waiting.interval = Math.min(waiting.interval * 2, rejoinMaxInterval);
      return;
    }
    if (!subflow.active || rejoinInterval === 0 || !subflow.wasEstablished || !connection.open) return;
    if (reason !== 'timeout' && reason !== 'unreachable' && !(reason === 'reset' && transient)) return;
    if (subflow.remoteId === 0 && connection.peerDeniesJoin) return;
    this.lost.push({
      local: subflow.tcb.local,
      localId: subflow.localId,
      remote: subflow.tcb.remote,
      remotePort: subflow.tcb.remotePort,
      remoteId: subflow.remoteId,
      backup: subflow.localBackup,
      attempt: null,
      interval: rejoinInterval,
      nextAt: now + rejoinInterval,
    });
  }

  deadline(): number {
    let at = 0;
    for (const path of this.lost) if (path.nextAt !== 0 && (at === 0 || path.nextAt < at)) at = path.nextAt;
    return at;
  }

  onTimer(connection: Connection, now: number): void {
    for (const path of this.lost) {
      if (path.nextAt === 0 || path.nextAt > now) continue;
      if (path.attempt !== null) {
        // The SYN vanished: a fresh one at our own pace, not at the SYN timer's.
        const stuck = path.attempt;
        path.attempt = null;
        connection.dropSubflow(stuck, now);
      }
      path.attempt = connection.join(path.local, path.localId, path.remote, path.remotePort, path.remoteId, path.backup, now);
      path.nextAt = now + path.interval;
      path.interval = Math.min(path.interval * 2, connection.host.mptcp.rejoinMaxInterval);
    }
  }
}

export const defaultPathManager: PathManagerFactory = () => new DefaultPathManager();
