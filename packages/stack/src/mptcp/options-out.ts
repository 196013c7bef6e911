/** The Multipath TCP options of outgoing segments. */
import { CAPABLE_FLAG, DSS_FLAG, dssPseudoHeader, emitMptcpOption, finish, mptcpOptionLength, OPTION, writeDss } from '@subflow/wire';
import type { MptcpOption, U64 } from '@subflow/wire';
import { announcementDue, takeAnnouncement } from './address.ts';
import { dsnHigh, dsnLow } from './data-sequence.ts';
import { addAddressHmac } from './keys.ts';
import { Mapping } from './mapping.ts';
import { hasKeys, MODE } from './state.ts';
import type { ConnectionState, KeyedConnection, PendingAnnouncement, SubflowState } from './state.ts';
import type { SendRecord } from '../tcp/retransmission-queue.ts';
import { SEGMENT_KIND } from '../tcp/user.ts';
import type { OptionPlace } from '../tcp/user.ts';

/** A place for options that shrinks as they are written. */
class Place {
  readonly view: DataView;
  at: number;
  room: number;
  written = 0;

  constructor(place: OptionPlace) {
    this.view = place.view;
    this.at = place.at;
    this.room = place.room;
  }

  /** Writes an option padded with NOPs in front to a multiple of four; nothing when it does not fit. Returns whether it did. */
  put(option: MptcpOption): boolean {
    const length = mptcpOptionLength(option);
    const padding = -length & 3;
    if (length + padding > this.room) return false;
    for (let i = 0; i < padding; i++) this.view.setUint8(this.at + i, OPTION.nop);
    emitMptcpOption(option, this.view, this.at + padding);
    this.advance(length + padding);
    return true;
  }

  advance(bytes: number): void {
    this.at += bytes;
    this.room -= bytes;
    this.written += bytes;
  }
}

/** Writes what belongs on a segment of this kind; returns the bytes written, a multiple of four, at most the room there is. */
export function writeSegmentOptions(subflow: SubflowState, where: OptionPlace, now: number): number {
  const { connection } = subflow;
  const { kind, record } = where;
  if (connection.mode === MODE.tcp) {
    if (!hasKeys(connection)) return 0;
    const place = new Place(where);
    if (subflow.failPending && kind === SEGMENT_KIND.ack) writeFail(subflow, connection, place);
    else if (subflow.infinitePending && kind === SEGMENT_KIND.data) writeInfinite(subflow, connection, place, where.position);
    return place.written;
  }
  switch (kind) {
    case SEGMENT_KIND.syn:
    case SEGMENT_KIND.synAck:
      return writeSyn(subflow, kind === SEGMENT_KIND.synAck, new Place(where));
    case SEGMENT_KIND.reset:
      return writeReset(subflow, new Place(where));
    case SEGMENT_KIND.data:
      return record === null || !hasKeys(connection) ? 0 : writeData(subflow, connection, record, where);
    case SEGMENT_KIND.ack:
    case SEGMENT_KIND.fin:
      return hasKeys(connection) ? writeAck(subflow, connection, new Place(where), now) : 0;
  }
}

function writeSyn(subflow: SubflowState, answer: boolean, place: Place): number {
  const { connection } = subflow;
  if (subflow.joining) {
    const flags = subflow.localBackup ? 1 : 0;
    if (!answer && connection.remote !== null) {
      connection.host.mib('MPJoinSynTx');
      place.put({ subtype: 'join-syn', flags, addressId: subflow.localId, token: connection.remote.token, nonce: subflow.localNonce });
    } else if (answer && subflow.hmac !== null) {
      place.put({ subtype: 'join-synack', flags, addressId: subflow.localId, hmac: subflow.hmac.subarray(0, 8), nonce: subflow.localNonce });
    }
    return place.written;
  }
  if (!answer) connection.host.mib('MPCapableSYNTX');
  place.put(capable(connection, { sender: answer || connection.version.keyInSyn ? connection.local : null, receiver: null }));
  return place.written;
}

