/**
 * The retransmission queue: what was handed down and is not acknowledged yet, as records that are sent as one segment (or
 * super-segment) each. It alone moves a record from state to state and keeps the sums; its invariants:
 *
 * - records are contiguous and in order; unsent ones come last;
 * - a record is in flight (and then in the list by time of transmission), lost (and then in the list of lost ones), SACKed
 *   (and then covered by the scoreboard) or unsent;
 * - `inFlight`, `lostBytes`, `sackedBytes` are the sums of these lengths.
 *
 * No operation costs more than the records that change state in it, times a logarithm: a peer cannot make work by what it
 * SACKs (CVE-2019-11478). Only `renege`, once for each timeout, goes through everything that has been sent.
 */
import { addInterval, IntervalList } from '../intervals.ts';
import type { Interval } from '../intervals.ts';

/** States of a record. */
export const RECORD = { unsent: 0, inFlight: 1, lost: 2, sacked: 3 } as const;
export type RecordState = (typeof RECORD)[keyof typeof RECORD];

/** What was delivered when a record was sent (`delivery-rate.ts`). */
export interface RateStamp {
  delivered: number;
  deliveredAt: number;
  firstSentAt: number;
  appLimited: boolean;
}

/** What an extension maps a record's bytes to; TCP only carries it along (RFC 8684 §3.3.1 in our case). */
export type RecordTag = object | null;

/**
 * Bytes [position, end) of the stream. The payload stays where the application put it: `slices` hold references, and
 * `skip` says how far into them this record begins, so that splitting copies nothing.
 */
class Entry implements Interval {
  position: number;
  end: number;
  state: RecordState = RECORD.unsent;
  /** Time of the last transmission, microseconds. */
  sentAt = 0;
  retransmitted = false;
  /** State of the delivery-rate measurement at transmission; null unless the controller wants it. */
  rate: RateStamp | null = null;
  readonly slices: readonly Uint8Array[];
  skip: number;
  readonly tag: RecordTag;
  /** Neighbours in the list by time of transmission. */
  older: Entry | null = null;
  newer: Entry | null = null;

  constructor(position: number, end: number, slices: readonly Uint8Array[], skip: number, tag: RecordTag) {
    this.position = position;
    this.end = end;
    this.slices = slices;
    this.skip = skip;
    this.tag = tag;
  }
}

/** A record as everybody else sees it. */
export type SendRecord = Readonly<Omit<Entry, 'older' | 'newer'>> & { readonly newer: SendRecord | null };

/** Told of every byte that arrived, once: `length` bytes of a record that was in flight or taken for lost. */
export interface DeliverySink {
  delivered(record: SendRecord, length: number): void;
}

export class RetransmissionQueue {
  /** Bytes sent and neither acknowledged, SACKed nor taken for lost (RFC 6675's pipe). */
  inFlight = 0;
  lostBytes = 0;
  sackedBytes = 0;
  private readonly records = new IntervalList<Entry>();
  private firstUnsent: Entry | null = null;
  /** In flight, by time of the last transmission. */
  private oldest: Entry | null = null;
  private newest: Entry | null = null;
  // Made when first needed: most connections never lose anything.
  private lost: IntervalList<Entry> | null = null;
  private scoreboard: IntervalList<Interval> | null = null;

  /** Whether anything sent is not acknowledged cumulatively. */
  get outstanding(): boolean {
    return this.inFlight > 0 || this.lostBytes > 0 || this.sackedBytes > 0;
  }

  /** The first record, sent or not. */
  get head(): SendRecord | null {
    return this.records.first;
  }

  /** The next record to send for the first time. */
  get unsent(): SendRecord | null {
    return this.firstUnsent;
  }

  /** The lost record with the lowest position. */
  get firstLost(): SendRecord | null {
    return this.lost === null ? null : this.lost.first;
  }

  /** The record in flight whose last transmission is the longest ago; `newer` leads on. */
  get oldestInFlight(): SendRecord | null {
    return this.oldest;
  }

  /** The record sent last by position. */
  get lastSent(): SendRecord | null {
    return this.firstUnsent === null ? this.records.last : this.records.before(this.firstUnsent.position);
  }

  /** Right edge of the highest SACK block, 0 without one. */
  get highestSacked(): number {
    return this.scoreboard?.last?.end ?? 0;
  }

