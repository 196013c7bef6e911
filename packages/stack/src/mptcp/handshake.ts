/** MP_CAPABLE and MP_JOIN handshakes (RFC 8684 §3.1, §3.2; RFC 6824 §3.1, §3.2). */
import { CAPABLE_FLAG, FLAG, formatEndpoint, RESET_REASON } from '@subflow/wire';
import type { MpJoinAck, MpJoinSynAck, Segment, U64 } from '@subflow/wire';
import { takeBackRemoval } from './address.ts';
import { limitHalfClose, resetSubflow } from './close.ts';
import { fallBack } from './fallback.ts';
import { joinHmac, keyMaterial, sameBytes, shiftedBy } from './keys.ts';
import { watchSilence } from './liveness.ts';
import { capableOptions, findOption } from './options.ts';
import type { JoinRequest } from './path-manager/types.ts';
import { makeScheduler } from './settings.ts';
import { hasKeys, MODE, PHASE } from './state.ts';
import type { ConnectionState, KeyedConnection, SubflowOrigin, SubflowState } from './state.ts';
import { acceptsOffer, isThirdAck, versionOf } from './version.ts';
import type { CapableWithKey, ThirdAck } from './version.ts';
import { wakeSenders } from './wake.ts';
import { abort } from '../tcp/close.ts';
import { updateMss } from '../tcp/path-mtu.ts';
import { openActive } from '../tcp/state-machine.ts';
import { STATE } from '../tcp/state.ts';

/** SYN (passive open) or SYN+ACK (active open). Returns false when the subflow was refused. */
export function handshakeSegment(subflow: SubflowState, segment: Segment, now: number): boolean {
  const { connection } = subflow;
  const answer = (segment.flags & FLAG.ack) !== 0;
  if (connection.mode === MODE.tcp) return true;
  if (subflow.joining) return joinHandshake(subflow, segment, answer, now);
  if (!answer) {
    // Both ends called each other: version 1 has no keys on SYNs, and neither RFC has rules for it.
    if (subflow.active) {
      connection.host.mib('SimultConnectFallback');
      fallBack(subflow, 'simultaneous-open', now);
    }
    return true;
  }
  const option = capableOptions(segment).find((one): one is CapableWithKey => acceptsOffer(connection.version, one, connection.local)) ?? null;
  if (option === null) {
    if (offerNext(subflow, now)) return false;
    connection.host.mib('MPCapableFallbackSYNACK');
    fallBack(subflow, 'peer-not-capable', now);
    return true;
  }
  const { host, version } = connection;
  host.mib('MPCapableSYNACKRX');
  host.peers.forgetBlackHole(connection.remoteAddress, connection.remotePort);
  if (connection.offers.length > 1 || host.mptcp.versions[0] !== version.number) {
    host.peers.rememberVersion(connection.remoteAddress, connection.remotePort, version.number, now + host.mptcp.versionMemory);
  }
  connection.remote = keyMaterial(option.senderKey.high, option.senderKey.low, version);
  if ((option.flags & CAPABLE_FLAG.checksum) !== 0) connection.checksum = true;
  connection.peerDeniesJoin = version.deniesInitialAddress && (option.flags & CAPABLE_FLAG.noJoin) !== 0;
  // Where data cannot carry the keys they need a segment of their own (RFC 6824 §3.1).
  subflow.tcb.ackFirst = !version.mapsWithCapable;
  return true;
}

/**
 * The version offered was refused: a listener of version 0 takes the keyless MP_CAPABLE of version 1 for no option at
 * all. Gives this TCP connection up and tries the next version on another port (RFC 8684 §3.1).
 */
function offerNext(refused: SubflowState, now: number): boolean {
  const { connection } = refused;
  const { host } = connection;
  const [current, next] = connection.offers;
  if (current === undefined || next === undefined) return false;
  const { local, remote, remotePort } = refused.tcb;
  const subflow = host.openSubflow(connection, INITIAL_ACTIVE, { local, localPort: 0, remote, remotePort, device: null }, now);
  if (subflow === null) return false;
  const { tcb } = subflow;
  connection.offers = connection.offers.slice(1);
  host.forgetToken(connection);
  connection.version = versionOf(next);
  connection.local = host.freshKey(connection);
  if (connection.local === null) connection.mode = MODE.tcp;
  connection.localPort = tcb.localPort;
  host.emit({ type: 'version-retry', time: now, connection: connection.id, refused: current, next });
  connection.subflows = [subflow];
  refused.replaced = true;
  abort(refused.tcb, 'aborted', now);
  announceCreated(subflow, now);
  openActive(tcb, now);
  return true;
}

