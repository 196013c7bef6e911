/** What coupled controllers share: the congestion states of all subflows of their connection. */
import type { CongestionView } from '../../tcp/congestion/types.ts';

export interface CoupledGroup {
  readonly views: readonly CongestionView[];
}

/** Halving, for every controller that leaves the decrease to Reno (RFC 6356 §3, RFC 5681 §3.1). */
export function halved(view: CongestionView): number {
  return Math.max(view.cwnd / 2, 2 * view.mss);
}

/** Window growth in fractions of a segment: whole bytes are added, the rest is kept for the next ACK. */
export class Growth {
  private rest = 0;

  add(view: CongestionView, bytes: number): void {
    this.rest += bytes;
    const whole = Math.trunc(this.rest);
    this.rest -= whole;
    view.cwnd = Math.max(view.cwnd + whole, 2 * view.mss);
  }
}
