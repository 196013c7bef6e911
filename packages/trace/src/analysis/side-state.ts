/** One side of a connection: its key, its addresses, the data it sends and the subflow that carries it. */
import type { U64 } from '@subflow/wire';
import { DataDirection } from './data.ts';

/** The old subflow is silent this long: the traffic has moved. */
const MOVED_AFTER = 500_000;
/** Fewer bytes than this on the new subflow are a probe, not a move. */
const MOVED_BYTES = 2000;

export interface AnnouncedAddress {
  addressId: number;
  address: string;
  port: number | null;
  removed: boolean;
}

/** What one side said about itself. */
export class SideState {
  key: U64 | null = null;
  /** int32. */
  token: number | null = null;
  /** Flags of its MP_CAPABLE; -1 before it. */
  flags = -1;
  readonly data: DataDirection = new DataDirection();
  readonly addresses: Map<number, AnnouncedAddress> = new Map();
  /** Data that may have moved to another subflow. */
  private move: { from: number; to: number; time: number; packet: number; bytes: number } | null = null;
  private active = 0;

  /** New data on a subflow. Returns a move when one is certain by now. */
  traffic(subflow: number, bytes: number, time: number, packet: number): { from: number; to: number; time: number; packet: number } | null {
    if (this.active === 0) this.active = subflow;
    if (subflow === this.active) {
      this.move = null;
      return null;
    }
    if (this.move === null || this.move.to !== subflow) this.move = { from: this.active, to: subflow, time, packet, bytes: 0 };
    this.move.bytes += bytes;
    if (time - this.move.time < MOVED_AFTER || this.move.bytes < MOVED_BYTES) return null;
    const { move } = this;
    this.active = subflow;
    this.move = null;
    return move;
  }
}
