/** Spreading data over subflows: scheduling, Nagle at the connection level, the shared window (RFC 8684 §3.3.4, §3.3.5). */
import { enqueue, sendRoom, superSegment } from '../tcp/output.ts';
import { armPersist } from '../tcp/timers.ts';
import { closeSend } from '../tcp/close.ts';
import { STATE } from '../tcp/state.ts';
import { MODE, PHASE } from './connection.ts';
import type { Connection } from './connection.ts';
import { Mapping, mappingChecksum } from './mapping.ts';
import { unblockWindow } from './opportunistic.ts';
import { headInFlight, nextReinjection, REINJECTED_HEAD, reinjectHead } from './reinjection.ts';
import type { Subflow } from './subflow.ts';
import { sendDataFin } from './close.ts';
import type { SchedulingRequest } from './scheduler/types.ts';

/** A mapping's length field has 16 bits (RFC 8684 §3.3, Figure 9); 0xffff is left to DATA_FIN's extra octet. */
const MAX_MAPPING = 65534;
/** Send-buffer auto-tuning: room for this many congestion windows. */
const SEND_WINDOWS = 2;

/** Makes the host poll the subflows that could carry waiting data. */
export function wakeSenders(connection: Connection, _now: number): void {
  for (const subflow of connection.subflows) if (maySend(subflow)) connection.host.wake(subflow.tcb);
}

/** Hands waiting data to subflows until nothing waits or no subflow has room. */
export function schedule(connection: Connection, now: number): void {
  if (connection.phase === PHASE.opening || connection.phase === PHASE.closed) return;
  if (connection.reinjections !== null) scheduleReinjections(connection, now);
  const allAssigned = scheduleNew(connection, now);
  if (connection.scheduler?.redundant === true && connection.mode === MODE.mptcp) scheduleCopies(connection, now);
  if (!allAssigned) return;
  // The send buffer is full of what one subflow holds up: the same blocking, seen from the other side.
  if (connection.wantsWritable && connection.mode === MODE.mptcp && connection.subflows.length > 1) unblockWindow(connection, now);
  if (connection.sendClosed && !connection.finSent) {
    connection.finSent = true;
    if (connection.mode === MODE.mptcp) sendDataFin(connection, now);
    else for (const subflow of connection.subflows) closeSend(subflow.tcb, now);
  }
}

/** Assigns what waits; returns whether nothing is left. */
function scheduleNew(connection: Connection, now: number): boolean {
  while (connection.dataNxt < connection.sendBuffer.end) {
    const waiting = connection.sendBuffer.end - connection.dataNxt;
    const window = connection.mode === MODE.mptcp ? connection.dataWndEdge - connection.dataNxt : waiting;
    const length = Math.min(waiting, window);
    if (length <= 0) {
      waitForWindow(connection, now);
      if (connection.mode === MODE.mptcp && connection.subflows.length > 1) unblockWindow(connection, now);
      return false;
    }
    const subflow = select(connection, { length, avoid: null, window, now }, length === waiting);
    if (subflow === null) return false;
    // Copies first: a subflow that took new data would count everything before as copied.
    if (connection.scheduler?.redundant === true && subflow.copied < connection.dataNxt && connection.mode === MODE.mptcp) {
      const { copied } = subflow;
      scheduleCopies(connection, now);
      // They may have taken the room.
      if (subflow.copied > copied) continue;
    }
    const taken = assign(connection, subflow, connection.dataNxt, length, now);
    connection.dataNxt += taken;
    subflow.copied = connection.dataNxt;
  }
  return true;
}

function scheduleReinjections(connection: Connection, now: number): void {
  for (;;) {
    const range = nextReinjection(connection);
    if (range === null) return;
    const length = range.end - range.position;
    const subflow = select(connection, { length, avoid: range.avoid, window: Number.POSITIVE_INFINITY, now }, false);
    if (subflow === null) return;
    const taken = assign(connection, subflow, range.position, length, now);
    range.position += taken;
    noteReinjected(connection, subflow, taken);
  }
}

