/** What the Multipath TCP options of an acceptable segment do. */
import { DSS_FLAG, FLAG, isMalformed, parseMptcpOption, RESET_REASON, SUBTYPE } from '@subflow/wire';
import type { MpCapable, MptcpOption, Segment } from '@subflow/wire';
import { receivedAddAddress, receivedRemoveAddress } from './address.ts';
import { finishIfDone, receivedFastclose, remoteFinReached, resetSubflow } from './close.ts';
import { dataAcknowledged } from './data-ack.ts';
import { positionOf32, positionOf64 } from './data-sequence.ts';
import { afterFailure, bareAcknowledgement, hasSubtype, infiniteMapping, receivedFail } from './fallback.ts';
import { capableThirdAck, joinFourthAck, joinThirdAck } from './handshake.ts';
import { addMapping, receivedDataPosition, subflowPosition, VOID } from './mapping.ts';
import { MODE, PHASE } from './state.ts';
import type { ConnectionState, SubflowState } from './state.ts';
import { wakeSenders } from './wake.ts';

/** Processes the options. Returns false when the segment must go no further. */
export function segmentOptions(subflow: SubflowState, segment: Segment, now: number): boolean {
  const { connection } = subflow;
  if (connection.mode === MODE.tcp) {
    if (subflow.peerMaps) takeLateMapping(subflow, segment);
    return subflow.failUntil === 0 || afterFailure(subflow, segment, now);
  }
  // FASTCLOSE_WAIT: no data is accepted any more, only the RST or the peer's own MP_FASTCLOSE is waited for (RFC 8684 §3.5).
  if (subflow.fastclose && (segment.flags & FLAG.rst) === 0 && !hasSubtype(segment, SUBTYPE.fastclose)) return false;
  subflow.condemnedAt = 0;
  if (!subflow.established && (segment.flags & FLAG.rst) === 0) {
    const proceed = subflow.joining
      ? subflow.active
        ? joinFourthAck(subflow, segment, now)
        : joinThirdAck(subflow, segment, now)
      : capableThirdAck(subflow, segment, now);
    if (!proceed) return false;
    if ((connection.mode as string) === MODE.tcp) return true;
  }
  // A DSS beside an announcement makes the join that answers it permissible (RFC 8684 §3.1).
  if (segment.hasDss && (segment.flags & FLAG.rst) === 0) confirm(subflow, now);
  for (let i = 0; i < segment.otherMptcpCount; i++) {
    const at = segment.otherMptcp[i]!;
    const option = parseMptcpOption(segment.view, at, segment.view.getUint8(at + 1));
    if (isMalformed(option)) continue;
    if (!takeOption(subflow, segment, option, now)) return false;
  }
  if ((segment.flags & FLAG.rst) !== 0) return true;
  if (segment.hasDss) {
    if (!takeDss(subflow, segment, now)) return false;
  } else if (!bareAcknowledgement(subflow, segment, now)) {
    return false;
  }
  return !subflow.closed;
}

function takeOption(subflow: SubflowState, segment: Segment, option: MptcpOption, now: number): boolean {
  const { connection } = subflow;
  switch (option.subtype) {
    case 'capable':
      takeCapableData(subflow, segment, option, now);
      return !subflow.closed;
    case 'add-addr':
      receivedAddAddress(connection, option, now);
      return !subflow.closed;
    case 'remove-addr':
      receivedRemoveAddress(connection, option.addressIds, now);
      return !subflow.closed;
    case 'prio': {
      const backup = (option.flags & 1) !== 0;
      connection.host.mib('MPPrioRx');
      // Version 0's form names an address id; it then concerns the subflows of that address (RFC 6824 §3.3.8).
      for (const other of connection.subflows) {
        if (option.addressId === null || !connection.version.namesPriority ? other !== subflow : other.remoteId !== option.addressId) continue;
        other.remoteBackup = backup;
        connection.pathManager?.onSubflowPriority?.(connection, other, backup, now);
        connection.host.emit({ type: 'subflow-priority', time: now, connection: connection.id, subflow: other.id, backup, byPeer: true });
      }
      wakeSenders(connection);
      return true;
    }
    case 'fail':
      connection.host.mib('MPFailRx');
      receivedFail(subflow, positionOf64(connection.local!.idsnHigh, connection.local!.idsnLow, option.dsn.high | 0, option.dsn.low | 0), now);
      return !subflow.closed;
    case 'fastclose':
      if ((option.receiverKey.high | 0) !== connection.local!.high || (option.receiverKey.low | 0) !== connection.local!.low) {
        connection.host.count('mptcp-fastclose-key');
        return true;
      }
      connection.host.mib('MPFastcloseRx');
      receivedFastclose(connection, now);
      return false;
    case 'join-ack':
      // Our fourth ACK was lost: every third ACK must be acknowledged, or the peer never leaves PRE_ESTABLISHED (RFC 8684 §3.2).
      if (!subflow.active) subflow.tcb.ackNow = true;
      return true;
    case 'tcprst':
      connection.host.mib('MPRstRx');
      subflow.peerResetReason = option.reason;
      subflow.peerResetTransient = (option.flags & 1) !== 0;
      return true;
    default:
      return true;
  }
}

