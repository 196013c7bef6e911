/**
 * Answers to segments that are not acceptable. One is owed once: the budget of a connection bounds what its peer, or
 * somebody who pretends to be, can make us send, and ends loops of two ends that answer each other; challenge ACKs have
 * one for the whole host besides (RFC 5961 §7). All are drawn at random: a count that can be predicted tells who else is
 * talking (CVE-2016-5696).
 */
import { AnswerBudget } from './answer-budget.ts';
import type { AnswerBudgets } from './answer-budget.ts';
import type { Tcb } from './tcb.ts';
import type { Answered } from './verdict.ts';

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
  const budget = (budgets[kind] ??= new AnswerBudget(kind, context.random32(), now));
  return budget.take(() => context.random32(), now);
}
