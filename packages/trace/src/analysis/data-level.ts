/** The data level of packets (RFC 8684 §3.3): mappings learned, payload put in its place, DATA_ACKs, checksums. */
import { addPiece, DSS_FLAG, dssPseudoHeader, finish, sum } from '@subflow/wire';
import type { Segment } from '@subflow/wire';
import type { Connection, Subflow } from './connection.ts';
import type { Side } from './events.ts';
import { PAYLOAD } from './half.ts';
import type { Connections } from './signalling.ts';
import { MptcpHalf } from './mptcp-half.ts';

/** Called for each payload, DATA_ACK and window: what graphs are drawn from. */
export interface PointSink {
  /** `position` is NaN for payload without mapping; `kind` is one of {@link POINT}. */
  payload(connection: Connection, subflow: Subflow, side: Side, time: number, position: number, length: number, kind: number, packet: number): void;
  /** `side` is the one that acknowledges; `window` in bytes. */
  dataAck(connection: Connection, subflow: Subflow, side: Side, time: number, position: number, window: number, packet: number): void;
  /** Bytes in flight of the subflow (subflow level) and its latest round-trip time, after an acknowledgement. */
  subflowAck(connection: Connection, subflow: Subflow, side: Side, time: number, flight: number, rtt: number): void;
  /** Bytes waiting for a hole. */
  queue(connection: Connection, side: Side, time: number, bytes: number): void;
}

/** Kinds of payload on the data level. */
export const POINT = { new: 0, retransmission: 1, reinjection: 2, reordered: 3 } as const;

/** One for each analyzer. */
export class DataLevel {
  /** Of the payload taken last: where it lies in the stream (NaN without mapping), and what it was ({@link POINT}). */
  dataPosition = Number.NaN;
  point: number = POINT.new;
  /** The packet's options are not all there: that one is missing says nothing. */
  optionsCut = false;
  private readonly full: boolean;
  private readonly connections: Connections;
  private readonly points: PointSink | undefined;

  constructor(full: boolean, connections: Connections, points: PointSink | undefined) {
    this.full = full;
    this.connections = connections;
    this.points = points;
  }

  /** Takes a DSS option. `segmentPosition`: the segment's first byte within the subflow. */
  dss(subflow: Subflow, side: Side, s: Segment, segmentPosition: number, time: number, packet: number): void {
    const { full } = this;
    subflow.options[2]!++;
    subflow.mptcp ??= [new MptcpHalf(), new MptcpHalf()];
    const half = subflow.mptcp[side];
    half.dss++;
    const connection = subflow.connection ?? this.connections.adopt(subflow, side, s, time, packet);
    if (connection.closed || subflow.copyOf !== null) return;
    const by = subflow.sideOf(side);
    const { data } = connection.sides[by];
    if (!connection.established && subflow.kind === 'initial') {
      connection.established = true;
      connection.note(time, packet, subflow.number, by, 'note', {
        type: 'connection-established',
        version: connection.version ?? 1,
        checksum: connection.checksum,
      });
    }
    if ((s.dssFlags & DSS_FLAG.mapping) !== 0) {
      const wide = (s.dssFlags & DSS_FLAG.dsn64) !== 0;
      if (!data.known) {
        // The key is not known: the first byte seen is number 1.
        const low = (s.dsnLow - 1) | 0;
        data.origin(wide && s.dsnLow === 0 ? (s.dsnHigh - 1) | 0 : wide ? s.dsnHigh : 0, low, false, wide);
      }
      const position = wide ? data.position64(s.dsnHigh, s.dsnLow) : data.position32(s.dsnLow, data.next);
      // NaN: not a number of this stream.
      if (position === position) this.mapping(connection, subflow, side, half, s, segmentPosition, position, time, packet);
    }
    if ((s.dssFlags & DSS_FLAG.dataAck) !== 0) {
      const other = connection.sides[by === 0 ? 1 : 0].data;
      const wide = (s.dssFlags & DSS_FLAG.dataAck64) !== 0;
      if (!other.known) {
        other.origin(wide ? s.dataAckHigh : 0, (s.dataAckLow - 1) | 0, false, wide);
      }
      const acked = wide ? other.position64(s.dataAckHigh, s.dataAckLow) : other.position32(s.dataAckLow, other.acked);
      if (full) other.acknowledge(acked, time, subflow.number, packet, (number, position) => connection.acknowledged(by === 0 ? 1 : 0, number, position));
      else if (acked > other.acked) other.acked = acked;
      this.points?.dataAck(connection, subflow, by, time, acked, subflow.halves[side].window, packet);
    }
  }

  private mapping(
    connection: Connection,
    subflow: Subflow,
    side: Side,
    half: MptcpHalf,
    s: Segment,
    segmentPosition: number,
    position: number,
    time: number,
    packet: number,
  ): void {
    const by = subflow.sideOf(side);
    const { data } = connection.sides[by];
    const fin = (s.dssFlags & DSS_FLAG.dataFin) !== 0;
    // DATA_FIN takes the last octet of its mapping (RFC 8684 §3.3.3).
    const length = fin ? s.dataLength - 1 : s.dataLength;
    if (fin && data.finPosition < 0) {
      data.end(position + length);
      connection.note(time, packet, subflow.number, by, 'note', { type: 'data-fin', position: data.finPosition });
    }
    if (fin && length === 0) return;
    // Relative to the subflow's initial sequence number; where that was not seen, ours is off by what we guessed.
    const me = subflow.halves[side];
    const ssn = me.synSeen ? (s.ssn >>> 0) + Math.round((segmentPosition - (s.ssn >>> 0)) / 0x100000000) * 0x100000000 : ssnGuess(half, s, segmentPosition);
    const fresh = half.mappings.learn(ssn, position, length);
    if (s.dataLength === 0) {
      if (fresh) connection.fallBack('infinite-mapping', time, packet, subflow.number, by);
      return;
    }
    if (fresh && s.dssChecksum >= 0 && this.full) {
      half.sumStart = ssn;
      half.sumEnd = ssn + length;
      half.sumNext = ssn;
      const high = data.wide ? (data.originHigh + Math.floor(((data.originLow >>> 0) + position) / 0x100000000)) | 0 : 0;
      half.sum = dssPseudoHeader(high, s.dsnLow, s.ssn, s.dataLength);
      half.sumExpected = data.wide ? s.dssChecksum : -1;
    }
  }

