/** Falling back to TCP, or giving one subflow up, when options or payload do not get through (RFC 8684 §3.7). */
import { DSS_FLAG, findMptcp, FLAG, RESET_REASON, SUBTYPE } from '@subflow/wire';
import type { Segment } from '@subflow/wire';
import type { FallbackReason } from '../events.ts';
import { abortConnection, remoteFinReached, resetSubflow } from './close.ts';
import { dataAcknowledged } from './data-ack.ts';
import { deliverHeld } from './data-in.ts';
import { Mapping, receivedDataPosition, subflowPosition } from './mapping.ts';
import { reinjectSubflow } from './reinjection.ts';
import { hasKeys, MODE, PHASE } from './state.ts';
import type { ConnectionState, ReceivedMapping, SubflowState } from './state.ts';
import { updateMss } from '../tcp/path-mtu.ts';
import { toPosition } from '../tcp/sequence.ts';

/** Advancing ACKs without DATA_ACK after which a single path is taken to have lost the options. */
const BARE_ACKS = 4;

/** Ends Multipath TCP for good on the only subflow. The caller has made sure that the streams line up. */
export function fallBack(subflow: SubflowState, reason: FallbackReason, now: number): void {
  const { connection } = subflow;
  if (connection.mode === MODE.tcp) return;
  if (connection.phase === PHASE.open) connection.host.mib('MPCurrEstab', -1);
  if (reason === 'dss-stripped' || reason === 'no-data-ack' || reason === 'no-dss-in-first-data') connection.host.mib('DssFallback');
  connection.mode = MODE.tcp;
  connection.fallbackReason = reason;
  connection.dataRetransmitAt = connection.finAt = connection.silenceAt = 0;
  connection.announcements = null;
  connection.reinjections = null;
  // Nothing is left to manage.
  connection.pathManager?.onClosed?.(connection, now);
  connection.pathManager = null;
  // A peer that does not know yet goes on mapping, and without DATA_ACKs sends old data again under new subflow sequence
  // numbers: as long as mappings come they are believed, unless they are what failed.
  subflow.peerMaps = connection.remote !== null && reason !== 'checksum-failure' && reason !== 'mp-fail' && reason !== 'infinite-mapping';
  if (!subflow.peerMaps) subflow.mappings = null;
  subflow.joinAckAt = 0;
  const pending = subflow.pendingMapping;
  subflow.pendingMapping = null;
  if (pending !== null) {
    // Part of a checksummed mapping: it will never be complete, and the bytes are in order.
    deliverHeld(subflow, pending.received, pending.mapping.dataPosition, now);
  }
  for (const other of connection.subflows.slice()) if (other !== subflow) resetSubflow(other, RESET_REASON.middlebox, false, now);
  connection.host.forgetToken(connection);
  updateMss(subflow.tcb);
  connection.host.emit({ type: 'connection-fallback', time: now, connection: connection.id, reason });
  if (connection.phase !== PHASE.opening) {
    connection.closeAt = 0;
    connection.closeReason = null;
    // A DATA_FIN that was signalled becomes a FIN; a FIN that was taken for the subflow's ends the stream.
    connection.finSent = false;
    if (connection.dataUna < subflow.tcb.sndUna + connection.sendDelta) dataAcknowledged(connection, subflow.tcb.sndUna + connection.sendDelta, now);
    if (subflow.tcb.peerFin === 'taken') remoteFinReached(connection, now);
    connection.host.wake(subflow.tcb);
  }
  connection.reschedule();
}

/**
 * Whether the data in flight is contiguous on this one subflow, so that subflow and data positions differ by a
 * constant (RFC 8684 §3.7). Sets the two constants when it is.
 */
function alignStreams(subflow: SubflowState): boolean {
  const { connection, tcb } = subflow;
  if (!isAlone(subflow)) return false;
  // Data that went out twice, or over another subflow as well, lies at different distances in the two spaces, and the
  // peer may have done the same to us (Linux: allow_infinite_fallback).
  if (connection.everJoined || connection.reinjectedBytes > 0) return false;
  if (connection.outOfOrder !== null || connection.reinjections !== null) return false;
  // Receiving: the next byte of the subflow is the next byte of the stream, unless something between was lost.
  const receiveDelta = connection.dataRcvNxt + (subflow.pendingMapping?.received.length ?? 0) - tcb.rcvNxt;
  let sendDelta = connection.dataNxt - tcb.sndEnd;
  const { head } = tcb.queue;
  for (const record of tcb.queue) {
    if (!(record.tag instanceof Mapping)) continue;
    const delta = record.tag.dataPosition - record.tag.position;
    if (record === head) sendDelta = delta;
    else if (delta !== sendDelta) return false;
  }
  if (head !== null && tcb.sndEnd + sendDelta !== connection.dataNxt) return false;
  connection.receiveDelta = receiveDelta;
  connection.sendDelta = sendDelta;
  return true;
}

