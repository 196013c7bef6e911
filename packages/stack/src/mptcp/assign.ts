/** Handing a piece of the data stream to one subflow, as one mapping (RFC 8684 §3.3.1). */
import { armDataRetransmission } from './data-ack.ts';
import { Mapping, mappingChecksum } from './mapping.ts';
import { hasKeys, MODE } from './state.ts';
import type { ConnectionState, SubflowState } from './state.ts';
import { maySend } from './wake.ts';
import { enqueue, sendRoom, superSegment } from '../tcp/output.ts';
import { leastUsefulWindow } from '../tcp/timers.ts';

/** A mapping's length field has 16 bits (RFC 8684 §3.3, Figure 9); 0xffff is left to DATA_FIN's extra octet. */
const MAX_MAPPING = 65534;

/** Bytes of `wanted` that a subflow may take now; 0 unless a whole segment or all of it fits. `held`: Nagle keeps less than a segment back. */
export function roomFor(subflow: SubflowState, wanted: number, held: boolean): number {
  const { tcb } = subflow;
  // One record at a time is enough: the next poll comes as soon as it is sent.
  if (tcb.hasUnsent || (held && wanted < tcb.mss)) return 0;
  const room = sendRoom(tcb);
  if (room >= tcb.mss || room >= wanted) return room;
  if (tcb.queue.outstanding) return 0;
  // Nothing is out whose ACK could open the window: half of the largest it has been will do, or what the override timeout
  // lets in (RFC 9293 §3.8.6.2.1); an octet of it beyond a window that has shrunk. One segment the network always gets.
  const window = tcb.sndWndEdge - tcb.sndNxt;
  if (window > 0) return window >= leastUsefulWindow(tcb) || tcb.override ? Math.min(window, tcb.mss) : 0;
  return tcb.override && tcb.offeredEdge > tcb.sndNxt ? 1 : 0;
}

/** Queues [position, position + n) on a subflow as one mapping; returns n. */
export function assign(connection: ConnectionState, subflow: SubflowState, position: number, length: number, now: number): number {
  const { tcb } = subflow;
  let size = Math.min(length, Math.max(tcb.mss, Math.min(sendRoom(tcb), superSegment(tcb))), MAX_MAPPING);
  if (size < length && size > tcb.mss) size -= size % tcb.mss;
  const slices = connection.sendBuffer.gather(position, size);
  const multipath = connection.mode === MODE.mptcp;
  const checksum =
    multipath && connection.checksum && hasKeys(connection) ? mappingChecksum(connection.local, position, tcb.sndEnd - subflow.sendOffset, slices, size) : -1;
  enqueue(tcb, slices, size, multipath ? new Mapping(position, tcb.sndEnd, size, checksum) : null);
  subflow.bytesScheduled += size;
  if (connection.dataRetransmitAt === 0 && multipath) armDataRetransmission(connection, now);
  connection.host.wake(tcb);
  if (connection.host.traceData) {
    connection.host.emit({ type: 'data-scheduled', time: now, connection: connection.id, subflow: subflow.id, position, length: size });
  }
  return size;
}

/** Sends [position, position + length) on a subflow as well; returns the bytes it took. */
export function sendAgain(connection: ConnectionState, subflow: SubflowState, position: number, length: number, now: number): number {
  if (!maySend(subflow) || roomFor(subflow, length, false) <= 0) return 0;
  const taken = assign(connection, subflow, position, length, now);
  noteReinjected(connection, subflow, taken);
  return taken;
}

export function noteReinjected(connection: ConnectionState, subflow: SubflowState, bytes: number): void {
  connection.reinjectedBytes += bytes;
  subflow.reinjectedBytes += bytes;
  connection.host.mib('MPTCPRetrans', Math.ceil(bytes / subflow.tcb.mss));
}
