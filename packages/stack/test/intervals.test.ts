/** The interval list against a plain sorted array, `addInterval` against a set of positions. */
import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { addInterval, IntervalList } from '../src/intervals.ts';
import type { Interval } from '../src/intervals.ts';

/** Room for intervals: small, so that they meet; and many more than one block holds. */
const SPAN = 3000;

type Step =
  | { do: 'insert'; at: number; length: number }
  | { do: 'push'; gap: number; length: number }
  | { do: 'remove'; which: number }
  | { do: 'stranger'; at: number; length: number }
  | { do: 'shift' }
  | { do: 'clear' };

const at = fc.nat(SPAN);
const length = fc.integer({ min: 1, max: 9 });
const step: fc.Arbitrary<Step> = fc.oneof(
  { weight: 600, arbitrary: fc.record({ do: fc.constant('insert' as const), at, length }) },
  { weight: 200, arbitrary: fc.record({ do: fc.constant('push' as const), gap: fc.nat(3), length }) },
  { weight: 200, arbitrary: fc.record({ do: fc.constant('remove' as const), which: fc.nat() }) },
  { weight: 50, arbitrary: fc.record({ do: fc.constant('stranger' as const), at, length }) },
  { weight: 150, arbitrary: fc.constant({ do: 'shift' as const }) },
  { weight: 1, arbitrary: fc.constant({ do: 'clear' as const }) },
);

/** Does the same to the list and to the array. */
function apply(list: IntervalList<Interval>, model: Interval[], one: Step): void {
  switch (one.do) {
    case 'insert': {
      const item = { position: one.at, end: one.at + one.length };
      if (model.some((other) => other.position < item.end && other.end > item.position)) return;
      list.insert(item);
      model.push(item);
      model.sort((a, b) => a.position - b.position);
      return;
    }
    case 'push': {
      const position = (model.at(-1)?.end ?? 0) + one.gap;
      const item = { position, end: position + one.length };
      list.push(item);
      model.push(item);
      return;
    }
    case 'remove': {
      const item = model[one.which % Math.max(1, model.length)];
      if (item === undefined) return;
      list.remove(item);
      model.splice(model.indexOf(item), 1);
      return;
    }
    case 'stranger':
      // An equal interval that is not in the list is not the one that is.
      list.remove({ position: one.at, end: one.at + one.length });
      return;
    case 'shift':
      expect(list.shift()).toBe(model.shift() ?? null);
      return;
    case 'clear':
      list.clear();
      model.length = 0;
  }
}

function compare(list: IntervalList<Interval>, model: readonly Interval[], probes: readonly number[]): void {
  expect(list.length).toBe(model.length);
  expect(list.first).toBe(model[0] ?? null);
  expect(list.last).toBe(model.at(-1) ?? null);
  for (const probe of probes) {
    expect(list.after(probe)).toBe(model.find((item) => item.end > probe) ?? null);
    expect(list.before(probe)).toBe(model.findLast((item) => item.position < probe) ?? null);
  }
}