/** A segment without DSS. Returns false when the subflow was reset. */
export function bareAcknowledgement(subflow: SubflowState, segment: Segment, now: number): boolean {
  const { connection, tcb } = subflow;
  if (!subflow.established || connection.phase === PHASE.closed) return true;
  const first = !subflow.joining && !connection.everJoined;
  const capable = hasSubtype(segment, SUBTYPE.capable);
  if (segment.payloadLength > 0 && !capable && !connection.confirmed && first) {
    // First data without any mapping: the options did not get through (RFC 8684 §3.7).
    if (!alignStreams(subflow)) return giveUp(connection, now);
    fallBack(subflow, 'no-dss-in-first-data', now);
    return true;
  }
  const acked = toPosition(tcb.iss, segment.ack, tcb.sndUna);
  const progress = acked > 1 + subflow.sendOffset && acked > subflow.lastBareAck;
  if (!progress && stuckWithoutWindow(subflow, segment, acked)) {
    if (!alignStreams(subflow)) return giveUp(connection, now);
    subflow.infinitePending = true;
    fallBack(subflow, 'dss-stripped', now);
    return true;
  }
  if (!progress || capable || segment.otherMptcpCount > 0) return true;
  subflow.lastBareAck = acked;
  if (connection.confirmed && (segment.flags & FLAG.fin) !== 0) {
    // Counts, but the stream's end alone is no reason: the data-level timer decides.
    subflow.bareAcks++;
    return true;
  }
  if (!connection.confirmed && first) {
    // Data acknowledged without DATA_ACK, first subflow: infinite mapping, then plain TCP (RFC 8684 §3.7).
    if (!alignStreams(subflow)) return giveUp(connection, now);
    subflow.infinitePending = true;
    fallBack(subflow, 'no-data-ack', now);
    return true;
  }
  if (!subflow.dataAcked && subflow.joining && subflow.bareAcks === 0 && acked > 1 && connection.subflows.length > 1) {
    // The same on a join: this path does not carry the options (RFC 8684 §3.7).
    reinjectSubflow(subflow, 'closed', now);
    resetSubflow(subflow, RESET_REASON.middlebox, false, now);
    return false;
  }
  subflow.bareAcks++;
  // Options vanished later on the only path. RFC 8684 §3.7 would reset; like Linux we keep the connection when the
  // streams line up, because nothing is lost by it.
  if (subflow.bareAcks >= BARE_ACKS && acked + connection.sendDelta > connection.dataUna && alignStreams(subflow)) {
    subflow.infinitePending = true;
    fallBack(subflow, 'dss-stripped', now);
  }
  return true;
}

/** Data was sent again already: the two sequence spaces cannot be made one any more, and a clean end is all that is left. */
function giveUp(connection: ConnectionState, now: number): false {
  connection.host.mib('FallbackFailed');
  abortConnection(connection, 'reset', now);
  return false;
}

/**
 * Everything is acknowledged, the data-level window is closed, and the peer answers our probes with an open window but
 * without the DATA_ACK that would move it: the options no longer get through.
 */
function stuckWithoutWindow(subflow: SubflowState, segment: Segment, acked: number): boolean {
  const { connection, tcb } = subflow;
  if (segment.window === 0 || acked !== tcb.sndNxt || connection.dataWndEdge > connection.dataNxt) return false;
  if (connection.dataUna < connection.dataNxt || connection.sendBuffer.end === connection.dataNxt) return false;
  return ++subflow.bareAcks >= BARE_ACKS && isAlone(subflow);
}

/** In-order payload that no mapping covers. Returns false when it must not be used. */
export function unmappedData(subflow: SubflowState, position: number, now: number): boolean {
  const { connection, tcb } = subflow;
  // tcb.rcvNxt is already past this payload: line up with its start.
  const nextData = connection.dataRcvNxt;
  const alone = isAlone(subflow);
  // Later than the first data RFC 8684 §3.7 wants a reset, and for a reason: a peer that sees no DATA_ACK sends old data
  // again under new subflow sequence numbers, which without mappings looks like new data. Only plain data of our own,
  // on its way now, tells the peer in time that we have fallen back (Linux does, and does so at once).
  const peerLearns = !connection.confirmed || connection.dataUna < connection.sendBuffer.end;
  if (alone && peerLearns && subflow.pendingMapping === null && alignStreams(subflow)) {
    connection.receiveDelta = nextData - position;
    connection.host.mib('DSSCorruptionFallback');
    fallBack(subflow, connection.confirmed ? 'dss-stripped' : 'no-dss-in-first-data', now);
    return true;
  }
  connection.host.mib('DSSCorruptionReset');
  if (alone) connection.host.mib('FallbackFailed');
  tcb.context.count('mptcp-unmapped-data');
  // Broken: closed, so that the data is sent again elsewhere (RFC 8684 §3.7, fourth rule).
  if (connection.subflows.some((other) => other !== subflow)) resetSubflow(subflow, RESET_REASON.middlebox, true, now);
  else abortConnection(connection, 'reset', now);
  return false;
}

