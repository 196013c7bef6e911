/** Taking payload: trimming to the window, in-order delivery, what comes ahead of order, delayed acknowledgement (RFC 9293 §3.10.7.4, §3.8.6.3). */
import { OutOfOrder } from './out-of-order.ts';
import { STATE } from './state.ts';
import type { Tcb } from './tcb.ts';
import type { Accepted } from './verdict.ts';

/** Takes the text of an accepted segment, and its FIN. */
export function receivePayload(tcb: Tcb, accepted: Accepted, now: number): void {
  const { segment, fin } = accepted;
  let at = accepted.dataPosition;
  let offset = segment.payloadOffset;
  let length = segment.payloadLength;
  if (length > tcb.rcvMss) tcb.rcvMss = Math.min(length, tcb.pathMtu - 40);
  const end = at + length;
  if (fin && tcb.peerFin === 'none' && end >= tcb.rcvNxt && end <= tcb.rcvEdge + 1) {
    tcb.peerFin = 'ahead';
    tcb.finPosition = end;
  }
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
  if (tcb.peerFin === 'ahead' && at + length > tcb.finPosition) length = Math.max(0, tcb.finPosition - at);
  if (length > 0) {
    if (at === tcb.rcvNxt) takeInOrder(tcb, segment.bytes, offset, length, now);
    else takeAhead(tcb, segment.bytes, offset, length, at);
    // What was delivered has ended the connection.
    if (tcb.state === STATE.closed) return;
  }
  if (tcb.peerFin === 'ahead' && tcb.finPosition === tcb.rcvNxt) takeFin(tcb, now);
  else if (fin) tcb.ackNow = true;
}

function takeInOrder(tcb: Tcb, bytes: Uint8Array, offset: number, length: number, now: number): void {
  const position = tcb.rcvNxt;
  tcb.rcvNxt += length;
  tcb.bytesReceived += length;
  scheduleAck(tcb, length, now);
  tcb.user.deliver(bytes, offset, length, position, now);
  if (tcb.outOfOrder !== null) drain(tcb, tcb.outOfOrder, now);
}

function takeAhead(tcb: Tcb, bytes: Uint8Array, offset: number, length: number, position: number): void {
  tcb.ackNow = true;
  const room = tcb.user.roomAhead();
  const held = (tcb.outOfOrder ??= new OutOfOrder(tcb.user.chunks, room));
  // What it costs counts, not what it carries. Not kept and not reported: it will be sent again.
  if (held.costOf(position, length) > room) {
    tcb.context.count('tcp-out-of-order-full');
    return;
  }
  if (held.insert(bytes, offset, length, position) === 0) {
    tcb.dsackLeft = position;
    tcb.dsackRight = position + length;
  }
}

function drain(tcb: Tcb, held: OutOfOrder, now: number): void {
  // A hole is filled, or part of it: acknowledge at once (RFC 5681 §4.2).
  tcb.ackNow = true;
  held.release(tcb.rcvNxt);
  for (let piece = held.peek(tcb.rcvNxt); piece !== null; piece = held.peek(tcb.rcvNxt)) {
    const position = tcb.rcvNxt;
    tcb.rcvNxt += piece.length;
    tcb.bytesReceived += piece.length;
    tcb.user.deliver(piece, 0, piece.length, position, now);
    // The user may have ended the connection.
    if (tcb.outOfOrder !== held) return;
    held.release(tcb.rcvNxt);
  }
  if (held.first === null) tcb.outOfOrder = null;
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
  tcb.peerFin = 'taken';
  tcb.ackNow = true;
  tcb.outOfOrder?.clear();
  tcb.outOfOrder = null;
  tcb.user.onFin(now);
}