/** Redundant scheduling: every subflow works through the stream at its own pace, skipping what is acknowledged. */
function scheduleCopies(connection: Connection, now: number): void {
  for (const subflow of connection.subflows) {
    if (!maySend(subflow) || subflow.stale) continue;
    for (;;) {
      const position = Math.max(subflow.copied, connection.dataUna);
      const length = connection.dataNxt - position;
      if (length <= 0) break;
      requested = length;
      nagleHolds = false;
      if (roomOf(subflow) <= 0) break;
      const taken = assign(connection, subflow, position, length, now);
      subflow.copied = position + taken;
      noteReinjected(connection, subflow, taken);
    }
  }
}

function noteReinjected(connection: Connection, subflow: Subflow, bytes: number): void {
  connection.reinjectedBytes += bytes;
  subflow.reinjectedBytes += bytes;
  connection.host.mib('MPTCPRetrans', Math.ceil(bytes / subflow.tcb.mss));
}

/** Sends [position, position + length) on a subflow as well; returns the bytes it took. */
export function sendAgain(connection: Connection, subflow: Subflow, position: number, length: number, now: number): number {
  requested = length;
  nagleHolds = false;
  if (!maySend(subflow) || roomOf(subflow) <= 0) return 0;
  const taken = assign(connection, subflow, position, length, now);
  noteReinjected(connection, subflow, taken);
  return taken;
}

let requested = 0;
let nagleHolds = false;

function select(connection: Connection, request: SchedulingRequest, tail: boolean): Subflow | null {
  requested = request.length;
  // Nagle (RFC 9293 §3.7.4), over the whole connection: a small tail of new data waits for the acknowledgement of what is out.
  nagleHolds = tail && !connection.noDelay && !connection.sendClosed && connection.dataNxt > connection.dataUna;
  const { subflows } = connection;
  if (connection.mode === MODE.tcp) {
    const only = subflows[0];
    return only !== undefined && maySend(only) && roomOf(only) > 0 ? only : null;
  }
  let usable: readonly Subflow[] = subflows;
  for (const subflow of subflows) {
    if (maySend(subflow)) continue;
    usable = subflows.filter(maySend);
    break;
  }
  return connection.scheduler!.select(usable, request, roomOf);
}

/** Bytes a subflow may take now; 0 unless a whole segment or all that waits fits. */
function roomOf(subflow: Subflow): number {
  const { tcb } = subflow;
  // One record at a time is enough: the next poll comes as soon as it is sent.
  if (tcb.firstUnsent !== null) return 0;
  const room = sendRoom(tcb);
  if (requested < tcb.mss && nagleHolds) return 0;
  if (room >= tcb.mss || room >= requested) return room;
  if (tcb.inFlight === 0 && tcb.lostBytes === 0 && tcb.sndWndEdge > tcb.sndNxt && room > 0) return room;
  if (room <= 0 || tcb.cwnd - tcb.inFlight < tcb.mss) tcb.cwndLimited = true;
  return 0;
}

/** Whether new data may go on this subflow at all. */
export function maySend(subflow: Subflow): boolean {
  const { state, finQueued } = subflow.tcb;
  return subflow.established && !subflow.closing && !finQueued && (state === STATE.established || state === STATE.closeWait);
}