/** A mapping of length 0: the peer has fallen back (RFC 8684 §3.3.1, §3.7). */
export function infiniteMapping(subflow: SubflowState, segment: Segment, dataPosition: number, now: number): boolean {
  const { connection } = subflow;
  connection.host.mib('InfiniteMapRx');
  if (!isAlone(subflow)) {
    resetSubflow(subflow, RESET_REASON.mptcp, false, now);
    return false;
  }
  const position = subflowPosition(subflow, segment.ssn);
  if (!alignStreams(subflow)) {
    resetSubflow(subflow, RESET_REASON.middlebox, false, now);
    return false;
  }
  connection.receiveDelta = dataPosition - position;
  fallBack(subflow, 'infinite-mapping', now);
  return true;
}

/** A mapping failed its checksum. Returns true after fallback, when the payload is to be used all the same (RFC 8684 §3.7). */
export function checksumFailed(subflow: SubflowState, mapping: ReceivedMapping, now: number): boolean {
  const { connection } = subflow;
  connection.host.count('mptcp-checksum');
  connection.host.mib('DataCsumErr');
  connection.host.emit({ type: 'checksum-failure', time: now, connection: connection.id, subflow: subflow.id, position: mapping.dataPosition });
  subflow.failPending = true;
  subflow.failPosition = mapping.dataPosition;
  if (isAlone(subflow) && mapping.dataPosition === connection.dataRcvNxt && alignStreams(subflow)) {
    connection.receiveDelta = mapping.dataPosition - mapping.position;
    subflow.infinitePending = true;
    subflow.failUntil = now + connection.host.mptcp.failTimeout;
    fallBack(subflow, 'checksum-failure', now);
    subflow.requestAck();
    return true;
  }
  resetSubflow(subflow, RESET_REASON.middlebox, false, now);
  return false;
}

/**
 * After our MP_FAIL on the only subflow. As long as the peer still sends mappings it has not heard of it: repeat it,
 * and take nothing that is not where the stream continues, because a peer without DATA_ACKs sends old data again under
 * new subflow sequence numbers (RFC 8684 §3.3.6). An infinite mapping, MP_FAIL or plain data ends the wait.
 */
export function afterFailure(subflow: SubflowState, segment: Segment, now: number): boolean {
  const { connection } = subflow;
  if ((segment.flags & FLAG.rst) !== 0) return true;
  const mapped = segment.hasDss && (segment.dssFlags & DSS_FLAG.mapping) !== 0 && segment.dataLength > 0;
  if (!mapped) {
    const learnt = segment.payloadLength > 0 || segment.otherMptcpCount > 0 || (segment.hasDss && (segment.dssFlags & DSS_FLAG.mapping) !== 0);
    if (learnt) subflow.failUntil = 0;
    return true;
  }
  subflow.failPending = true;
  subflow.requestAck();
  const position = subflowPosition(subflow, segment.ssn);
  if (!hasKeys(connection)) return true;
  const expected = receivedDataPosition(connection, segment) - position;
  if (segment.payloadLength === 0 || expected === connection.receiveDelta) return true;
  connection.host.count('mptcp-data-after-fail');
  abortConnection(connection, 'reset', now);
  return false;
}

/** MP_FAIL from the peer: its receiver has seen a wrong checksum at this position of our stream. */
export function receivedFail(subflow: SubflowState, position: number, now: number): void {
  const { connection } = subflow;
  if (Number.isNaN(position) || !isAlone(subflow)) return;
  if (!alignStreams(subflow)) {
    // Not contiguous: closed with MP_FAIL on the RST (RFC 8684 §3.7).
    connection.host.mib('FallbackFailed');
    subflow.failPending = true;
    subflow.failPosition = connection.dataRcvNxt;
    resetSubflow(subflow, RESET_REASON.middlebox, false, now);
    return;
  }
  subflow.infinitePending = true;
  // "the receiver of an MP_FAIL MUST also respond with an MP_FAIL" (RFC 8684 §3.7).
  subflow.failPending = true;
  subflow.failPosition = connection.dataRcvNxt;
  fallBack(subflow, 'mp-fail', now);
  subflow.requestAck();
}

/** Nothing holds the head of the stream, nothing acknowledges it: on a single path the DATA_ACKs are being stripped. */
export function dataLevelStalled(connection: ConnectionState, now: number): boolean {
  const working = connection.subflows.filter((one) => one.established);
  const only = working.length === 1 ? working[0]! : null;
  if (only === null || only.bareAcks === 0) return false;
  // Sending the data again on this subflow would hand it to a peer that has fallen back as if it were new.
  if (!alignStreams(only)) {
    giveUp(connection, now);
    return true;
  }
  only.infinitePending = true;
  fallBack(only, 'dss-stripped', now);
  return true;
}

/** Whether no other subflow is established: only then can the streams of subflow and connection be one (RFC 8684 §3.7). */
function isAlone(subflow: SubflowState): boolean {
  return !subflow.connection.subflows.some((other) => other !== subflow && other.established);
}

/** Whether the segment carries a Multipath TCP option other than DSS of this subtype. */
export function hasSubtype(segment: Segment, subtype: number): boolean {
  return findMptcp(segment, subtype) >= 0;
}
