/** Segments that belong to no connection: SYNs to listeners, joins by token, cookies, refusals (RFC 9293 §3.10.7.1, §3.10.7.2; RFC 8684 §3.1, §3.2). */
import { CAPABLE_FLAG, FLAG, formatEndpoint, RESET_REASON, sameAddress } from '@subflow/wire';
import type { MpCapable, MpJoinSyn, MptcpOption, Segment } from '@subflow/wire';
import { Connection, MODE } from '../mptcp/connection.ts';
import { announceCreated, capableOptions, findJoinAck, findJoinSyn, isExtended } from '../mptcp/handshake.ts';
import { joinHmac, keyMaterial } from '../mptcp/keys.ts';
import { Subflow } from '../mptcp/subflow.ts';
import { chooseVersion, isThirdAck, versionOf } from '../mptcp/version.ts';
import type { MptcpVersion } from '../mptcp/version.ts';
import { fastOpenCookie, makeFastOpenCookie } from '../tcp/fast-open.ts';
import { openFromCookie, openPassive } from '../tcp/state-machine.ts';
import { STATE } from '../tcp/state.ts';
import { checkCookie, makeCookie } from '../tcp/syn-cookie.ts';
import { tupleHash } from '../tcp/isn.ts';
import { windowShift } from '../tcp/window.ts';
import { cookieKey, cookieOptions, cookieTimestamp } from './cookies.ts';
import type { Host } from './host.ts';
import type { Listener } from './listeners.ts';
import type { Interface } from './interface.ts';
import { bareResponse, cookieSynAck } from './stateless.ts';

/** How long after a cookie data without a connection is only dropped, microseconds. */
const COOKIE_PATIENCE = 64_000_000;

/** A segment that belongs to no connection. */
export function withoutConnection(host: Host, through: Interface, segment: Segment, now: number): void {
  const local = addressOf(segment, false);
  if (!host.interfaces.some((own) => own.addresses.some((known) => sameAddress(known.address, local)))) {
    host.drop(through, 'ip-not-for-us', now);
    return;
  }
  if ((segment.flags & FLAG.rst) !== 0) {
    host.drop(through, 'tcp-reset-without-connection', now);
    return;
  }
  const isSyn = (segment.flags & (FLAG.syn | FLAG.ack)) === FLAG.syn;
  const join = isSyn ? findJoinSyn(segment) : null;
  // A listener without Multipath TCP knows no option: the SYN is an ordinary one to it.
  const plain = join !== null && host.listenerFor(local, segment.destinationPort)?.multipath === false;
  if (join !== null && !plain && capableOptions(segment).length === 0 && host.mptcp.enabled) {
    acceptJoin(host, through, segment, local, join, now);
    return;
  }
  if (!isSyn && (segment.flags & FLAG.ack) !== 0 && host.joinTable.size > 0 && acceptJoinCookie(host, through, segment, local, now)) return;
  const listener = host.listenerFor(local, segment.destinationPort);
  if (listener === null) refuse(host, through, segment, 'tcp-no-listener', -1, now);
  else if (isSyn) acceptSyn(host, through, segment, local, listener, now);
  else acceptCookie(host, through, segment, local, listener, now);
}

function acceptSyn(host: Host, through: Interface, segment: Segment, local: Uint8Array, listener: Listener, now: number): void {
  const remote = addressOf(segment, true);
  const options = listener.multipath ? capableOptions(segment) : [];
  if (options.length > 0) host.mib('MPCapableSYNRX');
  if (isExtended(segment) && host.mptcp.acceptVersions.every((one) => versionOf(one).dropsExtendedSyn)) {
    host.drop(through, 'mptcp-extended-syn', now);
    return;
  }
  // Not with a join option beside it (RFC 8684 §3.1).
  const chosen = findJoinSyn(segment) === null ? chooseVersion(options, host.mptcp.acceptVersions) : null;
  if (host.mptcp.synCookies === 'always' || (host.mptcp.synCookies === 'when-full' && listener.pending >= listener.backlog)) {
    answerWithCookie(host, through, segment, local, remote, chosen, now);
    return;
  }
  if (listener.pending >= listener.backlog) {
    host.drop(through, 'tcp-backlog-full', now);
    return;
  }
  const connection = passiveConnection(host, listener, segment, remote, chosen?.version ?? null, null);
  if (chosen !== null && connection.mode === MODE.mptcp) takeOffer(connection, chosen.option);
  const subflow = new Subflow(connection, connection.nextSubflowId++, false, false, 0, 0, false);
  const tcb = host.makeTcb(subflow, through, local, segment.destinationPort, remote, segment.sourcePort, now);
  connection.subflows.push(subflow);
  listener.pending++;
  announcePassive(host, connection, subflow, now);
  const wanted = listener.fastOpen ? fastOpenCookie(segment) : null;
  const cookie = wanted === null ? null : makeFastOpenCookie(host.secret, local, remote);
  const valid = cookie !== null && wanted!.length === cookie.length && wanted!.every((byte, i) => byte === cookie[i]);
  // A valid cookie is not sent again (RFC 7413 §4.2.2).
  if (cookie !== null && !valid) tcb.fastOpen = { cookie, sent: 0 };
  openPassive(tcb, segment, now);
  if (tcb.state === STATE.closed) return;
  if (valid && segment.payloadLength > 0) {
    subflow.fastOpenReceived(segment.bytes.slice(segment.payloadOffset, segment.payloadOffset + segment.payloadLength));
    tcb.rcvNxt = 1 + segment.payloadLength;
  }
  host.reschedule(tcb);
}

