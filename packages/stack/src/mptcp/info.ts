/** Snapshots of a connection and its subflows: what the kernel gives as MPTCP_INFO, MPTCP_FULL_INFO and TCP_INFO. */
import { formatEndpoint } from '@subflow/wire';
import type { FallbackReason } from '../events.ts';
import { MODE, PHASE } from './state.ts';
import type { ConnectionState, Phase, SubflowState } from './state.ts';
import type { VersionNumber } from './version.ts';
import { CONGESTION, STATE_NAMES } from '../tcp/state.ts';

/** Times in microseconds, sizes in bytes. */
export interface SubflowInfo {
  id: number;
  local: string;
  remote: string;
  interface: string;
  localId: number;
  remoteId: number;
  /** TCP state by its RFC 9293 name. */
  state: string;
  established: boolean;
  active: boolean;
  joined: boolean;
  /** We asked for backup, the peer asked for it. */
  localBackup: boolean;
  remoteBackup: boolean;
  /** Timed out since anything was acknowledged. */
  stale: boolean;
  mss: number;
  pathMtu: number;
  srtt: number;
  rttvar: number;
  minRtt: number;
  rto: number;
  cwnd: number;
  ssthresh: number;
  congestion: string;
  congestionState: 'open' | 'recovery' | 'loss';
  /** Bytes per second; 0: not paced. */
  pacingRate: number;
  inFlight: number;
  lost: number;
  sacked: number;
  sendWindow: number;
  receiveWindow: number;
  bytesSent: number;
  bytesAcknowledged: number;
  bytesReceived: number;
  bytesRetransmitted: number;
  bytesReinjected: number;
  segmentsSent: number;
  segmentsReceived: number;
  retransmissions: number;
  timeouts: number;
  lastReceivedAt: number;
  lastSentAt: number;
  timestamps: boolean;
  sack: boolean;
  ecn: boolean;
}

export interface ConnectionInfo {
  id: number;
  multipath: boolean;
  version: VersionNumber | null;
  fallback: FallbackReason | null;
  /** Unsigned; 0 without Multipath TCP. */
  localToken: number;
  remoteToken: number;
  checksum: boolean;
  phase: Phase;
  active: boolean;
  scheduler: string | null;
  pathManager: string | null;
  service: string | null;
  /** Subflows beyond the first, and the limits. */
  subflows: number;
  subflowsLimit: number;
  addressesAnnounced: number;
  addressesAccepted: number;
  addressesAcceptedLimit: number;
  bytesWritten: number;
  bytesRead: number;
  bytesAcknowledged: number;
  bytesReceived: number;
  bytesReinjected: number;
  bytesDuplicate: number;
  bytesOutOfOrder: number;
  sendBuffered: number;
  sendLimit: number;
  receiveBuffered: number;
  receiveLimit: number;
  /** Data-level retransmission timeouts since progress. */
  dataTimeouts: number;
  subflowInfo: SubflowInfo[];
}

export function connectionInfo(connection: ConnectionState): ConnectionInfo {
  const multipath = connection.mode === MODE.mptcp;
  const { host } = connection;
  return {
    id: connection.id,
    multipath,
    version: multipath ? connection.version.number : null,
    fallback: connection.fallbackReason,
    localToken: multipath ? (connection.local?.token ?? 0) >>> 0 : 0,
    remoteToken: multipath ? (connection.remote?.token ?? 0) >>> 0 : 0,
    checksum: multipath && connection.checksum,
    phase: connection.phase,
    active: connection.active,
    scheduler: connection.scheduler?.name ?? null,
    pathManager: connection.pathManager?.name ?? null,
    service: connection.service,
    subflows: Math.max(0, connection.subflows.length - 1),
    subflowsLimit: host.limits.subflows,
    addressesAnnounced: connection.announcements?.filter((one) => one.kind === 'add').length ?? 0,
    addressesAccepted: connection.acceptedAddresses,
    addressesAcceptedLimit: host.limits.addressesAccepted,
    bytesWritten: connection.bytesWritten,
    bytesRead: connection.bytesRead,
    bytesAcknowledged: connection.dataUna - 1,
    bytesReceived: connection.dataRcvNxt - 1 - (connection.receiveEnded && multipath ? 1 : 0),
    bytesReinjected: connection.reinjectedBytes,
    bytesDuplicate: connection.duplicateBytes,
    bytesOutOfOrder: connection.outOfOrderBytes,
    sendBuffered: connection.phase === PHASE.closed ? 0 : connection.sendBuffer.length,
    sendLimit: connection.sendLimit,
    receiveBuffered: connection.received.length,
    receiveLimit: connection.receiveLimit,
    dataTimeouts: connection.dataTimeouts,
    subflowInfo: connection.subflows.map(subflowInfo),
  };
}

export function subflowInfo(subflow: SubflowState): SubflowInfo {
  const { tcb } = subflow;
  return {
    id: subflow.id,
    local: formatEndpoint(tcb.local, tcb.localPort),
    remote: formatEndpoint(tcb.remote, tcb.remotePort),
    interface: tcb.interface.name,
    localId: subflow.localId,
    remoteId: subflow.remoteId,
    state: STATE_NAMES[tcb.state] ?? 'CLOSED',
    established: subflow.established,
    active: subflow.active,
    joined: subflow.joining,
    localBackup: subflow.localBackup,
    remoteBackup: subflow.remoteBackup,
    stale: subflow.stale,
    mss: tcb.mss,
    pathMtu: tcb.pathMtu,
    srtt: tcb.srtt,
    rttvar: tcb.rttvar,
    minRtt: tcb.minRtt,
    rto: tcb.rto,
    cwnd: tcb.cwnd,
    ssthresh: tcb.ssthresh,
    congestion: tcb.congestion.name,
    congestionState: tcb.congestionState === CONGESTION.open ? 'open' : tcb.congestionState === CONGESTION.recovery ? 'recovery' : 'loss',
    pacingRate: tcb.pacingRate * 1e6,
    inFlight: tcb.inFlight,
    lost: tcb.lostBytes,
    sacked: tcb.sackedBytes,
    sendWindow: Math.max(0, tcb.sndWndEdge - tcb.sndNxt),
    receiveWindow: Math.max(0, tcb.rcvEdge - tcb.rcvNxt),
    bytesSent: tcb.bytesSent,
    bytesAcknowledged: Math.max(0, tcb.sndUna - 1),
    bytesReceived: tcb.bytesReceived,
    bytesRetransmitted: tcb.bytesRetransmitted,
    bytesReinjected: subflow.reinjectedBytes,
    segmentsSent: tcb.segmentsSent,
    segmentsReceived: tcb.segmentsReceived,
    retransmissions: tcb.retransmissions,
    timeouts: tcb.timeouts,
    lastReceivedAt: tcb.lastReceivedAt,
    lastSentAt: tcb.lastSentAt,
    timestamps: tcb.timestamps,
    sack: tcb.sack,
    ecn: tcb.ecn,
  };
}
