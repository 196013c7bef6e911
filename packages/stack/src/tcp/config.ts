/** Settings of a host's TCP. Times in microseconds, sizes in bytes. */
import type { CongestionFactory } from './congestion/types.ts';

export interface TcpConfig {
  /** Shortest retransmission timeout. RFC 6298 §2.4 says 1 s; Linux and RFC 8961 practice is 200 ms. */
  minRto: number;
  maxRto: number;
  initialRto: number;
  /** SYN retransmissions before giving up. */
  synRetries: number;
  synAckRetries: number;
  /** Consecutive retransmission timeouts before the connection is given up (RFC 9293 §3.8.3, R2). */
  maxRetransmits: number;
  delayedAck: number;
  /** 2·MSL (RFC 9293 §3.4.2 has MSL = 2 min; Linux waits 60 s in all). */
  timeWait: number;
  /** Connections in TIME-WAIT at most; the oldest makes room. */
  timeWaitLimit: number;
  /** How long FIN-WAIT-2 may last after the application has closed. */
  finWait2: number;
  /** 0 turns keepalive off (RFC 9293 §3.8.4: the default). */
  keepaliveIdle: number;
  keepaliveInterval: number;
  keepaliveProbes: number;
  /** 0: none. Unacknowledged data older than this aborts (RFC 5482). */
  userTimeout: number;
  /** First receive-buffer size and the limit auto-tuning may reach. */
  receiveBuffer: number;
  maxReceiveBuffer: number;
  sendBuffer: number;
  maxSendBuffer: number;
  timestamps: boolean;
  sack: boolean;
  windowScaling: boolean;
  /** Ask for ECN when connecting (RFC 3168 §6.1.1); it is always accepted when asked for. */
  ecn: boolean;
  nagle: boolean;
  /** A name (cubic, newreno, bbr) or a factory. */
  congestion: string | CongestionFactory;
  /** Challenge ACKs per second and host (RFC 5961 §7). */
  challengeAckLimit: number;
}

const SECOND = 1_000_000;

export const DEFAULT_TCP_CONFIG: TcpConfig = {
  minRto: 200_000,
  maxRto: 60 * SECOND,
  initialRto: SECOND,
  synRetries: 6,
  synAckRetries: 5,
  maxRetransmits: 12,
  delayedAck: 40_000,
  timeWait: 60 * SECOND,
  timeWaitLimit: 262_144,
  finWait2: 60 * SECOND,
  keepaliveIdle: 0,
  keepaliveInterval: 75 * SECOND,
  keepaliveProbes: 9,
  userTimeout: 0,
  receiveBuffer: 256 * 1024,
  maxReceiveBuffer: 16 * 1024 * 1024,
  sendBuffer: 256 * 1024,
  maxSendBuffer: 16 * 1024 * 1024,
  timestamps: true,
  sack: true,
  windowScaling: true,
  ecn: false,
  nagle: true,
  congestion: 'cubic',
  challengeAckLimit: 1000,
};
