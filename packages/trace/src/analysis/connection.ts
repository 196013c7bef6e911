/**
 * One connection: its keys, its subflows, both directions of its data, and what happened. A connection and its subflows are one
 * structure, each reached from the other, and so they stand in one file.
 */
import { keyMaterial, versionOf } from '@subflow/stack';
import type { FallbackReason } from '@subflow/stack';
import { CAPABLE_FLAG, formatAddress } from '@subflow/wire';
import type { Segment, U64 } from '@subflow/wire';
import type { Carrier, Pause } from './data.ts';
import type { EventBody, Severity, Side, TraceEvent } from './events.ts';
import { Half } from './half.ts';
import type { MptcpHalf } from './mptcp-half.ts';
import { SideState } from './side-state.ts';

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

export type SubflowKind = 'plain' | 'initial' | 'join' | 'unknown';

/** One subflow (a TCP connection, Multipath or not): both its directions, and what its handshake said. */
export class Subflow {
  /** As Wireshark's tcp.stream counts. */
  readonly stream: number;
  readonly ipVersion: number;
  /** Initiator and responder: addresses as words, ports. */
  readonly source: [number, number, number, number];
  readonly destination: [number, number, number, number];
  readonly sourcePort: number;
  readonly destinationPort: number;
  /** The flow table's forward direction is that of the initiator. */
  readonly initiatorForward: boolean;
  readonly halves: readonly [Half, Half] = [new Half(), new Half()];
  mptcp: readonly [MptcpHalf, MptcpHalf] | null = null;
  kind: SubflowKind = 'unknown';
  connection: Connection | null = null;
  /** Number within its connection, from 1. */
  number = 0;
  /** The initiator of the subflow is the connection's responder. */
  flipped = false;
  firstPacket = 0;
  firstTime = 0;
  lastTime = 0;
  packets = 0;
  /** Interface or file that each direction was first seen on, -1 before. */
  readonly interfaces: [number, number] = [-1, -1];
  /** When it was last seen there. */
  readonly interfaceTimes: [number, number] = [0, 0];
  /** Packets of other interfaces that had been seen already. */
  copies = 0;

  synTime = Number.NaN;
  synAckTime = Number.NaN;
  ackTime = Number.NaN;
  established = false;
  closed = false;
  /** MP_JOIN: address identifiers, nonces and the token asked for. */
  readonly addressIds: [number, number] = [0, 0];
  readonly nonces: [number, number] = [0, 0];
  token = 0;
  /** Backup flag that each side gave, at the handshake or with MP_PRIO. */
  readonly backup: [boolean, boolean] = [false, false];
  /** MP_JOIN HMACs that were right and wrong. */
  hmacRight = 0;
  hmacWrong = 0;
  /** Options by subtype, both directions. */
  readonly options: Uint32Array = new Uint32Array(16);
  /** A copy, seen behind an address translation. */
  copyOf: Subflow | null = null;

  constructor(stream: number, s: Segment, reversed: boolean, forward: boolean) {
    const a: [number, number, number, number] = [s.source0, s.source1, s.source2, s.source3];
    const b: [number, number, number, number] = [s.destination0, s.destination1, s.destination2, s.destination3];
    this.stream = stream;
    this.ipVersion = s.ipVersion;
    this.source = reversed ? b : a;
    this.destination = reversed ? a : b;
    this.sourcePort = reversed ? s.destinationPort : s.sourcePort;
    this.destinationPort = reversed ? s.sourcePort : s.destinationPort;
    this.initiatorForward = forward !== reversed;
  }

  /** The connection's side that half `side` of this subflow belongs to. */
  sideOf(side: Side): Side {
    return this.flipped ? ((1 - side) as Side) : side;
  }

  get sourceAddress(): Uint8Array {
    return addressBytes(this.source, this.ipVersion);
  }

  get destinationAddress(): Uint8Array {
    return addressBytes(this.destination, this.ipVersion);
  }

  get sourceText(): string {
    return endpointText(this.source, this.sourcePort, this.ipVersion);
  }

  get destinationText(): string {
    return endpointText(this.destination, this.destinationPort, this.ipVersion);
  }
}

export function addressBytes(words: readonly number[], version: number): Uint8Array {
  const bytes = new Uint8Array(version === 4 ? 4 : 16);
  const view = new DataView(bytes.buffer);
  for (let i = 0; i < bytes.length / 4; i++) view.setInt32(4 * i, words[i]!);
  return bytes;
}

function endpointText(words: readonly number[], port: number, version: number): string {
  const address = formatAddress(addressBytes(words, version));
  return version === 4 ? `${address}:${port}` : `[${address}]:${port}`;
}
