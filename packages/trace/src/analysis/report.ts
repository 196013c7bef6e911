/** What is known of a connection, as plain values: for JSON, screens and pictures. Times are microseconds from the capture's first packet. */
import type { FallbackReason } from '@subflow/stack';
import { formatAddress } from '@subflow/wire';
import type { Connection, Subflow, SubflowKind, Vantage } from './connection.ts';
import type { Burst } from './data.ts';
import type { Side, TraceEvent } from './events.ts';
import type { Half, RetransmissionCause } from './half.ts';
import type { Distribution } from './samples.ts';
import { asksForChecksum } from './signalling.ts';
import type { AnnouncedAddress } from './side-state.ts';

export interface HalfReport {
  packets: number;
  dataPackets: number;
  /** Payload bytes, those sent again included. */
  bytes: number;
  wireBytes: number;
  /** Bytes of the data stream that this subflow brought first, and those that another had brought before. */
  dataBytes: number;
  reinjectedBytes: number;
  unmappedBytes: number;
  retransmittedPackets: number;
  retransmittedBytes: number;
  causes: Record<RetransmissionCause, number>;
  spurious: number;
  reordered: number;
  duplicateAcks: number;
  keepAlives: number;
  maxFlight: number;
  /** Bytes missing from the capture when later ones came by; acknowledged though never seen. */
  missedBytes: number;
  unseenBytes: number;
  rtt: Distribution | null;
  rttByTimestamps: Distribution | null;
  mss: number | null;
  windowScale: number | null;
  sackPermitted: boolean;
  timestamps: boolean;
  fastOpen: boolean;
  maxWindow: number;
  zeroWindows: number;
  /** Time with a closed window. */
  zeroTime: number;
  checksums: number;
  checksumFailures: number;
  ecnMarked: number;
  end: 'fin' | 'reset' | 'none';
}

export interface SubflowReport {
  number: number;
  /** As Wireshark's tcp.stream counts. */
  stream: number;
  kind: SubflowKind;
  /** The connection's side that opened it. */
  openedBy: Side;
  source: string;
  sourcePort: number;
  destination: string;
  destinationPort: number;
  firstPacket: number;
  start: number;
  end: number;
  established: boolean;
  /** From SYN to third ACK; null when not seen. */
  handshake: number | null;
  addressIds: [number, number];
  /** Backup flag by the connection's sides. */
  backup: [boolean, boolean];
  hmac: 'right' | 'wrong' | 'unchecked' | 'none';
  /** By the connection's sides: what the client and what the server sent. */
  sent: [HalfReport, HalfReport];
}

export interface DirectionReport {
  /** Bytes of the data stream, each once. */
  bytes: number;
  acknowledged: number;
  /** Bits per second from the first to the last byte. */
  goodput: number;
  maxFlight: number;
  reinjected: { bytes: number; sameSubflow: number; useful: number; wasted: number; bursts: readonly Burst[] };
  dataRtt: Distribution | null;
  /** Out-of-order queue where the capture was made. */
  queue: { max: number; maxTime: number | null; blockedTime: number; blockedCount: number };
  /** New bytes by subflow. */
  share: { subflow: number; bytes: number; part: number }[];
  scheduler: string;
  dataFin: { seen: boolean; acknowledged: boolean };
  unmappedBytes: number;
  /** Acknowledged by DATA_ACKs, not in the capture. */
  unseenBytes: number;
  longestGap: number;
}

export interface ConnectionReport {
  index: number;
  version: 0 | 1 | null;
  established: boolean;
  /** The capture has its first SYN. */
  fromTheBeginning: boolean;
  client: string;
  server: string;
  start: number;
  end: number;
  vantage: Vantage;
  tokens: [string | null, string | null];
  checksum: { askedByClient: boolean; askedByServer: boolean; used: boolean };
  joinsToInitialAddressDenied: boolean;
  fallback: { reason: FallbackReason; time: number; packet: number } | null;
  subflows: SubflowReport[];
  /** What the client sent, what the server sent. */
  directions: [DirectionReport, DirectionReport];
  announced: { byClient: AnnouncedAddress[]; byServer: AnnouncedAddress[] };
  events: readonly TraceEvent[];
  eventsNotKept: number;
  /** Beyond 256 subflows: counted, not analysed. */
  subflowsNotKept: number;
}

