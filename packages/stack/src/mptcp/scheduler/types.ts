/** The interface of a packet scheduler: which subflow takes the next bytes. */
import type { CongestionView } from '../../tcp/congestion/types.ts';

/** What a scheduler sees of a subflow's TCP. Bytes and microseconds. */
export interface PathView extends CongestionView {
  readonly rttvar: number;
  /** The interface it goes through. */
  readonly interface: { readonly name: string };
  readonly lostBytes: number;
  /** When the oldest unacknowledged data was first sent; 0 when none is. */
  readonly unackedSince: number;
  readonly lastReceivedAt: number;
  readonly retransmissions: number;
  readonly timeouts: number;
  /** Data was handed down and has not left yet: the subflow takes the next piece when it has. */
  readonly hasUnsent: boolean;
}

/** What a scheduler sees of a subflow. */
export interface ScheduledSubflow {
  readonly id: number;
  /** Either side asked for it to be used only when no other works (RFC 8684 §3.3.8). */
  readonly backup: boolean;
  /** Timed out since anything was acknowledged. */
  readonly stale: boolean;
  readonly tcb: PathView;
}

/** What a scheduler may do about a connection when one of its paths is in doubt. */
export interface ScheduledConnection {
  readonly subflows: readonly ScheduledSubflow[];
  /** Queues what the subflow holds to be sent again on another one (RFC 8684 §3.3.6). */
  reinject(subflow: ScheduledSubflow, now: number): void;
}

/** What a scheduler is asked for. */
export interface SchedulingRequest {
  /** Bytes that wait. */
  readonly length: number;
  /** The subflow whose failure made these bytes wait again; it must not get them back. Null for new data. */
  readonly avoid: ScheduledSubflow | null;
  /** Bytes the peer's window still takes beyond what was handed out (Infinity for data sent again). */
  readonly window: number;
  /** Microseconds. */
  readonly now: number;
}

/** Bytes a subflow may take now; less than a segment counts as none. */
export type RoomOf = (subflow: ScheduledSubflow) => number;

export interface Scheduler {
  readonly name: string;
  /** Picks among the subflows that may send (established, not closing). Null: wait. */
  select(subflows: readonly ScheduledSubflow[], request: SchedulingRequest, roomOf: RoomOf): ScheduledSubflow | null;
  /** Every subflow gets every byte, each at its own pace; `select` then only says which of them may be used at all. */
  readonly redundant?: boolean;
  /** A subflow has not acknowledged for longer than it should (its tail-loss probe fires): what it holds may be sent again elsewhere. */
  onDoubt?(connection: ScheduledConnection, subflow: ScheduledSubflow, now: number): void;
}

export type SchedulerFactory = () => Scheduler;

/** Subflows that are to be used at present: those without backup flag while one of them works, the others when none does (RFC 8684 §3.3.8). */
export function preferred(subflows: readonly ScheduledSubflow[], avoid: ScheduledSubflow | null): readonly ScheduledSubflow[] {
  const works = (subflow: ScheduledSubflow): boolean => !subflow.backup && !subflow.stale && subflow !== avoid;
  if (subflows.length === 1 && subflows[0] !== avoid) return subflows;
  if (subflows.some(works)) return subflows.every(works) ? subflows : subflows.filter(works);
  const backups = subflows.filter((subflow) => subflow !== avoid && subflow.backup && !subflow.stale);
  if (backups.length > 0) return backups;
  // All are doubtful: whatever can send.
  return subflows.filter((subflow) => subflow !== avoid);
}

/** The subflow with the smallest smoothed RTT that has room. */
export function fastestWithRoom(subflows: readonly ScheduledSubflow[], roomOf: RoomOf): ScheduledSubflow | null {
  let best: ScheduledSubflow | null = null;
  for (const subflow of subflows) if (roomOf(subflow) > 0 && (best === null || subflow.tcb.srtt < best.tcb.srtt)) best = subflow;
  return best;
}

/** The subflow with the smallest smoothed RTT, whether it has room or not. */
export function fastest(subflows: readonly ScheduledSubflow[]): ScheduledSubflow | null {
  let best: ScheduledSubflow | null = null;
  for (const subflow of subflows) if (best === null || subflow.tcb.srtt < best.tcb.srtt) best = subflow;
  return best;
}
