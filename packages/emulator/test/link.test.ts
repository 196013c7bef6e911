import { describe, expect, it } from 'vitest';
import { Agenda, LinkDirection, PERFECT_LINK, Random } from '@subflow/emulator';
import type { LinkConfig } from '@subflow/emulator';

function run(
  config: Partial<LinkConfig>,
  count: number,
  interval: number,
  size = 1000,
  seed = 1,
): { arrivals: { at: number; id: number; bytes: Uint8Array }[]; link: LinkDirection; agenda: Agenda } {
  const agenda = new Agenda();
  const arrivals: { at: number; id: number; bytes: Uint8Array }[] = [];
  const link = new LinkDirection(agenda, new Random(seed), { ...PERFECT_LINK, ...config }, (packet, now) =>
    arrivals.push({ at: now, id: new DataView(packet.buffer).getUint32(4), bytes: packet }),
  );
  for (let i = 0; i < count; i++) {
    agenda.at(i * interval, () => {
      const packet = new Uint8Array(size);
      new DataView(packet.buffer).setUint32(4, i);
      link.send(packet);
    });
  }
  agenda.runUntil(1e9);
  return { arrivals, link, agenda };
}

describe('emulated links', () => {
  it('a packet arrives after its transmission time and the delay', () => {
    const { arrivals } = run({ rate: 8_000_000, delay: 5000 }, 3, 0);
    expect(arrivals.map((one) => one.at)).toEqual([6000, 7000, 8000]);
  });

  it('throughput equals the rate when the queue is never empty', () => {
    const { arrivals } = run({ rate: 20_000_000 }, 1000, 100);
    const seconds = (arrivals.at(-1)!.at - arrivals[0]!.at) / 1e6;
    expect((999 * 8000) / seconds / 20e6).toBeCloseTo(1, 3);
  });

  it('queue limits in packets, bytes and time drop what does not fit', () => {
    expect(run({ rate: 8_000_000, queuePackets: 5 }, 50, 0).arrivals).toHaveLength(5);
    expect(run({ rate: 8_000_000, queueBytes: 5000 }, 50, 0).arrivals).toHaveLength(5);
    const timed = run({ rate: 8_000_000, queueTime: 5000 }, 50, 0);
    expect(timed.arrivals).toHaveLength(6);
    expect(timed.link.counters.dropped['queue-full']).toBe(44);
  });

  it('Bernoulli loss has its mean, Gilbert–Elliott comes in bursts', () => {
    const bernoulli = run({ loss: 0.1 }, 20_000, 10);
    expect(bernoulli.arrivals.length / 20_000).toBeCloseTo(0.9, 2);
    const burst = run({ loss: { goodToBad: 0.01, badToGood: 0.1, lossGood: 0, lossBad: 1 } }, 20_000, 10);
    // Stationary share of the bad state: 0.01 / 0.11.
    expect(1 - burst.arrivals.length / 20_000).toBeCloseTo(0.01 / 0.11, 1);
    const gaps = burst.arrivals.map((one, i) => (i === 0 ? 0 : one.id - burst.arrivals[i - 1]!.id - 1)).filter((gap) => gap > 0);
    expect(gaps.reduce((a, b) => a + b, 0) / gaps.length).toBeGreaterThan(6);
  });

  it('jitter keeps order, reordering does not, duplicates and corruption are counted', () => {
    const inOrder = (arrivals: { id: number }[]): boolean => arrivals.every((one, i) => i === 0 || one.id > arrivals[i - 1]!.id);
    expect(inOrder(run({ jitter: 5000, delay: 1000 }, 500, 100).arrivals)).toBe(true);
    expect(inOrder(run({ reorder: 0.1, reorderDelay: 1000 }, 500, 100).arrivals)).toBe(false);
    const duplicated = run({ duplicate: 0.5 }, 1000, 10);
    expect(duplicated.arrivals.length).toBe(1000 + duplicated.link.counters.duplicated);
    const corrupted = run({ corrupt: 1 }, 100, 10);
    for (const one of corrupted.arrivals) {
      let bits = 0;
      const expected = new Uint8Array(1000);
      new DataView(expected.buffer).setUint32(4, corrupted.arrivals.indexOf(one));
      one.bytes.forEach((byte, i) => {
        for (let x = byte ^ expected[i]!; x !== 0; x &= x - 1) bits++;
      });
      expect(bits).toBe(1);
    }
  });

  it('a cut swallows what is under way, silently, and a restored link works again', () => {
    const agenda = new Agenda();
    const seen: number[] = [];
    const link = new LinkDirection(agenda, new Random(1), { ...PERFECT_LINK, delay: 1000 }, (_packet, now) => seen.push(now));
    link.send(new Uint8Array(20));
    agenda.at(500, () => link.setUp(false));
    agenda.at(600, () => link.send(new Uint8Array(20)));
    agenda.at(700, () => link.setUp(true));
    agenda.at(800, () => link.send(new Uint8Array(20)));
    agenda.runUntil(10_000);
    expect(seen).toEqual([1800]);
    expect(link.counters.dropped.down).toBe(2);
  });

  it('the same seed gives the same fate', () => {
    const fate = (seed: number): string =>
      run({ loss: 0.3, jitter: 900, reorder: 0.1, reorderDelay: 700 }, 300, 50, 100, seed)
        .arrivals.map((one) => `${one.id}@${one.at}`)
        .join();
    expect(fate(7)).toBe(fate(7));
    expect(fate(7)).not.toBe(fate(8));
  });
});
