/** The Multipath TCP options of outgoing segments. */
import { CAPABLE_FLAG, DSS_FLAG, dssPseudoHeader, emitMptcpOption, finish, mptcpOptionLength, writeDss } from '@subflow/wire';
import type { MptcpOption } from '@subflow/wire';
import { announcementDue, takeAnnouncement } from './address.ts';
import { dsnHigh, dsnLow } from './data-sequence.ts';
import { addAddressHmac } from './keys.ts';
import { Mapping } from './mapping.ts';
import { MODE } from './state.ts';
import type { ConnectionState, SubflowState } from './state.ts';
import type { SendRecord } from '../tcp/record.ts';
import { SEGMENT_KIND } from '../tcp/user.ts';

/** Writes what belongs on a segment of this kind; returns the bytes written, a multiple of four, at most `room`. */
export function writeSegmentOptions(
  subflow: SubflowState,
  kind: number,
  record: SendRecord | null,
  position: number,
  _length: number,
  view: DataView,
  at: number,
  room: number,
  now: number,
): number {
  const { connection } = subflow;
  if (connection.mode === MODE.tcp) {
    if (subflow.failPending && kind === SEGMENT_KIND.ack && room >= 12) return writeFail(subflow, view, at);
    if (subflow.infinitePending) return writeInfinite(subflow, kind, position, view, at, room);
    return 0;
  }
  switch (kind) {
    case SEGMENT_KIND.syn:
    case SEGMENT_KIND.synAck:
      return writeSyn(subflow, kind === SEGMENT_KIND.synAck, view, at, room);
    case SEGMENT_KIND.reset:
      return writeReset(subflow, view, at, room);
    case SEGMENT_KIND.data:
      return record === null ? 0 : writeData(subflow, record, view, at);
    default:
      return writeAck(subflow, view, at, room, now);
  }
}

function writeSyn(subflow: SubflowState, answer: boolean, view: DataView, at: number, room: number): number {
  const { connection } = subflow;
  if (subflow.joining) {
    const flags = subflow.localBackup ? 1 : 0;
    if (!answer) connection.host.mib('MPJoinSynTx');
    return put(
      answer
        ? { subtype: 'join-synack', flags, addressId: subflow.localId, hmac: subflow.hmac!.subarray(0, 8), nonce: subflow.localNonce }
        : { subtype: 'join-syn', flags, addressId: subflow.localId, token: connection.remote!.token, nonce: subflow.localNonce },
      view,
      at,
      room,
    );
  }
  if (!answer) connection.host.mib('MPCapableSYNTX');
  return put(
    {
      subtype: 'capable',
      version: connection.version.number,
      flags: capableFlags(connection),
      senderKey: answer || connection.version.keyInSyn ? connection.local : null,
      receiverKey: null,
      dataLength: null,
      checksum: null,
    },
    view,
    at,
    room,
  );
}

function capableFlags(connection: ConnectionState): number {
  const deny = connection.version.deniesInitialAddress && connection.host.mptcp.denyJoinInitial;
  return CAPABLE_FLAG.sha256 | (connection.checksum ? CAPABLE_FLAG.checksum : 0) | (deny ? CAPABLE_FLAG.noJoin : 0);
}

function writeReset(subflow: SubflowState, view: DataView, at: number, room: number): number {
  const { connection } = subflow;
  let written = 0;
  if (subflow.fastclose && connection.remote !== null) {
    connection.host.mib('MPFastcloseTx');
    written += put({ subtype: 'fastclose', reserved: 0, receiverKey: connection.remote }, view, at, room);
  }
  if (subflow.failPending) written += writeFail(subflow, view, at + written);
  // Linux sends both; the reason tells tools apart what the key alone does not say (RFC 8684 §3.6).
  if (subflow.resetReason >= 0 && connection.version.explainsResets && room - written >= 4) {
    connection.host.mib('MPRstTx');
    written += put({ subtype: 'tcprst', flags: subflow.resetTransient ? 1 : 0, reason: subflow.resetReason }, view, at + written, room - written);
  }
  return written;
}

