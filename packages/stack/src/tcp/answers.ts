/**
 * Answers to segments that are not acceptable. One is owed once: the budget of a connection bounds what its peer, or
 * somebody who pretends to be, can make us send, and ends loops of two ends that answer each other; challenge ACKs have
 * one for the whole host besides (RFC 5961 §7). Both are drawn at random: a count that can be predicted tells who
 * else is talking (CVE-2016-5696).
 */
import type { Tcb } from './tcb.ts';
import type { Answered } from './verdict.ts';

/** Answers a connection has at once: a good peer's burst of keepalives or window probes stays far below. */
const LEAST_BURST = 32;
const BURST_SPREAD = 32;
/** Then one in this time on average, microseconds (Linux: tcp_invalid_ratelimit, 500 ms). */
const INTERVAL = 500_000;

/** Owes the answer to a segment, if the budgets allow. */
export function owe(tcb: Tcb, verdict: Answered, now: number): void {
  const { context } = tcb;
  context.count(verdict.reason);
  if (verdict.right > verdict.left) {
    // Whoever sends what we have should learn where (RFC 2883 §4).
    tcb.dsackLeft = verdict.left;
    tcb.dsackRight = verdict.right;
  }
  // A retransmission: its sender has missed our ACK, and ours is no segment that could be answered in turn.
  if (verdict.budget !== 'duplicate' && !(spend(tcb, now) && (verdict.budget !== 'challenge' || context.challengeAck(now)))) {
    context.count(verdict.budget === 'challenge' ? 'tcp-challenge-ack-limited' : 'tcp-answer-limited');
    tcb.dsackLeft = tcb.dsackRight = 0;
    return;
  }
  tcb.ackNow = true;
  context.wake(tcb);
}

/** Answers something that came again although it was answered: within the budget, or two ends could go on for ever. */
export function answerAgain(tcb: Tcb, now: number): void {
  if (!spend(tcb, now)) {
    tcb.context.count('tcp-answer-limited');
    return;
  }
  tcb.ackNow = true;
  tcb.context.wake(tcb);
}

/** Takes one answer from the connection's budget. */
function spend(tcb: Tcb, now: number): boolean {
  if (tcb.answersAt < 0) {
    tcb.answers = LEAST_BURST + (tcb.context.random32() & (BURST_SPREAD - 1));
    tcb.answersAt = now;
  }
  const intervals = Math.floor((now - tcb.answersAt) / INTERVAL);
  if (intervals > 0) {
    // None, one or two for each interval.
    const fresh = intervals > BURST_SPREAD ? BURST_SPREAD : (tcb.context.random32() >>> 0) % (2 * intervals + 1);
    tcb.answers = Math.min(LEAST_BURST + BURST_SPREAD, tcb.answers + fresh);
    tcb.answersAt += intervals * INTERVAL;
  }
  if (tcb.answers <= 0) return false;
  tcb.answers--;
  return true;
}
