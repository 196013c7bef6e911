/** How many answers a connection may give to segments that are not acceptable (`answers.ts`). */

/** Answers there are at once, at least; and as many again at most, drawn at random. A peer's burst of probes stays far below the first. */
const PROBE_BURST = 32;
/** What is not acceptable for another reason: Linux answers one in 500 ms, RFC 5961 §7 speaks of ten in five seconds. */
const OTHER_BURST = 8;
/** Then one in this time on average, microseconds (Linux: tcp_invalid_ratelimit, 500 ms). */
const INTERVAL = 500_000;

/** Answers of one kind that a connection may still give. */
export class AnswerBudget {
  private readonly burst: number;
  private left: number;
  private since: number;

  constructor(kind: keyof AnswerBudgets, random: number, now: number) {
    this.burst = kind === 'probe' ? PROBE_BURST : OTHER_BURST;
    this.left = this.burst + (random & (this.burst - 1));
    this.since = now;
  }

  /** Takes one; false when there is none. `random32` is asked when time has brought new ones. */
  take(random32: () => number, now: number): boolean {
    const intervals = Math.floor((now - this.since) / INTERVAL);
    if (intervals > 0) {
      this.since += intervals * INTERVAL;
      // None, one or two for each interval.
      const fresh = intervals >= this.burst ? this.burst : (random32() >>> 0) % (2 * intervals + 1);
      this.left = Math.min(2 * this.burst, this.left + fresh);
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
