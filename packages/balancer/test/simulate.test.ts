/** The comparison in small: what each design is known for, seeded. */
import { describe, expect, it } from 'vitest';
import { DESIGNS, simulate } from '@subflow/balancer';
import type { Change, DesignId, SimulationResult } from '@subflow/balancer';

const run = (design: DesignId, kind: Change['kind']): SimulationResult =>
  simulate({ design, connections: design === 'c' ? 400 : 4_000, servers: 4, subflows: 3, change: { kind }, seed: 3 });

describe('simulated affinity', () => {
  it('joins reach the right server by luck with a and b, always with c, d, e and f', () => {
    for (const design of Object.keys(DESIGNS) as DesignId[]) {
      const { joined } = run(design, 'none');
      if (design === 'a' || design.startsWith('b')) expect(joined, design).toBeCloseTo(1 / 4, 1);
      else expect(joined, design).toBe(1);
    }
  });

  it('a replaced balancer loses nothing with b, c, e and f', () => {
    for (const design of ['b-modulo', 'b-crc', 'b-maglev', 'b-rendezvous', 'c', 'e', 'f'] as const) {
      expect(run(design, 'balancer-replaced'), design).toMatchObject({ subflowsAlive: 1, connectionsAlive: 1 });
    }
    // d forgets whom joined subflows belong to; the first ones go by hash.
    expect(run('d', 'balancer-replaced').subflowsAlive).toBeLessThan(1);
  });

  it('one change loses nothing with f, nor with c; connections live on with d and e', () => {
    for (const change of ['server-added', 'server-drained', 'weight-doubled'] as const) {
      for (const design of ['c', 'f'] as const) expect(run(design, change), `${design} ${change}`).toMatchObject({ subflowsAlive: 1, connectionsAlive: 1 });
      for (const design of ['d', 'e'] as const) expect(run(design, change).connectionsAlive, `${design} ${change}`).toBe(1);
      expect(run('a', change).connectionsAlive).toBe(1);
    }
  });

  it('stateless tables lose what they move: modulo nearly all, Maglev and rendezvous about one server of five', () => {
    expect(run('b-modulo', 'server-added').connectionsAlive).toBeLessThan(0.5);
    for (const design of ['b-maglev', 'b-rendezvous'] as const) {
      const { subflowsAlive } = run(design, 'server-added');
      expect(subflowsAlive).toBeGreaterThan(0.75);
      expect(subflowsAlive).toBeLessThan(0.85);
    }
  });

  it('two changes within four minutes lose nothing with f as long as buckets move once', () => {
    expect(run('f', 'two-changes').connectionsAlive).toBe(1);
    expect(run('e', 'two-changes').connectionsAlive).toBe(1);
  });

  it('is the same for the same seed', () => {
    expect(run('d', 'two-changes')).toEqual(run('d', 'two-changes'));
  });
});
