/** What the Multipath TCP options of an acceptable segment do. */
import { DSS_FLAG, RESET_REASON, SUBTYPE } from '@subflow/wire';
import type { MpCapable, MpFastclose, MpPrio, MptcpOption, MpTcprst, Segment } from '@subflow/wire';
import { receivedAddAddress, receivedRemoveAddress } from './address.ts';
import { finishIfDone, limitHalfClose, receivedFastclose, remoteFinReached, resetSubflow } from './close.ts';
import { dataAcknowledged } from './data-ack.ts';
import { positionOf32, positionOf64 } from './data-sequence.ts';
import { afterFailure, bareAcknowledgement, hasSubtype, infiniteMapping, receivedFail } from './fallback.ts';
import { capableThirdAck, joinFourthAck, joinThirdAck } from './handshake.ts';
import { addMapping, receivedDataPosition, subflowPosition, VOID } from './mapping.ts';
import { optionAt } from './options.ts';
import { hasKeys, MODE, PHASE } from './state.ts';
import type { ConnectionState, KeyedConnection, SubflowState } from './state.ts';
import { wakeSenders } from './wake.ts';
import { answerAgain } from '../tcp/answers.ts';
import type { Accepted } from '../tcp/verdict.ts';

/** A DATA_FIN is repeated no faster than this by who waits for its DATA_ACK, microseconds. */
const LEAST_FIN_INTERVAL = 100_000;

/** Processes the options of an accepted segment. Returns false when the segment must go no further. */
export function segmentOptions(subflow: SubflowState, accepted: Accepted, now: number): boolean {
  const { connection } = subflow;
  const { segment } = accepted;
  if (connection.mode === MODE.tcp) {
    if (subflow.peerMaps && hasKeys(connection) && !takeLateMapping(subflow, connection, segment)) return false;
    return subflow.failUntil === 0 || afterFailure(subflow, segment, now);
  }
  // FASTCLOSE_WAIT: no data is accepted any more, only the RST or the peer's own MP_FASTCLOSE is waited for (RFC 8684 §3.5).
  if (subflow.fastclose && !hasSubtype(segment, SUBTYPE.fastclose)) return false;
  subflow.condemnedAt = 0;
  if (!subflow.established) {
    const proceed = subflow.joining
      ? subflow.active
        ? joinFourthAck(subflow, segment, now)
        : joinThirdAck(subflow, segment, now)
      : capableThirdAck(subflow, segment, now);
    if (!proceed) return false;
    if (!isMultipath(connection)) return true;
  }
  // What follows is covered by the keys; a subflow that is established has them.
  if (!hasKeys(connection)) return true;
  // A DSS beside an announcement makes the join that answers it permissible (RFC 8684 §3.1).
  if (segment.hasDss) confirm(subflow, now);
  for (let i = 0; i < segment.otherMptcpCount; i++) {
    const option = optionAt(segment, i);
    if (option !== null && !takeOption(subflow, connection, segment, option, now)) return false;
  }
  if (segment.hasDss) {
    if (!takeDss(subflow, connection, segment, now)) return false;
  } else if (!bareAcknowledgement(subflow, segment, now)) {
    return false;
  }
  return !subflow.closed;
}

/**
 * Processes the options of a RST that counts: why the peer resets (RFC 8684 §3.6), and whether it means the whole connection
 * (§3.5). Nothing else on it has a meaning, in whatever state the handshake is. Returns false when the connection is over.
 */
export function resetOptions(subflow: SubflowState, segment: Segment, now: number): boolean {
  const { connection } = subflow;
  if (connection.mode === MODE.tcp) return true;
  for (let i = 0; i < segment.otherMptcpCount; i++) {
    const option = optionAt(segment, i);
    if (option?.subtype === 'tcprst') takeResetReason(subflow, option);
    if (option?.subtype === 'fail') connection.host.mib('MPFailRx');
  }
  for (let i = 0; i < segment.otherMptcpCount; i++) {
    const option = optionAt(segment, i);
    if (option?.subtype !== 'fastclose' || !namesOurKey(connection, option)) continue;
    connection.host.mib('MPFastcloseRx');
    receivedFastclose(connection, subflow, now);
  }
  return true;
}

function takeResetReason(subflow: SubflowState, option: MpTcprst): void {
  subflow.connection.host.mib('MPRstRx');
  subflow.peerResetReason = option.reason;
  subflow.peerResetTransient = (option.flags & 1) !== 0;
}

function namesOurKey(connection: ConnectionState, option: MpFastclose): boolean {
  const { local } = connection;
  if (local !== null && (option.receiverKey.high | 0) === local.high && (option.receiverKey.low | 0) === local.low) return true;
  connection.host.count('mptcp-fastclose-key');
  return false;
}