describe('an interval list', () => {
  it('is a sorted array, whatever is done to it', () => {
    fc.assert(
      fc.property(fc.array(step, { minLength: 1, maxLength: 700, size: 'max' }), fc.array(at, { minLength: 3, maxLength: 3 }), (steps, probes) => {
        const list = new IntervalList<Interval>();
        const model: Interval[] = [];
        for (const one of steps) {
          apply(list, model, one);
          compare(list, model, probes);
        }
        expect([...list]).toEqual(model);
        const edges = model.flatMap(({ position, end }) => [position - 1, position, position + 1, end - 1, end]);
        compare(list, model, edges);
      }),
      { numRuns: 60 },
    );
  });

  it('of many blocks can be emptied from any place, and filled again there', () => {
    const item = (i: number): Interval => ({ position: 10 * i, end: 10 * i + 5 });
    const range = fc.tuple(fc.nat(999), fc.integer({ min: 1, max: 500 }), fc.boolean());
    fc.assert(
      fc.property(fc.array(range, { minLength: 1, maxLength: 6 }), (ranges) => {
        const list = new IntervalList<Interval>();
        let model: Interval[] = [];
        for (let i = 0; i < 1000; i++) {
          const one = item(i);
          list.push(one);
          model.push(one);
        }
        for (const [from, count, again] of ranges) {
          const gone = model.filter(({ position }) => position >= 10 * from && position < 10 * (from + count));
          for (const one of gone) list.remove(one);
          model = model.filter((one) => !gone.includes(one));
          compare(list, model, [10 * from, 10 * (from + count), 0, 9999]);
          if (!again) continue;
          for (const one of gone.toReversed()) list.insert(one);
          model = [...model, ...gone].toSorted((a, b) => a.position - b.position);
          compare(list, model, [10 * from, 10 * (from + count), 0, 9999]);
        }
        expect([...list]).toEqual(model);
      }),
      { numRuns: 40 },
    );
  });

  it('lists that were emptied in any way share nothing with each other', () => {
    const emptied = ['shift', 'remove', 'clear', 'new'].map((way) => {
      const list = new IntervalList<Interval>();
      if (way === 'new') return list;
      const item = { position: 1, end: 2 };
      list.push(item);
      if (way === 'shift') list.shift();
      else if (way === 'remove') list.remove(item);
      else list.clear();
      return list;
    });
    emptied.forEach((list, i) => list.insert({ position: 10 * i, end: 10 * i + 1 }));
    expect(emptied.map((list) => [...list])).toEqual(emptied.map((_, i) => [{ position: 10 * i, end: 10 * i + 1 }]));
  });

  it.each([1000, 100_000])('looks at a few intervals of %i, and not at each', (count) => {
    let looks = 0;
    class Watched implements Interval {
      readonly at: number;

      constructor(position: number) {
        this.at = position;
      }

      get position(): number {
        looks++;
        return this.at;
      }

      get end(): number {
        looks++;
        return this.at + 1;
      }
    }
    const list = new IntervalList<Watched>();
    for (let i = 0; i < count; i++) list.push(new Watched(4 * i));
    const worst = { after: 0, before: 0, insert: 0, remove: 0, shift: 0 };
    const measure = (what: keyof typeof worst, work: () => void): void => {
      looks = 0;
      work();
      worst[what] = Math.max(worst[what], looks);
    };
    for (let i = 0; i < 500; i++) {
      const position = 4 * ((i * 7919) % count);
      measure('after', () => list.after(position));
      measure('before', () => list.before(position + 1));
      const fresh = new Watched(position + 2);
      measure('insert', () => list.insert(fresh));
      measure('remove', () => list.remove(fresh));
    }
    measure('shift', () => list.shift());
    const logarithm = Math.ceil(Math.log2(count));
    // One comparison for each halving, and what one block holds where it is walked.
    expect(worst.after).toBeLessThanOrEqual(2 * logarithm + 4);
    expect(worst.insert).toBeLessThanOrEqual(2 * logarithm + 8);
    expect(worst.remove).toBeLessThanOrEqual(2 * logarithm + 8);
    expect(worst.before).toBeLessThanOrEqual(2 * logarithm + 64 + 4);
    expect(worst.shift).toBeLessThanOrEqual(2);
  });
});

describe('a set of positions as joined intervals', () => {
  const range = fc.tuple(fc.nat(400), fc.integer({ min: 1, max: 40 }));

  it('holds what a set holds: joined, disjoint, and with the count of what was new', () => {
    fc.assert(
      fc.property(fc.array(range, { maxLength: 120 }), (ranges) => {
        const list = new IntervalList<Interval>();
        const model = new Set<number>();
        for (const [position, size] of ranges) {
          const before = model.size;
          for (let i = 0; i < size; i++) model.add(position + i);
          expect(addInterval(list, position, position + size)).toBe(model.size - before);
          expect([...list]).toEqual(runsOf(model));
        }
      }),
    );
  });

  it('does not depend on the order in which the pieces come', () => {
    fc.assert(
      fc.property(fc.array(range, { minLength: 1, maxLength: 60 }), fc.nat(), (ranges, seed) => {
        const inOrder = new IntervalList<Interval>();
        const shuffled = new IntervalList<Interval>();
        for (const [position, size] of ranges) addInterval(inOrder, position, position + size);
        const order = ranges.map((one, i) => ({ one, key: (Math.imul(i + 1, 0x9e3779b1) ^ seed) >>> 0 })).toSorted((a, b) => a.key - b.key);
        for (const { one } of order) addInterval(shuffled, one[0], one[0] + one[1]);
        expect([...shuffled]).toEqual([...inOrder]);
      }),
    );
  });

  it('counts beyond 2^32 as well as below', () => {
    const list = new IntervalList<Interval>();
    const base = 2 ** 40;
    expect(addInterval(list, base, base + 10)).toBe(10);
    expect(addInterval(list, base + 20, base + 30)).toBe(10);
    expect(addInterval(list, base + 5, base + 25)).toBe(10);
    expect([...list]).toEqual([{ position: base, end: base + 30 }]);
  });
});

/** The runs of consecutive numbers in a set. */
function runsOf(set: ReadonlySet<number>): Interval[] {
  const out: Interval[] = [];
  for (const one of [...set].toSorted((a, b) => a - b)) {
    const last = out.at(-1);
    if (last !== undefined && last.end === one) last.end++;
    else out.push({ position: one, end: one + 1 });
  }
  return out;
}
