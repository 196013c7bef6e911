/** The timers of one connection (RFC 6298 §5, RFC 9293 §3.8.4, §3.8.6.1, RFC 8985 §7, RFC 7323). */
import { abort, remove } from './close.ts';
import { probeBlackHole } from './path-mtu.ts';
import { armTailLossProbe, rackDetectLoss } from './rack.ts';
import { enterLoss, enterRecovery } from './recovery.ts';
import { backedOffRto } from './rtt.ts';
import { CLOSE_REASON, STATE } from './state.ts';
import type { Tcb } from './tcb.ts';

/** RFC 9293 §3.8.6.2.1: 0.1 to 1 s. */
const OVERRIDE_TIMEOUT = 200_000;

/** The earliest deadline of a control block, 0 when there is none. */
export function nextDeadline(tcb: Tcb): number {
  let at = earlier(tcb.retransmitAt, tcb.probeAt);
  at = earlier(at, tcb.reorderAt);
  at = earlier(at, tcb.delayedAckAt);
  at = earlier(at, tcb.persistAt);
  at = earlier(at, tcb.keepaliveAt);
  at = earlier(at, tcb.paceAt);
  return earlier(at, tcb.closeAt);
}

/** The earlier of two times, of which 0 means never. */
export function earlier(a: number, b: number): number {
  return a === 0 ? b : b === 0 || a < b ? a : b;
}

/** Starts, restarts or stops the retransmission timer after an ACK or a transmission (RFC 6298 §5.1 to §5.3). */
export function armRetransmission(tcb: Tcb, now: number): void {
  tcb.probeAt = 0;
  if (!tcb.queue.outstanding && tcb.fin !== 'inFlight' && tcb.fin !== 'lost') {
    tcb.retransmitAt = 0;
    return;
  }
  if (armTailLossProbe(tcb, now)) tcb.retransmitAt = 0;
  else tcb.retransmitAt = now + backedOffRto(tcb);
}

/** Fires what is due. The host calls it with its timer table's time. */
export function fireTimers(tcb: Tcb, now: number): void {
  if (due(tcb.closeAt, now)) {
    tcb.closeAt = 0;
    remove(tcb, tcb.state === STATE.timeWait ? CLOSE_REASON.normal : CLOSE_REASON.timeout, now);
    return;
  }
  if (due(tcb.reorderAt, now)) {
    tcb.reorderAt = 0;
    if (rackDetectLoss(tcb, now) > 0) {
      enterRecovery(tcb, now);
      tcb.cwnd = Math.max(tcb.cwnd, tcb.inFlight + tcb.mss);
      armRetransmission(tcb, now);
      tcb.context.wake(tcb);
    }
  }
  if (due(tcb.probeAt, now)) {
    tcb.probeAt = 0;
    tcb.tlpPending = true;
    tcb.retransmitAt = now + backedOffRto(tcb);
    tcb.context.congestionEvent(tcb, 'tail-loss-probe', now);
    tcb.user.onProbe(now);
    tcb.context.wake(tcb);
  }
  if (due(tcb.retransmitAt, now)) retransmissionTimeout(tcb, now);
  if (isClosed(tcb)) return;
  if (due(tcb.delayedAckAt, now)) {
    tcb.delayedAckAt = 0;
    tcb.ackNow = true;
    tcb.context.wake(tcb);
  }
  if (due(tcb.paceAt, now)) {
    tcb.paceAt = 0;
    tcb.context.wake(tcb);
  }
  if (due(tcb.persistAt, now)) persistTimeout(tcb, now);
  if (isClosed(tcb)) return;
  if (due(tcb.keepaliveAt, now)) keepaliveTimeout(tcb, now);
}

/** A timer that fired before may have ended the connection. */
function isClosed(tcb: Tcb): boolean {
  return tcb.state === STATE.closed;
}

function due(at: number, now: number): boolean {
  return at !== 0 && at <= now;
}

function retransmissionTimeout(tcb: Tcb, now: number): void {
  const { tcp } = tcb.context;
  tcb.retransmitAt = 0;
  tcb.timeouts++;
  tcb.backoff++;
  if (tcb.state === STATE.synSent || tcb.state === STATE.synReceived) {
    const limit = tcb.state === STATE.synSent ? tcp.synRetries : tcp.synAckRetries;
    const overdue = isOverdue(tcb, now);
    if (overdue || tcb.timeouts > limit) {
      remove(tcb, overdue ? CLOSE_REASON.userTimeout : CLOSE_REASON.timeout, now);
      return;
    }
    tcb.synPending = true;
    tcb.user.onTimeout(tcb.timeouts, now);
    tcb.context.wake(tcb);
    return;
  }
  const overdue = isOverdue(tcb, now);
  // A peer that answers but offers no window is alive (RFC 9293 §3.8.6.1).
  if (tcb.sndWnd === 0 && now - tcb.lastReceivedAt < 2 * tcp.maxRto) tcb.timeouts = Math.min(tcb.timeouts, tcp.maxRetransmits);
  if (overdue || tcb.timeouts > tcp.maxRetransmits) {
    abort(tcb, overdue ? CLOSE_REASON.userTimeout : CLOSE_REASON.timeout, now);
    return;
  }
  if (tcb.fin === 'inFlight') tcb.fin = 'lost';
  probeBlackHole(tcb);
  enterLoss(tcb, now);
  tcb.retransmitAt = now + backedOffRto(tcb);
  tcb.user.onTimeout(tcb.timeouts, now);
  tcb.context.wake(tcb);
}

