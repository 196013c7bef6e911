/** MP_CAPABLE and MP_JOIN handshakes (RFC 8684 §3.1, §3.2). */
import { CAPABLE_FLAG, FLAG, formatEndpoint, isMalformed, parseMptcpOption, RESET_REASON } from '@subflow/wire';
import type { MpCapable, MpJoinAck, MpJoinSyn, MpJoinSynAck, MptcpOption, Segment } from '@subflow/wire';
import { openActive } from '../tcp/state-machine.ts';
import { updateMss } from '../tcp/path-mtu.ts';
import { STATE } from '../tcp/state.ts';
import { MODE, PHASE } from './connection.ts';
import type { Connection } from './connection.ts';
import { resetSubflow } from './close.ts';
import { fallBack } from './fallback.ts';
import { joinHmac, keyMaterial, sameBytes } from './keys.ts';
import { watchSilence } from './liveness.ts';
import { learnRemoteKey } from './options-in.ts';
import { wakeSenders } from './send.ts';
import { Subflow } from './subflow.ts';
import { acceptsVersion } from './version.ts';

/** SYN (passive open) or SYN+ACK (active open). Returns false when the subflow was refused. */
export function handshakeSegment(subflow: Subflow, segment: Segment, now: number): boolean {
  const { connection } = subflow;
  const answer = (segment.flags & FLAG.ack) !== 0;
  if (connection.mode === MODE.tcp) return true;
  if (subflow.joining) return answer ? joinSynAck(subflow, segment, now) : true;
  if (!answer) {
    // Simultaneous open carries no keys: plain TCP (RFC 8684 has no rule for it).
    if (subflow.active) fallBack(subflow, 'simultaneous-open', now);
    return true;
  }
  const option = findCapable(segment);
  const flags = option?.flags ?? 0;
  if (option === null || option.senderKey === null || !acceptsVersion(option.version) || (flags & CAPABLE_FLAG.sha256) === 0) {
    fallBack(subflow, 'peer-not-capable', now);
    return true;
  }
  connection.remote = keyMaterial(option.senderKey.high, option.senderKey.low);
  if ((flags & CAPABLE_FLAG.checksum) !== 0) connection.checksum = true;
  connection.peerDeniesJoin = (flags & CAPABLE_FLAG.noJoin) !== 0;
  return true;
}

