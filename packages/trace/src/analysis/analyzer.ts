/**
 * Packets in, connections and events out. Memory follows the number of open connections: what is finished is handed
 * over and forgotten; everything else has a bound.
 */
import { DSS_FLAG, dssPseudoHeader, finish, FLAG, FRAME, FRAME_NAME, sum, tcpPseudoHeader, walkFrame, walkPacket, fold, addOdd, Layers } from '@subflow/wire';
import type { Segment } from '@subflow/wire';
import { FlowTable } from './flow-table.ts';
import { Fragments } from './fragments.ts';
import { PAYLOAD } from './half.ts';
import type { Connection } from './connection.ts';
import { Connections } from './signalling.ts';
import { MptcpHalf, Subflow } from './subflow.ts';
import type { Side, TraceEvent } from './events.ts';

/** A conversation that says nothing for this long is over. */
const IDLE = 600e6;
/** One that has ended stays this long for what comes late. */
const LINGER = 4e6;
const SWEEP_EVERY = 1e6;
const MOST_FLOWS = 200_000;
/** A direction moves to another interface when its own has been silent this long; before, packets there are copies. */
const INTERFACE_SILENT = 1e6;
const FIN_RST = FLAG.fin | FLAG.rst;

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

export interface AnalyzerOptions {
  /** `summary`: handshakes, options, bytes. `full`: also round-trip times, causes, data level, checksums. */
  detail?: 'summary' | 'full';
  onEvent?: (event: TraceEvent) => void;
  /** A connection is over: all its subflows have ended, or said nothing for ten minutes. Not kept afterwards. */
  onConnection?: (connection: Connection) => void;
  /** A TCP connection that is not Multipath TCP is over. */
  onPlain?: (subflow: Subflow) => void;
  points?: PointSink;
}

/** Totals over the whole capture. */
export interface Totals {
  packets: number;
  bytes: number;
  /** Frames by what they held ({@link FRAME_NAME}). */
  frames: Record<(typeof FRAME_NAME)[number], number>;
  reassembled: number;
  fragmentsLost: number;
  copies: number;
  tcpConnections: number;
  mptcpConnections: number;
  subflows: number;
  fallbacks: number;
  /** By version, -1 for connections that began before the capture. */
  versions: { v0: number; v1: number; unknown: number };
  options: Uint32Array;
}

export class Analyzer {
  readonly layers: Layers = new Layers();
  /** Result of {@link frame} for the packet before: what it held. */
  held = 0;
  /** It was the last fragment: `layers` speaks of the whole packet. */
  reassembled = false;
  /** Subflow and direction of the packet before; null when it was not TCP. */
  subflow: Subflow | null = null;
  side: Side = 0;
  /** Positions of the packet before within its direction: relative sequence and acknowledgement number. */
  position = 0;
  ackPosition = 0;
  /** What its payload was ({@link PAYLOAD}, {@link POINT}). */
  payload = 0;
  point = 0;
  dataPosition = Number.NaN;
  time = 0;
  /** Several interfaces or files: packets that come by twice are told apart. */
  severalInterfaces = false;

  private readonly options: AnalyzerOptions;
  private readonly full: boolean;
  private readonly table: FlowTable = new FlowTable();
  private readonly flows: (Subflow | undefined)[] = [];
  private readonly fragments: Fragments = new Fragments();
  private readonly connections: Connections;
  private readonly counts: Float64Array = new Float64Array(FRAME_NAME.length);
  private packets = 0;
  private bytes = 0;
  private streams = 0;
  private copies = 0;
  private plain = 0;
  private finishedMptcp = 0;
  private readonly versions = { v0: 0, v1: 0, unknown: 0 };
  private finishedSubflows = 0;
  private fallbacks = 0;
  private readonly optionCounts: Uint32Array = new Uint32Array(16);
  private baseSeconds = Number.NaN;
  private baseNanoseconds = 0;
  private swept = 0;

  constructor(options: AnalyzerOptions = {}) {
    this.options = options;
    this.full = options.detail !== 'summary';
    this.connections = new Connections(options.onEvent ?? null);
  }