/** MP_CAPABLE with data stands for a mapping at the start of the stream (RFC 8684 §3.1). */
function takeCapableData(subflow: SubflowState, segment: Segment, option: MpCapable, now: number): void {
  const { connection } = subflow;
  if (option.dataLength === null || connection.remote === null || subflow.joining || !connection.version.mapsWithCapable) return;
  if (segment.payloadLength === 0 || option.dataLength === 0) return;
  if (!checksumAsNegotiated(subflow, option.checksum ?? -1, true, now)) return;
  confirm(subflow, now);
  addMapping(subflow, 1, 1 + subflow.receiveOffset, option.dataLength, false, option.checksum ?? -1);
}

function takeDss(subflow: SubflowState, segment: Segment, now: number): boolean {
  const { connection } = subflow;
  subflow.dataAcked = true;
  const flags = segment.dssFlags;
  if ((flags & DSS_FLAG.dataAck) !== 0) takeDataAck(connection, subflow, segment, now);
  if (connection.closed) return true;
  if ((flags & DSS_FLAG.mapping) === 0) return true;
  const position = receivedDataPosition(connection, segment);
  if (segment.dataLength === 0) return !(position >= 0) || infiniteMapping(subflow, segment, position, now);
  if (!checksumAsNegotiated(subflow, segment.dssChecksum, segment.dataLength > 1 || (flags & DSS_FLAG.dataFin) === 0, now)) return false;
  if (!(position >= 0)) {
    // Mapped, but nowhere near the window: its bytes are acknowledged below and go no further (RFC 8684 §3.3.2).
    connection.host.count('mptcp-dsn-out-of-range');
    connection.host.mib('NoDSSInWindow');
    addMapping(subflow, segment.ssn, VOID, segment.dataLength, false, segment.dssChecksum);
    return true;
  }
  const fin = (flags & DSS_FLAG.dataFin) !== 0;
  if (fin) {
    const at = position + segment.dataLength - 1;
    // Once declared, the end of the stream stays where it is. A window of slack: the DATA_FIN of a sane peer lies at most
    // one octet behind the window.
    if (connection.remoteFin < 0 && at >= connection.dataRcvNxt && at <= connection.dataRcvEdge + 65536) connection.remoteFin = at;
    subflow.tcb.ackNow = true;
    if (connection.remoteFin === connection.dataRcvNxt) remoteFinReached(connection, now);
  }
  if (!(fin && segment.dataLength === 1)) addMapping(subflow, segment.ssn, position, segment.dataLength, fin, segment.dssChecksum);
  return true;
}

/** A mapping from a peer that has not noticed our fallback. */
function takeLateMapping(subflow: SubflowState, segment: Segment): void {
  if (!segment.hasDss || (segment.dssFlags & DSS_FLAG.mapping) === 0 || subflow.connection.remote === null) return;
  const position = receivedDataPosition(subflow.connection, segment);
  if (segment.dataLength === 0) {
    // Infinite: the peer knows, and says where its stream stands (RFC 8684 §3.7).
    if (position >= 0) subflow.connection.receiveDelta = position - subflowPosition(subflow, segment.ssn);
    subflow.peerMaps = false;
    return;
  }
  const fin = (segment.dssFlags & DSS_FLAG.dataFin) !== 0;
  if (position >= 0 && !(fin && segment.dataLength === 1)) addMapping(subflow, segment.ssn, position, segment.dataLength, fin, segment.dssChecksum);
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

function takeDataAck(connection: ConnectionState, subflow: SubflowState, segment: Segment, now: number): void {
  const local = connection.local!;
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
  const edge = position + segment.window * 2 ** subflow.tcb.sndScale;
  const wider = edge > connection.dataWndEdge;
  if (wider) connection.dataWndEdge = edge;
  // Progress at the data level: the options get through. An old segment that was overtaken says nothing.
  if (position > connection.dataUna || connection.dataUna === connection.dataNxt) subflow.bareAcks = 0;
  const before = connection.finAcknowledged;
  if (position > connection.dataUna || (connection.finSent && position === limit)) dataAcknowledged(connection, position, now);
  if (connection.finAcknowledged && !before) {
    connection.finAt = 0;
    finishIfDone(connection, now);
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
