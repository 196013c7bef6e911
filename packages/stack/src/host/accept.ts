/** Segments that belong to no connection: SYNs to listeners, joins by token, cookies, refusals (RFC 9293 §3.10.7.1, §3.10.7.2; RFC 8684 §3.1, §3.2). */
import { CAPABLE_FLAG, FLAG, formatEndpoint, RESET_REASON, sameAddress } from '@subflow/wire';
import type { MpCapable, MpJoinSyn, MptcpOption, Segment } from '@subflow/wire';
import { endsOf, isUnicast } from '../ends.ts';
import type { Ends } from '../ends.ts';
import { cookieKey, cookieOptions, cookieTimestamp } from './cookies.ts';
import type { HostCore, TcbOrigin } from './core.ts';
import type { Listener } from './listeners.ts';
import { bareResponse, cookieSynAck } from './stateless.ts';
import { sequenceBeyond } from './time-wait.ts';
import type { TimeWait } from './time-wait.ts';
import type { Interface } from '../interface.ts';
import { Connection } from '../mptcp/connection.ts';
import { announceCreated } from '../mptcp/handshake.ts';
import { JoinHmac, keyMaterial, sameBytes } from '../mptcp/keys.ts';
import { capableOptions, findJoinAck, findJoinSyn, isExtended } from '../mptcp/options.ts';
import { hasKeys, MODE } from '../mptcp/state.ts';
import type { ConnectionState, KeyedConnection, SubflowOrigin, SubflowState } from '../mptcp/state.ts';
import type { Subflow } from '../mptcp/subflow.ts';
import { chooseVersion, isThirdAck, versionOf } from '../mptcp/version.ts';
import type { MptcpVersion, Offer, ThirdAck } from '../mptcp/version.ts';
import { fastOpenCookie, makeFastOpenCookie } from '../tcp/fast-open.ts';
import { initialSequence, timestampOffset } from '../tcp/isn.ts';
import { openFromCookie, openPassive } from '../tcp/state-machine.ts';
import { STATE } from '../tcp/state.ts';
import { checkCookie, COOKIE_LIFETIME, makeCookie } from '../tcp/syn-cookie.ts';
import { windowShift } from '../tcp/window.ts';

/** How long after a cookie data without a connection is only dropped, microseconds. */
const COOKIE_PATIENCE = 64_000_000;

/** A segment without a connection, and where it came from. */
interface Arrival {
  readonly through: Interface;
  readonly segment: Segment;
  readonly ends: Ends;
  readonly now: number;
  /** The connection in TIME-WAIT whose tuple it takes over. */
  readonly before: TimeWait | null;
}

/** How the first subflow of a passive connection comes to be. */
const INITIAL_PASSIVE: SubflowOrigin = { active: false, joining: false, localId: 0, remoteId: 0, backup: false };

/** A segment that belongs to no connection, or takes the tuple of one in TIME-WAIT over. */
export function withoutConnection(host: HostCore, through: Interface, segment: Segment, now: number, before: TimeWait | null = null): void {
  const ends = endsOf(segment);
  const local = host.ownAddress(ends.local);
  if (local === null) {
    host.drop(through, 'ip-not-for-us', now);
    return;
  }
  if (!isUnicast(ends.remote)) {
    host.drop(through, 'ip-source-not-unicast', now);
    return;
  }
  const arrival: Arrival = { through, segment, ends: { ...ends, local }, now, before };
  const { localPort } = ends;
  if ((segment.flags & FLAG.rst) !== 0) {
    host.drop(through, 'tcp-reset-without-connection', now);
    return;
  }
  const isSyn = (segment.flags & (FLAG.syn | FLAG.ack)) === FLAG.syn;
  const listener = host.listeners.find(local, localPort);
  const join = isSyn ? findJoinSyn(segment) : null;
  // A listener without Multipath TCP knows no option: the SYN is an ordinary one to it.
  const plain = join !== null && listener?.multipath === false;
  if (join !== null && !plain && capableOptions(segment).length === 0 && host.mptcp.enabled) acceptJoin(host, arrival, join);
  else if (listener !== null && isSyn) acceptSyn(host, arrival, listener);
  // A SYN+ACK answers nothing of ours, whatever it acknowledges (RFC 9293 §3.10.7.2).
  else if ((segment.flags & FLAG.syn) !== 0) refuse(host, arrival, listener === null ? 'tcp-no-listener' : 'tcp-no-connection');
  else if ((segment.flags & FLAG.ack) !== 0 && host.joinTable.size > 0 && acceptJoinCookie(host, arrival)) return;
  else if (listener === null) refuse(host, arrival, 'tcp-no-listener');
  else acceptCookie(host, arrival, listener);
}

