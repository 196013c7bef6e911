/** How many answers a connection may give to segments that are not acceptable (`answers.ts`). */

/** Answers there are at once: a good peer's burst of keepalives or window probes stays far below. */
const LEAST_BURST = 32;
const BURST_SPREAD = 32;
/** Then one in this time on average, microseconds (Linux: tcp_invalid_ratelimit, 500 ms). */
const INTERVAL = 500_000;

/** Answers of one kind that a connection may still give. */
export class AnswerBudget {
  private left: number;
  private since: number;

  constructor(random: number, now: number) {
    this.left = LEAST_BURST + (random & (BURST_SPREAD - 1));
    this.since = now;
  }

  /** Takes one; false when there is none. `random32` is asked when time has brought new ones. */
  take(random32: () => number, now: number): boolean {
    const intervals = Math.floor((now - this.since) / INTERVAL);
    if (intervals > 0) {
      this.since += intervals * INTERVAL;
      // None, one or two for each interval.
      const fresh = intervals >= BURST_SPREAD ? BURST_SPREAD : (random32() >>> 0) % (2 * intervals + 1);
      this.left = Math.min(LEAST_BURST + BURST_SPREAD, this.left + fresh);
    }
    if (this.left <= 0) return false;
    this.left--;
    return true;
  }
}

/** The budgets of a connection, each made when it is first needed. */
export interface AnswerBudgets {
  /** Keepalives, window probes, repeated signals: what only the peer, or who sees its segments, can send. */
  probe: AnswerBudget | null;
  /** Anything else: what a sender off the path can hit upon must not use up the peer's. */
  other: AnswerBudget | null;
}
