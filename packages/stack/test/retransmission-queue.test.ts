/** The retransmission queue against a plain array of octets with states: the same operations, and its invariants after each. */
import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { RECORD, RetransmissionQueue } from '../src/tcp/retransmission-queue.ts';
import type { SendRecord } from '../src/tcp/retransmission-queue.ts';
import { byteAt, pattern } from './client.ts';

const MSS = 10;
const { unsent: UNSENT, inFlight: IN_FLIGHT, lost: LOST, sacked: SACKED } = RECORD;

interface Octet {
  state: number;
  sentAt: number;
  /** Sent more than once; null when it does not matter, from a SACK to the next transmission: pieces that are joined share one answer. */
  again: boolean | null;
  /** How often it was reported as delivered, and how often the receiver has thrown it away. */
  delivered: number;
  reneged: number;
}

/** The queue, and what it should be. */
class Pair {
  readonly queue = new RetransmissionQueue();
  /** Octets of positions from `una` on. */
  octets: Octet[] = [];
  una = 1;
  now = 0;
  private reported: [number, number][] = [];
  private readonly sink = { delivered: (record: SendRecord, length: number): void => void this.reported.push([record.position, length]) };

  get end(): number {
    return this.una + this.octets.length;
  }

  append(length: number): void {
    const at = this.end;
    // The payload lies in several pieces, as an application may have written it.
    const bytes = pattern(at, length);
    const cut = length >>> 1;
    this.queue.append(at, length, cut === 0 ? [bytes] : [bytes.subarray(0, cut), bytes.subarray(cut)], null);
    for (let i = 0; i < length; i++) this.octets.push({ state: UNSENT, sentAt: 0, again: false, delivered: 0, reneged: 0 });
  }

  send(record: SendRecord | null, limit: number): void {
    if (record === null || record.state === SACKED) return;
    this.now++;
    this.queue.limit(record, limit);
    expect(record.end - record.position).toBeLessThanOrEqual(limit);
    this.queue.sent(record, this.now, null);
    this.each(record.position, record.end, (octet) => {
      octet.again = octet.state !== UNSENT;
      octet.state = IN_FLIGHT;
      octet.sentAt = this.now;
    });
  }

  markLost(record: SendRecord): void {
    const length = record.state === IN_FLIGHT ? record.end - record.position : 0;
    expect(this.queue.markLost(record)).toBe(length);
    if (length > 0) this.each(record.position, record.end, (octet) => (octet.state = LOST));
  }

  loseHead(): void {
    const head = this.octets[0];
    const record = this.queue.head;
    const lost = this.queue.loseHead(MSS);
    if (head?.state === SACKED) this.renege();
    if (head?.state !== IN_FLIGHT) {
      expect(lost).toBe(0);
      return;
    }
    expect(lost).toBeLessThanOrEqual(MSS);
    expect(lost).toBe(record!.end - record!.position);
    this.each(this.una, this.una + lost, (octet) => (octet.state = LOST));
  }

  loseAll(): void {
    this.queue.loseAll();
    if (this.octets[0]?.state === SACKED) this.renege();
    for (const octet of this.octets) if (octet.state === IN_FLIGHT) octet.state = LOST;
  }

  sack(left: number, right: number): void {
    // Whole records, and of longer ones whole segments counted from where they begin.
    const covered: [number, number][] = [];
    for (const { position, end, state } of this.queue) {
      if (state === UNSENT || state === SACKED || end <= left || position >= right) continue;
      const from = position < left ? position + Math.ceil((left - position) / MSS) * MSS : position;
      const to = end > right ? position + Math.floor((right - position) / MSS) * MSS : end;
      if (from < to) covered.push([from, to]);
    }
    this.queue.sack(left, right, MSS, this.sink);
    for (const [from, to] of covered)
      this.each(from, to, (octet) => {
        octet.state = SACKED;
        octet.again = null;
      });
  }

  acknowledge(acked: number): void {
    this.queue.acknowledge(acked, this.sink);
    this.note();
    for (const octet of this.octets.splice(0, acked - this.una)) expect(octet.delivered).toBe(1 + octet.reneged);
    this.una = acked;
  }

  /** Takes what was reported as delivered into account. */
  note(): void {
    for (const [position, length] of this.reported.splice(0)) this.each(position, position + length, (octet) => octet.delivered++);
  }