function writeData(subflow: SubflowState, record: SendRecord, view: DataView, at: number): number {
  const { connection } = subflow;
  const mapping = record.tag;
  if (!(mapping instanceof Mapping)) return 0;
  // The first data repeats the keys until the peer is known to have them (RFC 8684 §3.1).
  if (!subflow.joining && connection.active && !connection.confirmed && mapping.position === 1 + subflow.sendOffset && connection.version.mapsWithCapable) {
    const option: MptcpOption = {
      subtype: 'capable',
      version: connection.version.number,
      flags: capableFlags(connection),
      senderKey: connection.local,
      receiverKey: connection.remote,
      dataLength: mapping.length,
      checksum: mapping.checksum >= 0 ? mapping.checksum : null,
    };
    return put(option, view, at, 40);
  }
  const local = connection.local!;
  const remote = connection.remote!;
  const flags = DSS_FLAG.dataAck | DSS_FLAG.dataAck64 | DSS_FLAG.mapping | DSS_FLAG.dsn64;
  return writeDss(
    view,
    at,
    flags,
    dsnHigh(remote.idsnHigh, remote.idsnLow, connection.dataRcvNxt),
    dsnLow(remote.idsnLow, connection.dataRcvNxt),
    dsnHigh(local.idsnHigh, local.idsnLow, mapping.dataPosition),
    dsnLow(local.idsnLow, mapping.dataPosition),
    (mapping.position - subflow.sendOffset) | 0,
    mapping.length,
    mapping.checksum,
  );
}

function writeAck(subflow: SubflowState, view: DataView, at: number, room: number, now: number): number {
  const { connection } = subflow;
  if (subflow.joining && subflow.active && subflow.hmac !== null && !subflow.established) {
    return put({ subtype: 'join-ack', reserved: 0, hmac: subflow.hmac.subarray(0, 20) }, view, at, room);
  }
  if (connection.local === null || connection.remote === null) return 0;
  if (subflow.fastclose) {
    connection.host.mib('MPFastcloseTx');
    return put({ subtype: 'fastclose', reserved: 0, receiverKey: connection.remote }, view, at, room);
  }
  // A connection that ends before it has said anything has only this ACK for its DATA_FIN; Linux does the same. The
  // third ACK may have been lost, so that every second one brings the keys again.
  const onlyFin = connection.finSent && connection.sendBuffer.end === 1 && connection.finTries % 2 === 1;
  if (!subflow.joining && connection.active && !connection.confirmed && !onlyFin) {
    return put(
      {
        subtype: 'capable',
        version: connection.version.number,
        flags: capableFlags(connection),
        senderKey: connection.local,
        receiverKey: connection.remote,
        dataLength: null,
        checksum: null,
      },
      view,
      at,
      room,
    );
  }
  let written = writeDssAck(subflow, view, at, room);
  const acknowledgement = written;
  if (subflow.failPending && room - written >= 12) written += writeFail(subflow, view, at + written);
  if (subflow.priorityPending && room - written >= 4) {
    subflow.priorityPending = false;
    connection.host.mib('MPPrioTx');
    // RFC 8684 §3.3.8: three octets, for the subflow it arrives on; a NOP pads it.
    written += put({ subtype: 'prio', flags: subflow.localBackup ? 1 : 0, addressId: null }, view, at + written, room - written);
  }
  if (connection.priorities !== null && room - written >= 4) {
    const { addressId, backup } = connection.priorities.shift()!;
    if (connection.priorities.length === 0) connection.priorities = null;
    connection.host.mib('MPPrioTx');
    written += put({ subtype: 'prio', flags: backup ? 1 : 0, addressId }, view, at + written, room - written);
  }
  if (connection.announcements !== null) {
    // ADD_ADDR with IPv6 does not fit beside a DATA_ACK: it goes alone (RFC 8684 §3.4.1).
    let pending = takeAnnouncement(connection, room - written, now);
    if (pending === null && announcementDue(connection, now) && written <= acknowledgement) {
      pending = takeAnnouncement(connection, room, now);
      if (pending !== null) written = 0;
    }
    if (pending !== null) written += writeAnnouncement(connection, pending, view, at + written, room - written);
    subflow.moreToSay = announcementDue(connection, now);
  }
  return written;
}

