/** Address knowledge: ADD_ADDR with echo and repetition (RFC 8684 §3.4.1), REMOVE_ADDR (§3.4.2). */
import { formatAddress, sameAddress } from '@subflow/wire';
import type { AddAddr } from '@subflow/wire';
import { RESET_REASON } from '@subflow/wire';
import { resetSubflow } from './close.ts';
import { addAddressHmac, sameBytes } from './keys.ts';
import type { RemoteAddress } from './path-manager/types.ts';
import { reinjectSubflow } from './reinjection.ts';
import { MODE, PHASE } from './state.ts';
import type { ConnectionState, KeyedConnection, PendingAnnouncement, SubflowState } from './state.ts';
import { earlier } from '../tcp/timers.ts';

/** More announcements than this are not queued: a peer cannot make us answer without bound. */
const MAX_PENDING = 64;
/** Times a REMOVE_ADDR is sent, and an ADD_ADDR of version 0: neither is ever acknowledged. */
const BLIND_TRIES = 2;
/** REMOVE_ADDR of this many ids fits beside timestamps and DATA_ACK. */
const MAX_REMOVED_TOGETHER = 9;

export function announceAddress(connection: ConnectionState, id: number, address: Uint8Array, port: number | null, now: number): void {
  if (connection.mode !== MODE.mptcp) return;
  if (port !== null) (connection.announcedPorts ??= new Set()).add(port);
  // Announced again: starts over (RFC 8684 §3.4.1: to trigger a new connection attempt), and takes back a removal of this id
  // that is still being repeated.
  connection.announcements = connection.announcements?.filter((other) => other.kind !== 'add' || other.id !== id) ?? null;
  takeBackRemoval(connection, id);
  if (!push(connection, { kind: 'add', id, address, port, tries: 0, nextAt: now }, now)) return;
  connection.host.emit({
    type: 'address-announced',
    time: now,
    connection: connection.id,
    addressId: id,
    address: formatAddress(address),
    port,
    byPeer: false,
  });
}

/** An id is in use again: a removal that is still being repeated would close what uses it (RFC 8684 §3.4.2). */
export function takeBackRemoval(connection: ConnectionState, id: number): void {
  if (connection.announcements === null) return;
  connection.announcements = connection.announcements.flatMap((pending) => {
    if (pending.kind !== 'remove' || !pending.ids.includes(id)) return [pending];
    const ids = pending.ids.filter((other) => other !== id);
    return ids.length === 0 ? [] : [{ ...pending, ids }];
  });
}

/** Withdraws what this address was known as: the ids of its subflows and endpoints. */
export function removeLocalAddress(connection: ConnectionState, address: Uint8Array, now: number): void {
  if (connection.mode !== MODE.mptcp) return;
  const ids = new Set<number>();
  for (const subflow of connection.subflows) if (sameAddress(subflow.tcb.local, address)) ids.add(subflow.localId);
  for (const endpoint of connection.host.endpoints) if (!endpoint.implicit && sameAddress(endpoint.address, address)) ids.add(endpoint.id);
  withdrawIds(connection, [...ids], now);
}

/** REMOVE_ADDR on the subflows that stay, resets on those that go (RFC 8684 §3.4.2). */
export function withdrawIds(connection: ConnectionState, addressIds: readonly number[], now: number): void {
  if (connection.mode !== MODE.mptcp || connection.phase === PHASE.closed || addressIds.length === 0) return;
  connection.announcements = connection.announcements?.filter((pending) => pending.kind !== 'add' || !addressIds.includes(pending.id)) ?? null;
  for (const subflow of connection.subflows.filter((one) => addressIds.includes(one.localId))) {
    subflow.withdrawn = true;
    reinjectSubflow(subflow, 'closed', now);
    resetSubflow(subflow, RESET_REASON.unspecified, false, now);
  }
  if (connection.closed) return;
  for (let i = 0; i < addressIds.length; i += MAX_REMOVED_TOGETHER) {
    const ids = addressIds.slice(i, i + MAX_REMOVED_TOGETHER);
    push(connection, { kind: 'remove', id: ids[0]!, ids, tries: 0, nextAt: now }, now);
  }
  for (const id of addressIds) connection.host.emit({ type: 'address-removed', time: now, connection: connection.id, addressId: id, byPeer: false });
}