/** A step of the handshake may have ended in fallback. */
function isMultipath(connection: ConnectionState): boolean {
  return connection.mode === MODE.mptcp;
}

function takeOption(subflow: SubflowState, connection: KeyedConnection, segment: Segment, option: MptcpOption, now: number): boolean {
  switch (option.subtype) {
    case 'capable':
      return takeCapableData(subflow, connection, segment, option, now) && !subflow.closed;
    case 'add-addr':
      receivedAddAddress(connection, option, now);
      return !subflow.closed;
    case 'remove-addr':
      receivedRemoveAddress(connection, option.addressIds, now);
      return !subflow.closed;
    case 'prio':
      takePriority(subflow, connection, option, now);
      return true;
    case 'fail':
      connection.host.mib('MPFailRx');
      receivedFail(subflow, positionOf64(connection.local.idsnHigh, connection.local.idsnLow, option.dsn.high | 0, option.dsn.low | 0), now);
      return !subflow.closed;
    case 'fastclose':
      if (!namesOurKey(connection, option)) return true;
      connection.host.mib('MPFastcloseRx');
      receivedFastclose(connection, null, now);
      return false;
    case 'join-ack':
      // Our fourth ACK was lost: every third ACK must be acknowledged, or the peer never leaves PRE_ESTABLISHED (RFC 8684 §3.2).
      if (!subflow.active) answerAgain(subflow.tcb, now);
      return true;
    case 'tcprst':
      takeResetReason(subflow, option);
      return true;
    case 'join-syn':
    case 'join-synack':
    case 'dss':
    case 'unknown':
      return true;
  }
}

function takePriority(subflow: SubflowState, connection: ConnectionState, option: MpPrio, now: number): void {
  connection.host.mib('MPPrioRx');
  if (option.addressId !== null && !connection.version.namesPriority) {
    // The four octets are version 0's; in version 1 the option has three (RFC 8684 §3.3.8, Figure 11).
    connection.host.count('mptcp-prio-length');
    return;
  }
  const backup = (option.flags & 1) !== 0;
  // Version 0's form names an address id; it then concerns the subflows of that address (RFC 6824 §3.3.8).
  for (const other of connection.subflows) {
    if (option.addressId === null ? other !== subflow : other.remoteId !== option.addressId) continue;
    other.remoteBackup = backup;
    connection.pathManager?.onSubflowPriority?.(connection, other, backup, now);
    connection.host.emit({ type: 'subflow-priority', time: now, connection: connection.id, subflow: other.id, backup, byPeer: true });
  }
  wakeSenders(connection);
}

/** MP_CAPABLE with data stands for a mapping at the start of the stream (RFC 8684 §3.1). Returns whether the segment may go on. */
function takeCapableData(subflow: SubflowState, connection: KeyedConnection, segment: Segment, option: MpCapable, now: number): boolean {
  if (option.dataLength === null || subflow.joining || !connection.version.mapsWithCapable) return true;
  if (segment.payloadLength === 0 || option.dataLength === 0) return true;
  const checksum = option.checksum ?? -1;
  if (!checksumAsNegotiated(subflow, checksum, true, now)) return false;
  confirm(subflow, now);
  return addMapping(subflow, connection, { ssn: 1, dataPosition: 1 + subflow.receiveOffset, length: option.dataLength, fin: false, checksum });
}

function takeDss(subflow: SubflowState, connection: KeyedConnection, segment: Segment, now: number): boolean {
  subflow.dataAcked = true;
  const flags = segment.dssFlags;
  if ((flags & DSS_FLAG.dataAck) !== 0) takeDataAck(connection, subflow, segment, now);
  if (connection.closed) return true;
  if ((flags & DSS_FLAG.mapping) === 0) return true;
  const dataPosition = receivedDataPosition(connection, segment);
  const { ssn, dataLength: length, dssChecksum: checksum } = segment;
  if (length === 0) return !(dataPosition >= 0) || infiniteMapping(subflow, segment, dataPosition, now);
  const fin = (flags & DSS_FLAG.dataFin) !== 0;
  if (!checksumAsNegotiated(subflow, checksum, length > 1 || !fin, now)) return false;
  if (!(dataPosition >= 0)) {
    // Mapped, but nowhere near the window: its bytes are acknowledged below and go no further (RFC 8684 §3.3.2).
    connection.host.count('mptcp-dsn-out-of-range');
    connection.host.mib('NoDSSInWindow');
    return addMapping(subflow, connection, { ssn, dataPosition: VOID, length, fin: false, checksum });
  }
  if (fin) takeDataFin(subflow, dataPosition + length - 1, now);
  return (fin && length === 1) || addMapping(subflow, connection, { ssn, dataPosition, length, fin, checksum });
}

