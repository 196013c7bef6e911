/**
 * Interactive: the lowest latency for small messages. Data goes where it is expected to arrive first, counting what
 * already waits on a path; when the best path turns doubtful, what it holds, if it is little, is sent again on the
 * next best one at once. While any path has lost something lately, small messages go out on every path: the copy costs
 * little, a retransmission timeout costs several round trips.
 */
import { isFading } from './handover.ts';
import { preferred } from './types.ts';
import type { RoomOf, ScheduledConnection, ScheduledSubflow, Scheduler, SchedulerFactory, SchedulingRequest } from './types.ts';

/** "Small": what fits into an initial window. More than that is bulk, for which a copy would only cost capacity. */
const SMALL = 14_600;

/** Peers wait this long for more data before they acknowledge (RFC 9293 §3.8.6.3 allows 500 ms; Linux and we take 40). */
const DELAYED_ACK = 40_000;
/** How long a loss makes paths doubtful. */
const DOUBT_TIME = 5_000_000;

class Interactive implements Scheduler {
  readonly name = 'interactive';
  redundant = false;
  private doubtUntil = 0;
  /** Losses of all subflows together when last looked at. */
  private losses = 0;

  select(subflows: readonly ScheduledSubflow[], request: SchedulingRequest, roomOf: RoomOf): ScheduledSubflow | null {
    this.watch(subflows, request);
    let best: ScheduledSubflow | null = null;
    let bestArrival = Number.POSITIVE_INFINITY;
    let bestWaits = false;
    for (const subflow of preferred(subflows, request.avoid)) {
      const room = roomOf(subflow);
      // A path in doubt is not waited for.
      if (this.redundant && room <= 0) continue;
      const arrival = expectedArrival(subflow, request.length, room > 0 || subflow.tcb.hasUnsent);
      if (arrival >= bestArrival) continue;
      best = subflow;
      bestArrival = arrival;
      bestWaits = room <= 0;
    }
    // Waiting for the faster path beats using the slower one now.
    return bestWaits ? null : best;
  }

  private watch(subflows: readonly ScheduledSubflow[], { length, now }: SchedulingRequest): void {
    let losses = 0;
    let fading = false;
    for (const subflow of subflows) {
      losses += subflow.tcb.retransmissions + subflow.tcb.timeouts;
      fading ||= isFading(subflow, now);
    }
    if (fading || losses > this.losses) this.doubtUntil = now + DOUBT_TIME;
    this.losses = losses;
    this.redundant = length <= SMALL && now < this.doubtUntil && subflows.length > 1;
  }

  onDoubt(connection: ScheduledConnection, subflow: ScheduledSubflow, now: number): void {
    const { tcb } = subflow;
    if (connection.subflows.length > 1 && tcb.inFlight + tcb.lostBytes <= SMALL) connection.reinject(subflow, now);
  }
}

/**
 * (A subflow whose last record is still being sent is asked again at once: it does not count as full.)
 * Time until `length` bytes handed over now have arrived: half a round trip, and a round for each window they fill. What a
 * round trip takes beyond the shortest seen is a queue on the path only from the time of a delayed acknowledgement on.
 */
function expectedArrival(subflow: ScheduledSubflow, length: number, hasRoom: boolean): number {
  const { srtt, minRtt, cwnd } = subflow.tcb;
  const shortest = minRtt > 0 ? Math.min(minRtt, srtt) : srtt;
  const queue = Math.max(0, srtt - shortest - DELAYED_ACK);
  const rounds = Math.floor(Math.min(length, SMALL) / cwnd);
  return shortest / 2 + queue + rounds * srtt + (hasRoom ? 0 : srtt / 2);
}

export const interactive: SchedulerFactory = () => new Interactive();