  /** All records in order. */
  [Symbol.iterator](): IterableIterator<SendRecord> {
    return this.records[Symbol.iterator]();
  }

  /** Appends bytes that are not sent yet, as one record. */
  append(position: number, length: number, slices: readonly Uint8Array[], tag: RecordTag): SendRecord {
    const entry = new Entry(position, position + length, slices, 0, tag);
    this.records.push(entry);
    this.firstUnsent ??= entry;
    return entry;
  }

  /** Cuts a record to at most `length` bytes; the rest becomes a record of its own, in the same state. */
  limit(record: SendRecord, length: number): void {
    const entry = record as Entry;
    if (entry.end - entry.position > length) this.split(entry, entry.position + length);
  }

  /** A record is sent now, for the first time or again. */
  sent(record: SendRecord, now: number, rate: RateStamp | null): void {
    const entry = record as Entry;
    const length = entry.end - entry.position;
    switch (entry.state) {
      case RECORD.unsent:
        this.firstUnsent = entry === this.records.last ? null : this.records.after(entry.end);
        this.inFlight += length;
        break;
      case RECORD.lost:
        this.lost!.remove(entry);
        this.lostBytes -= length;
        this.inFlight += length;
        entry.retransmitted = true;
        break;
      case RECORD.inFlight:
        this.unlink(entry);
        entry.retransmitted = true;
        break;
      default:
        return;
    }
    entry.state = RECORD.inFlight;
    entry.sentAt = now;
    entry.rate = rate;
    this.link(entry, this.newest);
  }

  /** Takes a record in flight for lost. Returns its length. */
  markLost(record: SendRecord): number {
    const entry = record as Entry;
    if (entry.state !== RECORD.inFlight) return 0;
    const length = entry.end - entry.position;
    this.unlink(entry);
    this.inFlight -= length;
    this.lose(entry, length);
    return length;
  }

  /** Takes at most one segment at the left edge for lost, whatever its state but unsent (RFC 6582, RFC 2018 §8). Returns its length. */
  loseHead(mss: number): number {
    const head = this.records.first;
    if (head === null || head.state === RECORD.unsent) return 0;
    if (head.state === RECORD.sacked) this.renege();
    if (head.state !== RECORD.inFlight) return 0;
    this.limit(head, mss);
    return this.markLost(head);
  }

  /**
   * A retransmission timeout: everything in flight is lost (RFC 5681 §3.1). When even the left edge was SACKed the
   * receiver has thrown away what it had reported, and no SACK counts any more (RFC 2018 §8).
   */
  loseAll(): void {
    if (this.records.first?.state === RECORD.sacked) this.renege();
    for (let entry = this.oldest; entry !== null; entry = this.oldest) this.markLost(entry);
  }

  /**
   * Marks what a SACK block covers: whole records, and of longer ones whole segments, as the peer's own segments are; less
   * is left out, or single octets would cut the queue to pieces.
   */
  sack(left: number, right: number, mss: number, sink: DeliverySink): void {
    const scoreboard = (this.scoreboard ??= new IntervalList<Interval>());
    let at = left;
    while (at < right) {
      const known = scoreboard.after(at);
      if (known !== null && known.position <= at) {
        at = known.end;
        continue;
      }
      const gapEnd = known === null ? right : Math.min(right, known.position);
      this.sackGap(at, gapEnd, mss, sink);
      at = gapEnd;
    }
  }

  /** Drops everything before `acked`. */
  acknowledge(acked: number, sink: DeliverySink): void {
    for (let entry = this.records.first; entry !== null && entry.position < acked && entry.state !== RECORD.unsent; entry = this.records.first) {
      const whole = entry.end <= acked;
      const length = (whole ? entry.end : acked) - entry.position;
      switch (entry.state) {
        case RECORD.inFlight:
          this.inFlight -= length;
          if (whole) this.unlink(entry);
          sink.delivered(entry, length);
          break;
        case RECORD.lost:
          this.lostBytes -= length;
          if (whole) this.lost!.shift();
          sink.delivered(entry, length);
          break;
        default:
          this.sackedBytes -= length;
          break;
      }
      if (whole) {
        this.records.shift();
      } else {
        // Part of a record: it begins later now, and is not cut in two, however small the steps of the ACKs.
        entry.skip += length;
        entry.position = acked;
      }
    }
    const { scoreboard } = this;
    if (scoreboard === null) return;
    while (scoreboard.first !== null && scoreboard.first.end <= acked) scoreboard.shift();
    if (scoreboard.first !== null && scoreboard.first.position < acked) scoreboard.first.position = acked;
  }