/** TCP's three-way handshake is done; Multipath TCP's may still be waiting for its third or fourth packet. */
export function tcpEstablished(subflow: SubflowState, now: number): void {
  const { connection } = subflow;
  if (connection.mode === MODE.tcp) {
    becomeEstablished(subflow, now);
    return;
  }
  if (subflow.joining) {
    // PRE_ESTABLISHED: no data before the fourth ACK (RFC 8684 §3.2).
    if (subflow.active) {
      subflow.joinAckAt = now + subflow.tcb.rto;
      connection.reschedule();
    }
    return;
  }
  if (subflow.active) becomeEstablished(subflow, now);
}

/** The third ACK of MP_CAPABLE, or the first data that stands for it. */
export function capableThirdAck(subflow: SubflowState, segment: Segment, now: number): boolean {
  const { connection } = subflow;
  const { host, version } = connection;
  const option = capableOptions(segment).find((one): one is ThirdAck => isThirdAck(version, one));
  if (option !== undefined) {
    host.mib('MPCapableACKRX');
    const wrongKey = !sameKey(option.receiverKey, connection.local);
    const changedKey = connection.remote !== null && !sameKey(option.senderKey, connection.remote);
    if (wrongKey || changedKey) {
      // "the host MUST stop using MPTCP" when the negotiation looks compromised (RFC 8684 §3.1). Linux ignores it.
      host.count('mptcp-third-ack-key');
      host.mib('MPCapableFallbackACK');
      fallBack(subflow, 'third-ack-without-option', now);
      becomeEstablished(subflow, now);
      return true;
    }
    learnRemoteKey(subflow, option.senderKey);
    if ((option.flags & CAPABLE_FLAG.checksum) !== 0) connection.checksum = true;
    becomeEstablished(subflow, now);
    return true;
  }
  if (segment.hasDss) {
    if (connection.remote !== null) {
      // Version 0 has the key from the SYN: a DSS proves that the options pass, and that the third ACK was lost.
      becomeEstablished(subflow, now);
      return true;
    }
    // Options pass, but the packets with the keys are late or lost: they will be sent again, and are not waited for without end.
    host.count('mptcp-data-before-key');
    if (connection.closeAt === 0) {
      connection.closeAt = now + host.mptcp.closeTimeout;
      connection.reschedule();
    }
    return false;
  }
  host.mib(segment.payloadLength > 0 ? 'MPCapableDataFallback' : 'MPCapableFallbackACK');
  fallBack(subflow, 'third-ack-without-option', now);
  becomeEstablished(subflow, now);
  return true;
}

function sameKey(key: U64, known: U64 | null): boolean {
  return known !== null && (key.high | 0) === (known.high | 0) && (key.low | 0) === (known.low | 0);
}

function learnRemoteKey(subflow: SubflowState, senderKey: U64): void {
  const { connection } = subflow;
  if (connection.remote !== null) return;
  const material = keyMaterial(senderKey.high, senderKey.low, connection.version);
  connection.remote = subflow.receiveOffset > 0 ? shiftedBy(material, subflow.receiveOffset) : material;
}

/** SYN of a join the peer opened, or the answer to our own. */
function joinHandshake(subflow: SubflowState, segment: Segment, answer: boolean, now: number): boolean {
  const { connection } = subflow;
  if (!subflow.active) return true;
  if (answer && hasKeys(connection)) return joinSynAck(subflow, connection, segment, now);
  // A SYN crossed ours: two ends that both open have no roles, and MP_JOIN has no answer for it.
  connection.host.count('mptcp-join-crossed');
  resetSubflow(subflow, RESET_REASON.mptcp, false, now);
  return false;
}