/** MP_CAPABLE with these keys, and with the mapping it stands for (RFC 8684 §3.1). */
function capable(connection: ConnectionState, keys: { sender: U64 | null; receiver: U64 | null }, mapping: Mapping | null = null): MptcpOption {
  const deny = connection.version.deniesInitialAddress && connection.host.mptcp.denyJoinInitial;
  return {
    subtype: 'capable',
    version: connection.version.number,
    flags: CAPABLE_FLAG.sha256 | (connection.checksum ? CAPABLE_FLAG.checksum : 0) | (deny ? CAPABLE_FLAG.noJoin : 0),
    senderKey: keys.sender,
    receiverKey: keys.receiver,
    dataLength: mapping === null ? null : mapping.length,
    checksum: mapping !== null && mapping.checksum >= 0 ? mapping.checksum : null,
  };
}

function writeReset(subflow: SubflowState, place: Place): number {
  const { connection } = subflow;
  if (hasKeys(connection)) {
    if (subflow.fastclose && place.put({ subtype: 'fastclose', reserved: 0, receiverKey: connection.remote })) connection.host.mib('MPFastcloseTx');
    if (subflow.failPending) writeFail(subflow, connection, place);
  }
  // Linux sends both; the reason tells tools apart what the key alone does not say (RFC 8684 §3.6).
  if (subflow.resetReason >= 0 && connection.version.explainsResets) {
    if (place.put({ subtype: 'tcprst', flags: subflow.resetTransient ? 1 : 0, reason: subflow.resetReason })) connection.host.mib('MPRstTx');
  }
  return place.written;
}

function writeData(subflow: SubflowState, connection: KeyedConnection, record: SendRecord, where: OptionPlace): number {
  const mapping = record.tag;
  if (!(mapping instanceof Mapping)) return 0;
  const { local, remote } = connection;
  // The first data repeats the keys until the peer is known to have them (RFC 8684 §3.1).
  if (!subflow.joining && connection.active && !connection.confirmed && mapping.position === 1 + subflow.sendOffset && connection.version.mapsWithCapable) {
    const place = new Place(where);
    place.put(capable(connection, { sender: local, receiver: remote }, mapping));
    return place.written;
  }
  return writeDss(
    where.view,
    where.at,
    DSS_FLAG.dataAck | DSS_FLAG.dataAck64 | DSS_FLAG.mapping | DSS_FLAG.dsn64,
    dsnHigh(remote.idsnHigh, remote.idsnLow, connection.dataRcvNxt),
    dsnLow(remote.idsnLow, connection.dataRcvNxt),
    dsnHigh(local.idsnHigh, local.idsnLow, mapping.dataPosition),
    dsnLow(local.idsnLow, mapping.dataPosition),
    (mapping.position - subflow.sendOffset) | 0,
    mapping.length,
    mapping.checksum,
  );
}

