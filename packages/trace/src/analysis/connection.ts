/** One Multipath TCP connection: its keys, its subflows, both directions of its data, and what happened. */
import { keyMaterial, versionOf } from '@subflow/stack';
import type { FallbackReason } from '@subflow/stack';
import { CAPABLE_FLAG } from '@subflow/wire';
import type { U64 } from '@subflow/wire';
import { DataDirection } from './data.ts';
import type { Carrier, Pause } from './data.ts';
import type { EventBody, Severity, Side, TraceEvent } from './events.ts';
import type { Subflow } from './subflow.ts';

/** Where the capture was made. `local`: both ends are so near that it cannot be told. */
export type Vantage = 'client' | 'server' | 'middle' | 'local' | 'unknown';

/** A round trip shorter than this (microseconds) divides by chance. */
const LOCAL = 200;
/** A part smaller than this of the round trip means: at this end. */
const NEAR = 0.15;
/** A pause that people notice. */
const LONG_PAUSE = 200_000;
/** Kept per connection; what comes after is counted. */
const MOST_EVENTS = 4096;
const MOST_SUBFLOWS = 256;
/** The old subflow is silent this long: the traffic has moved. */
const MOVED_AFTER = 500_000;
/** Fewer bytes than this on the new subflow are a probe, not a move. */
const MOVED_BYTES = 2000;

export interface AnnouncedAddress {
  addressId: number;
  address: string;
  port: number | null;
  removed: boolean;
}

/** What one side said about itself. */
export class SideState {
  key: U64 | null = null;
  /** int32. */
  token: number | null = null;
  /** Flags of its MP_CAPABLE; -1 before it. */
  flags = -1;
  readonly data: DataDirection = new DataDirection();
  readonly addresses: Map<number, AnnouncedAddress> = new Map();
  /** Data that may have moved to another subflow. */
  private move: { from: number; to: number; time: number; packet: number; bytes: number } | null = null;
  private active = 0;

  /** New data on a subflow. Returns a move when one is certain by now. */
  traffic(subflow: number, bytes: number, time: number, packet: number): { from: number; to: number; time: number; packet: number } | null {
    if (this.active === 0) this.active = subflow;
    if (subflow === this.active) {
      this.move = null;
      return null;
    }
    if (this.move === null || this.move.to !== subflow) this.move = { from: this.active, to: subflow, time, packet, bytes: 0 };
    this.move.bytes += bytes;
    if (time - this.move.time < MOVED_AFTER || this.move.bytes < MOVED_BYTES) return null;
    const { move } = this;
    this.active = subflow;
    this.move = null;
    return move;
  }
}

export class Connection {
  readonly index: number;
  /** Version of the handshake; null for one that began before the capture. */
  version: 0 | 1 | null = null;
  offeredVersion = -1;
  readonly sides: readonly [SideState, SideState] = [new SideState(), new SideState()];
  readonly subflows: Subflow[] = [];
  /** More than the bound: counted, not analysed. */
  subflowsBeyond = 0;
  readonly events: TraceEvent[] = [];
  eventsBeyond = 0;
  established = false;
  fallback: FallbackReason | null = null;
  fallbackTime = Number.NaN;
  fallbackPacket = 0;
  /** The handshake was seen from its beginning. */
  whole = false;
  /** Subflows that are still in the analyzer's table. */
  open = 0;
  closed = false;
  /** Established subflows that have not ended. */
  private live = 0;
  private lived = false;
  private readonly emit: ((event: TraceEvent) => void) | null;

  constructor(index: number, emit: ((event: TraceEvent) => void) | null) {
    this.index = index;
    this.emit = emit;
  }

  add(subflow: Subflow, flipped: boolean): boolean {
    subflow.connection = this;
    subflow.flipped = flipped;
    this.open++;
    if (subflow.established && !subflow.closed) this.subflowUp();
    if (this.subflows.length >= MOST_SUBFLOWS) {
      this.subflowsBeyond++;
      return false;
    }
    this.subflows.push(subflow);
    subflow.number = this.subflows.length;
    return true;
  }

  subflowUp(): void {
    this.live++;
    this.lived = true;
  }

  subflowDown(): void {
    this.live--;
  }

  /** All its subflows have ended. */
  get over(): boolean {
    return this.lived && this.live <= 0;
  }

  /** Learns a key; token and initial data sequence number follow from it. */
  learnKey(side: Side, key: U64, version: 0 | 1): void {
    const state = this.sides[side];
    state.key = key;
    const material = keyMaterial(key.high, key.low, versionOf(version));
    state.token = material.token;
    // Positions found by guessing keep their meaning when data was seen before the key: only an empty stream is moved.
    if (state.data.bytes === 0) state.data.origin(material.idsnHigh, material.idsnLow, true, true);
  }