  /** Seconds and nanoseconds of the first packet: time 0. */
  get base(): { seconds: number; nanoseconds: number } {
    return { seconds: this.baseSeconds, nanoseconds: this.baseNanoseconds };
  }

  /** Connections that are not over. */
  get openConnections(): Iterable<Connection> {
    return this.connections.open;
  }

  /** Takes a frame. Returns whether it held a TCP segment that was looked at. Never throws, whatever the bytes. */
  frame(
    view: DataView,
    bytes: Uint8Array,
    offset: number,
    captured: number,
    original: number,
    linkType: number,
    seconds: number,
    nanoseconds: number,
    interfaceIndex = 0,
  ): boolean {
    // NaN compares unequal to itself: the first frame sets the clock.
    if (this.baseSeconds !== this.baseSeconds) {
      this.baseSeconds = seconds;
      this.baseNanoseconds = nanoseconds;
    }
    this.packets++;
    this.bytes += original;
    this.subflow = null;
    const time = (seconds - this.baseSeconds) * 1e6 + (nanoseconds - this.baseNanoseconds) / 1000;
    this.time = time;
    const { layers } = this;
    let held = walkFrame(view, bytes, offset, captured, original, linkType, layers);
    this.reassembled = false;
    if (held === FRAME.fragment) {
      const whole = this.fragments.add(layers, time);
      if (whole !== null) {
        held = walkPacket(new DataView(whole.buffer, 0, whole.length), whole, 0, whole.length, layers);
        this.reassembled = true;
        if (held === FRAME.fragment) held = FRAME.badIp;
      }
    }
    this.held = held;
    this.counts[held]!++;
    if (time > this.swept + SWEEP_EVERY) this.sweep(time);
    if (held !== FRAME.tcp) return false;
    return this.segment(layers.segment, time, this.packets, interfaceIndex);
  }

  /** The capture is over. */
  end(): void {
    for (const [entry, subflow] of this.flows.entries()) if (subflow !== undefined) this.release(entry, subflow);
    for (const connection of this.connections.open) this.finish(connection);
  }

  totals(): Totals {
    const frames = {} as Totals['frames'];
    FRAME_NAME.forEach((name, i) => (frames[name] = this.counts[i]!));
    const options = this.optionCounts.slice();
    let subflows = this.finishedSubflows;
    let plain = this.plain;
    let mptcp = this.finishedMptcp;
    let fallbacks = this.fallbacks;
    const versions = { ...this.versions };
    for (const subflow of this.flows) {
      if (subflow === undefined) continue;
      for (let i = 0; i < options.length; i++) options[i]! += subflow.options[i]!;
      if (subflow.connection === null) plain++;
    }
    for (const connection of this.connections.open) {
      mptcp++;
      subflows += connection.subflows.length;
      if (connection.fallback !== null) fallbacks++;
      countVersion(versions, connection);
    }
    return {
      packets: this.packets,
      bytes: this.bytes,
      frames,
      reassembled: this.fragments.reassembled,
      fragmentsLost: this.fragments.lost,
      copies: this.copies,
      tcpConnections: plain,
      mptcpConnections: mptcp,
      subflows,
      fallbacks,
      versions,
      options,
    };
  }