/** SYN+ACK of a join we opened. */
function joinSynAck(subflow: SubflowState, connection: KeyedConnection, segment: Segment, now: number): boolean {
  const { host } = connection;
  const option = findOption<MpJoinSynAck>(segment, 'join-synack');
  if (option === null) {
    host.count('mptcp-join-synack-without-option');
    resetSubflow(subflow, RESET_REASON.mptcp, false, now);
    return false;
  }
  host.mib('MPJoinSynAckRx');
  if (subflow.tcb.remotePort !== connection.remotePort) host.mib('MPJoinPortSynAckRx');
  const expected = joinHmac(connection.remote, connection.local, option.nonce, subflow.localNonce, connection.version);
  if (!sameBytes(expected.subarray(0, 8), option.hmac)) {
    host.count('mptcp-join-synack-hmac');
    host.mib('MPJoinSynAckHMacFailure');
    resetSubflow(subflow, RESET_REASON.mptcp, false, now);
    return false;
  }
  subflow.remoteNonce = option.nonce | 0;
  if (subflow.remoteId < 0) subflow.remoteId = option.addressId;
  subflow.remoteBackup = (option.flags & 1) !== 0;
  if (subflow.remoteBackup) host.mib('MPJoinSynAckBackupRx');
  subflow.hmac = joinHmac(connection.local, connection.remote, subflow.localNonce, option.nonce, connection.version);
  // From our third ACK on the peer may send data there.
  connection.everJoined = true;
  return true;
}

/** Third ACK of a join the peer opened. */
export function joinThirdAck(subflow: SubflowState, segment: Segment, now: number): boolean {
  const { connection } = subflow;
  const { host } = connection;
  const option = findOption<MpJoinAck>(segment, 'join-ack');
  if (option === null) {
    // Data may overtake the third ACK only if the peer breaks the rule; a bare ACK is the end of the join.
    host.count('mptcp-join-ack-without-option');
    resetSubflow(subflow, RESET_REASON.mptcp, false, now);
    return false;
  }
  host.mib('MPJoinAckRx');
  if (!hasKeys(connection)) return false;
  if (subflow.tcb.localPort !== connection.initialLocalPort) host.mib('MPJoinPortAckRx');
  const expected = joinHmac(connection.remote, connection.local, subflow.remoteNonce, subflow.localNonce, connection.version);
  if (!sameBytes(expected.subarray(0, 20), option.hmac)) {
    host.count('mptcp-join-ack-hmac');
    host.mib('MPJoinAckHMacFailure');
    resetSubflow(subflow, RESET_REASON.mptcp, false, now);
    return false;
  }
  if (connection.mode !== MODE.mptcp || connection.closed) {
    host.mib('MPJoinRejected');
    resetSubflow(subflow, RESET_REASON.prohibited, false, now);
    return false;
  }
  // The fourth packet of the handshake, at once (RFC 8684 §3.2).
  subflow.tcb.ackNow = true;
  becomeEstablished(subflow, now);
  return true;
}

/** Anything from the peer after our third ACK: it has accepted the join. */
export function joinFourthAck(subflow: SubflowState, segment: Segment, now: number): boolean {
  if ((segment.flags & FLAG.syn) !== 0) {
    subflow.requestAck();
    return false;
  }
  subflow.joinAckAt = 0;
  becomeEstablished(subflow, now);
  return true;
}

/** A retransmitted SYN+ACK while waiting, or a retransmission timer of the SYN. */
export function synTimedOut(subflow: SubflowState, consecutive: number, now: number): void {
  const { connection, tcb } = subflow;
  if (subflow.joining || !subflow.active || connection.mode === MODE.tcp || tcb.state !== STATE.synSent) return;
  // Paths that drop unknown options: go on without after some tries (RFC 8684 §3.1).
  if (consecutive < connection.host.mptcp.capableSyns) return;
  connection.host.mib('MPCapableSYNTXDrop');
  connection.capableDropped = true;
  fallBack(subflow, 'syn-timeout', now);
}