/** ADD_ADDR from the peer. */
export function receivedAddAddress(connection: KeyedConnection, option: AddAddr, now: number): void {
  const { host } = connection;
  const { version } = connection;
  if (option.version !== version.number) {
    host.count('mptcp-add-addr-version');
    host.mib('AddAddrDrop');
    return;
  }
  if (version.authenticatesAddresses && (option.flags & 1) !== 0) {
    host.mib('EchoAdd');
    const before = connection.announcements?.length ?? 0;
    connection.announcements = connection.announcements?.filter((pending) => pending.kind !== 'add' || pending.id !== option.addressId) ?? null;
    if ((connection.announcements?.length ?? 0) < before)
      host.emit({ type: 'address-echoed', time: now, connection: connection.id, addressId: option.addressId });
    return;
  }
  if (version.authenticatesAddresses) {
    const expected = addAddressHmac(connection.remote, connection.local, option.addressId, option.address, option.port ?? 0);
    if (option.hmac === null || !sameBytes(expected, option.hmac)) {
      host.count('mptcp-add-addr-hmac');
      host.mib('AddAddrDrop');
      return;
    }
    push(connection, { kind: 'echo', id: option.addressId, address: option.address, port: option.port, tries: 0, nextAt: now }, now);
  }
  host.mib('AddAddr');
  if (option.port !== null) host.mib('PortAdd');
  connection.remoteAddresses ??= [];
  const known = connection.remoteAddresses.find((remote) => remote.id === option.addressId);
  if (known !== undefined && !sameAddress(known.address, option.address)) {
    // An id may not change its address without a removal (RFC 8684 §3.4.1).
    host.count('mptcp-add-addr-id-in-use');
    host.mib('AddAddrDrop');
    return;
  }
  if (known !== undefined && known.port === option.port) {
    // Announced again: the peer wants another attempt (RFC 8684 §3.4.1), but a mere repetition must not start a second one.
    if (!connection.closed && !connection.subflows.some((one) => one.remoteId === known.id)) connection.pathManager?.onAnnounced?.(connection, known, now);
    return;
  }
  if (known === undefined && connection.acceptedAddresses >= host.limits.addressesAccepted) {
    host.count('mptcp-add-addr-limit');
    host.mib('AddAddrDrop');
    return;
  }
  const remote: RemoteAddress = { id: option.addressId, address: option.address, port: option.port };
  if (known !== undefined) {
    known.port = option.port;
  } else {
    connection.remoteAddresses.push(remote);
    connection.acceptedAddresses++;
  }
  host.emit({
    type: 'address-announced',
    time: now,
    connection: connection.id,
    addressId: option.addressId,
    address: formatAddress(option.address),
    port: option.port,
    byPeer: true,
  });
  if (!connection.closed) connection.pathManager?.onAnnounced?.(connection, remote, now);
}

/** REMOVE_ADDR from the peer: probe what uses it, close what does not answer (RFC 8684 §3.4.2). */
export function receivedRemoveAddress(connection: ConnectionState, ids: readonly number[], now: number): void {
  for (const id of ids) {
    const known = connection.remoteAddresses?.some((remote) => remote.id === id) ?? false;
    const affected = connection.subflows.filter((subflow) => subflow.remoteId === id);
    if (!known && affected.length === 0) {
      // An unknown id is silently ignored (RFC 8684 §3.4.2).
      connection.host.mib('RmAddrDrop');
      continue;
    }
    connection.host.mib('RmAddr');
    if (known) {
      connection.remoteAddresses = connection.remoteAddresses!.filter((remote) => remote.id !== id);
      connection.acceptedAddresses--;
    }
    connection.host.emit({ type: 'address-removed', time: now, connection: connection.id, addressId: id, byPeer: true });
    connection.pathManager?.onRemoved?.(connection, id, now);
    for (const subflow of affected) {
      if (subflow.condemnedAt !== 0) continue;
      subflow.condemnedAt = now + 3 * Math.max(subflow.tcb.rto, connection.host.tcp.minRto);
      subflow.tcb.probePending = true;
      connection.host.wake(subflow.tcb);
      connection.reschedule();
    }
  }
}