  private segment(s: Segment, time: number, packet: number, interfaceIndex: number): boolean {
    const { table, flows } = this;
    const { flags } = s;
    let entry = table.find(s);
    let subflow = entry < 0 ? undefined : flows[entry];
    const syn = (flags & FLAG.syn) !== 0;
    if (subflow !== undefined && syn && (flags & FLAG.ack) === 0 && isNewConnection(subflow, s)) {
      this.release(entry, subflow);
      entry = -1;
      subflow = undefined;
    }
    if (subflow === undefined) {
      if (table.size >= MOST_FLOWS) this.evict();
      const reversed = (flags & (FLAG.syn | FLAG.ack)) === (FLAG.syn | FLAG.ack) || (!syn && s.sourcePort < s.destinationPort);
      entry = table.add(s);
      subflow = new Subflow(this.streams++, s, reversed, syn, table.forward);
      subflow.firstPacket = packet;
      subflow.firstTime = time;
      subflow.lastTime = time;
      flows[entry] = subflow;
    }
    const side: Side = table.forward === subflow.initiatorForward ? 0 : 1;
    if (this.severalInterfaces && isCopy(subflow, side, s, interfaceIndex, time)) {
      subflow.copies++;
      this.copies++;
      return false;
    }
    this.subflow = subflow;
    this.side = side;
    subflow.packets++;
    // Clocks jump: a later packet may carry an earlier time.
    if (time > subflow.lastTime) subflow.lastTime = time;
    if (time < subflow.firstTime) subflow.firstTime = time;
    this.take(subflow, side, s, time, packet);
    return true;
  }

  private take(subflow: Subflow, side: Side, s: Segment, time: number, packet: number): void {
    const { full } = this;
    const { flags } = s;
    const me = subflow.halves[side];
    const peer = subflow.halves[1 - side]!;
    const syn = (flags & FLAG.syn) !== 0;
    me.packets++;
    me.wireBytes += s.endOffset - s.ipOffset;
    if (me.firstTime !== me.firstTime) me.firstTime = time;
    me.lastTime = time;
    if (!me.known) me.begin(s.seq, syn);
    if ((s.trafficClass & 3) === 3) me.ecnMarked++;
    if (this.layers.badOptions) me.badOptions++;
    const position = me.position(s.seq) + (syn ? 1 : 0);
    this.position = position;
    if (syn) this.handshake(subflow, side, s, time, packet);
    if (s.otherMptcpCount > 0) this.connections.options(subflow, side, s, time, packet);
    else if (syn && !s.hasDss && subflow.kind !== 'plain') this.withoutOption(subflow, side, (flags & FLAG.ack) !== 0, time, packet);

    const payload = me.take(s, position, time, full);
    if (syn && me.next < 1) me.next = 1;
    this.payload = payload;
    if (full) {
      if (s.payloadLength > 0) me.throughput.add(time, s.payloadLength);
      if (s.hasTimestamps) {
        me.stamp(s.tsVal, time);
        if ((flags & FLAG.ack) !== 0) peer.echo(s.tsEcr, time);
      }
    }

    let progress = false;
    if ((flags & FLAG.ack) !== 0) {
      if (!peer.known) peer.begin(s.ack, false);
      const scaled = syn || me.windowScale < 0 || peer.windowScale < 0 ? s.window : s.window * 2 ** me.windowScale;
      const ackPosition = peer.position(s.ack);
      this.ackPosition = ackPosition;
      const changed = scaled !== me.window;
      progress = peer.acknowledged(ackPosition, s, time, changed, full);
      if (changed || scaled === 0) {
        const was = me.zeroSince;
        if (me.advertise(scaled, time) && (flags & FLAG.rst) === 0) this.windowEdge(subflow, side, time, packet, was);
      }
      if (!subflow.established && !syn) this.establish(subflow, side, time, packet);
    }
    const { connection } = subflow;
    if (s.hasDss) this.dss(subflow, side, s, time, packet);
    if (s.payloadLength > 0) {
      if (subflow.mptcp !== null && subflow.connection !== null) this.data(subflow, side, s, position, payload, time, packet);
      if (full && this.layers.captured >= s.endOffset) this.checksum(subflow, side, s, position, time, packet);
    }
    if (progress && full && this.options.points !== undefined && connection !== null)
      this.options.points.subflowAck(
        connection,
        subflow,
        side === 0 ? 1 : 0,
        time,
        peer.next - peer.acked,
        peer.flight.sampled <= time ? time - peer.flight.sampled : Number.NaN,
      );
    if ((flags & FIN_RST) !== 0) this.ending(subflow, side, s, position, time, packet);
  }

