/**
 * One direction of one TCP subflow, as a capture shows it: what its sender sent, sent again and had acknowledged.
 * Positions count from the initial sequence number: the SYN is 0, the first byte 1; nothing wraps.
 */
import { FLAG } from '@subflow/wire';
import type { Segment } from '@subflow/wire';
import { Flight } from './ring.ts';
import { Ranges } from './ranges.ts';
import { Samples } from './samples.ts';
import { Series } from './series.ts';

/** What a segment's payload is to the subflow. */
export const PAYLOAD = {
  none: 0,
  /** In order, or behind a gap. */
  new: 1,
  retransmission: 2,
  /** It overtook nothing and came late: the network's work, not the sender's. */
  reordered: 3,
  keepAlive: 4,
} as const;

/** Why a segment was sent again, from what the sender could know (RFC 6298 §5, RFC 8985 §6, §7). */
export type RetransmissionCause = 'rto' | 'fast' | 'tlp' | 'other';

/** Linux and RFC 8985 take no smaller retransmission time-out; 10 ms less for the capture's own delay. */
const RTO_LEAST = 190_000;
/** A segment that fills a gap sooner than this after it opened was reordered, whatever the round-trip time (Wireshark takes the same 3 ms). */
const REORDERED_WITHIN = 3_000;
const DUPLICATE_ACKS = 3;
/** Most different timestamps waiting for their echo. */
const STAMPS = 64;
const NO_STAMPS = new Int32Array(0);
const NO_TIMES = new Float64Array(0);

export class Half {
  /** Initial sequence number, int32; guessed from the first packet when the SYN was not seen. */
  isn = 0;
  known = false;
  synSeen = false;
  synTime = Number.NaN;
  syns = 0;
  mss = -1;
  windowScale = -1;
  sackPermitted = false;
  timestamps = false;
  fastOpen = false;

  packets = 0;
  dataPackets = 0;
  /** Payload bytes, those sent again included. */
  bytes = 0;
  /** Bytes on the IP level. */
  wireBytes = 0;
  firstTime = Number.NaN;
  lastTime = Number.NaN;
  lastDataTime = Number.NaN;
  /** End of the highest payload seen. */
  next = 0;
  /** Highest position of ours that the other side acknowledged. */
  acked = 0;
  /** Sent and neither acknowledged nor known to be lost: the most at any time. */
  maxFlight = 0;
  finPosition = -1;
  fins = 0;
  resets = 0;
  resetTime = Number.NaN;

  retransmittedPackets = 0;
  retransmittedBytes = 0;
  readonly causes: Record<RetransmissionCause, number> = { rto: 0, fast: 0, tlp: 0, other: 0 };
  /** Retransmissions of what the receiver had already, by D-SACK (RFC 2883) or because it was acknowledged. */
  spurious = 0;
  reordered = 0;
  keepAlives = 0;
  duplicateAcks = 0;
  /** Bytes that were missing when later ones came by: lost, or overtaken, before the capture. */
  missedBytes = 0;
  /** Acknowledged by the other side, never seen here: the capture dropped packets, or others took another way. */
  unseenBytes = 0;
  badOptions = 0;
  ecnMarked = 0;

  /** Window that this side advertises, in bytes, scaled where the scale is known. */
  window = 0;
  maxWindow = 0;
  zeroWindows = 0;
  zeroSince = Number.NaN;
  zeroTime = 0;

  /** Round-trip time of this side's segments, by sequence numbers (Karn) and by timestamps (RFC 7323 §4). */
  readonly rtt: Samples = new Samples();
  readonly stampRtt: Samples = new Samples();
  readonly throughput: Series = new Series();
  readonly flight: Flight = new Flight();
  /** What was skipped and has not come by. */
  readonly holes: Ranges = new Ranges(1024);
  private holeTime = Number.NaN;
  /** Acknowledgements in a row without progress. */
  private repeated = 0;
  private sackedHigh = 0;
  /** After a time-out: what was sent before it is sent again without further evidence, up to here. */
  private recover = 0;
  private probed = false;
  private stampValues: Int32Array = NO_STAMPS;
  private stampTimes: Float64Array = NO_TIMES;
  private stampHead = 0;
  private stampCount = 0;

  /** Position of a sequence number, the one nearest to what was seen last. */
  position(seq: number): number {
    return this.next + ((seq - ((this.isn + this.next) | 0)) | 0);
  }

  begin(seq: number, syn: boolean): void {
    this.isn = syn ? seq : (seq - 1) | 0;
    this.known = true;
    this.next = syn ? 0 : 1;
    this.acked = this.next;
  }

  /** Takes note of a SYN's options. */
  handshake(s: Segment, time: number): void {
    this.syns++;
    if (this.synSeen) return;
    this.synSeen = true;
    this.synTime = time;
    this.mss = s.mss;
    this.windowScale = s.windowScale;
    this.sackPermitted = s.sackPermitted;
    this.timestamps = s.hasTimestamps;
    this.fastOpen = s.fastOpenOffset >= 0;
  }

  /** Takes note of a segment's sequence space. Returns what its payload is ({@link PAYLOAD}). `full` asks for round-trip times and causes. */
  take(s: Segment, position: number, time: number, full: boolean): number {
    const length = s.payloadLength;
    const end = position + length;
    if (length === 0) return PAYLOAD.none;
    this.dataPackets++;
    this.bytes += length;
    const idle = time - this.lastDataTime;
    this.lastDataTime = time;
    if (position >= this.next) {
      if (position > this.next && this.next > 0) {
        this.missedBytes += position - this.next;
        this.holes.add(this.next, position);
        this.holeTime = time;
      }
      this.next = end;
      if (full) this.flight.push(end, time);
      const inFlight = end - this.acked;
      if (inFlight > this.maxFlight) this.maxFlight = inFlight;
      return PAYLOAD.new;
    }
    return this.takeOld(position, end, time, idle, full);
  }

