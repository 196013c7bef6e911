/** Ending a connection: FIN, reset, TIME-WAIT (RFC 9293 §3.6, §3.10.4, §3.10.5). */
import { CLOSE_REASON, STATE } from './state.ts';
import type { CloseReason } from './state.ts';
import type { Tcb } from './tcb.ts';

/** Queues a FIN after all queued data; deletes a connection that is not there yet (RFC 9293 §3.10.4). */
export function closeSend(tcb: Tcb, now: number): void {
  if (tcb.fin !== 'none') return;
  switch (tcb.state) {
    case STATE.synSent:
      remove(tcb, CLOSE_REASON.aborted, now);
      return;
    case STATE.synReceived:
    case STATE.established:
    case STATE.closeWait:
      tcb.fin = 'queued';
      tcb.context.wake(tcb);
      return;
    case STATE.closed:
    case STATE.finWait1:
    case STATE.finWait2:
    case STATE.closing:
    case STATE.lastAck:
    case STATE.timeWait:
      return;
  }
}

/** Nobody will read any more: a peer that never sends its FIN must not hold the block for ever. */
export function orphan(tcb: Tcb, now: number): void {
  tcb.orphaned = true;
  if (tcb.state !== STATE.finWait2) return;
  tcb.closeAt = now + tcb.context.tcp.finWait2;
  tcb.context.reschedule(tcb);
}

/** Sends a RST and forgets the connection (RFC 9293 §3.10.5). */
export function abort(tcb: Tcb, reason: CloseReason, now: number): void {
  if (tcb.state === STATE.closed) return;
  const talks = tcb.state !== STATE.synSent && tcb.state !== STATE.timeWait;
  tcb.resetPending = talks;
  tcb.state = STATE.closed;
  // The user first: it looks at what was not acknowledged.
  tcb.user.onClosed(reason, now);
  stop(tcb);
  if (talks) tcb.context.wake(tcb);
  else tcb.context.removed(tcb);
}

/** Forgets the connection without a word. */
export function remove(tcb: Tcb, reason: CloseReason, now: number): void {
  const told = tcb.state === STATE.timeWait || tcb.state === STATE.closed;
  tcb.state = STATE.closed;
  if (!told) tcb.user.onClosed(reason, now);
  stop(tcb);
  tcb.context.removed(tcb);
}

/** Enters TIME-WAIT: the user is told now; what stays for 2·MSL is the host's business (`host/time-wait.ts`). */
export function enterTimeWait(tcb: Tcb, now: number): void {
  tcb.state = STATE.timeWait;
  tcb.user.onClosed(CLOSE_REASON.normal, now);
  stop(tcb);
  // The last ACK goes out from the block itself, with all its options.
  tcb.context.wake(tcb);
}

function stop(tcb: Tcb): void {
  tcb.queue.clear();
  tcb.outOfOrder?.clear();
  tcb.outOfOrder = null;
  tcb.retransmitAt = tcb.probeAt = tcb.reorderAt = tcb.delayedAckAt = tcb.persistAt = tcb.keepaliveAt = tcb.paceAt = tcb.closeAt = 0;
  tcb.synPending = tcb.tlpPending = tcb.probePending = tcb.override = false;
  tcb.context.reschedule(tcb);
}