  private handshake(subflow: Subflow, side: Side, s: Segment, time: number, packet: number): void {
    const me = subflow.halves[side];
    me.handshake(s, time);
    if (side === 0 && (s.flags & FLAG.ack) === 0) {
      if (Number.isNaN(subflow.synTime)) subflow.synTime = time;
      else if (subflow.connection !== null && me.syns === 3)
        subflow.connection.note(time, packet, subflow.number, subflow.sideOf(0), 'warning', { type: 'syn-retransmitted', count: 2 });
    } else if (Number.isNaN(subflow.synAckTime)) {
      subflow.synAckTime = time;
    }
  }

  /** A SYN without Multipath TCP's option. */
  private withoutOption(subflow: Subflow, side: Side, ack: boolean, time: number, packet: number): void {
    if (subflow.kind === 'unknown') {
      // A SYN+ACK seen alone says that much, too.
      subflow.kind = 'plain';
      return;
    }
    const { connection } = subflow;
    if (connection === null || subflow.kind !== 'initial') return;
    if (ack && connection.version === null) connection.fallBack('peer-not-capable', time, packet, subflow.number, subflow.sideOf(side));
    // The initiator tries again without the option (RFC 8684 §3.1).
    else if (!ack) connection.fallBack('syn-timeout', time, packet, subflow.number, subflow.sideOf(side));
  }

  private establish(subflow: Subflow, side: Side, time: number, packet: number): void {
    if (side !== 0 && subflow.halves[0].packets > 0) return;
    subflow.established = true;
    if (Number.isNaN(subflow.synTime)) return;
    subflow.ackTime = time;
    if (subflow.connection !== null)
      subflow.connection.note(time, packet, subflow.number, subflow.sideOf(0), 'note', { type: 'subflow-established', rtt: time - subflow.synTime });
  }

  private windowEdge(subflow: Subflow, side: Side, time: number, packet: number, since: number): void {
    const { connection } = subflow;
    if (connection === null || !subflow.established) return;
    const by = subflow.sideOf(side);
    if (subflow.halves[side].window === 0) connection.note(time, packet, subflow.number, by, 'warning', { type: 'zero-window' });
    else connection.note(time, packet, subflow.number, by, 'note', { type: 'window-opened', after: time - since });
  }