/** DATA_ACK, with DATA_FIN while it is unacknowledged (RFC 8684 §3.3.2, §3.3.3). */
function writeDssAck(subflow: SubflowState, view: DataView, at: number, room: number): number {
  const { connection } = subflow;
  const local = connection.local!;
  const remote = connection.remote!;
  // A 64-bit DSN must be answered with a 64-bit DATA_ACK (RFC 8684 §3.3.2).
  let flags: number = connection.peerSends64 ? DSS_FLAG.dataAck | DSS_FLAG.dataAck64 : DSS_FLAG.dataAck;
  const ackHigh = dsnHigh(remote.idsnHigh, remote.idsnLow, connection.dataRcvNxt);
  const ackLow = dsnLow(remote.idsnLow, connection.dataRcvNxt);
  const finPending = connection.finSent && !connection.finAcknowledged;
  if (!finPending || room < 28) return writeDss(view, at, flags, ackHigh, ackLow, 0, 0, 0, 0, -1);
  flags |= DSS_FLAG.mapping | DSS_FLAG.dsn64 | DSS_FLAG.dataFin;
  const position = connection.sendBuffer.end;
  const high = dsnHigh(local.idsnHigh, local.idsnLow, position);
  const low = dsnLow(local.idsnLow, position);
  const checksum = connection.checksum ? finish(dssPseudoHeader(high, low, 0, 1)) : -1;
  return writeDss(view, at, flags, ackHigh, ackLow, high, low, 0, 1, checksum);
}

/** The infinite mapping that announces our fallback (RFC 8684 §3.7): length 0, checksum 0. */
function writeInfinite(subflow: SubflowState, kind: number, position: number, view: DataView, at: number, room: number): number {
  const { connection } = subflow;
  if (kind !== SEGMENT_KIND.data || connection.local === null || room < 24) return 0;
  subflow.infinitePending = false;
  connection.host.mib('InfiniteMapTx');
  const local = connection.local;
  const dataPosition = position + connection.sendDelta;
  return writeDss(
    view,
    at,
    DSS_FLAG.mapping | DSS_FLAG.dsn64,
    0,
    0,
    dsnHigh(local.idsnHigh, local.idsnLow, dataPosition),
    dsnLow(local.idsnLow, dataPosition),
    (position - subflow.sendOffset) | 0,
    0,
    connection.checksum ? 0 : -1,
  );
}

function writeFail(subflow: SubflowState, view: DataView, at: number): number {
  subflow.failPending = false;
  subflow.connection.host.mib('MPFailTx');
  const remote = subflow.connection.remote;
  if (remote === null) return 0;
  const dsn = { high: dsnHigh(remote.idsnHigh, remote.idsnLow, subflow.failPosition), low: dsnLow(remote.idsnLow, subflow.failPosition) };
  return put({ subtype: 'fail', reserved: 0, dsn }, view, at, 40);
}

function writeAnnouncement(
  connection: ConnectionState,
  pending: NonNullable<ReturnType<typeof takeAnnouncement>>,
  view: DataView,
  at: number,
  room: number,
): number {
  const { host, version } = connection;
  host.mib(pending.kind === 'remove' ? 'RmAddrTx' : pending.kind === 'echo' ? 'EchoAddTx' : 'AddAddrTx');
  if (pending.kind === 'remove') return put({ subtype: 'remove-addr', flags: 0, addressIds: [...pending.ids] }, view, at, room);
  const echo = pending.kind === 'echo';
  const address = pending.address!;
  if (!version.authenticatesAddresses) {
    // The IP version stands where version 1 has flags (RFC 6824 §3.4.1).
    const flags = address.length === 4 ? 4 : 6;
    return put({ subtype: 'add-addr', version: 0, flags, addressId: pending.id, address, port: pending.port, hmac: null }, view, at, room);
  }
  const hmac = echo ? null : addAddressHmac(connection.local!, connection.remote!, pending.id, address, pending.port ?? 0);
  return put({ subtype: 'add-addr', version: 1, flags: echo ? 1 : 0, addressId: pending.id, address, port: pending.port, hmac }, view, at, room);
}

/** Writes an option padded with NOPs in front to a multiple of four; nothing when it does not fit. */
function put(option: MptcpOption, view: DataView, at: number, room: number): number {
  const length = mptcpOptionLength(option);
  const padding = -length & 3;
  if (length + padding > room) return 0;
  for (let i = 0; i < padding; i++) view.setUint8(at + i, 1);
  emitMptcpOption(option, view, at + padding);
  return length + padding;
}
