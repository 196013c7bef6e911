/** The transmission control block: all state of one TCP connection (RFC 9293 §3.3.1). Data only; the mechanisms are in the files beside it. */
import { sum } from '@subflow/wire';
import type { Segment } from '@subflow/wire';
import type { Demultiplexed, Ends } from '../ends.ts';
import type { Interface } from '../interface.ts';
import type { AnswerBudgets } from './answer-budget.ts';
import type { TcpConfig } from './config.ts';
import type { CongestionControl } from './congestion/types.ts';
import { DeliveryRate } from './delivery-rate.ts';
import type { FastOpen } from './fast-open.ts';
import type { OutOfOrder } from './out-of-order.ts';
import { RetransmissionQueue } from './retransmission-queue.ts';
import { CONGESTION, STATE } from './state.ts';
import type { CongestionState, OwnFin, PeerFin, State } from './state.ts';
import type { TcpUser } from './user.ts';

/** What a connection needs from the host around it. */
export interface TcpContext {
  readonly tcp: TcpConfig;
  wake(tcb: Tcb): void;
  /** The connection's deadlines changed. */
  reschedule(tcb: Tcb): void;
  count(reason: string): void;
  /** Chance for budgets; signed 32 bits. */
  random32(): number;
  /** Grants or refuses one challenge ACK (RFC 5961 §7). */
  challengeAck(now: number): boolean;
  /** Sends RST <SEQ=SEG.ACK> in answer to a segment; the connection stays as it is (RFC 9293 §3.10.7.3, §3.10.7.4). */
  refuse(tcb: Tcb, segment: Segment): void;
  /** A Fast Open cookie to remember for the peer; null: the one used was not accepted. */
  fastOpenCookie(tcb: Tcb, cookie: Uint8Array | null): void;
  removed(tcb: Tcb): void;
  congestionEvent(tcb: Tcb, kind: 'fast-recovery' | 'timeout' | 'tail-loss-probe' | 'recovered' | 'ecn', now: number): void;
}

/** No limit yet known. */
export const INFINITE_SSTHRESH = 0x7fffffff;

export class Tcb implements Demultiplexed {
  readonly kind = 'tcb';
  state: State = STATE.closed;
  readonly context: TcpContext;
  user: TcpUser;
  interface: Interface;

  // Addressing: words as in the wire package's Segment.
  readonly ipVersion: number;
  readonly local: Uint8Array;
  readonly remote: Uint8Array;
  readonly localPort: number;
  readonly remotePort: number;
  /** For IPv4 the addresses as words; for both families the sum of their 16-bit words, of which headers are made. */
  readonly localWord: number;
  readonly remoteWord: number;
  readonly addressSum: number;
  /** Demultiplexing hash and chain. */
  hash = 0;
  chain: Demultiplexed | null = null;
  queued = false;
  /** Index in the host's timer table, -1 when not in it, and the time it is filed under. */
  timerIndex = -1;
  timerAt = 0;

  // Send sequence space, in positions.
  readonly iss: number;
  sndUna = 0;
  sndNxt = 0;
  /** Position after the last byte queued. */
  sndEnd = 1;
  /** Right edge of the peer's window, and of the widest it has offered. */
  sndWndEdge = 1;
  offeredEdge = 1;
  sndWnd = 0;
  maxSndWnd = 0;
  sndWl1 = 0;
  sndWl2 = 0;
  sndScale = 0;
  fin: OwnFin = 'none';
  readonly queue = new RetransmissionQueue();

  // Receive sequence space.
  irs = 0;
  rcvNxt = 0;
  /** Right edge of the window we advertised; never moves left (RFC 9293 §3.8.6). */
  rcvEdge = 0;
  rcvScale = 0;
  outOfOrder: OutOfOrder | null = null;
  peerFin: PeerFin = 'none';
  /** Position of the peer's FIN; counts while `peerFin` is `ahead`. */
  finPosition = 0;
  dsackLeft = 0;
  dsackRight = 0;

  // Segment sizes.
  peerMss = 536;
  pathMtu: number;
  /** Payload bytes of a full segment, options taken off. */
  mss = 536;
  /** Size of the peer's segments, estimated (RFC 9293 §3.8.6.3 wants an ACK per two full ones). */
  rcvMss = 536;

  // Options in use.
  timestamps = false;
  sack = false;
  ecn = false;
  tsRecent = 0;
  tsRecentAt = 0;
  lastAckSent = 0;
  tsOffset = 0;
  /** Last octet of every timestamp; 0: whatever the clock says. */
  tsStamp = 0;

  // RTT (RFC 6298), microseconds.
  srtt = 0;
  rttvar = 0;
  rto: number;
  backoff = 0;
  minRtt = 0;
  minRttAt = 0;
  lastRtt = 0;

