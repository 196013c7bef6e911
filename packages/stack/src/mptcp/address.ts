/** Address knowledge: ADD_ADDR with echo and repetition (RFC 8684 §3.4.1), REMOVE_ADDR (§3.4.2). */
import { formatAddress, sameAddress } from '@subflow/wire';
import type { AddAddr } from '@subflow/wire';
import { earlier } from '../tcp/timers.ts';
import { addAddressHmac, sameBytes } from './keys.ts';
import { MODE } from './connection.ts';
import type { Connection } from './connection.ts';
import { resetSubflow } from './close.ts';
import { reinjectSubflow } from './reinjection.ts';
import { RESET_REASON } from '@subflow/wire';
import type { Subflow } from './subflow.ts';

/** An address the peer announced. */
export interface RemoteAddress {
  id: number;
  address: Uint8Array;
  port: number | null;
}

/** Something to say about addresses: an announcement until echoed, an echo or a removal once. */
export interface PendingAnnouncement {
  kind: 'add' | 'echo' | 'remove';
  id: number;
  address: Uint8Array | null;
  port: number | null;
  /** Transmissions so far. */
  tries: number;
  nextAt: number;
}

/** More announcements than this are not queued: a peer cannot make us answer without bound. */
const MAX_PENDING = 64;
/** Times a REMOVE_ADDR is sent: it is never acknowledged. */
const REMOVE_TRIES = 2;

export function announceAddress(connection: Connection, id: number, address: Uint8Array, port: number | null, now: number): void {
  if (connection.mode !== MODE.mptcp) return;
  push(connection, { kind: 'add', id, address, port, tries: 0, nextAt: now }, now);
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

/** REMOVE_ADDR on the subflows that stay, resets on those that go. */
export function removeLocalAddress(connection: Connection, address: Uint8Array, now: number): void {
  if (connection.mode !== MODE.mptcp) return;
  const affected = connection.subflows.filter((subflow) => sameAddress(subflow.tcb.local, address));
  const ids = new Set(affected.map((subflow) => subflow.localId));
  for (const endpoint of connection.host.endpoints) if (sameAddress(endpoint.address, address)) ids.add(endpoint.id);
  connection.announcements = connection.announcements?.filter((pending) => pending.kind !== 'add' || !ids.has(pending.id)) ?? null;
  for (const subflow of affected) {
    reinjectSubflow(subflow, 'closed', now);
    resetSubflow(subflow, RESET_REASON.unspecified, false, now);
  }
  for (const id of ids) {
    push(connection, { kind: 'remove', id, address: null, port: null, tries: 0, nextAt: now }, now);
    connection.host.emit({ type: 'address-removed', time: now, connection: connection.id, addressId: id, byPeer: false });
  }
}

/** ADD_ADDR from the peer. */
export function receivedAddAddress(connection: Connection, option: AddAddr, now: number): void {
  const { host } = connection;
  const isEcho = (option.flags & 1) !== 0;
  if (option.version !== 1) {
    host.count('mptcp-add-addr-version');
    return;
  }
  if (isEcho) {
    const before = connection.announcements?.length ?? 0;
    connection.announcements = connection.announcements?.filter((pending) => pending.kind !== 'add' || pending.id !== option.addressId) ?? null;
    if ((connection.announcements?.length ?? 0) < before)
      host.emit({ type: 'address-echoed', time: now, connection: connection.id, addressId: option.addressId });
    return;
  }
  const expected = addAddressHmac(connection.remote!, connection.local!, option.addressId, option.address, option.port ?? 0);
  if (option.hmac === null || !sameBytes(expected, option.hmac)) {
    host.count('mptcp-add-addr-hmac');
    return;
  }
  push(connection, { kind: 'echo', id: option.addressId, address: option.address, port: option.port, tries: 0, nextAt: now }, now);
  connection.remoteAddresses ??= [];
  const known = connection.remoteAddresses.find((remote) => remote.id === option.addressId);
  if (known !== undefined && !sameAddress(known.address, option.address)) {
    // An id may not change its address without a removal (RFC 8684 §3.4.1).
    host.count('mptcp-add-addr-id-in-use');
    return;
  }
  if (known !== undefined && known.port === option.port) return;
  if (connection.acceptedAddresses >= host.mptcp.maxAddressesAccepted) {
    host.count('mptcp-add-addr-limit');
    return;
  }
  const remote: RemoteAddress = { id: option.addressId, address: option.address, port: option.port };
  if (known !== undefined) known.port = option.port;
  else connection.remoteAddresses.push(remote);
  connection.acceptedAddresses++;
  host.emit({
    type: 'address-announced',
    time: now,
    connection: connection.id,
    addressId: option.addressId,
    address: formatAddress(option.address),
    port: option.port,
    byPeer: true,
  });
  if (!connection.closed) connection.pathManager?.onAnnounced(connection, remote, now);
}

/** REMOVE_ADDR from the peer: probe what uses it, close what does not answer (RFC 8684 §3.4.2). */
export function receivedRemoveAddress(connection: Connection, ids: readonly number[], now: number): void {
  for (const id of ids) {
    const known = connection.remoteAddresses?.some((remote) => remote.id === id) ?? false;
    const affected = connection.subflows.filter((subflow) => subflow.remoteId === id);
    if (!known && affected.length === 0) continue;
    if (known) {
      connection.remoteAddresses = connection.remoteAddresses!.filter((remote) => remote.id !== id);
      connection.acceptedAddresses--;
    }
    connection.host.emit({ type: 'address-removed', time: now, connection: connection.id, addressId: id, byPeer: true });
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
export function takeAnnouncement(connection: Connection, room: number, now: number): PendingAnnouncement | null {
  const list = connection.announcements;
  if (list === null) return null;
  for (const pending of list) {
    if (pending.nextAt > now || announcementLength(pending) > room) continue;
    pending.tries++;
    const last =
      pending.kind === 'echo' ||
      (pending.kind === 'remove' && pending.tries >= REMOVE_TRIES) ||
      (pending.kind === 'add' && pending.tries > connection.host.mptcp.addAddressTries);
    if (last) {
      connection.announcements = list.length === 1 ? null : list.filter((other) => other !== pending);
      if (pending.kind === 'add') return null;
    } else {
      pending.nextAt = now + connection.host.mptcp.addAddressTimeout * 2 ** (pending.tries - 1);
    }
    connection.reschedule();
    return pending;
  }
  return null;
}

/** Whether something about addresses is due. */
export function announcementDue(connection: Connection, now: number): boolean {
  return connection.announcements?.some((pending) => pending.nextAt <= now) ?? false;
}

export function announcementDeadline(connection: Connection): number {
  let at = 0;
  if (connection.announcements !== null) for (const pending of connection.announcements) at = earlier(at, pending.nextAt);
  return at;
}

export function repeatAnnouncements(connection: Connection, now: number): void {
  if (!announcementDue(connection, now)) return;
  // The subflow heard last is the one most likely to work.
  let best: Subflow | null = null;
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
  if (pending.kind === 'remove') return 4;
  const length = 4 + pending.address!.length + (pending.port === null ? 0 : 2) + (pending.kind === 'add' ? 8 : 0);
  return (length + 3) & ~3;
}

function push(connection: Connection, pending: PendingAnnouncement, now: number): void {
  connection.announcements ??= [];
  const same = connection.announcements.some((other) => other.kind === pending.kind && other.id === pending.id);
  if (same) return;
  if (connection.announcements.length >= MAX_PENDING) {
    connection.host.count('mptcp-announcements-full');
    return;
  }
  connection.announcements.push(pending);
  repeatAnnouncements(connection, now);
  connection.reschedule();
}
