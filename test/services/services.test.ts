/** Service types over wifi and lte with a fading wifi, in virtual time: the same numbers on every machine (`npm run bench -- --only services`). */
import { describe, expect, it } from 'vitest';
import { CONTENDERS, medianService } from '../../bench/services.ts';
import type { Contender, ServiceResult } from '../../bench/services.ts';

describe('service types', () => {
  const results = new Map<Contender, ServiceResult>(CONTENDERS.map((contender) => [contender, medianService(contender)]));
  const of = (contender: Contender): ServiceResult => results.get(contender)!;
  const plain = [of('TCP on wifi'), of('TCP on lte')];

  it('handover moves all traffic to wifi when it appears, and back to lte when it goes', () => {
    const { wifiShare } = of('handover');
    expect(Math.max(...wifiShare.slice(0, 5))).toBe(0);
    expect(Math.min(...wifiShare.slice(6, 15))).toBeGreaterThan(0.99);
    expect(Math.max(...wifiShare.slice(23))).toBe(0);
    expect(of('handover').gap).toBeLessThan(1000);
    expect(of('handover').gap).toBeLessThan(of('TCP on wifi').gap);
  });

  it('interactive has the lowest 95th percentile of request latency', () => {
    for (const [contender, { p95 }] of results) if (contender !== 'interactive') expect(of('interactive').p95).toBeLessThan(p95);
  });

  it('aggregate has the highest goodput', () => {
    for (const [contender, { goodput }] of results) if (contender !== 'aggregate') expect(of('aggregate').goodput).toBeGreaterThan(goodput);
  });

  it('each is better than plain TCP on the better path at what it is for', () => {
    expect(of('handover').goodput).toBeGreaterThan(Math.max(...plain.map((one) => one.goodput)));
    expect(of('interactive').p95).toBeLessThan(Math.min(...plain.map((one) => one.p95)));
    expect(of('aggregate').goodput).toBeGreaterThan(1.2 * Math.max(...plain.map((one) => one.goodput)));
  });
});
