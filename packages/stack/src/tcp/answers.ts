/**
 * Answers to segments that are not acceptable. One is owed once: the budget of a connection bounds what its peer, or
 * somebody who pretends to be, can make us send, and ends loops of two ends that answer each other; challenge ACKs have
 * one for the whole host besides (RFC 5961 §7). All are drawn at random: a count that can be predicted tells who else is
 * talking (CVE-2016-5696).
 */
import type { Tcb } from './tcb.ts';
import type { Answered } from './verdict.ts';

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

/** Owes the answer to a segment, if the budgets allow. */
export function owe(tcb: Tcb, verdict: Answered, now: number): void {
  const { context } = tcb;
  context.count(verdict.reason);
  const granted =
    // A retransmission: its sender has missed our ACK, and ours is no segment that could be answered in turn.
    verdict.budget === 'duplicate' ||
    (verdict.budget === 'probe' ? grant(tcb, 'probe', now) : grant(tcb, 'other', now) && (verdict.budget !== 'challenge' || context.challengeAck(now)));
  if (!granted) {
    context.count(verdict.budget === 'challenge' ? 'tcp-challenge-ack-limited' : 'tcp-answer-limited');
    return;
  }
  if (verdict.right > verdict.left) {
    // Whoever sends what we have should learn where (RFC 2883 §4).
    tcb.dsackLeft = verdict.left;
    tcb.dsackRight = verdict.right;
  }
  tcb.ackNow = true;
  context.wake(tcb);
}

/** Answers something that came again although it was answered: within the budget, or two ends could go on for ever. */
export function answerAgain(tcb: Tcb, now: number): void {
  if (!grant(tcb, 'probe', now)) {
    tcb.context.count('tcp-answer-limited');
    return;
  }
  tcb.ackNow = true;
  tcb.context.wake(tcb);
}

function grant(tcb: Tcb, kind: keyof AnswerBudgets, now: number): boolean {
  const { context } = tcb;
  const budgets = (tcb.answerBudgets ??= { probe: null, other: null });
  const budget = (budgets[kind] ??= new AnswerBudget(context.random32(), now));
  return budget.take(() => context.random32(), now);
}
