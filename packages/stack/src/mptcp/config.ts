/** Settings of Multipath TCP. Times in microseconds. */
import type { CoupledFactory } from './congestion/controllers.ts';
import { defaultPathManager } from './path-manager/default.ts';
import type { PathManagerFactory } from './path-manager/types.ts';
import { lowestRtt } from './scheduler/lowest-rtt.ts';
import type { SchedulerFactory } from './scheduler/types.ts';
import type { VersionNumber } from './version.ts';

export interface MptcpConfig {
  /** Offer and accept Multipath TCP at all. */
  enabled: boolean;
  /** Versions offered when connecting: the first, and the next one when that is refused (RFC 8684 §3.1). */
  versions: readonly VersionNumber[];
  /** Versions accepted when listening. */
  acceptVersions: readonly VersionNumber[];
  /** How long it is remembered that a destination speaks an older version. */
  versionMemory: number;
  /** Require DSS checksums (flag A, RFC 8684 §3.1). */
  checksum: boolean;
  /**
   * The name of this server behind a load balancer, 1 to 255; 0: none. Keys are drawn until the first octet of their token is it,
   * and the last octet of every timestamp is it (Olteanu and Raiciu; `@subflow/balancer`, design c).
   */
  serverId: number;
  /** Set flag C: no joins to the initial address (RFC 8684 §3.1). */
  denyJoinInitial: boolean;
  /** SYNs sent with MP_CAPABLE before trying without (RFC 8684 §3.1 leaves the number to policy). */
  capableSyns: number;
  /** How long a destination that swallows MP_CAPABLE SYNs is offered plain TCP only; doubles when it happens again. 0: not remembered. */
  blackHoleTimeout: number;
  /** When SYNs are answered without keeping state (RFC 4987 §3.6). */
  synCookies: 'never' | 'when-full' | 'always';
  /** Half-open joins a connection keeps before further ones are answered with cookies. */
  pendingJoins: number;
  /** Tokens (connections) a host may have; beyond, new ones are plain TCP. */
  maxTokens: number;
  /** Further subflows per connection, both directions together. */
  maxSubflows: number;
  /** Announced addresses accepted per connection. */
  maxAddressesAccepted: number;
  /** ADD_ADDR transmissions without an echo before giving up. */
  addAddressTries: number;
  addAddressTimeout: number;
  /** How long a connection without any subflow waits for a new one (RFC 8684 §3.3.3). */
  closeTimeout: number;
  /** A subflow that receives nothing for this long while another one does is probed; 0 turns it off. */
  silenceTimeout: number;
  /** Probes without an answer before such a subflow is given up. */
  silenceProbes: number;
  silenceProbeInterval: number;
  /** First and longest wait between attempts to re-establish a lost subflow; 0 turns it off. */
  rejoinInterval: number;
  rejoinMaxInterval: number;
  /** Data-level retransmission timeouts without progress before the connection is given up. */
  maxDataRetransmits: number;
  /** How an abort is signalled: MP_FASTCLOSE on a RST (option R) or on an ACK that the peer answers (option A, RFC 8684 §3.5). */
  fastclose: 'reset' | 'ack';
  /** After MP_FAIL on the only subflow: how long the peer may stay silent before the subflow is reset. */
  failTimeout: number;
  /** When the shared window is full, send its first bytes again on a faster subflow (Raiciu et al., NSDI 2012, §4.2). */
  opportunisticRetransmission: boolean;
  /** Halve the window of the subflow that blocks the shared window (same paper). */
  penalisation: boolean;
  /** Coupled congestion control: none, lia, olia, balia, wvegas, or a factory. `none` leaves each subflow to the host's controller. */
  coupled: string | CoupledFactory;
  scheduler: SchedulerFactory;
  pathManager: PathManagerFactory;
}

/** How many subflows and addresses connections may have; changes count at once, also for open connections. */
export interface Limits {
  /** Further subflows per connection, both directions together. */
  subflows: number;
  /** Announced addresses that may be joined, per connection. */
  addressesAccepted: number;
}

export const DEFAULT_MPTCP_CONFIG: MptcpConfig = {
  enabled: true,
  versions: [1],
  acceptVersions: [1, 0],
  versionMemory: 600_000_000,
  checksum: false,
  serverId: 0,
  denyJoinInitial: false,
  capableSyns: 3,
  blackHoleTimeout: 3_600_000_000,
  synCookies: 'when-full',
  pendingJoins: 4,
  maxTokens: 4_000_000,
  maxSubflows: 8,
  maxAddressesAccepted: 8,
  addAddressTries: 4,
  addAddressTimeout: 200_000,
  closeTimeout: 60_000_000,
  silenceTimeout: 600_000,
  silenceProbes: 3,
  silenceProbeInterval: 300_000,
  rejoinInterval: 500_000,
  rejoinMaxInterval: 1_000_000,
  maxDataRetransmits: 15,
  fastclose: 'reset',
  failTimeout: 120_000_000,
  opportunisticRetransmission: true,
  penalisation: true,
  coupled: 'none',
  scheduler: lowestRtt,
  pathManager: defaultPathManager,
};