  private takeOld(position: number, end: number, time: number, idle: number, full: boolean): number {
    if (end - position === 1 && position === this.next - 1 && position === this.acked - 1) {
      this.keepAlives++;
      return PAYLOAD.keepAlive;
    }
    if (this.holes.count > 0 && this.holes.remove(position, end) > 0) {
      const patience = Math.max(REORDERED_WITHIN, this.rtt.count > 0 ? this.rtt.min / 2 : 0);
      if (time - this.holeTime < patience) {
        this.reordered++;
        if (end > this.next) this.next = end;
        return PAYLOAD.reordered;
      }
    }
    this.retransmittedPackets++;
    this.retransmittedBytes += Math.min(end, this.next) - position;
    const tail = end >= this.next;
    if (full) this.causes[this.cause(position, end, tail, time, idle)]++;
    if (end > this.next) this.next = end;
    return PAYLOAD.retransmission;
  }

  private cause(position: number, end: number, tail: boolean, time: number, idle: number): RetransmissionCause {
    const sent = this.flight.resend(position, time);
    if (end <= this.acked) this.spurious++;
    if (this.sackedHigh > position || this.repeated >= DUPLICATE_ACKS) return 'fast';
    const smoothed = this.rtt.count > 0 ? this.rtt.smoothed : 0;
    // A probe of the tail goes out once, two round-trip times after the last segment; a time-out sends the head (RFC 8985 §7.2).
    if (tail && !this.probed && (position > this.acked || idle < RTO_LEAST + smoothed)) {
      this.probed = true;
      return 'tlp';
    }
    if (position < this.recover || time - sent >= Math.max(RTO_LEAST, smoothed) || Number.isNaN(sent)) {
      this.recover = Math.max(this.recover, this.next);
      return 'rto';
    }
    return 'other';
  }

  /** The other side acknowledged up to `position`. Returns whether that is progress. */
  acknowledged(position: number, s: Segment, time: number, windowChanged: boolean, full: boolean): boolean {
    if (position > this.acked) {
      if (position > this.next) {
        // With one side captured only, `next` never moves: nothing is missing then.
        if (this.packets > 0) this.unseenBytes += position - this.next;
        this.next = position;
      }
      this.acked = position;
      this.repeated = 0;
      this.probed = false;
      if (this.holes.count > 0) this.holes.advance(position);
      if (full) {
        if (this.flight.length > 0) {
          this.flight.acknowledge(position);
          const sent = this.flight.sampled;
          // NaN compares false: Karn's rule.
          if (sent <= time) this.rtt.add(time - sent);
        }
        if (s.sackCount > 0) this.sacks(s, position);
      }
      return true;
    }
    if (position === this.acked && s.payloadLength === 0 && !windowChanged && this.next > this.acked && (s.flags & (FLAG.syn | FLAG.fin | FLAG.rst)) === 0) {
      this.repeated++;
      this.duplicateAcks++;
    }
    if (full && s.sackCount > 0) this.sacks(s, position);
    return false;
  }

  /** Advertised window of this side. Returns whether it changed between zero and more. */
  advertise(window: number, time: number): boolean {
    this.window = window;
    if (window > this.maxWindow) this.maxWindow = window;
    if (window === 0) {
      this.zeroWindows++;
      if (!Number.isNaN(this.zeroSince)) return false;
      this.zeroSince = time;
      return true;
    }
    if (Number.isNaN(this.zeroSince)) return false;
    this.zeroTime += time - this.zeroSince;
    this.zeroSince = Number.NaN;
    return true;
  }

  private sacks(s: Segment, acknowledged: number): void {
    const left = this.position(s.sack[0]!);
    const right = this.position(s.sack[1]!);
    // The first block reports a duplicate when it lies below the ACK or within the second (RFC 2883 §4).
    const nested = s.sackCount > 1 && left >= this.position(s.sack[2]!) && right <= this.position(s.sack[3]!);
    if (right <= acknowledged || nested) this.spurious++;
    for (let i = 1; i < s.sackCount * 2; i += 2) {
      const edge = this.position(s.sack[i]!);
      if (edge > this.sackedHigh && edge <= this.next) this.sackedHigh = edge;
    }
  }

  /** A timestamp goes out; the first packet that carries it counts, acknowledgements too: a receiver has nothing else to measure with. */
  stamp(value: number, time: number): void {
    const mask = STAMPS - 1;
    if (this.stampCount > 0 && this.stampValues[(this.stampHead + this.stampCount - 1) & mask] === value) return;
    if (this.stampValues === NO_STAMPS) {
      this.stampValues = new Int32Array(STAMPS);
      this.stampTimes = new Float64Array(STAMPS);
    }
    if (this.stampCount === STAMPS) {
      this.stampHead = (this.stampHead + 1) & mask;
      this.stampCount--;
    }
    const at = (this.stampHead + this.stampCount) & mask;
    this.stampValues[at] = value;
    this.stampTimes[at] = time;
    this.stampCount++;
  }

  /** A timestamp of ours comes back; only its first echo tells a round trip. */
  echo(value: number, time: number): void {
    const mask = STAMPS - 1;
    while (this.stampCount > 0 && ((value - this.stampValues[this.stampHead]!) | 0) >= 0) {
      if (this.stampValues[this.stampHead] === value) this.stampRtt.add(time - this.stampTimes[this.stampHead]!);
      this.stampHead = (this.stampHead + 1) & mask;
      this.stampCount--;
    }
  }
}