const DENIES_INITIAL = 0x20;

export function connectionReport(connection: Connection): ConnectionReport {
  const first = connection.subflows[0];
  const { start, end } = connection.span;
  const [client, server] = connection.sides;
  return {
    index: connection.index,
    version: connection.version,
    established: connection.established,
    fromTheBeginning: connection.whole,
    client: first?.sourceText ?? '',
    server: first?.destinationText ?? '',
    start,
    end,
    vantage: connection.vantage,
    tokens: [tokenText(client.token), tokenText(server.token)],
    checksum: { askedByClient: asksForChecksum(client.flags), askedByServer: asksForChecksum(server.flags), used: connection.checksum },
    joinsToInitialAddressDenied: connection.version === 1 && server.flags >= 0 && (server.flags & DENIES_INITIAL) !== 0,
    fallback: connection.fallback === null ? null : { reason: connection.fallback, time: connection.fallbackTime, packet: connection.fallbackPacket },
    subflows: connection.subflows.map(subflowReport),
    directions: [direction(connection, 0), direction(connection, 1)],
    announced: { byClient: [...client.addresses.values()], byServer: [...server.addresses.values()] },
    events: connection.events,
    eventsNotKept: connection.eventsBeyond,
    subflowsNotKept: connection.subflowsBeyond,
  };
}

export function subflowReport(subflow: Subflow): SubflowReport {
  const side = (by: Side): HalfReport => halfReport(subflow.halves[subflow.sideOf(by)], subflow, subflow.sideOf(by));
  const checked = subflow.hmacRight + subflow.hmacWrong;
  return {
    number: subflow.number,
    stream: subflow.stream,
    kind: subflow.kind,
    openedBy: subflow.flipped ? 1 : 0,
    source: formatAddress(subflow.sourceAddress),
    sourcePort: subflow.sourcePort,
    destination: formatAddress(subflow.destinationAddress),
    destinationPort: subflow.destinationPort,
    firstPacket: subflow.firstPacket,
    start: subflow.firstTime,
    end: subflow.lastTime,
    established: subflow.established,
    handshake: Number.isNaN(subflow.ackTime) ? null : subflow.ackTime - subflow.synTime,
    addressIds: [subflow.addressIds[subflow.sideOf(0)]!, subflow.addressIds[subflow.sideOf(1)]!],
    backup: [subflow.backup[subflow.sideOf(0)]!, subflow.backup[subflow.sideOf(1)]!],
    hmac: subflow.kind !== 'join' ? 'none' : subflow.hmacWrong > 0 ? 'wrong' : checked > 0 ? 'right' : 'unchecked',
    sent: [side(0), side(1)],
  };
}

function halfReport(half: Half, subflow: Subflow, side: Side): HalfReport {
  const mptcp = subflow.mptcp?.[side];
  return {
    packets: half.packets,
    dataPackets: half.dataPackets,
    bytes: half.bytes,
    wireBytes: half.wireBytes,
    dataBytes: mptcp?.dataBytes ?? 0,
    reinjectedBytes: mptcp?.reinjectedBytes ?? 0,
    unmappedBytes: mptcp?.unmapped ?? 0,
    retransmittedPackets: half.retransmittedPackets,
    retransmittedBytes: half.retransmittedBytes,
    causes: { ...half.causes },
    spurious: half.spurious,
    reordered: half.reordered,
    duplicateAcks: half.duplicateAcks,
    keepAlives: half.keepAlives,
    maxFlight: half.maxFlight,
    missedBytes: half.missedBytes,
    unseenBytes: half.unseenBytes,
    rtt: half.rtt.distribution(),
    rttByTimestamps: half.stampRtt.distribution(),
    mss: half.mss < 0 ? null : half.mss,
    windowScale: half.windowScale < 0 ? null : half.windowScale,
    sackPermitted: half.sackPermitted,
    timestamps: half.timestamps,
    fastOpen: half.fastOpen,
    maxWindow: half.maxWindow,
    zeroWindows: half.zeroWindows,
    zeroTime: half.zeroTime,
    checksums: mptcp?.checksums ?? 0,
    checksumFailures: mptcp?.checksumFailures ?? 0,
    ecnMarked: half.ecnMarked,
    end: half.resets > 0 ? 'reset' : half.fins > 0 ? 'fin' : 'none',
  };
}

