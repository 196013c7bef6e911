/**
 * One connection as the application sees it: a reliable byte stream, over one subflow (plain TCP, or after fallback) or
 * several (Multipath TCP). State and the application's calls; the mechanisms are in the files beside it.
 */
import { formatEndpoint, sameAddress } from '@subflow/wire';
import type { Host } from '../host/host.ts';
import { ReceiveQueue, SendBuffer } from '../buffers.ts';
import type { OutOfOrderRun } from '../tcp/reassembly.ts';
import type { CongestionFactory, CongestionView } from '../tcp/congestion/types.ts';
import type { CoupledFactory } from '../host/congestion.ts';
import { applySettings } from './settings.ts';
import type { ConnectionSettings } from './settings.ts';
import type { CloseReason } from '../tcp/state.ts';
import type { FallbackReason } from '../events.ts';
import type { KeyMaterial } from './keys.ts';
import type { Scheduler, SchedulerFactory } from './scheduler/types.ts';
import type { Endpoint, PathManager, PathManagerFactory } from './path-manager/types.ts';
import { schedulerOf } from './service-type.ts';
import type { ServiceType } from './service-type.ts';
import { VERSION_1 } from './version.ts';
import type { MptcpVersion, VersionNumber } from './version.ts';
import type { Subflow } from './subflow.ts';
import type { PendingAnnouncement, RemoteAddress } from './address.ts';
import { announceAddress, removeLocalAddress, withdrawIds } from './address.ts';
import { abortConnection, afterShutdown, closeSubflow } from './close.ts';
import { connectionDeadline, fireConnectionTimers } from './connection-timers.ts';
import { openJoin } from './handshake.ts';
import { noteConsumed } from './window.ts';
import { lowestReference, wakeSenders } from './send.ts';
import type { ReinjectionRange } from './reinjection.ts';

/** How the connection works at present. */
export const MODE = { mptcp: 'mptcp', tcp: 'tcp' } as const;
export type Mode = (typeof MODE)[keyof typeof MODE];

export const PHASE = { opening: 0, open: 1, closing: 2, closed: 3 } as const;

export class Connection {
  readonly id: number;
  readonly host: Host;
  /** Opened by us. */
  readonly active: boolean;
  readonly remoteAddress: Uint8Array;
  readonly remotePort: number;
  /** Port of the first subflow on our side; changes when a refused version is followed by another try. */
  localPort: number;
  /** Listener that accepted it, -1 for active ones. */
  readonly listener: number;
  mode: Mode;
  version: MptcpVersion = VERSION_1;
  /** Versions still to be offered, the present one first. */
  offers: readonly VersionNumber[] = [];
  service: Exclude<ServiceType, 'none'> | null = null;
  schedulerFactory: SchedulerFactory | null = null;
  pathManagerFactory: PathManagerFactory | null = null;
  /** Controller of subflows to come; null: the host's. `coupled` counts on Multipath TCP only. */
  congestionFactory: CongestionFactory | null = null;
  coupledFactory: CoupledFactory | null = null;
  /** Idle time before keepalive probes, microseconds, 0 for none. */
  keepaliveIdle: number;
  /** Local address of the first subflow: address id 0 (RFC 8684 §3.2). */
  initialLocal: Uint8Array | null = null;
  wasOpen = false;
  phase: number = PHASE.opening;
  closeReason: CloseReason | null = null;
  fallbackReason: FallbackReason | null = null;

  // Keys (RFC 8684 §3.1).
  local: KeyMaterial | null = null;
  remote: KeyMaterial | null = null;
  checksum: boolean;
  peerDeniesJoin = false;
  pathManagerTold = false;
  /** A DSS option has arrived: both directions carry the options. */
  confirmed = false;
  /** More than one subflow has carried data at some time: fallback is no longer possible without a gap. */
  everJoined = false;

  subflows: Subflow[] = [];
  nextSubflowId = 0;
  scheduler: Scheduler | null = null;
  pathManager: PathManager | null = null;
  /** Congestion states for coupled control. */
  readonly views: CongestionView[] = [];

  // Send side, data positions.
  readonly sendBuffer = new SendBuffer();
  dataUna = 1;
  dataNxt = 1;
  dataWndEdge = 1;
  sendLimit: number;
  sendClosed = false;
  finSent = false;
  finAcknowledged = false;
  wantsWritable = false;
  noDelay: boolean;
  reinjections: ReinjectionRange[] | null = null;
  reinjectedBytes = 0;
  /** Offset from subflow to data positions after fallback. */
  sendDelta = 0;