function writeAck(subflow: SubflowState, connection: KeyedConnection, place: Place, now: number): number {
  const { host } = connection;
  if (subflow.joining && subflow.active && subflow.hmac !== null && !subflow.established) {
    place.put({ subtype: 'join-ack', reserved: 0, hmac: subflow.hmac.subarray(0, 20) });
    return place.written;
  }
  if (subflow.fastclose) {
    if (place.put({ subtype: 'fastclose', reserved: 0, receiverKey: connection.remote })) host.mib('MPFastcloseTx');
    return place.written;
  }
  // A connection that ends before it has said anything has only this ACK for its DATA_FIN; Linux does the same. The
  // third ACK may have been lost, so that every second one brings the keys again.
  const onlyFin = connection.finSent && connection.sendBuffer.end === 1 && connection.finTries % 2 === 1;
  if (!subflow.joining && connection.active && !connection.confirmed && !onlyFin) {
    place.put(capable(connection, { sender: connection.local, receiver: connection.remote }));
    return place.written;
  }
  const alone = { at: place.at, room: place.room };
  place.advance(writeDssAck(connection, place));
  const acknowledgement = place.written;
  if (subflow.failPending) writeFail(subflow, connection, place);
  // RFC 8684 §3.3.8: three octets, for the subflow it arrives on; a NOP pads it.
  if (subflow.priorityPending && place.put({ subtype: 'prio', flags: subflow.localBackup ? 1 : 0, addressId: null })) {
    subflow.priorityPending = false;
    host.mib('MPPrioTx');
  }
  const priority = connection.priorities?.[0];
  if (priority !== undefined && place.put({ subtype: 'prio', flags: priority.backup ? 1 : 0, addressId: priority.addressId })) {
    connection.priorities = connection.priorities!.length === 1 ? null : connection.priorities!.slice(1);
    host.mib('MPPrioTx');
  }
  if (connection.announcements === null) return place.written;
  let pending = takeAnnouncement(connection, place.room, now);
  if (pending === null && place.written === acknowledgement) {
    // ADD_ADDR with IPv6 does not fit beside a DATA_ACK: it goes alone (RFC 8684 §3.4.1).
    pending = takeAnnouncement(connection, alone.room, now);
    if (pending !== null) {
      place.at = alone.at;
      place.room = alone.room;
      place.written = 0;
    }
  }
  if (pending !== null) writeAnnouncement(connection, pending, place);
  // Another ACK only when this one has said something: what fits into none of ours must not be tried for ever.
  subflow.moreToSay = pending !== null && announcementDue(connection, now);
  return place.written;
}

/** DATA_ACK, with DATA_FIN while it is unacknowledged (RFC 8684 §3.3.2, §3.3.3). Returns the bytes written. */
function writeDssAck(connection: KeyedConnection, { view, at, room }: Place): number {
  const { local, remote } = connection;
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
function writeInfinite(subflow: SubflowState, connection: KeyedConnection, place: Place, position: number): void {
  if (place.room < 24) return;
  subflow.infinitePending = false;
  connection.host.mib('InfiniteMapTx');
  const { local } = connection;
  const dataPosition = position + connection.sendDelta;
  place.advance(
    writeDss(
      place.view,
      place.at,
      DSS_FLAG.mapping | DSS_FLAG.dsn64,
      0,
      0,
      dsnHigh(local.idsnHigh, local.idsnLow, dataPosition),
      dsnLow(local.idsnLow, dataPosition),
      (position - subflow.sendOffset) | 0,
      0,
      connection.checksum ? 0 : -1,
    ),
  );
}

function writeFail(subflow: SubflowState, connection: KeyedConnection, place: Place): void {
  const { remote } = connection;
  const dsn = { high: dsnHigh(remote.idsnHigh, remote.idsnLow, subflow.failPosition), low: dsnLow(remote.idsnLow, subflow.failPosition) };
  if (!place.put({ subtype: 'fail', reserved: 0, dsn })) return;
  subflow.failPending = false;
  connection.host.mib('MPFailTx');
}

function writeAnnouncement(connection: KeyedConnection, pending: PendingAnnouncement, place: Place): void {
  const { host, version } = connection;
  host.mib(pending.kind === 'remove' ? 'RmAddrTx' : pending.kind === 'echo' ? 'EchoAddTx' : 'AddAddrTx');
  if (pending.kind === 'remove') {
    place.put({ subtype: 'remove-addr', flags: 0, addressIds: [...pending.ids] });
    return;
  }
  const { id: addressId, address, port } = pending;
  if (!version.authenticatesAddresses) {
    // The IP version stands where version 1 has flags (RFC 6824 §3.4.1).
    place.put({ subtype: 'add-addr', version: 0, flags: address.length === 4 ? 4 : 6, addressId, address, port, hmac: null });
    return;
  }
  const echo = pending.kind === 'echo';
  const hmac = echo ? null : addAddressHmac(connection.local, connection.remote, addressId, address, port ?? 0);
  place.put({ subtype: 'add-addr', version: 1, flags: echo ? 1 : 0, addressId, address, port, hmac });
}