/** The first thing to say that fits into `room` bytes, taken as said. Null when there is none. */
export function takeAnnouncement(connection: ConnectionState, room: number, now: number): PendingAnnouncement | null {
  const list = connection.announcements;
  if (list === null) return null;
  for (const pending of list) {
    if (pending.nextAt > now || announcementLength(pending) > room) continue;
    pending.tries++;
    const last =
      pending.kind === 'echo' ||
      pending.tries >= (pending.kind === 'remove' || !connection.version.authenticatesAddresses ? BLIND_TRIES : connection.host.mptcp.addAddressTries);
    if (last) {
      connection.announcements = list.length === 1 ? null : list.filter((other) => other !== pending);
    } else {
      pending.nextAt = now + connection.host.mptcp.addAddressTimeout * 2 ** (pending.tries - 1);
    }
    connection.reschedule();
    return pending;
  }
  return null;
}

/** Whether something about addresses is due. */
export function announcementDue(connection: ConnectionState, now: number): boolean {
  return connection.announcements?.some((pending) => pending.nextAt <= now) ?? false;
}

export function announcementDeadline(connection: ConnectionState): number {
  let at = 0;
  if (connection.announcements !== null) for (const pending of connection.announcements) at = earlier(at, pending.nextAt);
  return at;
}

export function repeatAnnouncements(connection: ConnectionState, now: number): void {
  if (!announcementDue(connection, now)) return;
  // The subflow heard last is the one most likely to work.
  let best: SubflowState | null = null;
  for (const subflow of connection.subflows) {
    if (subflow.established && (best === null || subflow.tcb.lastReceivedAt > best.tcb.lastReceivedAt)) best = subflow;
  }
  // Until the peer is known to have the keys every ACK carries them and has no room for anything else.
  if (best !== null && (connection.confirmed || !connection.active)) {
    best.requestAck();
    return;
  }
  // Nobody to tell it to, or too early: try again later.
  for (const pending of connection.announcements!) if (pending.nextAt <= now) pending.nextAt = now + connection.host.mptcp.addAddressTimeout;
}

/** Bytes on the wire, padded to four. */
export function announcementLength(pending: PendingAnnouncement): number {
  if (pending.kind === 'remove') return (3 + pending.ids.length + 3) & ~3;
  const length = 4 + pending.address.length + (pending.port === null ? 0 : 2) + (pending.kind === 'add' ? 8 : 0);
  return (length + 3) & ~3;
}

/** Option bytes of a segment, and those of timestamps. */
const OPTION_ROOM = 40;
const TIMESTAMPS = 12;

/** Queues something to say. Returns false, and counts, when it can never be said or too much waits. */
function push(connection: ConnectionState, pending: PendingAnnouncement, now: number): boolean {
  const { host } = connection;
  // Beside timestamps an IPv6 address with a port has no room (RFC 8684 §3.4.1): refused now, not tried for ever.
  const room = connection.subflows.some((one) => one.established && !one.tcb.timestamps) ? OPTION_ROOM : OPTION_ROOM - TIMESTAMPS;
  const tooLong = announcementLength(pending) > room;
  connection.announcements ??= [];
  if (tooLong || connection.announcements.length >= MAX_PENDING) {
    host.count(tooLong ? 'mptcp-announcement-too-long' : 'mptcp-announcements-full');
    host.mib(pending.kind === 'add' ? 'AddAddrTxDrop' : pending.kind === 'echo' ? 'EchoAddTxDrop' : 'RmAddrTxDrop');
    return false;
  }
  if (!connection.announcements.some((other) => isSame(other, pending))) connection.announcements.push(pending);
  repeatAnnouncements(connection, now);
  connection.reschedule();
  return true;
}

function isSame(one: PendingAnnouncement, other: PendingAnnouncement): boolean {
  if (one.kind !== other.kind || one.id !== other.id) return false;
  return one.kind !== 'remove' || other.kind !== 'remove' || (one.ids.length === other.ids.length && one.ids.every((id) => other.ids.includes(id)));
}
