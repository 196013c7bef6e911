/** One subflow: the TCP connection and what Multipath TCP keeps about it. It is the {@link TcpUser} of its TCP. */
import type { Segment } from '@subflow/wire';
import type { ChunkPool } from '../buffers.ts';
import { closed, lastSubflowGone, remoteFinReached } from './close.ts';
import { dataAcknowledged } from './data-ack.ts';
import { handshakeSegment, synTimedOut, tcpEstablished } from './handshake.ts';
import { shiftedBy } from './keys.ts';
import { resetOptions, segmentOptions } from './options-in.ts';
import { writeSegmentOptions } from './options-out.ts';
import { deliverFromSubflow } from './receive.ts';
import { reinjectSubflow } from './reinjection.ts';
import { schedule } from './send.ts';
import { MODE, PHASE, SubflowState } from './state.ts';
import { isHeldBack, maySend, wakeSenders, windowProber } from './wake.ts';
import { receiveWindow, roomAhead } from './window.ts';
import { closeSend } from '../tcp/close.ts';
import type { CloseReason } from '../tcp/state.ts';
import type { OptionPlace, TcpUser } from '../tcp/user.ts';
import type { Accepted } from '../tcp/verdict.ts';

/** DSS with 8-byte numbers and checksum, or 8-byte numbers and two NOPs (RFC 8684 §3.3, Figure 9). */
const DSS_SPACE = 28;

export class Subflow extends SubflowState implements TcpUser {
  get chunks(): ChunkPool {
    return this.connection.host.chunks;
  }

  get sharesWindow(): boolean {
    return this.connection.mode === MODE.mptcp;
  }

  roomAhead(): number {
    return roomAhead(this.connection);
  }

  waiting(): number {
    const { connection } = this;
    if (!maySend(this) || connection.phase !== PHASE.open) return 0;
    // What the shared window holds back is probed once for all subflows.
    if (connection.mode === MODE.mptcp && connection.subflows.length > 1 && isHeldBack(connection) && windowProber(connection) !== this) return 0;
    return connection.sendBuffer.end - connection.dataNxt;
  }

  sharedWindow(): number {
    const { connection } = this;
    return connection.mode === MODE.mptcp ? connection.dataWndEdge - connection.dataNxt : Number.POSITIVE_INFINITY;
  }

  optionSpace(): number {
    return this.connection.mode === MODE.mptcp ? DSS_SPACE : 0;
  }

  writeOptions(place: OptionPlace, now: number): number {
    return writeSegmentOptions(this, place, now);
  }

  onHandshake(segment: Segment, now: number): boolean {
    return handshakeSegment(this, segment, now);
  }

  onSegment(accepted: Accepted, now: number): boolean {
    return segmentOptions(this, accepted, now);
  }

  onReset(segment: Segment, now: number): boolean {
    return resetOptions(this, segment, now);
  }

  deliver(bytes: Uint8Array, offset: number, length: number, position: number, now: number): void {
    this.carriedData = true;
    deliverFromSubflow(this, bytes, offset, length, position, now);
  }

  receiveWindow(_now: number): number {
    return receiveWindow(this.connection, this.tcb.rcvMss);
  }

  prepare(now: number): void {
    schedule(this.connection, now);
  }

  onAckSent(): void {
    if (!this.moreToSay) return;
    this.moreToSay = false;
    this.requestAck();
  }

  fastOpenData(limit: number): Uint8Array[] | null {
    const { connection } = this;
    const length = Math.min(limit, connection.sendBuffer.end - 1);
    return !connection.active || this.joining || length <= 0 || connection.dataNxt > 1 ? null : connection.sendBuffer.gather(1, length);
  }

  fastOpenAnswered(acknowledged: number, now: number): void {
    const { connection } = this;
    if (acknowledged === 0) return;
    // Not part of the data sequence space, but of the application's stream (RFC 8684 appendix B.2).
    this.sendOffset = acknowledged;
    this.lastBareAck = 1 + acknowledged;
    connection.dataNxt = 1 + acknowledged;
    if (connection.local !== null) connection.local = shiftedBy(connection.local, acknowledged);
    dataAcknowledged(connection, 1 + acknowledged, now);
    connection.dataRetransmitAt = 0;
  }

