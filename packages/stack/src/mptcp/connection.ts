/**
 * One connection as the application sees it: a reliable byte stream, over one subflow (plain TCP, or after fallback) or
 * several (Multipath TCP). The application's calls; the state is in `state.ts`, the mechanisms are in the files beside it.
 */
import { sameAddress } from '@subflow/wire';
import { StackError } from '../errors.ts';
import { announceAddress, removeLocalAddress, withdrawIds } from './address.ts';
import { abandon, abortConnection, closeSubflow } from './close.ts';
import { connectionDeadline, fireConnectionTimers } from './connection-timers.ts';
import { openJoin } from './handshake.ts';
import type { Endpoint, JoinRequest, ManagedSubflow } from './path-manager/types.ts';
import { reinjectSubflow } from './reinjection.ts';
import type { ScheduledSubflow } from './scheduler/types.ts';
import { lowestReference } from './send.ts';
import { applySettings } from './settings.ts';
import type { ConnectionSettings } from './settings.ts';
import { ConnectionState, MODE, PHASE } from './state.ts';
import type { SubflowState } from './state.ts';
import { wakeSenders } from './wake.ts';
import { noteConsumed } from './window.ts';
import { closeSend } from '../tcp/close.ts';
import { STATE } from '../tcp/state.ts';

export class Connection extends ConnectionState {
  /**
   * Queues bytes. They are kept by reference and must not change until acknowledged. A write is taken whole while
   * there is any room, so the limit may be exceeded by one write. Returns whether it was taken.
   */
  write(bytes: Uint8Array, _now: number): boolean {
    if (this.sendClosed || this.phase === PHASE.closed) return false;
    if (this.writable <= 0) {
      this.wantsWritable = true;
      return false;
    }
    this.sendBuffer.append(bytes);
    this.bytesWritten += bytes.length;
    if (this.writable <= 0) this.wantsWritable = true;
    wakeSenders(this);
    return true;
  }

  /** Written bytes before this data position (from 1) are never looked at again: their memory may be used anew. Looks through everything in flight. */
  get lowestReference(): number {
    return lowestReference(this);
  }

  /** The next bytes in place, or null. Valid until consumed. */
  peek(): Uint8Array | null {
    return this.received.peek();
  }

  /** Drops `count` bytes that were read. Throws {@link StackError} `BAD_ARGUMENT` for more than are readable. */
  consume(count: number, now: number): void {
    if (!Number.isInteger(count) || count < 0 || count > this.received.length)
      throw new StackError(
        'BAD_ARGUMENT',
        `consume(${count}) of connection ${this.id}; expected a whole number up to the ${this.received.length} bytes that are readable`,
      );
    this.received.consume(count);
    this.bytesRead += count;
    this.readableTold = false;
    noteConsumed(this, count, now);
  }

  /** A copy of up to `limit` readable bytes, or null when there are none. */
  read(limit: number, now: number): Uint8Array | null {
    const chunk = this.received.peek();
    if (chunk === null) return null;
    const out = chunk.slice(0, Math.min(limit, chunk.length));
    this.consume(out.length, now);
    return out;
  }

  /** No more will be written: DATA_FIN, or FIN after fallback (RFC 8684 §3.3.3). */
  shutdown(_now: number): void {
    if (this.sendClosed || this.phase === PHASE.closed) return;
    this.sendClosed = true;
    // A connection that is still opening sends it once it is open.
    wakeSenders(this);
  }

  /**
   * The application will neither write nor read any more (RFC 9293 §3.10.4, CLOSE): an attempt to connect that nobody has answered
   * yet is given up without a word, anything else is shut down.
   */
  close(now: number): void {
    const attempts = this.phase === PHASE.opening && this.active ? this.subflows.slice() : [];
    if (attempts.length > 0 && attempts.every(({ tcb }) => tcb.state === STATE.synSent)) {
      for (const { tcb } of attempts) closeSend(tcb, now);
      return;
    }
    this.shutdown(now);
    abandon(this, now);
  }

  /** Ends the connection at once: MP_FASTCLOSE, or RST after fallback (RFC 8684 §3.5). */
  abort(now: number): void {
    abortConnection(this, 'aborted', now);
  }

  /** Changes what was chosen when the connection was made; at once, also while it is open. Throws {@link StackError} `UNKNOWN_CONGESTION`. */
  configure(settings: ConnectionSettings, now: number): void {
    applySettings(this, settings, now);
  }

