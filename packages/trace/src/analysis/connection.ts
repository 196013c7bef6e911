/** One Multipath TCP connection: its keys, its subflows, both directions of its data, and what happened. */
import { keyMaterial, versionOf } from '@subflow/stack';
import type { U64 } from '@subflow/wire';
import { DataDirection } from './data.ts';
import type { EventBody, Severity, Side, TraceEvent, TraceFallback } from './events.ts';
import type { Subflow } from './subflow.ts';

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
  fallback: TraceFallback | null = null;
  fallbackTime = Number.NaN;
  fallbackPacket = 0;
  /** The handshake was seen from its beginning. */
  whole = false;
  open = 0;
  closed = false;
  hmacWrong = 0;
  private readonly emit: ((event: TraceEvent) => void) | null;

  constructor(index: number, emit: ((event: TraceEvent) => void) | null) {
    this.index = index;
    this.emit = emit;
  }

  add(subflow: Subflow, flipped: boolean): boolean {
    subflow.connection = this;
    subflow.flipped = flipped;
    this.open++;
    if (this.subflows.length >= MOST_SUBFLOWS) {
      this.subflowsBeyond++;
      return false;
    }
    this.subflows.push(subflow);
    subflow.number = this.subflows.length;
    return true;
  }

  /** Learns a key; token and initial data sequence number follow from it. Returns false when another was known. */
  learnKey(side: Side, key: U64, version: 0 | 1): boolean {
    const state = this.sides[side];
    if (state.key !== null) return (state.key.high | 0) === (key.high | 0) && (state.key.low | 0) === (key.low | 0);
    state.key = key;
    const material = keyMaterial(key.high, key.low, versionOf(version));
    state.token = material.token;
    if (!state.data.known || !state.data.fromKey) {
      // Positions found by guessing keep their meaning when data was seen before the key: only an empty stream is moved.
      if (state.data.bytes === 0) state.data.origin(material.idsnHigh, material.idsnLow, true, true);
    }
    return true;
  }

  get checksum(): boolean {
    return this.sides.some((side) => side.flags >= 0 && (side.flags & 0x80) !== 0);
  }

  note(time: number, packet: number, subflow: number, by: Side, severity: Severity, body: EventBody): void {
    const event: TraceEvent = { time, packet, connection: this.index, subflow, by, severity, ...body };
    if (this.events.length < MOST_EVENTS) this.events.push(event);
    else this.eventsBeyond++;
    this.emit?.(event);
  }

  fallBack(reason: TraceFallback, time: number, packet: number, subflow: number, by: Side): void {
    if (this.fallback !== null) return;
    this.fallback = reason;
    this.fallbackTime = time;
    this.fallbackPacket = packet;
    this.note(time, packet, subflow, by, 'warning', { type: 'connection-fallback', reason });
  }

  /** Which subflow carried a byte first, and where; `except` is looked at last. */
  carrierOf(side: Side, data: number, except: number): { subflow: number; at: number } | null {
    let own: { subflow: number; at: number } | null = null;
    for (const subflow of this.subflows) {
      const half = subflow.mptcp?.[subflow.sideOf(side)];
      if (half === undefined) continue;
      const at = half.mappings.carrierOf(data);
      if (at < 0) continue;
      if (subflow.number !== except) return { subflow: subflow.number, at };
      own = { subflow: except, at };
    }
    return own;
  }

  acknowledged(side: Side, number: number, position: number): boolean {
    const subflow = this.subflows[number - 1];
    return subflow !== undefined && subflow.halves[subflow.sideOf(side)].acked >= position;
  }

  /** Everything known by now goes into the list of events. */
  finish(time: number): void {
    if (this.closed) return;
    this.closed = true;
    for (const side of [0, 1] as const) {
      const { data } = this.sides[side];
      for (const burst of data.bursts)
        this.note(burst.start, burst.firstPacket, burst.to, side, burst.wasted > burst.useful ? 'warning' : 'note', {
          type: 'reinjection',
          from: burst.from,
          to: burst.to,
          bytes: burst.bytes,
          packets: burst.packets,
          start: burst.start,
          end: burst.end,
          lastPacket: burst.lastPacket,
          useful: burst.useful,
          wasted: burst.wasted,
        });
    }
    this.note(time, 0, 0, 0, 'note', { type: 'connection-closed' });
  }
}
