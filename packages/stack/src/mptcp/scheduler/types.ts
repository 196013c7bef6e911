/** The interface of a packet scheduler: which subflow takes the next bytes. */
import type { Connection } from '../connection.ts';
import type { Subflow } from '../subflow.ts';

/** What a scheduler is asked for. */
export interface SchedulingRequest {
  /** Bytes that wait. */
  readonly length: number;
  /** The subflow whose failure made these bytes wait again; it must not get them back. Null for new data. */
  readonly avoid: Subflow | null;
  /** Bytes the peer's window still takes beyond what was handed out (Infinity for data sent again). */
  readonly window: number;
  /** Microseconds. */
  readonly now: number;
}

/** Bytes a subflow may take now; less than a segment counts as none. */
export type RoomOf = (subflow: Subflow) => number;

export interface Scheduler {
  readonly name: string;
  /** Picks among the subflows that may send (established, not closing). Null: wait. */
  select(subflows: readonly Subflow[], request: SchedulingRequest, roomOf: RoomOf): Subflow | null;
  /** Every subflow gets every byte, each at its own pace; `select` then only says which of them may be used at all. */
  readonly redundant?: boolean;
  /** A subflow has not acknowledged for longer than it should (its tail-loss probe fires): what it holds may be sent again elsewhere. */
  onDoubt?(connection: Connection, subflow: Subflow, now: number): void;
}

export type SchedulerFactory = () => Scheduler;

/** Subflows that are to be used at present: those without backup flag while one of them works, the others when none does (RFC 8684 §3.3.8). */
export function preferred(subflows: readonly Subflow[], avoid: Subflow | null): readonly Subflow[] {
  const works = (subflow: Subflow): boolean => !subflow.backup && !subflow.stale && subflow !== avoid;
  if (subflows.length === 1 && subflows[0] !== avoid) return subflows;
  if (subflows.some(works)) return subflows.every(works) ? subflows : subflows.filter(works);
  const backups = subflows.filter((subflow) => subflow !== avoid && subflow.backup && !subflow.stale);
  if (backups.length > 0) return backups;
  // All are doubtful: whatever can send.
  return subflows.filter((subflow) => subflow !== avoid);
}

/** The subflow with the smallest smoothed RTT that has room. */
export function fastestWithRoom(subflows: readonly Subflow[], roomOf: RoomOf): Subflow | null {
  let best: Subflow | null = null;
  for (const subflow of subflows) if (roomOf(subflow) > 0 && (best === null || subflow.tcb.srtt < best.tcb.srtt)) best = subflow;
  return best;
}

/** The subflow with the smallest smoothed RTT, whether it has room or not. */
export function fastest(subflows: readonly Subflow[]): Subflow | null {
  let best: Subflow | null = null;
  for (const subflow of subflows) if (best === null || subflow.tcb.srtt < best.tcb.srtt) best = subflow;
  return best;
}