  // Congestion.
  congestion: CongestionControl;
  /** Only for controllers that want rates. */
  readonly deliveryRate: DeliveryRate | null;
  /** Bytes per microsecond, 0: not paced; and when the next transmission may start. */
  pacingRate = 0;
  pacedUntil = 0;
  paceAt = 0;
  congestionState: CongestionState = CONGESTION.open;
  cwnd = 0;
  ssthresh = INFINITE_SSTHRESH;
  recoveryPoint = 0;
  cwndLimited = false;
  dupAcks = 0;
  // Proportional rate reduction (RFC 6937).
  prrDelivered = 0;
  prrOut = 0;
  prrFlight = 0;
  // RACK-TLP (RFC 8985).
  rackSentAt = 0;
  rackEnd = 0;
  rackRtt = 0;
  rackReordering = false;
  rackWindowMultiplier = 1;
  rackDsackRound = -1;
  rackPersist = 16;
  tlpEnd = -1;
  tlpRetransmission = false;
  tlpPending = false;
  // ECN (RFC 3168 §6.1).
  ecnEcho = false;
  ecnReducedAt = 0;
  ecnSendCwr = false;

  // Timers: absolute times, 0 when off.
  retransmitAt = 0;
  probeAt = 0;
  reorderAt = 0;
  delayedAckAt = 0;
  persistAt = 0;
  /** When the window was found closed with something waiting; 0 while it is not (RFC 9293 §3.8.6.1). */
  persistSince = 0;
  /** Probes since then: the time between them doubles. */
  persistBackoff = 0;
  keepaliveAt = 0;
  /** Idle time after which probes begin, 0 for never; the host's setting unless the application asks for another. */
  keepaliveIdle: number;
  closeAt = 0;
  /** Probes since the last answer. */
  persistCount = 0;
  keepaliveCount = 0;
  synCount = 0;
  timeouts = 0;
  /** Since when something has been unacknowledged without progress; 0 when nothing is. */
  unackedSince = 0;
  lastReceivedAt = 0;
  lastSentAt = 0;

  // Output requests.
  ackNow = false;
  /** A bare ACK goes out before any data: it has something to say that data segments have no room for. */
  ackFirst = false;
  ackPending = 0;
  quickAcks = 16;
  synPending = false;
  /** We have sent the SYN: a SYN+ACK may answer it. */
  activeOpen = false;
  /** TCP Fast Open (RFC 7413), null when not used. */
  fastOpen: FastOpen | null = null;
  resetPending = false;
  /** An empty segment below SND.UNA is due, which the peer must answer: keepalive, window probe. */
  probePending = false;
  /** The next segment may be smaller than silly-window avoidance allows (RFC 9293 §3.8.6.2.1, 4), or an octet beyond a shrunken window. */
  override = false;
  /** Budgets of answers to unacceptable segments; null until one came. */
  answerBudgets: AnswerBudgets | null = null;
  /** Nobody will read any more: FIN-WAIT-2 may time out. */
  orphaned = false;
  blackHoleTimeouts = 0;

  // Counters for snapshots.
  bytesSent = 0;
  bytesReceived = 0;
  bytesRetransmitted = 0;
  segmentsSent = 0;
  segmentsReceived = 0;
  retransmissions = 0;

  // What others read of the queue.

  /** Bytes sent and neither acknowledged, SACKed nor taken for lost. */
  get inFlight(): number {
    return this.queue.inFlight;
  }

  get lostBytes(): number {
    return this.queue.lostBytes;
  }

  get sackedBytes(): number {
    return this.queue.sackedBytes;
  }

  /** Data was handed down and has not left yet. */
  get hasUnsent(): boolean {
    return this.queue.unsent !== null;
  }

  get outOfOrderBytes(): number {
    return this.outOfOrder?.bytes ?? 0;
  }

  constructor(context: TcpContext, user: TcpUser, origin: { interface: Interface; ends: Ends; iss: number }, congestion: CongestionControl) {
    const { ends } = origin;
    this.context = context;
    this.user = user;
    this.interface = origin.interface;
    this.ipVersion = ends.local.length === 4 ? 4 : 6;
    this.local = ends.local;
    this.localPort = ends.localPort;
    this.remote = ends.remote;
    this.remotePort = ends.remotePort;
    this.localWord = wordOf(ends.local);
    this.remoteWord = wordOf(ends.remote);
    this.addressSum = sum(ends.local, 0, ends.local.length, sum(ends.remote, 0, ends.remote.length));
    this.iss = origin.iss;
    this.pathMtu = origin.interface.mtu;
    this.rto = context.tcp.initialRto;
    this.keepaliveIdle = context.tcp.keepaliveIdle;
    this.congestion = congestion;
    this.deliveryRate = congestion.onSample === undefined ? null : new DeliveryRate();
    this.cwnd = 10 * this.mss;
  }
}

/** The first four octets as one word, signed int32. */
function wordOf(address: Uint8Array): number {
  return (address[0]! << 24) | (address[1]! << 16) | (address[2]! << 8) | address[3]!;
}