function direction(connection: Connection, side: Side): DirectionReport {
  const { data } = connection.sides[side];
  const halves = connection.subflows.map((one) => ({ number: one.number, half: one.halves[one.sideOf(side)], mptcp: one.mptcp?.[one.sideOf(side)] }));
  const carried = halves.map(({ number, mptcp }) => ({ subflow: number, bytes: mptcp?.dataBytes ?? 0 }));
  const total = carried.reduce((sum, one) => sum + one.bytes, 0);
  const times = halves.filter(({ half }) => half.dataPackets > 0);
  const from = Math.min(...times.map(({ half }) => half.firstTime));
  const to = Math.max(...times.map(({ half }) => half.lastDataTime));
  // After a fallback to TCP, bytes have no mappings: those of the subflow count.
  const bytes = data.bytes + (connection.fallback === null ? 0 : data.unmappedBytes);
  return {
    bytes,
    acknowledged: data.acked - 1,
    goodput: to > from ? (bytes * 8e6) / (to - from) : 0,
    maxFlight: data.maxFlight,
    reinjected: {
      bytes: data.reinjectedBytes,
      sameSubflow: data.reinjectedSame,
      useful: data.reinjectedUseful,
      wasted: data.reinjectedWasted,
      bursts: data.bursts,
    },
    dataRtt: data.dataRtt.distribution(),
    queue: {
      max: data.maxQueue,
      maxTime: Number.isNaN(data.maxQueueTime) ? null : data.maxQueueTime,
      blockedTime: data.blockedTime,
      blockedCount: data.blockedCount,
    },
    share: carried.map((one) => ({ ...one, part: total === 0 ? 0 : one.bytes / total })),
    scheduler: schedulerPattern(connection, side, total),
    dataFin: { seen: data.finPosition >= 0, acknowledged: data.finAcked },
    unmappedBytes: data.unmappedBytes,
    unseenBytes: data.unseenBytes,
    longestGap: connection.pausesOf(side).reduce((most, one) => Math.max(most, one.end - one.start), 0),
  };
}

/**
 * The subflow's round-trip time. By sequence numbers it is whole only for what the capture's own end sent, by timestamps
 * for either: of all that was measured, the largest is the one that went all the way.
 */
export function roundTrip(subflow: SubflowReport): Distribution | null {
  let best: Distribution | null = null;
  for (const half of subflow.sent)
    for (const one of [half.rtt, half.rttByTimestamps]) if (one !== null && (best === null || one.median > best.median)) best = one;
  return best;
}

/** What the order of new data over the subflows looks like: a guess, and said to be one. */
function schedulerPattern(connection: Connection, side: Side, total: number): string {
  const { data } = connection.sides[side];
  const used = connection.subflows.filter((one) => (one.mptcp?.[one.sideOf(side)].dataBytes ?? 0) > 0);
  if (total === 0) return 'nothing sent';
  const packets = used.reduce((sum, one) => sum + one.halves[one.sideOf(side)].dataPackets, 0);
  if (data.reinjectedBytes > data.bytes * 0.4) return 'redundant: most bytes went out on more than one subflow';
  if (used.length === 1) return `one subflow (${used[0]!.number})`;
  const perTurn = packets / Math.max(1, data.turns);
  if (connection.vantage === (side === 0 ? 'server' : 'client') && data.turns > used.length + 2)
    return `arrives in turns of ${perTurn.toFixed(1)} segments (only a capture at the sender shows the scheduler's order)`;
  const shares = used.map((one) => (one.mptcp![one.sideOf(side)].dataBytes ?? 0) / total);
  if (perTurn < 2.5 && Math.max(...shares) < 0.65) return 'round robin: subflows take turns segment by segment';
  if (data.turns <= used.length + 2) return 'one subflow after the other';
  return `in turns of ${perTurn.toFixed(1)} segments, as lowest-RTT-first or window-limited scheduling gives`;
}

function tokenText(token: number | null): string | null {
  return token === null ? null : `0x${(token >>> 0).toString(16).padStart(8, '0')}`;
}
