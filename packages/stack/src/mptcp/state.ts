/**
 * The state of a connection and of its subflows, and the narrow view that Multipath TCP has of its host. Data only: the
 * mechanisms are in the files beside it, `connection.ts` adds the application's calls, `subflow.ts` what its TCP asks.
 */
import { formatEndpoint } from '@subflow/wire';
import { ReceiveQueue, SendBuffer } from '../buffers.ts';
import type { ChunkPool } from '../buffers.ts';
import type { FallbackReason, StackEvent } from '../events.ts';
import type { IntervalList } from '../intervals.ts';
import type { Limits, MptcpConfig } from './config.ts';
import type { CoupledFactory } from './congestion/controllers.ts';
import type { MptcpCounter } from './counters.ts';
import type { JoinHmac, KeyMaterial } from './keys.ts';
import type { JoinRequest, ManagedConnection, ManagedHost, ManagedSubflow, PathManager, PathManagerFactory, RemoteAddress } from './path-manager/types.ts';
import type { RoomOf, ScheduledConnection, ScheduledSubflow, Scheduler, SchedulerFactory, SchedulingRequest } from './scheduler/types.ts';
import type { ServiceType } from './service-type.ts';
import { VERSION_1 } from './version.ts';
import type { MptcpVersion, VersionNumber } from './version.ts';
import type { TcpConfig } from '../tcp/config.ts';
import type { CongestionFactory, CongestionView } from '../tcp/congestion/types.ts';
import type { OutOfOrder } from '../tcp/out-of-order.ts';
import type { CloseReason } from '../tcp/state.ts';
import type { Tcb } from '../tcp/tcb.ts';

/** How the connection works at present. */
export const MODE = { mptcp: 'mptcp', tcp: 'tcp' } as const;
export type Mode = (typeof MODE)[keyof typeof MODE];

export const PHASE = { opening: 'opening', open: 'open', closed: 'closed' } as const;
export type Phase = (typeof PHASE)[keyof typeof PHASE];

/** What Multipath TCP needs from the host around it, besides what its path managers see. */
export interface MptcpContext extends ManagedHost {
  readonly tcp: TcpConfig;
  readonly mptcp: MptcpConfig;
  readonly limits: Limits;
  readonly chunks: ChunkPool;
  readonly peers: PeerKnowledge;
  /** Emit events for every piece of data. */
  readonly traceData: boolean;
  emit(event: StackEvent): void;
  /** Counts in Linux's MPTcpExt table. */
  mib(counter: MptcpCounter, by?: number): void;
  count(reason: string): void;
  random32(): number;
  wake(tcb: Tcb): void;
  rescheduleConnection(connection: ConnectionState): void;
  /** A key whose token no other connection of this host uses; null when several tries found none (RFC 8684 §3.1). */
  freshKey(connection: ConnectionState): KeyMaterial | null;
  forgetToken(connection: ConnectionState): void;
  /** Makes a subflow with its control block and files it; null without a route from `ends.local`, or when the tuple is in use. */
  openSubflow(connection: ConnectionState, origin: SubflowOrigin, ends: OpenEnds, now: number): SubflowState | null;
  /** The first subflow of a passive connection is established. */
  accepted(connection: ConnectionState, now: number): void;
  /** The connection is over for the application. */
  released(connection: ConnectionState): void;
}

/** What is remembered about destinations. */
export interface PeerKnowledge {
  rememberVersion(remote: Uint8Array, port: number, version: VersionNumber, until: number): void;
  rememberBlackHole(remote: Uint8Array, port: number, now: number, timeout: number): void;
  forgetBlackHole(remote: Uint8Array, port: number): void;
}

/** How a subflow came to be. */
export interface SubflowOrigin {
  /** Opened by us. */
  readonly active: boolean;
  /** Started with MP_JOIN. */
  readonly joining: boolean;
  readonly localId: number;
  /** -1: not known before the SYN+ACK. */
  readonly remoteId: number;
  /** We ask the peer to treat it as backup. */
  readonly backup: boolean;
}

/** The ends of a subflow to open; port 0 asks for a free one. */
export interface OpenEnds {
  readonly local: Uint8Array;
  readonly localPort: number;
  readonly remote: Uint8Array;
  readonly remotePort: number;
  readonly device: string | null;
}

/** Something to say about addresses: an announcement until echoed, an echo or a removal once. */
export type PendingAnnouncement = {
  id: number;
  /** Transmissions so far. */
  tries: number;
  nextAt: number;
} & ({ kind: 'add' | 'echo'; address: Uint8Array; port: number | null } | { kind: 'remove'; ids: readonly number[] });

/** Data [position, end) that must go out again, preferably not on the subflow it was stuck on. */
export interface ReinjectionRange {
  position: number;
  end: number;
  avoid: SubflowState | null;
}