/** What the initiator's MP_CAPABLE says. */
function takeOffer(connection: Connection, option: MpCapable): void {
  if ((option.flags & CAPABLE_FLAG.checksum) !== 0) connection.checksum = true;
  connection.peerDeniesJoin = connection.version.deniesInitialAddress && (option.flags & CAPABLE_FLAG.noJoin) !== 0;
  if (connection.version.keyInSyn) connection.remote = keyMaterial(option.senderKey!.high, option.senderKey!.low, connection.version);
}

/** Answers a SYN without keeping anything of it. */
function answerWithCookie(
  host: Host,
  through: Interface,
  segment: Segment,
  local: Uint8Array,
  remote: Uint8Array,
  chosen: { version: MptcpVersion; option: MpCapable } | null,
  now: number,
): void {
  host.count('tcp-syn-cookie-sent');
  host.cookieSentAt = now;
  const isn = cookieIsn(host, segment, local, remote, now);
  let mptcp: MptcpOption | null = null;
  // A key made from the cookie would name another server: under a flood it is plain TCP then.
  if (chosen !== null && host.mptcp.serverId === 0) {
    const [high, low] = cookieKey(host.secret, local, segment.destinationPort, remote, segment.sourcePort, isn);
    const flags = CAPABLE_FLAG.sha256 | (host.mptcp.checksum || (chosen.option.flags & CAPABLE_FLAG.checksum) !== 0 ? CAPABLE_FLAG.checksum : 0);
    const deny = chosen.version.deniesInitialAddress && host.mptcp.denyJoinInitial ? CAPABLE_FLAG.noJoin : 0;
    mptcp = {
      subtype: 'capable',
      version: chosen.version.number,
      flags: flags | deny,
      senderKey: { high, low },
      receiverKey: null,
      dataLength: null,
      checksum: null,
    };
  }
  sendCookie(host, through, segment, isn, local, remote, mptcp, now);
}

function cookieIsn(host: Host, segment: Segment, local: Uint8Array, remote: Uint8Array, now: number): number {
  const mss = segment.mss > 0 ? segment.mss : 536;
  return makeCookie(host.secret, local, segment.destinationPort, remote, segment.sourcePort, segment.seq, mss, now);
}

function sendCookie(
  host: Host,
  through: Interface,
  segment: Segment,
  isn: number,
  local: Uint8Array,
  remote: Uint8Array,
  mptcp: MptcpOption | null,
  now: number,
): void {
  const clock = (Math.floor(now / 1000) + tupleHash(host.secret, local, 0, remote, 0, 1)) | 0;
  const timestamp = host.tcp.timestamps && segment.hasTimestamps ? cookieTimestamp(segment, clock, host.mptcp.serverId) : null;
  const scale = windowShift(host.tcp.maxReceiveBuffer);
  host.sendRaw(through, cookieSynAck(segment, isn, through.mtu - (segment.ipVersion === 4 ? 40 : 60), scale, timestamp, mptcp));
}

/** The MSS index of a valid cookie in the acknowledgement number, or -1. */
function cookieOf(host: Host, segment: Segment, local: Uint8Array, remote: Uint8Array, now: number): number {
  if ((segment.flags & FLAG.ack) === 0) return -1;
  const isn = (segment.ack - 1) | 0;
  return checkCookie(host.secret, local, segment.destinationPort, remote, segment.sourcePort, (segment.seq - 1) | 0, isn, now);
}