/** Whether something sent (SYN and FIN too) has not been acknowledged for as long as the user timeout allows (RFC 9293 §3.9.1). */
function isOverdue(tcb: Tcb, now: number): boolean {
  const { userTimeout } = tcb.context.tcp;
  return userTimeout > 0 && tcb.unackedSince > 0 && now - tcb.unackedSince >= userTimeout;
}

/**
 * The persist timer (RFC 9293 §3.8.6.1, MUST-35): probes a closed window for ever, as long as the peer answers and the user
 * timeout allows; and lets data into a window that is open but small (§3.8.6.2.1, 4).
 */
function persistTimeout(tcb: Tcb, now: number): void {
  const { tcp } = tcb.context;
  tcb.persistAt = 0;
  // An octet is out: its retransmission timer goes on from here.
  if (tcb.queue.outstanding) return;
  if (tcp.userTimeout > 0 && now - tcb.persistSince >= tcp.userTimeout) {
    abort(tcb, CLOSE_REASON.userTimeout, now);
    return;
  }
  if (usableWindow(tcb) <= 0) {
    tcb.persistCount++;
    if (tcb.persistCount > tcp.maxRetransmits) {
      abort(tcb, CLOSE_REASON.timeout, now);
      return;
    }
    tcb.persistBackoff++;
    // An octet for which the peer had offered room before its window shrank; one it never had room for it would drop with
    // everything on it, so that the probe is an empty segment then, below SND.UNA, which has to be answered as well.
    if (tcb.offeredEdge > tcb.sndNxt && !tcb.user.sharesWindow) tcb.override = true;
    else tcb.probePending = true;
    tcb.persistAt = now + persistInterval(tcb);
  } else {
    tcb.override = true;
  }
  tcb.context.wake(tcb);
}

/** Starts the persist timer, or hastens it when the window is no longer closed but still too small. */
export function armPersist(tcb: Tcb, now: number): void {
  if (tcb.persistSince === 0) tcb.persistSince = now;
  // Small, or shrunken: what was offered once may go out after the override timeout; else the first probe waits for an RTO (SHLD-29).
  const offered = usableWindow(tcb) > 0 || (tcb.offeredEdge > tcb.sndNxt && !tcb.user.sharesWindow);
  const at = now + (offered && tcb.persistBackoff === 0 ? OVERRIDE_TIMEOUT : persistInterval(tcb));
  if (tcb.persistAt !== 0 && tcb.persistAt <= at) return;
  tcb.persistAt = at;
  tcb.context.reschedule(tcb);
}

/** The window is open. */
export function stopPersist(tcb: Tcb): void {
  tcb.persistAt = 0;
  tcb.persistSince = 0;
  tcb.persistBackoff = 0;
  tcb.override = false;
}

/** What the peer's window still takes, here and, where it is shared, for all. */
export function usableWindow(tcb: Tcb): number {
  return Math.min(tcb.sndWndEdge - tcb.sndNxt, tcb.user.sharedWindow());
}

/** The window that is worth sending into (RFC 9293 §3.8.6.2.1): a segment, or half of the largest the peer has offered. */
export function leastUsefulWindow(tcb: Tcb): number {
  return Math.max(1, Math.min(tcb.mss, tcb.maxSndWnd / 2));
}

function persistInterval(tcb: Tcb): number {
  return Math.min(tcb.context.tcp.maxRto, tcb.rto * 2 ** tcb.persistBackoff);
}

/** Keepalive (RFC 9293 §3.8.4). */
function keepaliveTimeout(tcb: Tcb, now: number): void {
  const { keepaliveInterval, keepaliveProbes } = tcb.context.tcp;
  const idleUntil = tcb.lastReceivedAt + tcb.keepaliveIdle;
  if (idleUntil > now && tcb.keepaliveCount === 0) {
    tcb.keepaliveAt = idleUntil;
    return;
  }
  if (tcb.keepaliveCount >= keepaliveProbes) {
    abort(tcb, CLOSE_REASON.timeout, now);
    return;
  }
  tcb.keepaliveCount++;
  tcb.probePending = true;
  tcb.keepaliveAt = now + keepaliveInterval;
  tcb.context.wake(tcb);
}