  /** Everything that must hold after every operation. */
  check(): void {
    this.note();
    const { queue, una } = this;
    const records = [...queue];
    const sums = [0, 0, 0, 0];
    let at = una;
    records.forEach((record, i) => {
      expect(record.position).toBe(at);
      expect(record.end).toBeGreaterThan(at);
      const before = records[i - 1];
      if (before?.state === UNSENT) expect(record.state).toBe(UNSENT);
      // Pieces of one record that are all SACKed are one again.
      if (before?.state === SACKED && record.state === SACKED) expect(before.slices === record.slices && skipEnd(before) === record.skip).toBe(false);
      this.checkOctets(record);
      sums[record.state]! += record.end - record.position;
      at = record.end;
    });
    expect(at).toBe(this.end);
    expect([queue.inFlight, queue.lostBytes, queue.sackedBytes]).toEqual([sums[IN_FLIGHT], sums[LOST], sums[SACKED]]);
    expect(queue.outstanding).toBe(records.some((record) => record.state !== UNSENT));
    expect(queue.head).toBe(records[0] ?? null);
    expect(queue.unsent).toBe(records.find((record) => record.state === UNSENT) ?? null);
    expect(queue.firstLost).toBe(records.find((record) => record.state === LOST) ?? null);
    expect(queue.lastSent).toBe(records.findLast((record) => record.state !== UNSENT) ?? null);
    expect(queue.highestSacked).toBe(records.findLast((record) => record.state === SACKED)?.end ?? 0);
    const chain: SendRecord[] = [];
    for (let record = queue.oldestInFlight; record !== null; record = record.newer) {
      if (chain.length > 0) expect(record.sentAt).toBeGreaterThanOrEqual(chain.at(-1)!.sentAt);
      chain.push(record);
    }
    expect(new Set(chain)).toEqual(new Set(records.filter((record) => record.state === IN_FLIGHT)));
    expect(chain).toHaveLength(new Set(chain).size);
  }

  /** Plain comparisons: there are many. */
  private checkOctets(record: SendRecord): void {
    const { state, sentAt, retransmitted } = record;
    let slice = 0;
    let before = -record.skip;
    for (let p = record.position; p < record.end; p++) {
      const octet = this.octets[p - this.una]!;
      const at = p - record.position;
      while (at - before >= record.slices[slice]!.length) before += record.slices[slice++]!.length;
      const wrong =
        state !== octet.state ||
        (octet.again !== null && retransmitted !== octet.again) ||
        (state === IN_FLIGHT && sentAt !== octet.sentAt) ||
        octet.delivered !== octet.reneged + (state === SACKED ? 1 : 0) ||
        record.slices[slice]![at - before] !== byteAt(p);
      if (wrong) throw new Error(`octet ${p} is ${JSON.stringify(octet)}, its record ${JSON.stringify({ state, sentAt, retransmitted })}`);
    }
  }

  /** A record by number among those in a state. */
  pick(state: number, which: number): SendRecord | null {
    const found = [...this.queue].filter((record) => record.state === state);
    return found[which % Math.max(1, found.length)] ?? null;
  }

  get sentEnd(): number {
    return this.queue.lastSent?.end ?? this.una;
  }

  private renege(): void {
    for (const octet of this.octets) {
      if (octet.state !== SACKED) continue;
      octet.state = LOST;
      octet.reneged++;
    }
  }

  private each(from: number, to: number, change: (octet: Octet) => void): void {
    for (let p = from; p < to; p++) change(this.octets[p - this.una]!);
  }
}

const skipEnd = (record: SendRecord): number => record.skip + (record.end - record.position);

const part = fc.double({ min: 0, max: 1, noNaN: true });
const operation = fc.oneof(
  { weight: 4, arbitrary: fc.record({ do: fc.constant('append' as const), length: fc.integer({ min: 1, max: 45 }) }) },
  { weight: 8, arbitrary: fc.record({ do: fc.constant('send' as const), limit: fc.integer({ min: 1, max: 45 }) }) },
  { weight: 4, arbitrary: fc.record({ do: fc.constant('resend' as const), limit: fc.integer({ min: 1, max: 45 }) }) },
  { weight: 2, arbitrary: fc.record({ do: fc.constant('resend one in flight' as const), which: fc.nat() }) },
  { weight: 3, arbitrary: fc.record({ do: fc.constant('mark one lost' as const), which: fc.nat() }) },
  { weight: 1, arbitrary: fc.constant({ do: 'lose the head' as const }) },
  { weight: 1, arbitrary: fc.constant({ do: 'lose all' as const }) },
  { weight: 8, arbitrary: fc.record({ do: fc.constant('sack' as const), from: part, to: part }) },
  { weight: 3, arbitrary: fc.record({ do: fc.constant('acknowledge' as const), upTo: part }) },
);

type Operation = typeof operation extends fc.Arbitrary<infer T> ? T : never;