/** An ACK to a listener: the third of a handshake that was answered with a cookie, or nothing of ours. */
function acceptCookie(host: Host, through: Interface, segment: Segment, local: Uint8Array, listener: Listener, now: number): void {
  const remote = addressOf(segment, true);
  const mss = cookieOf(host, segment, local, remote, now);
  if (mss < 0) {
    // What overtook the ACK with the cookie must not be answered with a reset: the ACK, or the first data, is still to come.
    if (now - host.cookieSentAt < COOKIE_PATIENCE) host.drop(through, 'tcp-before-cookie', now);
    else refuse(host, through, segment, 'tcp-no-connection', -1, now);
    return;
  }
  host.count('tcp-syn-cookie-accepted');
  const isn = (segment.ack - 1) | 0;
  // The keys come back in the third ACK, or with the first data that stands for it.
  const third = listener.multipath
    ? capableOptions(segment).find((one) => one.version <= 1 && isThirdAck(versionOf(one.version === 0 ? 0 : 1), one))
    : undefined;
  const [high, low] = cookieKey(host.secret, local, segment.destinationPort, remote, segment.sourcePort, isn);
  const ours = third !== undefined && (third.receiverKey!.high | 0) === high && (third.receiverKey!.low | 0) === low;
  const connection = passiveConnection(host, listener, segment, remote, ours ? versionOf(third.version === 0 ? 0 : 1) : null, ours ? [high, low] : null);
  if (ours && connection.mode === MODE.mptcp) takeOffer(connection, third);
  const subflow = new Subflow(connection, connection.nextSubflowId++, false, false, 0, 0, false);
  const tcb = host.makeTcb(subflow, through, local, segment.destinationPort, remote, segment.sourcePort, now, isn);
  connection.subflows.push(subflow);
  listener.pending++;
  announcePassive(host, connection, subflow, now);
  openFromCookie(tcb, segment, cookieOptions(segment, mss, host.mptcp.serverId), now);
  if (tcb.state !== STATE.closed) host.reschedule(tcb);
}

/** A SYN with MP_JOIN (RFC 8684 §3.2). */
function acceptJoin(host: Host, through: Interface, segment: Segment, local: Uint8Array, join: MpJoinSyn, now: number): void {
  host.mib('MPJoinSynRx');
  if ((join.flags & 1) !== 0) host.mib('MPJoinSynBackupRx');
  const connection = host.connectionOfToken(join.token | 0);
  if (connection === undefined || connection.mode !== MODE.mptcp || connection.remote === null) {
    host.mib('MPJoinNoTokenFound');
    refuse(host, through, segment, 'mptcp-join-token', RESET_REASON.mptcp, now);
    return;
  }
  const port = segment.destinationPort;
  if (port !== connection.initialLocalPort) host.mib('MPJoinPortSynRx');
  if (!takesJoins(host, connection, local, port)) {
    host.mib('MismatchPortSynRx');
    refuse(host, through, segment, 'mptcp-join-port', -1, now);
    return;
  }
  const remote = addressOf(segment, true);
  const established = connection.subflows.filter((one) => one.established).length;
  if (!connection.open || established > host.limits.subflows) {
    host.mib('MPJoinRejected');
    refuse(host, through, segment, 'mptcp-join-limit', RESET_REASON.prohibited, now);
    return;
  }
  // Half-open joins must not take the places of good ones: beyond a few, the handshake goes on from a cookie.
  const pending = connection.subflows.length - established;
  if (pending >= host.mptcp.pendingJoins || established + pending > host.limits.subflows) {
    if (host.mptcp.synCookies === 'never') {
      host.mib('MPJoinRejected');
      refuse(host, through, segment, 'mptcp-join-limit', RESET_REASON.resources, now);
      return;
    }
    host.count('mptcp-join-cookie-sent');
    const localNonce = host.random32();
    host.joinTable.remember(local, port, remote, segment.sourcePort, {
      token: join.token | 0,
      remoteNonce: join.nonce | 0,
      localNonce,
      remoteId: join.addressId,
      backup: (join.flags & 1) !== 0,
    });
    const hmac = joinHmac(connection.local!, connection.remote, localNonce, join.nonce | 0, connection.version).subarray(0, 8);
    const option: MptcpOption = { subtype: 'join-synack', flags: 0, addressId: idOfJoined(host, connection, local), hmac, nonce: localNonce >>> 0 };
    sendCookie(host, through, segment, cookieIsn(host, segment, local, remote, now), local, remote, option, now);
    return;
  }
  const subflow = joinedSubflow(host, connection, local, { ...join, remoteNonce: join.nonce | 0, localNonce: host.random32(), backup: (join.flags & 1) !== 0 });
  const tcb = host.makeTcb(subflow, through, local, port, remote, segment.sourcePort, now);
  connection.subflows.push(subflow);
  announceCreated(subflow, now);
  openPassive(tcb, segment, now);
  host.reschedule(tcb);
}