  clear(): void {
    this.records.clear();
    this.firstUnsent = this.oldest = this.newest = null;
    this.lost = this.scoreboard = null;
    this.inFlight = this.lostBytes = this.sackedBytes = 0;
  }

  /** Marks [left, right), of which nothing is marked yet. */
  private sackGap(left: number, right: number, mss: number, sink: DeliverySink): void {
    let record = this.records.after(left);
    while (record !== null && record.position < right && record.state !== RECORD.unsent) {
      const { end } = record;
      const from = record.position < left ? record.position + Math.ceil((left - record.position) / mss) * mss : record.position;
      const to = end > right ? record.position + Math.floor((right - record.position) / mss) * mss : end;
      if (from < to) {
        if (from > record.position) record = this.split(record, from);
        if (to < record.end) this.split(record, to);
        this.markSacked(record, sink);
      }
      // What follows is marked already, and may have become one with this record.
      if (end >= right) return;
      record = this.records.after(end);
    }
  }

  private markSacked(entry: Entry, sink: DeliverySink): void {
    const length = entry.end - entry.position;
    if (entry.state === RECORD.inFlight) {
      this.inFlight -= length;
      this.unlink(entry);
    } else {
      this.lostBytes -= length;
      this.lost!.remove(entry);
    }
    entry.state = RECORD.sacked;
    this.sackedBytes += length;
    sink.delivered(entry, length);
    addInterval(this.scoreboard!, entry.position, entry.end);
    this.joinWithNeighbours(entry);
  }

  /** Pieces of what was one record, all SACKed, become one again. */
  private joinWithNeighbours(entry: Entry): void {
    const before = this.records.before(entry.position);
    if (before !== null && belongTogether(before, entry)) {
      this.records.remove(entry);
      before.end = entry.end;
      entry = before;
    }
    const after = this.records.after(entry.end);
    if (after !== null && belongTogether(entry, after)) {
      this.records.remove(after);
      entry.end = after.end;
    }
  }

  /** Forgets every SACK: the receiver has discarded what it reported. */
  private renege(): void {
    for (const entry of this.records) {
      if (entry.state === RECORD.unsent) break;
      if (entry.state === RECORD.sacked) this.lose(entry, entry.end - entry.position);
    }
    this.sackedBytes = 0;
    this.scoreboard = null;
  }

  private lose(entry: Entry, length: number): void {
    entry.state = RECORD.lost;
    this.lostBytes += length;
    (this.lost ??= new IntervalList<Entry>()).insert(entry);
  }

  /** Cuts a record at a position inside it. Returns the second part. */
  private split(entry: Entry, at: number): Entry {
    const rest = new Entry(at, entry.end, entry.slices, entry.skip + (at - entry.position), entry.tag);
    rest.state = entry.state;
    rest.sentAt = entry.sentAt;
    rest.retransmitted = entry.retransmitted;
    rest.rate = entry.rate;
    entry.end = at;
    this.records.insert(rest);
    if (entry.state === RECORD.inFlight) this.link(rest, entry);
    else if (entry.state === RECORD.lost) this.lost!.insert(rest);
    return rest;
  }

  /** Enters a record into the list by time, behind `after`; null: as the oldest. */
  private link(entry: Entry, after: Entry | null): void {
    const next = after === null ? this.oldest : after.newer;
    entry.older = after;
    entry.newer = next;
    if (after === null) this.oldest = entry;
    else after.newer = entry;
    if (next === null) this.newest = entry;
    else next.older = entry;
  }

  private unlink(entry: Entry): void {
    if (entry.older === null) this.oldest = entry.newer;
    else entry.older.newer = entry.newer;
    if (entry.newer === null) this.newest = entry.older;
    else entry.newer.older = entry.older;
    entry.older = entry.newer = null;
  }
}

/** Whether two neighbours were cut from one record and are both SACKed. */
function belongTogether(first: Entry, second: Entry): boolean {
  return (
    first.state === RECORD.sacked &&
    second.state === RECORD.sacked &&
    first.end === second.position &&
    first.slices === second.slices &&
    first.skip + (first.end - first.position) === second.skip
  );
}