/** A mapping the peer declared. */
export interface ReceivedMapping {
  position: number;
  end: number;
  dataPosition: number;
  /** Data-level length: one more than the bytes when DATA_FIN is included. */
  dataLength: number;
  /** -1 when it carried none. */
  checksum: number;
  dsnHigh: number;
  dsnLow: number;
}

/** Payload of a checksummed mapping, held until the mapping is complete. */
export interface PendingMapping {
  mapping: ReceivedMapping;
  received: ReceiveQueue;
}

/** One question to the scheduler, filled anew for each: the request, and the room of each subflow under it. */
export interface SchedulingRound extends SchedulingRequest {
  length: number;
  avoid: SubflowState | null;
  window: number;
  now: number;
  /** Nagle (RFC 9293 §3.7.4), over the whole connection: a small tail of new data waits for the acknowledgement of what is out. */
  held: boolean;
  readonly roomOf: RoomOf;
}

/** What identifies a connection from its start. */
export interface ConnectionOrigin {
  readonly id: number;
  /** Opened by us. */
  readonly active: boolean;
  /** Listener that accepted it, -1 for active ones. */
  readonly listener: number;
  readonly localPort: number;
  readonly remoteAddress: Uint8Array;
  readonly remotePort: number;
  readonly multipath: boolean;
}

export abstract class ConnectionState implements ManagedConnection, ScheduledConnection {
  readonly id: number;
  readonly host: MptcpContext;
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
  phase: Phase = PHASE.opening;
  closeReason: CloseReason | null = null;
  fallbackReason: FallbackReason | null = null;

  // Keys (RFC 8684 §3.1).
  local: KeyMaterial | null = null;
  remote: KeyMaterial | null = null;
  /** Ours of the joins that come to us; made with the first. */
  joinAnswers: JoinHmac | null = null;
  checksum: boolean;
  peerDeniesJoin = false;
  pathManagerTold = false;
  /** A DSS option has arrived: both directions carry the options. */
  confirmed = false;
  /** More than one subflow has carried data at some time: fallback is no longer possible without a gap. */
  everJoined = false;

  subflows: SubflowState[] = [];
  nextSubflowId = 0;
  scheduler: Scheduler | null = null;
  pathManager: PathManager | null = null;
  /** Questions to the scheduler; made with the first data. */
  round: SchedulingRound | null = null;
  /** Congestion states for coupled control. */
  views: readonly CongestionView[] = [];

  // Send side, data positions.
  readonly sendBuffer = new SendBuffer();
  dataUna = 1;
  dataNxt = 1;
  dataWndEdge = 1;
  /** Widest window the peer has offered. */
  maxDataWnd = 0;
  sendLimit: number;
  sendClosed = false;
  finSent = false;
  finAcknowledged = false;
  wantsWritable = false;
  /** The application has closed: it will not read either. */
  abandoned = false;
  noDelay: boolean;
  reinjections: IntervalList<ReinjectionRange> | null = null;
  reinjectedBytes = 0;
  /** Offset from subflow to data positions after fallback. */
  sendDelta = 0;

  // Receive side.
  readonly received: ReceiveQueue;
  dataRcvNxt = 1;
  /** Right edge of the window offered; never moves left (RFC 8684 §3.3.4). */
  dataRcvEdge = 1;
  receiveLimit: number;
  outOfOrder: OutOfOrder | null = null;
  remoteFin = -1;
  /** When a DATA_FIN that came again was last answered. */
  finAnsweredAt = Number.NEGATIVE_INFINITY;
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

  constructor(host: MptcpContext, origin: ConnectionOrigin) {
    this.host = host;
    this.id = origin.id;
    this.active = origin.active;
    this.listener = origin.listener;
    this.localPort = origin.localPort;
    this.remoteAddress = origin.remoteAddress;
    this.remotePort = origin.remotePort;
    this.mode = origin.multipath ? MODE.mptcp : MODE.tcp;
    this.checksum = host.mptcp.checksum;
    this.sendLimit = host.tcp.sendBuffer;
    this.receiveLimit = host.tcp.receiveBuffer;
    this.noDelay = !host.tcp.nagle;
    this.keepaliveIdle = host.tcp.keepaliveIdle;
    this.received = new ReceiveQueue(host.chunks);
    this.dataRcvEdge = 1 + this.receiveLimit;
  }

  // Commands of path managers and schedulers, see their interfaces; the application's calls are in `connection.ts`.
  abstract join(request: JoinRequest, now: number): SubflowState | null;
  abstract announce(addressId: number, address: Uint8Array, port: number | null, now: number): void;
  abstract withdraw(addressIds: readonly number[], now: number): void;
  abstract dropSubflow(subflow: ManagedSubflow, now: number): void;
  abstract setBackup(subflow: ManagedSubflow, backup: boolean, now: number): void;
  abstract localIdOf(address: Uint8Array): number;
  abstract reinject(subflow: ScheduledSubflow, now: number): void;

