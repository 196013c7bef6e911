/**
 * Packets in, connections and events out. Memory follows the number of open connections: what is finished is handed
 * over and forgotten; everything else has a bound.
 */
import { FLAG, FRAME, FRAME_NAME, Layers, walkFrame, walkPacket } from '@subflow/wire';
import type { CaptureReader, Segment } from '@subflow/wire';
import { DataLevel } from './data-level.ts';
import type { PointSink } from './data-level.ts';
import { FlowTable } from './flow-table.ts';
import { Fragments } from './fragments.ts';
import { Subflow } from './connection.ts';
import type { Connection } from './connection.ts';
import { Connections } from './signalling.ts';
import type { Side, TraceEvent } from './events.ts';

/** A conversation that says nothing for this long is over. */
const IDLE = 600e6;
/** A SYN that nobody answers is sent again for about a minute. */
const UNANSWERED = 120e6;
/** One that has ended stays this long for what comes late. */
const LINGER = 4e6;
const SWEEP_EVERY = 1e6;
const MOST_FLOWS = 200_000;
/** A direction moves to another interface when its own has been silent this long; before, packets there are copies. */
const INTERFACE_SILENT = 1e6;
const FIN_RST = FLAG.fin | FLAG.rst;

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
  /** What its payload was to the subflow ({@link PAYLOAD}). */
  payload = 0;
  time = 0;
  /** Several interfaces or files: packets that come by twice are told apart. */
  severalInterfaces = false;

  private readonly options: AnalyzerOptions;
  private readonly full: boolean;
  private readonly table: FlowTable = new FlowTable();
  private readonly flows: (Subflow | undefined)[] = [];
  private readonly fragments: Fragments = new Fragments();
  private readonly connections: Connections;
  private readonly dataLevel: DataLevel;
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
    this.dataLevel = new DataLevel(this.full, this.connections, options.points);
  }

  /** Seconds and nanoseconds of the first packet: time 0. */
  get base(): { seconds: number; nanoseconds: number } {
    return { seconds: this.baseSeconds, nanoseconds: this.baseNanoseconds };
  }

  /** What the payload of the packet before was on the data level ({@link POINT}), and where it lies in the stream (NaN without mapping). */
  get point(): number {
    return this.dataLevel.point;
  }

  get dataPosition(): number {
    return this.dataLevel.dataPosition;
  }

  /** Connections that are not over. */
  get openConnections(): Iterable<Connection> {
    return this.connections.open;
  }

  /** Takes the frame that a reader stands at. `interfaceIndex` tells interfaces of several files apart. */
  read(reader: CaptureReader, interfaceIndex: number = reader.interface): boolean {
    return this.frame(
      reader.view,
      reader.bytes,
      reader.offset,
      reader.length,
      reader.originalLength,
      reader.linkType,
      reader.seconds,
      reader.nanoseconds,
      interfaceIndex,
    );
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

  /** Number of the TCP connection that a segment belongs to, as Wireshark's tcp.stream counts; -1 when it is not known. */
  streamOf(segment: Segment): number {
    return this.flows[this.table.find(segment)]?.stream ?? -1;
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
      subflow = new Subflow(this.streams++, s, reversed, table.forward);
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
    else if (syn && !s.hasDss && subflow.kind !== 'plain' && !this.layers.badOptions) this.withoutOption(subflow, side, (flags & FLAG.ack) !== 0, time, packet);

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
    if (s.hasDss) this.dataLevel.dss(subflow, side, s, position, time, packet);
    if (s.payloadLength > 0) {
      this.dataLevel.optionsCut = this.layers.badOptions;
      if (subflow.mptcp !== null && subflow.connection !== null) this.dataLevel.data(subflow, side, s, position, payload, time, packet);
      if (full && this.layers.captured >= s.endOffset) this.dataLevel.checksum(subflow, side, s, position, time, packet);
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
    subflow.connection?.subflowUp();
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
      this.close(subflow);
      return;
    }
    if (me.finPosition < 0) {
      me.finPosition = position + s.payloadLength;
      if (connection !== null) connection.note(time, packet, subflow.number, by, 'note', { type: 'subflow-end' });
    }
    if (me.finPosition >= me.next) me.next = me.finPosition + 1;
    me.fins++;
    if (peer.finPosition >= 0) this.close(subflow);
  }

  private close(subflow: Subflow): void {
    if (subflow.closed) return;
    subflow.closed = true;
    if (subflow.established) subflow.connection?.subflowDown();
  }

  private sweep(time: number): void {
    this.swept = time;
    for (let entry = 0; entry < this.flows.length; entry++) {
      const subflow = this.flows[entry];
      if (subflow === undefined) continue;
      if (subflow.lastTime + patience(subflow) < time) this.release(entry, subflow);
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
}

/** How long a conversation may be silent before it is forgotten. */
function patience(subflow: Subflow): number {
  const { connection } = subflow;
  // While its connection lives on other subflows, what comes late (a path that is back) belongs to it.
  if (connection === null ? subflow.closed : connection.over) return LINGER;
  return subflow.established || subflow.closed ? IDLE : UNANSWERED;
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