  // Receive side.
  readonly received: ReceiveQueue;
  dataRcvNxt = 1;
  /** Right edge of the window offered; never moves left (RFC 8684 §3.3.4). */
  dataRcvEdge = 1;
  receiveLimit: number;
  outOfOrder: OutOfOrderRun[] | null = null;
  outOfOrderBytes = 0;
  remoteFin = -1;
  receiveEnded = false;
  readableTold = false;
  receiveDelta = 0;
  peerSends64 = true;
  duplicateBytes = 0;
  // Receive-buffer auto-tuning.
  tuneAt = 0;
  tuneBytes = 0;
  tuneLast = 0;
  consumed = 0;

  // Addresses.
  remoteAddresses: RemoteAddress[] | null = null;
  announcements: PendingAnnouncement[] | null = null;
  /** Ports we have announced: joins may come to them. */
  announcedPorts: Set<number> | null = null;
  /** MP_PRIO that names another subflow (RFC 6824 §3.3.8), to go out with the next ACK. */
  priorities: { addressId: number; backup: boolean }[] | null = null;
  acceptedAddresses = 0;

  // Timers: absolute times, 0 when off.
  timerIndex = -1;
  timerAt = 0;
  dataRetransmitAt = 0;
  dataTimeouts = 0;
  /** Until this is acknowledged, every hole at the head is sent again at once: a subflow's end has left several. */
  dataRecoveryPoint = 0;
  finAt = 0;
  finTries = 0;
  /** SYNs with MP_CAPABLE got no answer, one without may: a black hole if it does. */
  capableDropped = false;
  /** Fast close by ACK: when to repeat it, and how often it went out (RFC 8684 §3.5). */
  fastcloseAt = 0;
  fastcloseTries = 0;
  closeAt = 0;
  silenceAt = 0;
  /** A full window is not looked into again before this time. */
  unblockAt = 0;
  bytesWritten = 0;
  bytesRead = 0;

  constructor(host: Host, id: number, active: boolean, listener: number, localPort: number, remoteAddress: Uint8Array, remotePort: number, multipath: boolean) {
    this.host = host;
    this.id = id;
    this.active = active;
    this.listener = listener;
    this.localPort = localPort;
    this.remoteAddress = remoteAddress;
    this.remotePort = remotePort;
    this.mode = multipath ? MODE.mptcp : MODE.tcp;
    this.checksum = host.mptcp.checksum;
    this.sendLimit = host.tcp.sendBuffer;
    this.receiveLimit = host.tcp.receiveBuffer;
    this.noDelay = !host.tcp.nagle;
    this.keepaliveIdle = host.tcp.keepaliveIdle;
    this.received = new ReceiveQueue(host.chunks);
    this.dataRcvEdge = 1 + this.receiveLimit;
  }

  /** Port of our end at the start: joins may always come to it. */
  get initialLocalPort(): number {
    return this.localPort;
  }

  /** The scheduler this connection starts with. */
  makeScheduler(): Scheduler {
    return (this.schedulerFactory ?? (this.service === null ? this.host.mptcp.scheduler : schedulerOf(this.service)))();
  }

  makePathManager(): PathManager {
    return (this.pathManagerFactory ?? this.host.mptcp.pathManager)();
  }

  /** Whether the connection is established and not yet closed. */
  get open(): boolean {
    return this.phase === PHASE.open;
  }

  get closed(): boolean {
    return this.phase === PHASE.closed;
  }

  /** Bytes waiting to be read. */
  get readable(): number {
    return this.received.length;
  }

  /** Bytes the send buffer still takes. */
  get writable(): number {
    if (this.sendClosed || this.phase === PHASE.closed) return 0;
    return Math.max(0, this.sendLimit - (this.sendBuffer.end - this.dataUna));
  }

  /**
   * Queues bytes. They are kept by reference and must not change until acknowledged. A write is taken whole while
   * there is any room, so the limit may be exceeded by one write. Returns whether it was taken.
   */
  write(bytes: Uint8Array, now: number): boolean {
    if (this.sendClosed || this.phase === PHASE.closed) return false;
    if (this.writable <= 0) {
      this.wantsWritable = true;
      return false;
    }
    this.sendBuffer.append(bytes);
    this.bytesWritten += bytes.length;
    if (this.writable <= 0) this.wantsWritable = true;
    wakeSenders(this, now);
    return true;
  }

  /** Written bytes before this data position (from 1) are never looked at again: their memory may be used anew. Looks through everything in flight. */
  get lowestReference(): number {
    return lowestReference(this);
  }

  /** The next bytes in place, or null. Valid until consumed. */
  peek(): Uint8Array | null {
    return this.received.peek();
  }

  /** Drops `count` bytes that were read. */
  consume(count: number, now: number): void {
    this.received.consume(count);
    this.bytesRead += count;
    this.readableTold = false;
    noteConsumed(this, count, now);
  }