  /** Data on a SYN with a valid cookie (RFC 7413 §4.2.2). */
  fastOpenReceived(bytes: Uint8Array): void {
    const { connection } = this;
    this.receiveOffset = bytes.length;
    this.bytesReceived += bytes.length;
    if (connection.remote !== null) connection.remote = shiftedBy(connection.remote, bytes.length);
    connection.dataRcvNxt += bytes.length;
    connection.received.append(bytes, 0, bytes.length);
    connection.readableTold = true;
  }

  onProbe(now: number): void {
    const { connection } = this;
    if (this.established && connection.mode === MODE.mptcp) connection.scheduler?.onDoubt?.(connection, this, now);
  }

  onEstablished(now: number): void {
    tcpEstablished(this, now);
  }

  onAcknowledged(position: number, now: number): void {
    const { connection } = this;
    if (this.stale) {
      this.stale = false;
      connection.host.mib('SubflowRecover');
      connection.host.emit({ type: 'subflow-recovered', time: now, connection: connection.id, subflow: this.id });
    }
    if (position > 1) this.carriedData = true;
    if (connection.mode === MODE.tcp) dataAcknowledged(connection, position + connection.sendDelta, now);
    if (connection.subflows.length > 1) wakeSenders(connection);
  }

  onTimeout(consecutive: number, now: number): void {
    const { connection } = this;
    if (!this.established) {
      synTimedOut(this, consecutive, now);
      return;
    }
    if (!this.stale) {
      this.stale = true;
      connection.host.mib('SubflowStale');
      connection.host.emit({ type: 'subflow-stale', time: now, connection: connection.id, subflow: this.id, timeouts: consecutive });
    }
    if (connection.mode === MODE.mptcp && connection.subflows.length > 1) reinjectSubflow(this, 'timeout', now);
  }

  onFin(now: number): void {
    const { connection } = this;
    if (connection.mode === MODE.tcp) {
      remoteFinReached(connection, now);
      return;
    }
    if (connection.phase === PHASE.open && !connection.subflows.some((other) => other !== this && other.established)) {
      // The only subflow: what we still have to say goes out on it. Closing it now would cut the stream off without
      // a DATA_FIN, and a peer that has fallen back would take that for its end.
      connection.closeAt = now + connection.host.mptcp.closeTimeout;
      connection.closeReason = 'reset';
      connection.reschedule();
      return;
    }
    // The peer closes this subflow, or all of them: a FIN of ours finishes it (RFC 8684 §3.3.3).
    this.closing = true;
    if (connection.phase !== PHASE.closed) reinjectSubflow(this, 'timeout', now);
    closeSend(this.tcb, now);
  }

  onClosed(reason: CloseReason, now: number): void {
    const { connection } = this;
    if (this.closed) return;
    this.closed = true;
    this.established = false;
    const reinject = connection.mode === MODE.mptcp && connection.phase === PHASE.open;
    connection.subflows = connection.subflows.filter((other) => other !== this);
    connection.views = connection.views.filter((view) => view !== this.tcb);
    if (this.replaced) return;
    this.mappings = null;
    this.pendingMapping = null;
    const reset = reason === 'reset' || reason === 'refused';
    const transient = reset ? this.peerResetTransient : true;
    connection.host.emit({
      type: 'subflow-closed',
      time: now,
      connection: connection.id,
      subflow: this.id,
      reason,
      resetReason: this.peerResetReason >= 0 ? this.peerResetReason : this.resetReason >= 0 ? this.resetReason : null,
      transient,
    });
    if (connection.phase === PHASE.opening && connection.subflows.length === 0) {
      closed(connection, reason, now);
      return;
    }
    if (reinject && connection.dataNxt > connection.dataUna) reinjectSubflow(this, 'closed', now);
    if (connection.phase !== PHASE.closed) connection.pathManager?.onSubflowClosed?.(connection, this, reason, transient, now);
    if (connection.phase === PHASE.closed) {
      if (connection.subflows.length === 0) connection.closeAt = connection.fastcloseAt = 0;
    } else if (!connection.subflows.some((other) => other.established)) {
      // Its address is gone, not the peer: another address, or the same one again, may go on (break before make).
      const waits = this.withdrawn && reason === 'aborted';
      lastSubflowGone(connection, waits ? 'timeout' : reason, waits, now);
    }
    connection.reschedule();
  }
}