function run(pair: Pair, one: Operation): void {
  const span = pair.sentEnd - pair.una;
  switch (one.do) {
    case 'append':
      pair.append(one.length);
      return;
    case 'send':
      pair.send(pair.queue.unsent, one.limit);
      return;
    case 'resend':
      pair.send(pair.queue.firstLost, one.limit);
      return;
    case 'resend one in flight':
      pair.send(pair.pick(IN_FLIGHT, one.which), 1000);
      return;
    case 'mark one lost': {
      const record = pair.pick(IN_FLIGHT, one.which) ?? pair.queue.head;
      if (record !== null) pair.markLost(record);
      return;
    }
    case 'lose the head':
      pair.loseHead();
      return;
    case 'lose all':
      pair.loseAll();
      return;
    case 'sack': {
      const [left, right] = [one.from, one.to].map((p) => pair.una + Math.round(p * span)).toSorted((a, b) => a - b) as [number, number];
      if (left < right) pair.sack(left, right);
      return;
    }
    case 'acknowledge':
      pair.acknowledge(pair.una + Math.round(one.upTo * span));
  }
}

describe('the retransmission queue', () => {
  it('is an array of octets with states, through any operations', () => {
    fc.assert(
      fc.property(fc.array(operation, { minLength: 1, maxLength: 120, size: 'max' }), (operations) => {
        const pair = new Pair();
        for (const one of operations) {
          run(pair, one);
          pair.check();
        }
        // The rest arrives, whatever became of it, and every octet was delivered once for each time it was wanted.
        while (pair.queue.unsent !== null) pair.send(pair.queue.unsent, 100);
        pair.acknowledge(pair.end);
        pair.check();
        expect([...pair.queue]).toEqual([]);
        pair.queue.clear();
        pair.una = pair.end;
        pair.check();
      }),
      { numRuns: 200 },
    );
  });

  it.each([
    ['a timeout', (pair: Pair): void => pair.loseAll()],
    ['the loss of the head', (pair: Pair): void => pair.loseHead()],
  ])('after %s with a SACKed left edge no SACK counts any more, and everything goes out again (RFC 2018 §8)', (_name, timeout) => {
    const pair = new Pair();
    for (let i = 0; i < 5; i++) pair.append(MSS);
    while (pair.queue.unsent !== null) pair.send(pair.queue.unsent, MSS);
    pair.sack(1, 51);
    pair.check();
    expect([pair.queue.sackedBytes, pair.queue.highestSacked]).toEqual([50, 51]);
    timeout(pair);
    pair.check();
    expect([pair.queue.sackedBytes, pair.queue.lostBytes, pair.queue.highestSacked]).toEqual([0, 50, 0]);
    for (let i = 0; i < 5; i++) pair.send(pair.queue.firstLost, MSS);
    expect(pair.queue.inFlight).toBe(50);
    pair.acknowledge(51);
    pair.check();
  });

  it('SACKs of single octets cut nothing, whatever their number (CVE-2019-11478)', () => {
    const pair = new Pair();
    for (let i = 0; i < 20; i++) pair.append(100 * MSS);
    while (pair.queue.unsent !== null) pair.send(pair.queue.unsent, 100 * MSS);
    for (let p = 2; p < pair.end; p += 2) pair.sack(p, p + 1);
    expect([...pair.queue]).toHaveLength(20);
    expect(pair.queue.sackedBytes).toBe(0);
  });

  it('has no more records than segments, however the SACKs lie, and one for each write when all are SACKed', () => {
    fc.assert(
      fc.property(fc.array(fc.tuple(fc.nat(2000), fc.integer({ min: 1, max: 300 })), { maxLength: 80 }), (blocks) => {
        const pair = new Pair();
        for (let i = 0; i < 10; i++) pair.append(20 * MSS);
        while (pair.queue.unsent !== null) pair.send(pair.queue.unsent, 20 * MSS);
        for (const [left, size] of blocks) pair.sack(1 + left, Math.min(pair.end, 1 + left + size));
        expect([...pair.queue].length).toBeLessThanOrEqual(10 * 20);
        pair.sack(1, pair.end);
        pair.check();
        expect([...pair.queue]).toHaveLength(10);
      }),
    );
  });

  it('an ACK that ends inside a record moves its beginning and cuts nothing, however small its steps', () => {
    const pair = new Pair();
    pair.append(100 * MSS);
    pair.send(pair.queue.unsent, 100 * MSS);
    for (let acked = 2; acked < pair.end; acked += 3) {
      pair.acknowledge(acked);
      expect([...pair.queue]).toHaveLength(1);
    }
    pair.check();
  });
});
