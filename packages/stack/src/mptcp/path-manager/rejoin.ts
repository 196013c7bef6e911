/** Subflows that were lost and shall be there again: attempts at growing intervals until the path works or the peer refuses for good. */
import { sameAddress } from '@subflow/wire';
import type { JoinRequest, ManagedConnection, ManagedSubflow } from './types.ts';
import type { CloseReason } from '../../tcp/state.ts';

/** A pair of addresses that had a subflow and shall have one again. */
interface LostPath extends JoinRequest {
  /** The attempt in progress, null while waiting for the next. */
  attempt: ManagedSubflow | null;
  interval: number;
  nextAt: number;
}

export class Rejoin {
  private lost: LostPath[] = [];

  established(subflow: ManagedSubflow): void {
    if (this.lost.length > 0) this.lost = this.lost.filter((path) => path.attempt !== subflow);
  }

  /** A subflow ended. Returns whether it will be tried again. */
  closed(connection: ManagedConnection, subflow: ManagedSubflow, reason: CloseReason, transient: boolean, now: number): boolean {
    const { rejoinInterval, rejoinMaxInterval } = connection.host.mptcp;
    const waiting = this.lost.find((path) => path.attempt === subflow);
    if (waiting !== undefined) {
      waiting.attempt = null;
      // A refusal for good is final (RFC 8684 §3.6); silence is not.
      const final = reason === 'refused' || (reason === 'reset' && !transient);
      if (final) this.lost = this.lost.filter((path) => path !== waiting);
      waiting.nextAt = now + waiting.interval;
      waiting.interval = Math.min(waiting.interval * 2, rejoinMaxInterval);
      return !final;
    }
    if (!subflow.active || rejoinInterval === 0 || !subflow.wasEstablished || !connection.open) return false;
    if (reason !== 'timeout' && reason !== 'unreachable' && !(reason === 'reset' && transient)) return false;
    if (subflow.remoteId === 0 && connection.peerDeniesJoin) return false;
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
    return true;
  }

  /** The peer withdrew the address, or we did: no more attempts. */
  forgetRemote(remoteId: number): void {
    this.lost = this.lost.filter((path) => path.remoteId !== remoteId || path.attempt !== null);
  }

  forgetLocal(local: Uint8Array): void {
    this.lost = this.lost.filter((path) => !sameAddress(path.local, local));
  }

  deadline(): number {
    let at = 0;
    for (const path of this.lost) if (path.nextAt !== 0 && (at === 0 || path.nextAt < at)) at = path.nextAt;
    return at;
  }

  fire(connection: ManagedConnection, now: number): void {
    for (const path of this.lost) {
      if (path.nextAt === 0 || path.nextAt > now) continue;
      if (path.attempt !== null) {
        // The SYN vanished: a fresh one at our own pace, not at the SYN timer's.
        const stuck = path.attempt;
        path.attempt = null;
        connection.dropSubflow(stuck, now);
      }
      path.attempt = connection.join(path, now);
      path.nextAt = now + path.interval;
      path.interval = Math.min(path.interval * 2, connection.host.mptcp.rejoinMaxInterval);
    }
  }
}

/** A subflow between the two ends at which the connection began, when it has none: the interface of our end was away. */
export function rejoinInitial(connection: ManagedConnection, address: Uint8Array, now: number): void {
  if (!connection.active || !connection.confirmed || connection.peerDeniesJoin) return;
  if (connection.initialLocal === null || !sameAddress(address, connection.initialLocal)) return;
  if (connection.subflows.some((one) => one.localId === 0 && one.remoteId === 0)) return;
  connection.join({ local: address, localId: 0, remote: connection.remoteAddress, remotePort: connection.remotePort, remoteId: 0 }, now);
}