function acceptSyn(host: HostCore, arrival: Arrival, listener: Listener): void {
  const { segment, now, through, ends } = arrival;
  const options = listener.multipath ? capableOptions(segment) : [];
  if (options.length > 0) host.mib('MPCapableSYNRX');
  if (isExtended(segment) && host.mptcp.acceptVersions.every((one) => versionOf(one).dropsExtendedSyn)) {
    host.drop(through, 'mptcp-extended-syn', now);
    return;
  }
  // Not with a join option beside it (RFC 8684 §3.1).
  const chosen = findJoinSyn(segment) === null ? chooseVersion(options, host.mptcp.acceptVersions) : null;
  if (host.mptcp.synCookies === 'always' || (host.mptcp.synCookies === 'when-full' && listener.pending >= listener.backlog)) {
    answerWithCookie(host, arrival, chosen);
    return;
  }
  if (listener.pending >= listener.backlog) {
    host.drop(through, 'tcp-backlog-full', now);
    return;
  }
  const connection = passiveConnection(host, listener, ends, chosen?.version ?? null, null);
  if (chosen !== null && connection.mode === MODE.mptcp) takeOffer(connection, chosen.option);
  const from: TcbOrigin = { interface: through, ends };
  const { before } = arrival;
  const origin = before === null ? from : { ...from, iss: sequenceBeyond(before, initialSequence(host.secret, ends, now)) };
  const subflow = host.makeSubflow(connection, INITIAL_PASSIVE, origin, now);
  const { tcb } = subflow;
  connection.addSubflow(subflow);
  listener.pending++;
  announcePassive(host, connection, subflow, now);
  const wanted = listener.fastOpen ? fastOpenCookie(segment) : null;
  const cookie = wanted === null ? null : makeFastOpenCookie(host.secret, ends.local, ends.remote);
  const valid = cookie !== null && sameBytes(wanted!, cookie);
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
function takeOffer(connection: ConnectionState, option: MpCapable): void {
  if ((option.flags & CAPABLE_FLAG.checksum) !== 0) connection.checksum = true;
  connection.peerDeniesJoin = connection.version.deniesInitialAddress && (option.flags & CAPABLE_FLAG.noJoin) !== 0;
  const { senderKey } = option;
  if (connection.version.keyInSyn && senderKey !== null) connection.remote = keyMaterial(senderKey.high, senderKey.low, connection.version);
}

/** Answers a SYN without keeping anything of it. */
function answerWithCookie(host: HostCore, arrival: Arrival, chosen: Offer | null): void {
  host.count('tcp-syn-cookie-sent');
  const isn = cookieIsn(host, arrival);
  let mptcp: MptcpOption | null = null;
  // A key made from the cookie would name another server: under a flood it is plain TCP then.
  if (chosen !== null && host.mptcp.serverId === 0) {
    const [high, low] = cookieKey(host.secret, arrival.ends, isn);
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
  sendCookie(host, arrival, isn, mptcp);
}

function cookieIsn(host: HostCore, { segment, ends, now }: Arrival): number {
  return makeCookie(host.secret, ends, segment.seq, segment.mss > 0 ? segment.mss : 536, now);
}

function sendCookie(host: HostCore, { through, segment, ends, now }: Arrival, isn: number, mptcp: MptcpOption | null): void {
  host.cookieSentAt = now;
  const clock = (Math.floor(now / 1000) + timestampOffset(host.secret, ends)) | 0;
  const timestamp = host.tcp.timestamps && segment.hasTimestamps ? cookieTimestamp(segment, clock, host.mptcp.serverId) : null;
  const mss = through.mtu - (segment.ipVersion === 4 ? 40 : 60);
  host.sendRaw(through, cookieSynAck(segment, { isn, mss, scale: windowShift(host.tcp.maxReceiveBuffer), timestamp, mptcp }));
}

/** The MSS of a valid cookie in the acknowledgement number, or -1. Only while cookies may be out: at other times nobody is to guess at them. */
function cookieOf(host: HostCore, { segment, ends, now }: Arrival): number {
  if ((segment.flags & FLAG.ack) === 0 || now - host.cookieSentAt > COOKIE_LIFETIME) return -1;
  return checkCookie(host.secret, ends, (segment.seq - 1) | 0, (segment.ack - 1) | 0, now);
}

/** An ACK to a listener: the third of a handshake that was answered with a cookie, or nothing of ours. */
function acceptCookie(host: HostCore, arrival: Arrival, listener: Listener): void {
  const { segment, now, through, ends } = arrival;
  const mss = cookieOf(host, arrival);
  if (mss < 0) {
    // What overtook the ACK with the cookie must not be answered with a reset: the ACK, or the first data, is still to come.
    if (now - host.cookieSentAt < COOKIE_PATIENCE) host.drop(through, 'tcp-before-cookie', now);
    else refuse(host, arrival, 'tcp-no-connection');
    return;
  }
  host.count('tcp-syn-cookie-accepted');
  const isn = (segment.ack - 1) | 0;
  // The keys come back in the third ACK, or with the first data that stands for it.
  const third = listener.multipath
    ? capableOptions(segment).find((one): one is ThirdAck => one.version <= 1 && isThirdAck(versionOf(one.version === 0 ? 0 : 1), one))
    : undefined;
  const [high, low] = cookieKey(host.secret, ends, isn);
  const ours = third !== undefined && (third.receiverKey.high | 0) === high && (third.receiverKey.low | 0) === low;
  const connection = passiveConnection(host, listener, ends, ours ? versionOf(third.version === 0 ? 0 : 1) : null, ours ? [high, low] : null);
  if (ours && connection.mode === MODE.mptcp) takeOffer(connection, third);
  const subflow = host.makeSubflow(connection, INITIAL_PASSIVE, { interface: through, ends, iss: isn }, now);
  const { tcb } = subflow;
  connection.addSubflow(subflow);
  listener.pending++;
  announcePassive(host, connection, subflow, now);
  openFromCookie(tcb, segment, cookieOptions(segment, mss, host.mptcp.serverId), now);
  if (tcb.state !== STATE.closed) host.reschedule(tcb);
}

/** A SYN with MP_JOIN (RFC 8684 §3.2). */
function acceptJoin(host: HostCore, arrival: Arrival, join: MpJoinSyn): void {
  const { segment, now, ends } = arrival;
  const { local, localPort } = ends;
  host.mib('MPJoinSynRx');
  if ((join.flags & 1) !== 0) host.mib('MPJoinSynBackupRx');
  const connection = host.tokens.find(join.token | 0);
  if (connection === undefined || connection.mode !== MODE.mptcp || !hasKeys(connection)) {
    host.mib('MPJoinNoTokenFound');
    refuse(host, arrival, 'mptcp-join-token', RESET_REASON.mptcp);
    return;
  }
  if (localPort !== connection.initialLocalPort) host.mib('MPJoinPortSynRx');
  if (!takesJoins(host, connection, local, localPort)) {
    host.mib('MismatchPortSynRx');
    refuse(host, arrival, 'mptcp-join-port');
    return;
  }
  const established = connection.subflows.filter((one) => one.established).length;
  if (!connection.open || established > host.limits.subflows) {
    host.mib('MPJoinRejected');
    refuse(host, arrival, 'mptcp-join-limit', RESET_REASON.prohibited);
    return;
  }
  // Half-open joins must not take the places of good ones: beyond a few, the handshake goes on from a cookie.
  const pending = connection.subflows.length - established;
  if (pending >= host.mptcp.pendingJoins || established + pending > host.limits.subflows) {
    if (host.mptcp.synCookies === 'never') {
      host.mib('MPJoinRejected');
      refuse(host, arrival, 'mptcp-join-limit', RESET_REASON.resources);
      return;
    }
    host.count('mptcp-join-cookie-sent');
    const localNonce = host.random32();
    const backup = (join.flags & 1) !== 0;
    host.joinTable.remember(ends, { token: join.token | 0, remoteNonce: join.nonce | 0, localNonce, remoteId: join.addressId, backup });
    const hmac = answerHmac(connection, localNonce, join.nonce | 0).subarray(0, 8);
    const option: MptcpOption = { subtype: 'join-synack', flags: 0, addressId: idOfJoined(host, connection, local), hmac, nonce: localNonce >>> 0 };
    sendCookie(host, arrival, cookieIsn(host, arrival), option);
    return;
  }
  const subflow = joinedSubflow(host, connection, arrival, {
    addressId: join.addressId,
    remoteNonce: join.nonce | 0,
    localNonce: host.random32(),
    backup: (join.flags & 1) !== 0,
  });
  announceCreated(subflow, now);
  openPassive(subflow.tcb, segment, now);
  host.reschedule(subflow.tcb);
}

/** The third ACK of a join that was answered with a cookie. Returns false when it is none. */
function acceptJoinCookie(host: HostCore, arrival: Arrival): boolean {
  const { segment, now } = arrival;
  if (findJoinAck(segment) === null) return false;
  const mss = cookieOf(host, arrival);
  if (mss < 0) return false;
  const pending = host.joinTable.take(arrival.ends);
  const connection = pending === null ? undefined : host.tokens.find(pending.token);
  if (pending === null || connection === undefined || !connection.open || !hasKeys(connection)) {
    refuse(host, arrival, 'mptcp-join-token', RESET_REASON.mptcp);
    return true;
  }
  if (connection.subflows.filter((one) => one.established).length > host.limits.subflows) {
    host.mib('MPJoinRejected');
    refuse(host, arrival, 'mptcp-join-limit', RESET_REASON.prohibited);
    return true;
  }
  const subflow = joinedSubflow(host, connection, arrival, { ...pending, addressId: pending.remoteId, iss: (segment.ack - 1) | 0 });
  announceCreated(subflow, now);
  openFromCookie(subflow.tcb, segment, cookieOptions(segment, mss, host.mptcp.serverId), now);
  if (subflow.tcb.state !== STATE.closed) host.reschedule(subflow.tcb);
  return true;
}

function joinedSubflow(
  host: HostCore,
  connection: Connection & KeyedConnection,
  { through, ends, now }: Arrival,
  join: { addressId: number; remoteNonce: number; localNonce: number; backup: boolean; iss?: number },
): Subflow {
  const origin = { active: false, joining: true, localId: idOfJoined(host, connection, ends.local), remoteId: join.addressId, backup: false };
  const from = join.iss === undefined ? { interface: through, ends } : { interface: through, ends, iss: join.iss };
  const subflow = host.makeSubflow(connection, origin, from, now);
  subflow.remoteBackup = join.backup;
  subflow.remoteNonce = join.remoteNonce;
  subflow.localNonce = join.localNonce;
  subflow.hmac = answerHmac(connection, subflow.localNonce, subflow.remoteNonce);
  connection.addSubflow(subflow);
  return subflow;
}

/** Our HMAC of a SYN+ACK with MP_JOIN (RFC 8684 §3.2). */
function answerHmac(connection: KeyedConnection, localNonce: number, remoteNonce: number): Uint8Array {
  return (connection.joinAnswers ??= new JoinHmac(connection.local, connection.remote, connection.version)).of(localNonce, remoteNonce);
}

/** Whether joins may come to this port: one of ours in this connection, an announced one, or a listener's (RFC 8684 §3.2). */
function takesJoins(host: HostCore, connection: ConnectionState, local: Uint8Array, port: number): boolean {
  if (port === connection.initialLocalPort || connection.subflows.some((one) => one.tcb.localPort === port)) return true;
  if (host.endpoints.some((one) => one.signal && one.port === port && sameAddress(one.address, local))) return true;
  if (connection.announcedPorts?.has(port)) return true;
  return host.listeners.find(local, port) !== null;
}

/** Our id for the address a join came to: that of the initial subflow is 0 (RFC 8684 §3.2). */
function idOfJoined(host: HostCore, connection: ConnectionState, local: Uint8Array): number {
  return connection.initialLocal !== null && sameAddress(connection.initialLocal, local) ? 0 : host.addressIdOf(local);
}

function passiveConnection(host: HostCore, listener: Listener, ends: Ends, version: MptcpVersion | null, key: [number, number] | null): Connection {
  const connection = new Connection(host, {
    id: host.nextConnection(),
    active: false,
    listener: listener.id,
    localPort: ends.localPort,
    remoteAddress: ends.remote,
    remotePort: ends.remotePort,
    multipath: version !== null,
  });
  connection.initialLocal = ends.local;
  connection.configure(listener.settings, 0);
  if (version !== null) {
    connection.version = version;
    connection.local = key === null ? host.freshKey(connection) : host.tokens.claim(connection, key[0], key[1]);
    if (connection.local === null) connection.mode = MODE.tcp;
  }
  if (connection.mode === MODE.tcp) connection.fallbackReason = listener.multipath ? 'peer-not-capable' : 'disabled';
  host.connections.set(connection.id, connection);
  return connection;
}

function announcePassive(host: HostCore, connection: ConnectionState, subflow: SubflowState, now: number): void {
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

/** RST for a segment without a connection, with MP_TCPRST when a reason is given (RFC 8684 §3.2, §3.6). */
function refuse(host: HostCore, { through, segment, now }: Arrival, counter: string, reason: number | null = null): void {
  host.drop(through, counter, now);
  if (reason !== null) host.mib('MPRstTx');
  host.sendRaw(through, bareResponse(segment, reason));
}
