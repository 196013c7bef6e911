/**
 * One direction of a connection's data stream (RFC 8684 §3.3): where each byte was mapped, on which subflow it came,
 * what was acknowledged, what came twice. Positions count from the initial data sequence number: the first byte is 1.
 */
import { Ranges } from './ranges.ts';
import { Flight } from './ring.ts';
import { Samples } from './samples.ts';

/** A jump further than this is not a mapping of this stream. */
const FARTHEST = 2 ** 40;
/** Reinjections in the same direction belong together when no more than this lies between them. */
const SAME_BURST = 200_000;
/** Kept per connection and direction: bursts, pauses and blocked times; the rest is only counted. */
const MOST_KEPT = 256;
const MOST_PENDING = 4096;
/** A pause is worth a word when it lasts this long, and much longer than the steps before it. */
const PAUSE_LEAST = 30_000;
const PAUSE_FACTOR = 8;

/** Bytes sent on one subflow and again on another, close together. */
export interface Burst {
  /** Subflow that carried the bytes before, -1 where the capture does not tell. */
  from: number;
  to: number;
  bytes: number;
  packets: number;
  start: number;
  end: number;
  firstPacket: number;
  lastPacket: number;
  /** Bytes that the copy brought, and those that the original had brought (or brought first). */
  useful: number;
  wasted: number;
}

/** No progress between `start` and `end`. */
export interface Pause {
  from: number;
  to: number;
  start: number;
  end: number;
  lastPacket: number;
  firstPacket: number;
}

/** A time in which the receiver had bytes that it could not hand over, because earlier ones were missing. */
export interface Blocked {
  start: number;
  end: number;
  /** First byte that was missing, and the first that lay behind it. */
  holeStart: number;
  holeEnd: number;
  /** Most bytes that waited. */
  queue: number;
  /** Subflow of what waited first, and of what filled the last hole. */
  waiting: number;
  filledBy: number;
  /** How often the missing bytes came: for the first time, sent again on the same subflow, reinjected on another. */
  originals: number;
  retransmissions: number;
  reinjections: number;
  firstPacket: number;
  lastPacket: number;
}

interface Pending {
  burst: Burst;
  start: number;
  end: number;
  from: number;
  fromEnd: number;
}

/** Which subflow had a byte first; `at` is the subflow position, -1 where that is only likely. */
export interface Carrier {
  subflow: number;
  at: number;
}

export type CarrierOf = (position: number, except: number) => Carrier | null;

/** Whether the subflow's receiver acknowledged up to a position of it. */
export type Acknowledged = (subflow: number, position: number) => boolean;

export class Progress {
  readonly pauses: Pause[] = [];
  subflow = -1;
  private time = Number.NaN;
  private packet = 0;
  private usual = 0;

  /** `since`: from when on there was something to wait for; NaN when nothing was, and silence is the application's. */
  step(time: number, subflow: number, packet: number, since: number): void {
    const start = Math.max(this.time, since);
    if (time - start > PAUSE_LEAST && time - start > PAUSE_FACTOR * this.usual) {
      if (this.pauses.length < MOST_KEPT) this.pauses.push({ from: this.subflow, to: subflow, start, end: time, lastPacket: this.packet, firstPacket: packet });
    } else if (time >= this.time) {
      // An idle application makes no step usual.
      this.usual += (Math.min(time - this.time, PAUSE_LEAST) - this.usual) / 16;
    }
    this.time = time;
    this.subflow = subflow;
    this.packet = packet;
  }
}

export class DataDirection {
  /** The initial data sequence number is that of the key; else the first mapping seen counts as position 1. */
  fromKey = false;
  known = false;
  /** All 64 bits are known. */
  wide = false;
  originHigh = 0;
  originLow = 0;
  /** End of the highest byte mapped and seen. */
  next = 1;
  acked = 1;
  finPosition = -1;

  /** Bytes of the stream that were seen, each once. */
  bytes = 0;
  /** Bytes seen again on another subflow, or again with a new mapping on the same one. */
  reinjectedBytes = 0;
  reinjectedSame = 0;
  reinjectedUseful = 0;
  reinjectedWasted = 0;
  unmappedBytes = 0;
  /** Acknowledged by the receiver, never seen here. */
  unseenBytes = 0;
  readonly bursts: Burst[] = [];
  readonly dataRtt: Samples = new Samples();
  /** In order at the capture: below this position all bytes have come by. */
  edge = 1;
  readonly ahead: Ranges = new Ranges();
  maxQueue = 0;
  maxQueueTime = Number.NaN;
  blockedTime = 0;
  blockedCount = 0;
  readonly blocked: Blocked[] = [];
  /** Progress of what was seen in order, and of what the receiver said it has. */
  readonly arrivals: Progress = new Progress();
  readonly acknowledgements: Progress = new Progress();
  /** Turns from one subflow to another, for the scheduler's pattern. */
  turns = 0;
  lastSubflow = -1;
  maxFlight = 0;
  /** Of the payload taken last: bytes that had not been seen before. */
  fresh = 0;

