/** Data ahead of order against a plain map of octets. */
import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { ChunkPool } from '../src/buffers.ts';
import type { Interval } from '../src/intervals.ts';
import { OutOfOrder } from '../src/tcp/out-of-order.ts';
import { pattern } from './client.ts';

/** Counts what is out. */
class CountedPool extends ChunkPool {
  out = 0;

  override take(size: number): Uint8Array {
    const chunk = super.take(size);
    this.out += chunk.length;
    return chunk;
  }

  override give(chunk: Uint8Array): void {
    this.out -= chunk.length;
    super.give(chunk);
  }
}

const insertion = fc.record({
  do: fc.constant('insert' as const),
  at: fc.integer({ min: 0, max: 30_000 }),
  length: fc.oneof(fc.integer({ min: 1, max: 4 }), fc.integer({ min: 1, max: 1460 }), fc.integer({ min: 1, max: 5000 })),
  /** Whether the octets are the stream's, or others: what came first counts. */
  right: fc.boolean(),
});
const release = fc.record({ do: fc.constant('release' as const), by: fc.integer({ min: 0, max: 6000 }) });

describe('what is held ahead of order', () => {
  it('is a map of octets: the first that came at each position, joined, reported, and given out in order', () => {
    fc.assert(
      fc.property(
        fc.constantFrom(20_000, 1 << 20),
        fc.array(fc.oneof({ weight: 4, arbitrary: insertion }, { weight: 1, arbitrary: release }), { maxLength: 40, size: 'max' }),
        (buffer, steps) => {
          const pool = new CountedPool();
          const held = new OutOfOrder(pool, buffer);
          const model = new Map<number, number>();
          let next = 1;
          for (const step of steps) {
            if (step.do === 'release') next = drain(held, model, next + step.by);
            else {
              const at = next + 1 + step.at;
              const bytes = pattern(at, step.length + 3);
              if (!step.right) bytes.fill(255);
              const most = held.cost + held.costOf(at, step.length);
              // The payload stands somewhere in a packet.
              const added = held.insert(bytes, 0, step.length, at);
              let fresh = 0;
              for (let i = 0; i < step.length; i++) {
                if (model.has(at + i)) continue;
                model.set(at + i, bytes[i]!);
                fresh++;
              }
              expect(added).toBe(fresh);
              expect(held.cost).toBeLessThanOrEqual(most);
              const [latest] = held.report(4);
              expect(latest!.position <= at && latest!.end >= at + step.length).toBe(true);
            }
            check(held, model, pool);
          }
          held.clear();
          model.clear();
          check(held, model, pool);
        },
      ),
      { numRuns: 60 },
    );
  });

  function drain(held: OutOfOrder, model: Map<number, number>, position: number): number {
    let next = position;
    held.release(next);
    for (const at of [...model.keys()]) if (at < next) model.delete(at);
    for (let piece = held.peek(next); piece !== null; piece = held.peek(next)) {
      expect(piece.findIndex((octet, i) => octet !== model.get(next + i))).toBe(-1);
      for (let i = 0; i < piece.length; i++) model.delete(next++);
      held.release(next);
    }
    expect(model.has(next)).toBe(false);
    return next;
  }

  function check(held: OutOfOrder, model: ReadonlyMap<number, number>, pool: CountedPool): void {
    const runs = runsOf(model);
    expect(held.bytes).toBe(model.size);
    expect(held.pieces).toBe(runs.length);
    expect([held.first, held.last]).toEqual([runs[0] ?? null, runs.at(-1) ?? null]);
    expect(pool.out).toBeLessThanOrEqual(held.cost);
    if (runs.length === 0) expect([held.cost, pool.out]).toEqual([0, 0]);
    const reported = held.report(4);
    expect(reported).toHaveLength(Math.min(4, runs.length));
    expect(new Set(reported.map((one) => one.position)).size).toBe(reported.length);
    for (const one of reported) expect(runs).toContainEqual({ position: one.position, end: one.end });
    const [first] = runs;
    if (first === undefined) return;
    const piece = held.peek(first.position)!;
    expect(piece.findIndex((octet, i) => octet !== model.get(first.position + i))).toBe(-1);
    expect(held.peek(first.position - 1)).toBeNull();
  }
});

/** The runs of consecutive positions. */
function runsOf(model: ReadonlyMap<number, number>): Interval[] {
  const out: Interval[] = [];
  for (const at of Float64Array.from(model.keys()).sort()) {
    const last = out.at(-1);
    if (last !== undefined && last.end === at) last.end++;
    else out.push({ position: at, end: at + 1 });
  }
  return out;
}