/** The third ACK of a join that was answered with a cookie. Returns false when it is none. */
function acceptJoinCookie(host: Host, through: Interface, segment: Segment, local: Uint8Array, now: number): boolean {
  if (findJoinAck(segment) === null) return false;
  const remote = addressOf(segment, true);
  const mss = cookieOf(host, segment, local, remote, now);
  if (mss < 0) return false;
  const pending = host.joinTable.take(local, segment.destinationPort, remote, segment.sourcePort);
  const connection = pending === null ? undefined : host.connectionOfToken(pending.token);
  if (pending === null || connection === undefined || !connection.open || connection.remote === null) {
    refuse(host, through, segment, 'mptcp-join-token', RESET_REASON.mptcp, now);
    return true;
  }
  if (connection.subflows.filter((one) => one.established).length > host.limits.subflows) {
    host.mib('MPJoinRejected');
    refuse(host, through, segment, 'mptcp-join-limit', RESET_REASON.prohibited, now);
    return true;
  }
  const subflow = joinedSubflow(host, connection, local, { ...pending, addressId: pending.remoteId });
  const tcb = host.makeTcb(subflow, through, local, segment.destinationPort, remote, segment.sourcePort, now, (segment.ack - 1) | 0);
  connection.subflows.push(subflow);
  announceCreated(subflow, now);
  openFromCookie(tcb, segment, cookieOptions(segment, mss, host.mptcp.serverId), now);
  if (tcb.state !== STATE.closed) host.reschedule(tcb);
  return true;
}

function joinedSubflow(
  host: Host,
  connection: Connection,
  local: Uint8Array,
  join: { addressId: number; remoteNonce: number; localNonce: number; backup: boolean },
): Subflow {
  const subflow = new Subflow(connection, connection.nextSubflowId++, false, true, idOfJoined(host, connection, local), join.addressId, false);
  subflow.remoteBackup = join.backup;
  subflow.remoteNonce = join.remoteNonce;
  subflow.localNonce = join.localNonce;
  subflow.hmac = joinHmac(connection.local!, connection.remote!, subflow.localNonce, subflow.remoteNonce, connection.version);
  return subflow;
}

/** Whether joins may come to this port: one of ours in this connection, an announced one, or a listener's (RFC 8684 §3.2). */
function takesJoins(host: Host, connection: Connection, local: Uint8Array, port: number): boolean {
  if (port === connection.initialLocalPort || connection.subflows.some((one) => one.tcb.localPort === port)) return true;
  if (host.endpoints.some((one) => one.signal && one.port === port && sameAddress(one.address, local))) return true;
  if (connection.announcedPorts?.has(port)) return true;
  return host.listenerFor(local, port) !== null;
}

/** Our id for the address a join came to: that of the initial subflow is 0 (RFC 8684 §3.2). */
function idOfJoined(host: Host, connection: Connection, local: Uint8Array): number {
  return connection.initialLocal !== null && sameAddress(connection.initialLocal, local) ? 0 : host.addressIdOf(local);
}

function passiveConnection(
  host: Host,
  listener: Listener,
  segment: Segment,
  remote: Uint8Array,
  version: MptcpVersion | null,
  key: [number, number] | null,
): Connection {
  const connection = new Connection(host, host.nextConnection(), false, listener.id, segment.destinationPort, remote, segment.sourcePort, version !== null);
  connection.initialLocal = addressOf(segment, false);
  connection.configure(listener.settings, 0);
  if (version !== null) {
    connection.version = version;
    connection.local = key === null ? host.freshKey(connection) : host.claimKey(connection, key[0], key[1]);
    if (connection.local === null) connection.mode = MODE.tcp;
  }
  if (connection.mode === MODE.tcp) connection.fallbackReason = listener.multipath ? 'peer-not-capable' : 'disabled';
  host.connections.set(connection.id, connection);
  return connection;
}

function announcePassive(host: Host, connection: Connection, subflow: Subflow, now: number): void {
  const { tcb } = subflow;
  host.emit({
    type: 'connection-created',
    time: now,
    connection: connection.id,
    local: formatEndpoint(tcb.local, tcb.localPort),
    remote: formatEndpoint(tcb.remote, tcb.remotePort),
    active: false,
  });
  announceCreated(subflow, now);
}

/** RST for a segment without a connection, with MP_TCPRST when `reason` is not negative (RFC 8684 §3.2, §3.6). */
function refuse(host: Host, through: Interface, segment: Segment, counter: string, reason: number, now: number): void {
  host.drop(through, counter, now);
  if (reason >= 0) host.mib('MPRstTx');
  host.sendRaw(through, bareResponse(segment, reason));
}

/** Source or destination address of a segment, copied. */
export function addressOf(segment: Segment, source: boolean): Uint8Array {
  const at = segment.ipOffset + (segment.ipVersion === 4 ? (source ? 12 : 16) : source ? 8 : 24);
  return segment.bytes.slice(at, at + (segment.ipVersion === 4 ? 4 : 16));
}