  private readonly flight: Flight = new Flight();
  private readonly pending: Pending[] = [];
  private current: Blocked | null = null;

  origin(high: number, low: number, fromKey: boolean, wide: boolean): void {
    this.originHigh = high;
    this.originLow = low;
    this.fromKey = fromKey;
    this.wide = wide;
    this.known = true;
  }

  /** DATA_FIN at a position, which is one past the last byte. */
  end(position: number): void {
    this.finPosition = position;
    if (this.edge !== position + 1) return;
    // Its DATA_ACK was seen before it: no byte was missing.
    this.edge = position;
    this.unseenBytes = Math.max(0, this.unseenBytes - 1);
  }

  /** Position of a 64-bit data sequence number, NaN when it cannot be of this stream. */
  position64(high: number, low: number): number {
    if (!this.wide) return this.position32(low, this.next);
    const position = ((high - this.originHigh) | 0) * 0x100000000 + ((low >>> 0) - (this.originLow >>> 0));
    return position > -FARTHEST && position < FARTHEST ? position : Number.NaN;
  }

  /** Position of a 32-bit one, the nearest to `reference` (RFC 8684 §3.3.1). */
  position32(low: number, reference: number): number {
    return reference + ((low - ((this.originLow + reference) | 0)) | 0);
  }

  /**
   * Payload at a data position. `again`: the subflow itself had sent it before. `backward`: it lies below what this
   * subflow has carried, so that it is a copy even when the original was never seen. Returns how many of its bytes are
   * reinjected.
   */
  take(position: number, length: number, subflow: number, again: boolean, backward: boolean, time: number, packet: number, carrier: CarrierOf): number {
    const end = position + length;
    const seenBefore = this.edge - Math.min(this.edge, position);
    let fresh: number;
    if (position <= this.edge && this.ahead.count === 0) {
      fresh = Math.max(0, end - Math.max(this.edge, position));
      if (end > this.edge) {
        this.edge = end;
        this.arrivals.step(time, subflow, packet, again || backward || subflow !== this.arrivals.subflow ? Number.NEGATIVE_INFINITY : Number.NaN);
      }
    } else {
      fresh = this.takeAhead(position, end, Math.min(seenBefore, length), subflow, again, backward, time, packet);
    }
    this.bytes += fresh;
    if (fresh > 0) {
      if (end > this.next) {
        this.flight.push(end, time);
        this.next = end;
        const inFlight = end - this.acked;
        if (inFlight > this.maxFlight) this.maxFlight = inFlight;
      }
      if (subflow !== this.lastSubflow) {
        this.turns++;
        this.lastSubflow = subflow;
      }
    }
    this.fresh = fresh;
    if (again) return 0;
    const overlap = length - fresh;
    if (overlap === 0 && !backward) return 0;
    const original = carrier(position, subflow);
    // In order on its own subflow, seen before only as a copy: the original, overtaken by its reinjection.
    if (!backward && original === null) return 0;
    this.reinjected(position, end, overlap, backward ? fresh : 0, subflow, time, packet, original);
    return overlap + (backward ? fresh : 0);
  }

  private takeAhead(position: number, end: number, below: number, subflow: number, again: boolean, backward: boolean, time: number, packet: number): number {
    let fresh: number;
    if (position <= this.edge) {
      if (end <= this.edge) return 0;
      const before = this.edge + this.ahead.total;
      this.edge = this.ahead.advance(end);
      fresh = this.edge + this.ahead.total - before;
      this.arrivals.step(time, subflow, packet, Number.NEGATIVE_INFINITY);
      this.fill(subflow, again, backward || below > 0 || fresh < end - position, time, packet);
      return fresh;
    }
    fresh = this.ahead.add(position, end);
    this.current ??= {
      start: time,
      end: time,
      holeStart: this.edge,
      holeEnd: position,
      queue: 0,
      waiting: subflow,
      filledBy: -1,
      originals: 0,
      retransmissions: 0,
      reinjections: 0,
      firstPacket: packet,
      lastPacket: packet,
    };
    if (this.ahead.total > this.current.queue) this.current.queue = this.ahead.total;
    if (this.ahead.total > this.maxQueue) {
      this.maxQueue = this.ahead.total;
      this.maxQueueTime = time;
    }
    return fresh;
  }

