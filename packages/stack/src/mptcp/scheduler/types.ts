/** The interface of a packet scheduler: which subflow takes the next bytes. */
import type { Subflow } from '../subflow.ts';

/** What a scheduler is asked for. */
export interface SchedulingRequest {
  /** Bytes that wait. */
  readonly length: number;
  /** The subflow whose failure made these bytes wait again; it must not get them back. Null for new data. */
  readonly avoid: Subflow | null;
}

export interface Scheduler {
  readonly name: string;
  /**
   * Picks among the subflows that may send (established, not closing). `roomOf` gives the bytes a subflow may take
   * now; less than a segment counts as none. Null: wait.
   */
  select(subflows: readonly Subflow[], request: SchedulingRequest, roomOf: (subflow: Subflow) => number): Subflow | null;
}

export type SchedulerFactory = () => Scheduler;