  /** Enters a subflow. */
  addSubflow(subflow: SubflowState): void {
    // An array of its own length: one that has grown by `push` keeps room for seventeen.
    this.subflows = this.subflows.length === 0 ? [subflow] : this.subflows.concat(subflow);
  }

  /** Port of our end at the start: joins may always come to it. */
  get initialLocalPort(): number {
    return this.localPort;
  }

  /** Whether the connection is established and not yet closed. */
  get open(): boolean {
    return this.phase === PHASE.open;
  }

  get closed(): boolean {
    return this.phase === PHASE.closed;
  }

  /** Bytes that wait for earlier ones of another subflow. */
  get outOfOrderBytes(): number {
    return this.outOfOrder?.bytes ?? 0;
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

  /** Files the connection anew under its next deadline. */
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

/** A connection whose keys are both known: only then can options be checked or made that the keys cover (RFC 8684 §3.1). */
export type KeyedConnection = ConnectionState & { local: KeyMaterial; remote: KeyMaterial };

export function hasKeys(connection: ConnectionState): connection is KeyedConnection {
  return connection.local !== null && connection.remote !== null;
}

/** State of one subflow: what Multipath TCP keeps about a TCP connection of its own. */
export class SubflowState implements ManagedSubflow {
  readonly id: number;
  readonly connection: ConnectionState;
  readonly active: boolean;
  /** Started with MP_JOIN. */
  readonly joining: boolean;
  tcb!: Tcb;

  // Addresses and priority.
  localId: number;
  remoteId: number;
  /** We asked the peer to treat it as backup; the peer asked us. */
  localBackup: boolean;
  remoteBackup = false;

  // Handshake of a join (RFC 8684 §3.2).
  localNonce = 0;
  remoteNonce = 0;
  /** Our HMAC of the third ACK or SYN+ACK. */
  hmac: Uint8Array | null = null;
  joinAckAt = 0;
  joinAckTries = 0;

  /** Data may flow. */
  established = false;
  wasEstablished = false;
  closed = false;
  /** The peer has sent its FIN, or we are about to. */
  closing = false;
  /** Timed out at least once since anything was acknowledged. */
  stale = false;
  carriedData = false;
  /** Another version is being tried instead: its end does not concern the connection. */
  replaced = false;
  /** Data sent and received on Fast Open SYNs: subflow sequence numbers of mappings do not count it (RFC 8684 appendix B.2). */
  sendOffset = 0;
  receiveOffset = 0;
  /** Bytes of the data stream up to which this subflow has had its copy (redundant scheduling). */
  copied = 0;
  /** End of the last bytes sent here to unblock the shared window. */
  copiedHead = 0;
  /** Not penalised again before this time. */
  penalisedUntil = 0;

  // Received mappings.
  mappings: IntervalList<ReceivedMapping> | null = null;
  pendingMapping: PendingMapping | null = null;
  /** We have fallen back, the peer still maps its data. */
  peerMaps = false;

  // Signals to send with the next segment.
  priorityPending = false;
  failPending = false;
  failPosition = 0;
  /** MP_FAIL is out and the peer still sends mappings: repeat it; reset at this time (0: no). */
  failUntil = 0;
  infinitePending = false;
  /** The last ACK had no room for everything: another one follows. */
  moreToSay = false;
  fastclose = false;
  /** MP_TCPRST of the reset to send, -1 for none; and of the one received. */
  resetReason = -1;
  resetTransient = false;
  peerResetReason = -1;
  peerResetTransient = false;

  // Path removal and silence.
  /** Its local address was withdrawn (REMOVE_ADDR). */
  withdrawn = false;
  condemnedAt = 0;
  silenceProbes = 0;
  probedFrom = 0;
  /** Acknowledgements of data that came without DATA_ACK, in a row. */
  bareAcks = 0;
  lastBareAck = 1;
  /** A DATA_ACK has come on this subflow. */
  dataAcked = false;

  bytesScheduled = 0;
  bytesReceived = 0;
  reinjectedBytes = 0;

  constructor(connection: ConnectionState, id: number, origin: SubflowOrigin) {
    this.connection = connection;
    this.id = id;
    this.active = origin.active;
    this.joining = origin.joining;
    this.localId = origin.localId;
    this.remoteId = origin.remoteId;
    this.localBackup = origin.backup;
  }

  /** Backup for sending: either side has asked for it (RFC 8684 §3.3.8). */
  get backup(): boolean {
    return this.remoteBackup || this.localBackup;
  }

  requestAck(): void {
    this.tcb.ackNow = true;
    this.connection.host.wake(this.tcb);
  }
}