  /** A hole got smaller, or was filled. When nothing waits any more, the time of waiting is over. */
  private fill(subflow: number, again: boolean, reinjected: boolean, time: number, packet: number): void {
    const { current } = this;
    if (current === null) return;
    if (again) current.retransmissions++;
    else if (reinjected) current.reinjections++;
    else current.originals++;
    if (this.ahead.count > 0) return;
    current.end = time;
    current.filledBy = subflow;
    current.lastPacket = packet;
    this.blockedTime += time - current.start;
    this.blockedCount++;
    if (this.blocked.length < MOST_KEPT) this.blocked.push(current);
    else if (time - current.start > PAUSE_LEAST) this.replaceShortest(current);
    this.current = null;
  }

  /** The receiver has bytes that the capture has not: they came another way, or the capture lost them. Nothing waits for them any more. */
  private unseen(position: number, time: number, packet: number): void {
    const before = this.edge + this.ahead.total;
    this.edge = this.ahead.advance(position);
    this.unseenBytes += this.edge + this.ahead.total - before;
    if (this.current === null || this.ahead.count > 0) return;
    this.current.lastPacket = packet;
    this.close(time);
  }

  /** The connection is over: what still waits, waited until then. */
  close(time: number): void {
    if (this.current === null) return;
    this.current.end = time;
    this.blockedTime += time - this.current.start;
    this.blockedCount++;
    if (this.blocked.length < MOST_KEPT) this.blocked.push(this.current);
    this.current = null;
  }

  private replaceShortest(one: Blocked): void {
    let shortest = 0;
    for (let i = 1; i < this.blocked.length; i++)
      if (this.blocked[i]!.end - this.blocked[i]!.start < this.blocked[shortest]!.end - this.blocked[shortest]!.start) shortest = i;
    const old = this.blocked[shortest]!;
    if (one.end - one.start > old.end - old.start) this.blocked[shortest] = one;
  }

  /** `overlap` bytes had been seen, `missing` ones had not: the copy brought them. */
  private reinjected(
    position: number,
    end: number,
    overlap: number,
    missing: number,
    subflow: number,
    time: number,
    packet: number,
    original: Carrier | null,
  ): void {
    const from = original?.subflow ?? -1;
    this.reinjectedBytes += overlap + missing;
    this.reinjectedUseful += missing;
    if (from === subflow) this.reinjectedSame += overlap + missing;
    let burst = this.bursts.at(-1);
    if (burst === undefined || burst.from !== from || burst.to !== subflow || time - burst.end > SAME_BURST) {
      burst = { from, to: subflow, bytes: 0, packets: 0, start: time, end: time, firstPacket: packet, lastPacket: packet, useful: 0, wasted: 0 };
      if (this.bursts.length < MOST_KEPT) this.bursts.push(burst);
    }
    burst.bytes += overlap + missing;
    burst.useful += missing;
    burst.packets++;
    burst.end = time;
    burst.lastPacket = packet;
    if (overlap === 0) return;
    if (end <= this.acked) {
      burst.wasted += overlap;
      this.reinjectedWasted += overlap;
      return;
    }
    const last = this.pending.at(-1);
    if (last !== undefined && last.burst === burst && last.end === position && original !== null && original.at >= 0) {
      last.end = end;
      last.fromEnd = original.at + (end - position);
    } else if (this.pending.length < MOST_PENDING) {
      this.pending.push({
        burst,
        start: end - overlap,
        end,
        from,
        fromEnd: original === null || original.at < 0 ? Number.POSITIVE_INFINITY : original.at + (end - position),
      });
    }
  }

  /** DATA_ACK up to `position`, seen on `subflow`. Returns whether it is progress. */
  acknowledge(position: number, time: number, carriedBy: number, packet: number, acknowledged: Acknowledged): boolean {
    if (!(position > this.acked)) return false;
    this.acknowledgements.step(time, carriedBy, packet, this.flight.oldest);
    this.acked = position;
    // DATA_FIN has a place in the sequence and no byte.
    const bytes = this.finPosition >= 0 ? Math.min(position, this.finPosition) : position;
    if (bytes > this.edge) this.unseen(bytes, time, packet);
    if (this.flight.length > 0) {
      this.flight.acknowledge(position);
      if (this.flight.sampled <= time) this.dataRtt.add(time - this.flight.sampled);
    }
    for (let i = 0; i < this.pending.length; i++) {
      const one = this.pending[i]!;
      if (one.end > position) continue;
      const bytes = one.end - one.start;
      // Whichever copy's subflow acknowledged it brought it; when both did, the original was there before.
      if (one.from >= 0 && acknowledged(one.from, one.fromEnd)) {
        one.burst.wasted += bytes;
        this.reinjectedWasted += bytes;
      } else {
        one.burst.useful += bytes;
        this.reinjectedUseful += bytes;
      }
      this.pending.splice(i--, 1);
    }
    return true;
  }

  /** DATA_FIN takes a place in the sequence; it was acknowledged with it. */
  get finAcked(): boolean {
    return this.finPosition >= 0 && this.acked > this.finPosition;
  }
}
