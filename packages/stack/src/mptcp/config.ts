/** Settings of Multipath TCP. Times in microseconds. */
import type { SchedulerFactory } from './scheduler/types.ts';
import { lowestRtt } from './scheduler/lowest-rtt.ts';
import type { PathManagerFactory } from './path-manager/types.ts';
import { defaultPathManager } from './path-manager/default.ts';

export interface MptcpConfig {
  /** Offer and accept Multipath TCP at all. */
  enabled: boolean;
  /** Require DSS checksums (flag A, RFC 8684 §3.1). */
  checksum: boolean;
  /** Set flag C: no joins to the initial address (RFC 8684 §3.1). */
  denyJoinInitial: boolean;
  /** SYNs sent with MP_CAPABLE before trying without (RFC 8684 §3.1 leaves the number to policy). */
  capableSyns: number;
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
  /** Coupled congestion control; `none` leaves each subflow to the host's controller. */
  coupled: 'none' | 'lia';
  scheduler: SchedulerFactory;
  pathManager: PathManagerFactory;
}

export const DEFAULT_MPTCP_CONFIG: MptcpConfig = {
  enabled: true,
  checksum: false,
  denyJoinInitial: false,
  capableSyns: 3,
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
  coupled: 'none',
  scheduler: lowestRtt,
  pathManager: defaultPathManager,
};