/** TCP's three-way handshake is done; Multipath TCP's may still be waiting for its third or fourth packet. */
export function tcpEstablished(subflow: Subflow, now: number): void {
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
export function capableThirdAck(subflow: Subflow, segment: Segment, now: number): boolean {
  const { connection } = subflow;
  const option = findCapable(segment);
  if (option !== null && option.senderKey !== null && option.receiverKey !== null && acceptsVersion(option.version)) {
    const own = connection.local!;
    if ((option.receiverKey.high | 0) !== own.high || (option.receiverKey.low | 0) !== own.low) {
      // "the host MUST stop using MPTCP" when the negotiation looks compromised (RFC 8684 §3.1). Linux ignores it.
      connection.host.count('mptcp-third-ack-key');
      fallBack(subflow, 'third-ack-without-option', now);
      becomeEstablished(subflow, now);
      return true;
    }
    learnRemoteKey(connection, option);
    if ((option.flags & CAPABLE_FLAG.checksum) !== 0) connection.checksum = true;
    becomeEstablished(subflow, now);
    return true;
  }
  if (segment.hasDss) {
    // Options pass, but the packets with the keys are late or lost: they will be sent again.
    connection.host.count('mptcp-data-before-key');
    return false;
  }
  fallBack(subflow, 'third-ack-without-option', now);
  becomeEstablished(subflow, now);
  return true;
}

/** SYN+ACK of a join we opened. */
function joinSynAck(subflow: Subflow, segment: Segment, now: number): boolean {
  const { connection } = subflow;
  const option = find<MpJoinSynAck>(segment, 'join-synack');
  if (option === null) {
    connection.host.count('mptcp-join-synack-without-option');
    resetSubflow(subflow, RESET_REASON.mptcp, false, now);
    return false;
  }
  const expected = joinHmac(connection.remote!, connection.local!, option.nonce, subflow.localNonce);
  if (!sameBytes(expected.subarray(0, 8), option.hmac)) {
    connection.host.count('mptcp-join-synack-hmac');
    resetSubflow(subflow, RESET_REASON.mptcp, false, now);
    return false;
  }
  subflow.remoteNonce = option.nonce | 0;
  if (subflow.remoteId < 0) subflow.remoteId = option.addressId;
  subflow.remoteBackup = (option.flags & 1) !== 0;
  subflow.hmac = joinHmac(connection.local!, connection.remote!, subflow.localNonce, option.nonce);
  return true;
}

/** Third ACK of a join the peer opened. */
export function joinThirdAck(subflow: Subflow, segment: Segment, now: number): boolean {
  const { connection } = subflow;
  const option = find<MpJoinAck>(segment, 'join-ack');
  if (option === null) {
    // Data may overtake the third ACK only if the peer breaks the rule; a bare ACK is the end of the join.
    connection.host.count('mptcp-join-ack-without-option');
    resetSubflow(subflow, RESET_REASON.mptcp, false, now);
    return false;
  }
  const expected = joinHmac(connection.remote!, connection.local!, subflow.remoteNonce, subflow.localNonce);
  if (!sameBytes(expected.subarray(0, 20), option.hmac)) {
    connection.host.count('mptcp-join-ack-hmac');
    resetSubflow(subflow, RESET_REASON.mptcp, false, now);
    return false;
  }
  if (connection.mode !== MODE.mptcp || connection.closed) {
    resetSubflow(subflow, RESET_REASON.prohibited, false, now);
    return false;
  }
  // The fourth packet of the handshake, at once (RFC 8684 §3.2).
  subflow.tcb.ackNow = true;
  becomeEstablished(subflow, now);
  return true;
}

/** Anything from the peer after our third ACK: it has accepted the join. */
export function joinFourthAck(subflow: Subflow, segment: Segment, now: number): boolean {
  if ((segment.flags & FLAG.syn) !== 0) {
    subflow.requestAck();
    return false;
  }
  subflow.joinAckAt = 0;
  becomeEstablished(subflow, now);
  return true;
}

/** A retransmitted SYN+ACK while waiting, or a retransmission timer of the SYN. */
export function synTimedOut(subflow: Subflow, consecutive: number, now: number): void {
  const { connection, tcb } = subflow;
  if (subflow.joining || !subflow.active || connection.mode === MODE.tcp || tcb.state !== STATE.synSent) return;
  // Paths that drop unknown options: go on without after some tries (RFC 8684 §3.1).
  if (consecutive >= connection.host.mptcp.capableSyns) fallBack(subflow, 'syn-timeout', now);
}

function becomeEstablished(subflow: Subflow, now: number): void {
  const { connection, tcb } = subflow;
  if (subflow.established) return;
  subflow.established = true;
  subflow.wasEstablished = true;
  updateMss(tcb);
  const { host } = connection;
  if (connection.phase === PHASE.opening) {
    connection.phase = PHASE.open;
    connection.wasOpen = true;
    const multipath = connection.mode === MODE.mptcp;
    // Until a DATA_ACK comes the window of the SYN exchange counts.
    connection.dataWndEdge = Math.max(connection.dataWndEdge, 1 + tcb.sndWnd);
    if (multipath) {
      connection.scheduler = host.mptcp.scheduler();
      connection.pathManager = host.mptcp.pathManager();
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
  if (subflow.joining) {
    connection.everJoined = true;
    connection.closeAt = 0;
    connection.closeReason = null;
    connection.pathManager?.onSubflowEstablished(connection, subflow, now);
    if (connection.finSent && !connection.finAcknowledged) subflow.requestAck();
  }
  watchSilence(connection, now);
  wakeSenders(connection, now);
  connection.reschedule();
}

/** Opens a further subflow with MP_JOIN. Null when it is not allowed or there is no route. */
export function openJoin(
  connection: Connection,
  local: Uint8Array,
  localId: number,
  remote: Uint8Array,
  remotePort: number,
  remoteId: number,
  backup: boolean,
  now: number,
): Subflow | null {
  const { host } = connection;
  if (connection.mode !== MODE.mptcp || connection.phase !== PHASE.open || connection.remote === null || !connection.confirmed) return null;
  if (connection.subflows.length > host.mptcp.maxSubflows || local.length !== remote.length) return null;
  const subflow = new Subflow(connection, connection.nextSubflowId++, true, true, localId, remoteId, backup);
  const tcb = host.attachSubflow(subflow, local, 0, remote, remotePort, now);
  if (tcb === null) return null;
  subflow.localNonce = host.random32();
  connection.subflows.push(subflow);
  announceCreated(subflow, now);
  openActive(tcb, now);
  return subflow;
}

/** The parts of a join SYN that the host needs to find its connection. */
export function findJoinSyn(segment: Segment): MpJoinSyn | null {
  return find<MpJoinSyn>(segment, 'join-syn');
}

/** MP_CAPABLE of a segment, with the checks that make it count (RFC 8684 §3.1: flag B, crypto bits). */
export function findCapable(segment: Segment): MpCapable | null {
  const option = find<MpCapable>(segment, 'capable');
  if (option === null || (option.flags & CAPABLE_FLAG.extensibility) !== 0) return null;
  return option;
}

export function announceCreated(subflow: Subflow, now: number): void {
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

function find<T extends MptcpOption>(segment: Segment, subtype: T['subtype']): T | null {
  for (let i = 0; i < segment.otherMptcpCount; i++) {
    const at = segment.otherMptcp[i]!;
    const option = parseMptcpOption(segment.view, at, segment.view.getUint8(at + 1));
    if (!isMalformed(option) && option.subtype === subtype) return option as T;
  }
  return null;
}