  /** Takes payload of a subflow that is part of a connection; `payload` is what it is to the subflow ({@link PAYLOAD}). */
  data(subflow: Subflow, side: Side, s: Segment, position: number, payload: number, time: number, packet: number): void {
    const connection = subflow.connection!;
    const half = subflow.mptcp![side];
    const by = subflow.sideOf(side);
    const length = s.payloadLength;
    this.dataPosition = half.mappings.positionOf(position);
    this.point = payload === PAYLOAD.retransmission ? POINT.retransmission : payload === PAYLOAD.reordered ? POINT.reordered : POINT.new;
    if (payload === PAYLOAD.keepAlive || subflow.copyOf !== null || connection.closed) return;
    const at = this.dataPosition;
    if (at !== at) {
      if (connection.fallback === null) this.unmapped(connection, subflow, side, half, length, time, packet);
      return;
    }
    const again = payload === PAYLOAD.retransmission;
    if (!this.full) {
      // The summary counts on the subflow level alone: no second look at each byte.
      if (!again) half.dataBytes += length;
      return;
    }
    const { data } = connection.sides[by];
    const before = data.next;
    const queueBefore = data.ahead.total;
    const backward = payload === PAYLOAD.new && at < half.mappings.highest;
    const reinjected = data.take(at, length, subflow.number, again, backward, time, packet, (wanted, except) =>
      connection.carrierOf(by, wanted, except, backward),
    );
    if (again) {
      // Where the original was lost before the capture, the retransmission brings the bytes.
      half.dataBytes += data.fresh;
    } else {
      half.dataBytes += length - reinjected;
      half.reinjectedBytes += reinjected;
      if (reinjected > 0) this.point = POINT.reinjection;
      else half.mappings.carried(at, position, length);
    }
    if (data.next > before) {
      const moved = connection.sides[by].traffic(subflow.number, length, time, packet);
      if (moved !== null) connection.note(moved.time, moved.packet, moved.to, by, 'note', { type: 'traffic-moved', from: moved.from, to: moved.to });
    }
    const { points } = this;
    if (points === undefined) return;
    points.payload(connection, subflow, by, time, at, length, this.point, packet);
    if (data.ahead.total !== queueBefore) points.queue(connection, by, time, data.ahead.total);
  }

  /** Payload that no mapping covers, on a connection that is Multipath TCP by its handshake. */
  private unmapped(connection: Connection, subflow: Subflow, side: Side, half: MptcpHalf, length: number, time: number, packet: number): void {
    const by = subflow.sideOf(side);
    half.unmapped += length;
    connection.sides[by].data.unmappedBytes += length;
    if (!connection.whole || subflow.kind !== 'initial' || this.optionsCut) return;
    // RFC 8684 §3.7: until the first DATA_ACK, data without DSS means plain TCP.
    if (half.dss === 0 && connection.version !== null)
      connection.fallBack(side === 0 && !connection.established ? 'third-ack-without-option' : 'no-dss-in-first-data', time, packet, subflow.number, by);
    else if (half.dss > 0 && half.unmapped === length)
      connection.note(time, packet, subflow.number, by, 'warning', { type: 'mapping-missing', position: connection.sides[by].data.next, length });
  }

  /** Adds payload to the checksum of its mapping (RFC 8684 §3.3.1). */
  checksum(subflow: Subflow, side: Side, s: Segment, position: number, time: number, packet: number): void {
    const half = subflow.mptcp?.[side];
    if (half === undefined || half.sumExpected < 0 || position !== half.sumNext) return;
    const take = Math.min(s.payloadLength, half.sumEnd - position);
    const piece = sum(s.bytes, s.payloadOffset, take);
    half.sum = addPiece(half.sum, piece, position - half.sumStart);
    half.sumNext += take;
    if (half.sumNext < half.sumEnd) return;
    half.checksums++;
    if (finish(half.sum) !== half.sumExpected && subflow.connection !== null) {
      half.checksumFailures++;
      subflow.connection.note(time, packet, subflow.number, subflow.sideOf(side), 'error', {
        type: 'checksum-failure',
        position: half.mappings.positionOf(half.sumStart),
      });
    }
    half.sumExpected = -1;
  }
}

/** Without the SYN, the first mapping with payload is taken to begin with its segment: Linux and ours do so. */
function ssnGuess(half: MptcpHalf, s: Segment, segmentPosition: number): number {
  if (Number.isNaN(half.ssnShift) && s.payloadLength > 0) half.ssnShift = segmentPosition - (s.ssn >>> 0);
  return (s.ssn >>> 0) + (Number.isNaN(half.ssnShift) ? 0 : half.ssnShift);
}