  private dss(subflow: Subflow, side: Side, s: Segment, time: number, packet: number): void {
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
      if (position === position) this.mapping(connection, subflow, side, half, s, position, time, packet);
    }
    if ((s.dssFlags & DSS_FLAG.dataAck) !== 0) {
      const other = connection.sides[by === 0 ? 1 : 0].data;
      const wide = (s.dssFlags & DSS_FLAG.dataAck64) !== 0;
      if (!other.known) {
        other.origin(wide ? s.dataAckHigh : 0, (s.dataAckLow - 1) | 0, false, wide);
      }
      const acked = wide ? other.position64(s.dataAckHigh, s.dataAckLow) : other.position32(s.dataAckLow, other.acked);
      const right = acked + subflow.halves[side].window;
      if (right > other.rightEdge) other.rightEdge = right;
      if (full) other.acknowledge(acked, time, subflow.number, packet, (number, position) => connection.acknowledged(by === 0 ? 1 : 0, number, position));
      else if (acked > other.acked) other.acked = acked;
      this.options.points?.dataAck(connection, subflow, by, time, acked, subflow.halves[side].window, packet);
    }
  }

  private mapping(connection: Connection, subflow: Subflow, side: Side, half: MptcpHalf, s: Segment, position: number, time: number, packet: number): void {
    const by = subflow.sideOf(side);
    const { data } = connection.sides[by];
    const fin = (s.dssFlags & DSS_FLAG.dataFin) !== 0;
    // DATA_FIN takes the last octet of its mapping (RFC 8684 §3.3.3).
    const length = fin ? s.dataLength - 1 : s.dataLength;
    if (fin && data.finPosition < 0) {
      data.finPosition = position + length;
      connection.note(time, packet, subflow.number, by, 'note', { type: 'data-fin', position: data.finPosition });
    }
    if (fin && length === 0) return;
    // Relative to the subflow's initial sequence number; where that was not seen, ours is off by what we guessed.
    const me = subflow.halves[side];
    const ssn = me.synSeen ? (s.ssn >>> 0) + Math.round((this.position - (s.ssn >>> 0)) / 0x100000000) * 0x100000000 : this.ssnGuess(half, s);
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

  /** Without the SYN, the first mapping with payload is taken to begin with its segment: Linux and ours do so. */
  private ssnGuess(half: MptcpHalf, s: Segment): number {
    if (half.ssnShift !== half.ssnShift && s.payloadLength > 0) half.ssnShift = this.position - (s.ssn >>> 0);
    return (s.ssn >>> 0) + (half.ssnShift === half.ssnShift ? half.ssnShift : 0);
  }

  private data(subflow: Subflow, side: Side, s: Segment, position: number, payload: number, time: number, packet: number): void {
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
    const { points } = this.options;
    if (points === undefined) return;
    points.payload(connection, subflow, by, time, at, length, this.point, packet);
    if (data.ahead.total !== queueBefore) points.queue(connection, by, time, data.ahead.total);
  }

  /** Payload that no mapping covers, on a connection that is Multipath TCP by its handshake. */
  private unmapped(connection: Connection, subflow: Subflow, side: Side, half: MptcpHalf, length: number, time: number, packet: number): void {
    const by = subflow.sideOf(side);
    half.unmapped += length;
    connection.sides[by].data.unmappedBytes += length;
    if (!connection.whole || subflow.kind !== 'initial') return;
    // RFC 8684 §3.7: until the first DATA_ACK, data without DSS means plain TCP.
    if (half.dss === 0 && connection.version !== null)
      connection.fallBack(side === 0 && !connection.established ? 'third-ack-without-option' : 'no-dss-in-first-data', time, packet, subflow.number, by);
    else if (half.dss > 0 && half.unmapped === length)
      connection.note(time, packet, subflow.number, by, 'warning', { type: 'mapping-missing', position: connection.sides[by].data.next, length });
  }

  private checksum(subflow: Subflow, side: Side, s: Segment, position: number, time: number, packet: number): void {
    const half = subflow.mptcp?.[side];
    if (half === undefined || half.sumExpected < 0 || position !== half.sumNext) return;
    const take = Math.min(s.payloadLength, half.sumEnd - position);
    const piece = sum(s.bytes, s.payloadOffset, take);
    half.sum = ((position - half.sumStart) & 1) === 0 ? half.sum + piece : addOdd(half.sum, piece);
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

  private ending(subflow: Subflow, side: Side, s: Segment, position: number, time: number, packet: number): void {
    const me = subflow.halves[side];
    const peer = subflow.halves[1 - side]!;
    const { connection } = subflow;
    const by = subflow.sideOf(side);
    if ((s.flags & FLAG.rst) !== 0) {
      me.resets++;
      if (me.resets === 1 && connection !== null) {
        const why = this.connections.resetReason(s);
        connection.note(time, packet, subflow.number, by, 'warning', {
          type: 'subflow-reset',
          reason: why?.reason ?? null,
          transient: why?.transient ?? false,
          zeroWindow: s.window === 0,
          explained: why !== null,
        });
      }
      if (Number.isNaN(me.resetTime)) me.resetTime = time;
      this.close(subflow, time);
      return;
    }
    if (me.finPosition < 0) {
      me.finPosition = position + s.payloadLength;
      if (connection !== null) connection.note(time, packet, subflow.number, by, 'note', { type: 'subflow-end' });
    }
    if (me.finPosition >= me.next) me.next = me.finPosition + 1;
    me.fins++;
    if (peer.finPosition >= 0) this.close(subflow, time);
  }

  private close(subflow: Subflow, time: number): void {
    if (subflow.closed) return;
    subflow.closed = true;
    subflow.closeTime = time;
  }

  private sweep(time: number): void {
    this.swept = time;
    for (let entry = 0; entry < this.flows.length; entry++) {
      const subflow = this.flows[entry];
      if (subflow === undefined) continue;
      if (subflow.closed ? subflow.lastTime + LINGER < time : subflow.lastTime + IDLE < time) this.release(entry, subflow);
    }
    for (const connection of this.connections.open) if (connection.open <= 0) this.finish(connection);
    this.fragments.sweep(time);
  }

  /** Too many conversations (a scan, a flood): those silent longest go. */
  private evict(): void {
    let oldest = -1;
    let last = Number.POSITIVE_INFINITY;
    // One pass over a sample: the table is large and this must stay cheap.
    for (let i = 0; i < 64; i++) {
      const entry = (this.packets * 2654435761 + i * 40503) % this.flows.length;
      const subflow = this.flows[entry];
      if (subflow !== undefined && subflow.lastTime < last) {
        last = subflow.lastTime;
        oldest = entry;
      }
    }
    const victim = oldest >= 0 ? oldest : this.flows.findIndex((one) => one !== undefined);
    const subflow = this.flows[victim];
    if (subflow !== undefined) this.release(victim, subflow);
  }

  private release(entry: number, subflow: Subflow): void {
    this.table.remove(entry);
    this.flows[entry] = undefined;
    for (let i = 0; i < this.optionCounts.length; i++) this.optionCounts[i]! += subflow.options[i]!;
    const { connection } = subflow;
    if (connection === null) {
      this.plain++;
      this.options.onPlain?.(subflow);
      return;
    }
    if (subflow.copyOf === null && --connection.open <= 0) this.finish(connection);
  }

  private finish(connection: Connection): void {
    if (connection.closed) return;
    connection.finish();
    this.connections.forget(connection);
    this.finishedMptcp++;
    this.finishedSubflows += connection.subflows.length;
    if (connection.fallback !== null) this.fallbacks++;
    countVersion(this.versions, connection);
    this.options.onConnection?.(connection);
  }

  /** Whether the TCP checksum of the packet before is right; null when it was cut. */
  checksumRight(): boolean | null {
    const s = this.layers.segment;
    const length = s.endOffset - s.tcpOffset;
    if (this.held !== FRAME.tcp || this.layers.captured < s.endOffset) return null;
    return fold(sum(s.bytes, s.tcpOffset, length, tcpPseudoHeader(s, length))) === 0xffff;
  }
}

function countVersion(versions: Totals['versions'], connection: Connection): void {
  if (connection.version === 0) versions.v0++;
  else if (connection.version === 1) versions.v1++;
  else versions.unknown++;
}

/** A SYN for a conversation that is known: another connection between the same ports, unless it is the same SYN again. */
function isNewConnection(subflow: Subflow, s: Segment): boolean {
  const first = subflow.halves[0];
  return !(first.synSeen && first.isn === s.seq) && (first.known || subflow.halves[1].known);
}

/**
 * Whether a packet of another interface (or of another file: the other end's capture) repeats what is known. Each
 * direction is taken from one interface, both from the same where that has both; it moves to another only when its own
 * has fallen silent and the other has something new.
 */
function isCopy(subflow: Subflow, side: Side, s: Segment, interfaceIndex: number, time: number): boolean {
  const { interfaces, interfaceTimes } = subflow;
  const own = interfaces[side];
  const me = subflow.halves[side];
  const peer = subflow.halves[1 - side]!;
  if (own !== interfaceIndex && own >= 0) {
    const fresh =
      !me.known || me.position(s.seq) + s.payloadLength > me.next || ((s.flags & FLAG.ack) !== 0 && peer.known && peer.position(s.ack) > peer.acked);
    const together = interfaceIndex === interfaces[1 - side];
    if (!together && !(fresh && time - interfaceTimes[side]! > INTERFACE_SILENT)) return true;
    interfaces[side] = interfaceIndex;
    interfaceTimes[side] = time;
    return !fresh;
  }
  interfaces[side] = interfaceIndex;
  interfaceTimes[side] = time;
  return false;
}
