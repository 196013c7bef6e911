/** Taking payload: trimming to the window, in-order delivery, reassembly, delayed acknowledgement (RFC 9293 §3.10.7.4, §3.8.6.3). */
import type { Segment } from '@subflow/wire';
import { insertRun } from './reassembly.ts';
import type { Tcb } from './tcb.ts';

/** Takes the payload of an acceptable segment whose first byte has position `position`, and its FIN. */
export function receivePayload(tcb: Tcb, segment: Segment, position: number, fin: boolean, now: number): void {
  let at = position;
  let offset = segment.payloadOffset;
  let length = segment.payloadLength;
  if (length > tcb.rcvMss) tcb.rcvMss = Math.min(length, tcb.pathMtu - 40);
  const end = at + length;
  if (fin && end >= tcb.rcvNxt && end <= tcb.rcvEdge + 1 && tcb.finPosition < 0) tcb.finPosition = end;
  if (length > 0 && at < tcb.rcvNxt) {
    // Report the duplicate part (RFC 2883 §4) and acknowledge at once.
    tcb.dsackLeft = at;
    tcb.dsackRight = Math.min(end, tcb.rcvNxt);
    tcb.ackNow = true;
    const skip = Math.min(length, tcb.rcvNxt - at);
    at += skip;
    offset += skip;
    length -= skip;
  }
  if (at + length > tcb.rcvEdge) {
    length = Math.max(0, tcb.rcvEdge - at);
    tcb.ackNow = true;
  }
  // Data behind the peer's FIN does not exist (RFC 9293 §3.10.7.4, seventh).
  if (tcb.finPosition >= 0 && at + length > tcb.finPosition) length = Math.max(0, tcb.finPosition - at);
  if (length > 0) {
    if (at === tcb.rcvNxt) takeInOrder(tcb, segment.bytes, offset, length, now);
    else takeAhead(tcb, segment.bytes, offset, length, at);
  }
  if (tcb.finPosition === tcb.rcvNxt) takeFin(tcb, now);
  else if (fin) tcb.ackNow = true;
}

function takeInOrder(tcb: Tcb, bytes: Uint8Array, offset: number, length: number, now: number): void {
  const position = tcb.rcvNxt;
  tcb.rcvNxt += length;
  tcb.bytesReceived += length;
  scheduleAck(tcb, length, now);
  tcb.user.deliver(bytes, offset, length, position, now);
  if (tcb.outOfOrder !== null) drain(tcb, now);
}

function takeAhead(tcb: Tcb, bytes: Uint8Array, offset: number, length: number, position: number): void {
  tcb.ackNow = true;
  tcb.lastSackPosition = position;
  tcb.outOfOrder ??= [];
  const added = insertRun(tcb.outOfOrder, bytes, offset, length, position);
  tcb.outOfOrderBytes += added;
  if (added === 0) {
    tcb.dsackLeft = position;
    tcb.dsackRight = position + length;
  }
}

function drain(tcb: Tcb, now: number): void {
  const runs = tcb.outOfOrder!;
  let used = 0;
  // A hole is filled: acknowledge at once (RFC 5681 §4.2).
  tcb.ackNow = true;
  while (used < runs.length && runs[used]!.position <= tcb.rcvNxt) {
    const run = runs[used]!;
    used++;
    tcb.outOfOrderBytes -= run.end - run.position;
    if (run.end <= tcb.rcvNxt) continue;
    const skip = tcb.rcvNxt - run.position;
    const position = tcb.rcvNxt;
    const length = run.end - position;
    tcb.rcvNxt = run.end;
    tcb.bytesReceived += length;
    tcb.user.deliver(run.data, skip, length, position, now);
    if (tcb.outOfOrder === null) return;
  }
  if (used === runs.length) tcb.outOfOrder = null;
  else if (used > 0) runs.splice(0, used);
}

/** An ACK at least for every second full segment, and within the delay (RFC 9293 §3.8.6.3); at once while the connection is young. */
function scheduleAck(tcb: Tcb, length: number, now: number): void {
  tcb.ackPending += length;
  if (tcb.quickAcks > 0) {
    tcb.quickAcks--;
    tcb.ackNow = true;
  } else if (tcb.ackPending >= 2 * tcb.rcvMss || tcb.ecnEcho) {
    tcb.ackNow = true;
  } else if (tcb.delayedAckAt === 0) {
    tcb.delayedAckAt = now + tcb.context.tcp.delayedAck;
  }
}

function takeFin(tcb: Tcb, now: number): void {
  tcb.rcvNxt++;
  tcb.finPosition = -2;
  tcb.ackNow = true;
  tcb.outOfOrder = null;
  tcb.outOfOrderBytes = 0;
  tcb.user.onFin(now);
}
