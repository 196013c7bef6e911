/** Challenge ACKs (RFC 5961 §3 to §5, §7): answer doubtful segments with an ACK, within a host-wide budget. */
import type { Tcb } from './tcb.ts';

export function challengeAck(tcb: Tcb, now: number): void {
  if (!tcb.context.challengeAck(now)) {
    tcb.context.count('tcp-challenge-ack-limited');
    return;
  }
  tcb.ackNow = true;
  tcb.context.wake(tcb);
}