  /** A copy of up to `limit` readable bytes, or null when there are none. */
  read(limit: number, now: number): Uint8Array | null {
    const chunk = this.received.peek();
    if (chunk === null) return null;
    const out = chunk.slice(0, Math.min(limit, chunk.length));
    this.consume(out.length, now);
    return out;
  }

  /** No more will be written: DATA_FIN, or FIN after fallback (RFC 8684 §3.3.3). */
  shutdown(now: number): void {
    if (this.sendClosed || this.phase === PHASE.closed) return;
    this.sendClosed = true;
    afterShutdown(this, now);
  }

  /** Ends the connection at once: MP_FASTCLOSE, or RST after fallback (RFC 8684 §3.5). */
  abort(now: number): void {
    abortConnection(this, 'aborted', now);
  }

  /** Changes what was chosen when the connection was made; at once, also while it is open. Throws {@link StackError} `UNKNOWN_CONGESTION`. */
  configure(settings: ConnectionSettings, now: number): void {
    applySettings(this, settings, now);
  }

  /** Announces a local address (RFC 8684 §3.4.1). */
  announce(addressId: number, address: Uint8Array, port: number | null, now: number): void {
    announceAddress(this, addressId, address, port, now);
  }

  /** Opens a further subflow. Null when limits, state or routing do not allow it. */
  join(
    local: Uint8Array,
    localId: number,
    remote: Uint8Array,
    remotePort: number,
    remoteId: number,
    backup: boolean,
    now: number,
    device: string | null = null,
  ): Subflow | null {
    return openJoin(this, local, localId, remote, remotePort, remoteId, backup, now, device);
  }

  /** Withdraws address ids: one REMOVE_ADDR, and their subflows are closed (RFC 8684 §3.4.2). */
  withdraw(addressIds: readonly number[], now: number): void {
    withdrawIds(this, addressIds, now);
  }

  /** Withdraws a local address: REMOVE_ADDR, and its subflows are closed (RFC 8684 §3.4.2). */
  removeAddress(address: Uint8Array, now: number): void {
    removeLocalAddress(this, address, now);
  }

  /** Gives up one subflow with a reset. */
  dropSubflow(subflow: Subflow, now: number): void {
    closeSubflow(subflow, 'timeout', now);
  }

  /** Asks the peer to use a subflow as backup, or not (MP_PRIO, RFC 8684 §3.3.8). */
  setBackup(subflow: Subflow, backup: boolean, now: number): void {
    subflow.localBackup = backup;
    const other = this.version.namesPriority && subflow.stale ? this.subflows.find((one) => one !== subflow && one.established && !one.stale) : undefined;
    if (other === undefined) {
      subflow.priorityPending = true;
      subflow.requestAck();
    } else {
      // The subflow itself may be dead: version 0 lets another one speak for it (RFC 6824 §3.3.8).
      this.priorities = [...(this.priorities ?? []).filter((one) => one.addressId !== subflow.localId), { addressId: subflow.localId, backup }];
      other.requestAck();
    }
    this.host.emit({ type: 'subflow-priority', time: now, connection: this.id, subflow: subflow.id, backup, byPeer: false });
  }

  /** The id under which the peer knows a local address: 0 for the initial one, an endpoint's, or a fresh one. */
  localIdOf(address: Uint8Array): number {
    for (const subflow of this.subflows) if (sameAddress(subflow.tcb.local, address)) return subflow.localId;
    return this.host.addressIdOf(address);
  }

  endpointAdded(endpoint: Endpoint, now: number): void {
    this.pathManager?.onEndpointAdded?.(this, endpoint, now);
  }

  /** Null: the initial address, id 0. */
  endpointRemoved(endpoint: Endpoint | null, now: number): void {
    if (this.mode !== MODE.mptcp || this.phase !== PHASE.open) return;
    this.withdraw([endpoint?.id ?? 0], now);
    this.pathManager?.onEndpointRemoved?.(this, endpoint, now);
  }

  endpointChanged(endpoint: Endpoint, now: number): void {
    if (this.mode !== MODE.mptcp || this.phase !== PHASE.open) return;
    for (const subflow of this.subflows) {
      if (sameAddress(subflow.tcb.local, endpoint.address) && subflow.localBackup !== endpoint.backup) this.setBackup(subflow, endpoint.backup, now);
    }
    this.pathManager?.onEndpointChanged?.(this, endpoint, now);
  }

  deadline(): number {
    return connectionDeadline(this);
  }

  fire(now: number): void {
    fireConnectionTimers(this, now);
  }

  reschedule(): void {
    this.host.rescheduleConnection(this);
  }

  toJSON(): unknown {
    return {
      id: this.id,
      mode: this.mode,
      remote: formatEndpoint(this.remoteAddress, this.remotePort),
      localPort: this.localPort,
      subflows: this.subflows.map((subflow) => subflow.id),
    };
  }
}