/**
 * DATA_FIN at a data position. The first is acknowledged at once. One that comes again is so only when all before it has
 * arrived: its sender has missed our DATA_ACK. While something is missing an answer would say nothing new, and two ends that
 * both wait, with a DATA_FIN on every ACK, would answer each other for ever.
 */
function takeDataFin(subflow: SubflowState, at: number, now: number): void {
  const { connection } = subflow;
  if (connection.remoteFin < 0) {
    // A window of slack: the DATA_FIN of a sane peer lies at most one octet behind the window.
    if (at < connection.dataRcvNxt || at > connection.dataRcvEdge + 65536) return;
    connection.remoteFin = at;
    subflow.tcb.ackNow = true;
    if (at === connection.dataRcvNxt) remoteFinReached(connection, now);
  } else if (connection.receiveEnded && now - connection.finAnsweredAt >= LEAST_FIN_INTERVAL) {
    // Not for each of the ACKs that were on their way when ours left.
    connection.finAnsweredAt = now;
    answerAgain(subflow.tcb, now);
  }
}

/** A mapping from a peer that has not noticed our fallback. Returns whether the segment may go on. */
function takeLateMapping(subflow: SubflowState, connection: KeyedConnection, segment: Segment): boolean {
  if (!segment.hasDss || (segment.dssFlags & DSS_FLAG.mapping) === 0) return true;
  const dataPosition = receivedDataPosition(connection, segment);
  const { ssn, dataLength: length, dssChecksum: checksum } = segment;
  if (length === 0) {
    // Infinite: the peer knows, and says where its stream stands (RFC 8684 §3.7).
    if (dataPosition >= 0) connection.receiveDelta = dataPosition - subflowPosition(subflow, ssn);
    subflow.peerMaps = false;
    return true;
  }
  const fin = (segment.dssFlags & DSS_FLAG.dataFin) !== 0;
  return !(dataPosition >= 0) || (fin && length === 1) || addMapping(subflow, connection, { ssn, dataPosition, length, fin, checksum });
}

/** A checksum that is missing, or there without having been negotiated: the peer does not keep to what was agreed (RFC 8684 §3.3). */
function checksumAsNegotiated(subflow: SubflowState, checksum: number, hasData: boolean, now: number): boolean {
  const { connection } = subflow;
  const present = checksum >= 0;
  if (present === connection.checksum || !hasData || (present && connection.version.ignoresStrayChecksum)) return true;
  connection.host.count(present ? 'mptcp-checksum-unexpected' : 'mptcp-checksum-missing');
  resetSubflow(subflow, RESET_REASON.mptcp, false, now);
  return false;
}

function takeDataAck(connection: KeyedConnection, subflow: SubflowState, segment: Segment, now: number): void {
  const { local } = connection;
  const position =
    (segment.dssFlags & DSS_FLAG.dataAck64) !== 0
      ? positionOf64(local.idsnHigh, local.idsnLow, segment.dataAckHigh, segment.dataAckLow)
      : positionOf32(local.idsnLow, segment.dataAckLow, connection.dataUna);
  const limit = connection.finSent ? connection.sendBuffer.end + 1 : connection.dataNxt;
  if (!(position <= limit)) {
    connection.host.count('mptcp-data-ack-out-of-range');
    return;
  }
  // The window counts from the DATA_ACK and its edge never moves left (RFC 8684 §3.3.2, §3.3.4).
  const window = segment.window << subflow.tcb.sndScale;
  if (window > connection.maxDataWnd) connection.maxDataWnd = window;
  const edge = position + window;
  const wider = edge > connection.dataWndEdge;
  if (wider) connection.dataWndEdge = edge;
  // Progress at the data level: the options get through. An old segment that was overtaken says nothing.
  if (position > connection.dataUna || connection.dataUna === connection.dataNxt) subflow.bareAcks = 0;
  const before = connection.finAcknowledged;
  if (position > connection.dataUna || (connection.finSent && position === limit)) dataAcknowledged(connection, position, now);
  if (connection.finAcknowledged && !before) {
    connection.finAt = 0;
    finishIfDone(connection, now);
    limitHalfClose(connection, now);
  }
  if (wider && !connection.closed) wakeSenders(connection);
}

/** The first DSS proves that options pass both ways: further subflows may be opened (RFC 8684 §3.1). */
function confirm(subflow: SubflowState, now: number): void {
  const { connection } = subflow;
  if (connection.phase === PHASE.closed || (connection.confirmed && connection.pathManagerTold)) return;
  connection.confirmed = true;
  connection.pathManagerTold = true;
  connection.pathManager?.onEstablished?.(connection, now);
}