  /** Announces a local address (RFC 8684 §3.4.1). */
  announce(addressId: number, address: Uint8Array, port: number | null, now: number): void {
    announceAddress(this, addressId, address, port, now);
  }

  /** Opens a further subflow. Null when limits, state or routing do not allow it. */
  join(request: JoinRequest, now: number): SubflowState | null {
    return openJoin(this, request, now);
  }

  /** Withdraws address ids: one REMOVE_ADDR, and their subflows are closed (RFC 8684 §3.4.2). */
  withdraw(addressIds: readonly number[], now: number): void {
    withdrawIds(this, addressIds, now);
  }

  /** Withdraws a local address: REMOVE_ADDR, and its subflows are closed (RFC 8684 §3.4.2). */
  removeAddress(address: Uint8Array, now: number): void {
    removeLocalAddress(this, address, now);
  }

  /** Gives up one subflow with a reset. */
  dropSubflow(subflow: ManagedSubflow, now: number): void {
    const own = this.subflows.find((one) => one === subflow);
    if (own !== undefined) closeSubflow(own, 'timeout', now);
  }

  /** Asks the peer to use a subflow as backup, or not (MP_PRIO, RFC 8684 §3.3.8). */
  setBackup(subflow: ManagedSubflow, backup: boolean, now: number): void {
    const own = this.subflows.find((one) => one === subflow);
    if (own === undefined) return;
    own.localBackup = backup;
    const other = this.version.namesPriority && own.stale ? this.subflows.find((one) => one !== own && one.established && !one.stale) : undefined;
    if (other === undefined) {
      own.priorityPending = true;
      own.requestAck();
    } else {
      // The subflow itself may be dead: version 0 lets another one speak for it (RFC 6824 §3.3.8).
      this.priorities = [...(this.priorities ?? []).filter((one) => one.addressId !== own.localId), { addressId: own.localId, backup }];
      other.requestAck();
    }
    this.host.emit({ type: 'subflow-priority', time: now, connection: this.id, subflow: own.id, backup, byPeer: false });
  }

  /** Queues what a subflow holds to be sent again on another one (RFC 8684 §3.3.6). */
  reinject(subflow: ScheduledSubflow, now: number): void {
    const own = this.subflows.find((one) => one === subflow);
    if (own !== undefined) reinjectSubflow(own, 'timeout', now);
  }

  /** The id under which the peer knows a local address: 0 for the initial one, an endpoint's, or a fresh one. */
  localIdOf(address: Uint8Array): number {
    for (const subflow of this.subflows) if (sameAddress(subflow.tcb.local, address)) return subflow.localId;
    return this.host.addressIdOf(address);
  }

  /** The interface of a local address is gone. */
  addressLost(address: Uint8Array, now: number): void {
    if (this.mode !== MODE.mptcp) return;
    this.removeAddress(address, now);
    this.pathManager?.onAddressLost?.(this, address, now);
  }

  /** The interface of a local address is there (again). */
  addressFound(address: Uint8Array, now: number): void {
    if (this.mode === MODE.mptcp && this.phase === PHASE.open) this.pathManager?.onAddressFound?.(this, address, now);
  }

  endpointAdded(endpoint: Endpoint, now: number): void {
    this.pathManager?.onEndpointAdded?.(this, endpoint, now);
  }

  /** Null: the initial address, id 0. */
  endpointRemoved(endpoint: Endpoint | null, now: number): void {
    if (this.mode !== MODE.mptcp || this.phase !== PHASE.open) return;
    this.withdraw([endpoint?.id ?? 0], now);
    this.pathManager?.onEndpointRemoved?.(this, endpoint, now);
  }

  endpointChanged(endpoint: Endpoint, now: number): void {
    if (this.mode !== MODE.mptcp || this.phase !== PHASE.open) return;
    for (const subflow of this.subflows) {
      if (sameAddress(subflow.tcb.local, endpoint.address) && subflow.localBackup !== endpoint.backup) this.setBackup(subflow, endpoint.backup, now);
    }
    this.pathManager?.onEndpointChanged?.(this, endpoint, now);
  }

  deadline(): number {
    return connectionDeadline(this);
  }

  fire(now: number): void {
    fireConnectionTimers(this, now);
  }
}