  get checksum(): boolean {
    return this.sides.some((side) => side.flags >= 0 && (side.flags & CAPABLE_FLAG.checksum) !== 0);
  }

  note(time: number, packet: number, subflow: number, by: Side, severity: Severity, body: EventBody): void {
    const event: TraceEvent = { time, packet, connection: this.index, subflow, by, severity, ...body };
    if (this.events.length < MOST_EVENTS) this.events.push(event);
    else this.eventsBeyond++;
    this.emit?.(event);
  }

  fallBack(reason: FallbackReason, time: number, packet: number, subflow: number, by: Side): void {
    if (this.fallback !== null) return;
    this.fallback = reason;
    this.fallbackTime = time;
    this.fallbackPacket = packet;
    this.note(time, packet, subflow, by, 'warning', { type: 'connection-fallback', reason });
  }

  /**
   * Which subflow carried a byte first, and where; `except` is looked at last. When none is known to (the capture stands
   * behind the loss), the one that carried what lies just below it.
   */
  carrierOf(side: Side, data: number, except: number, guess: boolean): Carrier | null {
    let own: Carrier | null = null;
    let likely: Carrier | null = null;
    let nearest = -1;
    for (const subflow of this.subflows) {
      const half = subflow.mptcp?.[subflow.sideOf(side)];
      if (half === undefined) continue;
      const at = half.mappings.carrierOf(data);
      if (at >= 0 && subflow.number !== except) return { subflow: subflow.number, at };
      if (at >= 0) own = { subflow: except, at };
      if (!guess || subflow.number === except) continue;
      const below = half.mappings.nearestBelow(data);
      if (below > nearest) {
        nearest = below;
        likely = { subflow: subflow.number, at: -1 };
      }
    }
    return own ?? likely;
  }

  acknowledged(side: Side, number: number, position: number): boolean {
    const subflow = this.subflows[number - 1];
    return subflow !== undefined && subflow.halves[subflow.sideOf(side)].acked >= position;
  }

  /** Where the capture was made, told by how the handshake's round trip divides. */
  get vantage(): Vantage {
    for (const subflow of this.subflows) {
      const there = subflow.synAckTime - subflow.synTime;
      const back = subflow.ackTime - subflow.synAckTime;
      // NaN: the handshake was not seen whole.
      if (!(there >= 0 && back >= 0)) continue;
      const total = there + back;
      if (total < LOCAL) return 'local';
      // The opener of a join may be the connection's responder.
      const near: Side = subflow.flipped ? 1 : 0;
      if (back < total * NEAR) return near === 0 ? 'client' : 'server';
      if (there < total * NEAR) return near === 0 ? 'server' : 'client';
      return 'middle';
    }
    return 'unknown';
  }

  /** Progress of one direction's data: as it arrived where the capture is the receiver's, else by DATA_ACKs. */
  pausesOf(side: Side): readonly Pause[] {
    const { data } = this.sides[side];
    const atReceiver = this.vantage === (side === 0 ? 'server' : 'client');
    return (atReceiver ? data.arrivals : data.acknowledgements).pauses;
  }

  /** First and last packet. */
  get span(): { start: number; end: number } {
    let start = Number.POSITIVE_INFINITY;
    let end = Number.NEGATIVE_INFINITY;
    for (const subflow of this.subflows) {
      start = Math.min(start, subflow.firstTime);
      end = Math.max(end, subflow.lastTime);
    }
    return { start, end };
  }

  /** What is only known at the end goes into the list of events, and the list into the order of time. */
  finish(): void {
    if (this.closed) return;
    this.closed = true;
    for (const side of [0, 1] as const) {
      const { data } = this.sides[side];
      data.close(this.span.end);
      for (const burst of data.bursts) {
        const { firstPacket, ...rest } = burst;
        this.note(burst.start, firstPacket, burst.to, side, burst.wasted > burst.useful ? 'warning' : 'note', { type: 'reinjection', ...rest });
      }
      for (const pause of this.pausesOf(side)) {
        const { firstPacket, ...rest } = pause;
        this.note(pause.end, firstPacket, pause.to, side, pause.end - pause.start > LONG_PAUSE ? 'warning' : 'note', { type: 'gap', ...rest });
      }
      for (const blocked of data.blocked) {
        const { firstPacket, ...rest } = blocked;
        this.note(blocked.start, firstPacket, blocked.waiting, side, 'note', { type: 'blocked', ...rest });
      }
    }
    this.note(this.span.end, 0, 0, 0, 'note', { type: 'connection-closed' });
    this.events.sort((a, b) => a.time - b.time);
  }
}