function becomeEstablished(subflow: SubflowState, now: number): void {
  const { connection, tcb } = subflow;
  if (subflow.established) return;
  subflow.established = true;
  subflow.wasEstablished = true;
  updateMss(tcb);
  const { host } = connection;
  if (connection.phase === PHASE.opening) {
    connection.phase = PHASE.open;
    connection.wasOpen = true;
    connection.closeAt = 0;
    const multipath = connection.mode === MODE.mptcp;
    // Until a DATA_ACK comes the window of the SYN exchange counts.
    connection.dataWndEdge = Math.max(connection.dataWndEdge, tcb.sndUna + tcb.sndWnd);
    if (connection.capableDropped && host.mptcp.blackHoleTimeout > 0) {
      host.mib('Blackhole');
      host.peers.rememberBlackHole(connection.remoteAddress, connection.remotePort, now, host.mptcp.blackHoleTimeout);
    }
    if (multipath) {
      host.mib('MPCurrEstab');
      connection.scheduler = makeScheduler(connection);
      connection.pathManager = (connection.pathManagerFactory ?? host.mptcp.pathManager)();
    }
    host.emit({
      type: 'connection-established',
      time: now,
      connection: connection.id,
      multipath,
      localToken: (connection.local?.token ?? 0) >>> 0,
      remoteToken: (connection.remote?.token ?? 0) >>> 0,
      checksum: multipath && connection.checksum,
    });
    if (!connection.active) host.accepted(connection, now);
    if (subflow.receiveOffset > 0) host.emit({ type: 'connection-readable', time: now, connection: connection.id });
    if (multipath) connection.pathManager?.onCreated?.(connection, now);
  }
  host.emit({
    type: 'subflow-established',
    time: now,
    connection: connection.id,
    subflow: subflow.id,
    localId: subflow.localId,
    remoteId: subflow.remoteId,
    rtt: tcb.srtt,
  });
  // A priority asked for during the join had no ACK to go with.
  if (subflow.priorityPending) subflow.requestAck();
  if (subflow.joining) {
    connection.everJoined = true;
    connection.closeAt = 0;
    connection.closeReason = null;
    // What the application has closed ends all the same.
    limitHalfClose(connection, now);
    connection.pathManager?.onSubflowEstablished?.(connection, subflow, now);
    if (connection.finSent && !connection.finAcknowledged) subflow.requestAck();
  }
  watchSilence(connection, now);
  wakeSenders(connection);
  connection.reschedule();
}

/** Opens a further subflow with MP_JOIN. Null when it is not allowed or there is no route. */
export function openJoin(connection: ConnectionState, request: JoinRequest, now: number): SubflowState | null {
  const { host } = connection;
  const { local, localId, remote, remotePort, remoteId, backup = false, device = null } = request;
  if (connection.mode !== MODE.mptcp || connection.phase !== PHASE.open || connection.remote === null || !connection.confirmed) return null;
  if (connection.subflows.length > host.limits.subflows || local.length !== remote.length) return null;
  // Handover: every further path is a backup, for the peer as well; unless the first one itself is (it was all there was).
  const asBackup = backup || (connection.service === 'handover' && !host.isBackup(connection.initialLocal));
  const origin = { active: true, joining: true, localId, remoteId, backup: asBackup };
  const subflow = host.openSubflow(connection, origin, { local, localPort: 0, remote, remotePort, device }, now);
  if (subflow === null) return null;
  subflow.localNonce = host.random32();
  takeBackRemoval(connection, localId);
  connection.addSubflow(subflow);
  announceCreated(subflow, now);
  openActive(subflow.tcb, now);
  return subflow;
}

export function announceCreated(subflow: SubflowState, now: number): void {
  const { connection, tcb } = subflow;
  connection.host.emit({
    type: 'subflow-created',
    time: now,
    connection: connection.id,
    subflow: subflow.id,
    local: formatEndpoint(tcb.local, tcb.localPort),
    remote: formatEndpoint(tcb.remote, tcb.remotePort),
    interface: tcb.interface.name,
    active: subflow.active,
    backup: subflow.backup,
  });
}

/** How the first subflow of an active connection comes to be. */
export const INITIAL_ACTIVE: SubflowOrigin = { active: true, joining: false, localId: 0, remoteId: 0, backup: false };