/** Queues [position, position + n) on a subflow as one mapping; returns n. */
function assign(connection: Connection, subflow: Subflow, position: number, length: number, now: number): number {
  const { tcb } = subflow;
  let size = Math.min(length, Math.max(tcb.mss, Math.min(roomOf(subflow), superSegment(tcb))), MAX_MAPPING);
  if (size < length && size > tcb.mss) size -= size % tcb.mss;
  const slices = connection.sendBuffer.gather(position, size);
  const multipath = connection.mode === MODE.mptcp;
  const checksum = multipath && connection.checksum ? mappingChecksum(connection, position, tcb.sndEnd - subflow.sendOffset, slices, size) : -1;
  enqueue(tcb, slices, size, multipath ? new Mapping(position, tcb.sndEnd, size, checksum) : null);
  subflow.bytesScheduled += size;
  if (connection.dataRetransmitAt === 0 && multipath) armDataRetransmission(connection, now);
  connection.host.wake(tcb);
  if (connection.host.traceData) {
    connection.host.emit({ type: 'data-scheduled', time: now, connection: connection.id, subflow: subflow.id, position, length: size });
  }
  return size;
}

/** Guards against data that is acknowledged below but never at the data level (RFC 8684 §3.3.6). */
export function armDataRetransmission(connection: Connection, now: number): void {
  let rto = connection.host.tcp.minRto;
  for (const subflow of connection.subflows) if (subflow.established) rto = Math.max(rto, subflow.tcb.rto);
  connection.dataRetransmitAt = now + Math.min(connection.host.tcp.maxRto, 2 * rto * 2 ** connection.dataTimeouts);
  connection.reschedule();
}

/** The shared window is closed: one subflow probes it. */
function waitForWindow(connection: Connection, now: number): void {
  if (connection.dataNxt > connection.dataUna) return;
  let best: Subflow | null = null;
  for (const subflow of connection.subflows) {
    if (!maySend(subflow)) continue;
    if (subflow.tcb.persistAt !== 0) return;
    if (best === null || (best.stale && !subflow.stale) || subflow.tcb.srtt < best.tcb.srtt) best = subflow;
  }
  if (best === null) return;
  connection.host.mib('WinProbe');
  armPersist(best.tcb, now);
}

/** Frees acknowledged data, grows the send buffer with the congestion windows, tells the application. */
export function dataAcknowledged(connection: Connection, position: number, now: number): void {
  const end = connection.sendBuffer.end;
  if (connection.finSent && position === end + 1) connection.finAcknowledged = true;
  const data = Math.min(position, end);
  if (data > connection.dataUna) {
    connection.dataUna = data;
    connection.sendBuffer.release(data);
    connection.dataTimeouts = 0;
    if (connection.closeAt !== 0 && connection.phase === PHASE.open) connection.closeAt = now + connection.host.mptcp.closeTimeout;
    if (connection.host.traceData) connection.host.emit({ type: 'data-acknowledged', time: now, connection: connection.id, position: data });
    if (data < connection.dataRecoveryPoint && !headInFlight(connection)) reinjectHead(connection, REINJECTED_HEAD, now);
    growSendBuffer(connection);
    if (connection.wantsWritable && connection.writable > 0) {
      connection.wantsWritable = false;
      connection.host.emit({ type: 'connection-writable', time: now, connection: connection.id });
    }
  }
  if (connection.mode !== MODE.mptcp) return;
  if (connection.dataUna === connection.dataNxt) connection.dataRetransmitAt = 0;
  else armDataRetransmission(connection, now);
}

function growSendBuffer(connection: Connection): void {
  let windows = 0;
  for (const subflow of connection.subflows) windows += subflow.tcb.cwnd;
  const wanted = Math.min(connection.host.tcp.maxSendBuffer, SEND_WINDOWS * windows);
  if (wanted > connection.sendLimit) connection.sendLimit = wanted;
}

/**
 * The lowest data position that may still be sent: what is not acknowledged, and what a subflow keeps for its own
 * retransmissions although the data arrived by another one. 0 after fallback, where records have no mappings.
 */
export function lowestReference(connection: Connection): number {
  let lowest = connection.dataUna;
  for (const { tcb } of connection.subflows) {
    for (let record = tcb.head; record !== null; record = record.next) {
      if (record.slices.length === 0) continue;
      if (!(record.tag instanceof Mapping)) return 0;
      if (record.tag.dataPosition < lowest) lowest = record.tag.dataPosition;
    }
  }
  return lowest;
}
