/** Affinity with real kernels: what survives when servers and balancers change. The whole table: `subflow lb compare --real`. */
import { afterAll, beforeAll, expect, it } from 'vitest';
import { REAL_CHANGES, RealComparison } from '@subflow/balancer/node';
import type { RealChange, RealOptions } from '@subflow/balancer/node';
import { describeSystem } from '../interop/require-system.ts';

const CONNECTIONS = 60;
const BEAMER: RealOptions = { design: 'beamer', dataPlane: 'xdp', forwarding: 'encapsulation', connections: CONNECTIONS };
const DIRECT: RealOptions = { design: 'direct-address', dataPlane: 'xdp', forwarding: 'dsr', connections: CONNECTIONS };
const MAGLEV: RealOptions = { ...DIRECT, design: 'maglev' };
const TABLE: RealOptions = { ...DIRECT, design: 'stateful' };
const LEARNT: RealOptions = { ...DIRECT, design: 'token-learned' };

describeSystem('what survives a change', () => {
  let comparison: RealComparison;

  beforeAll(async () => {
    comparison = new RealComparison();
    await comparison.begin();
  });
  afterAll(() => comparison.end());

  const run = (options: RealOptions, change: RealChange) => comparison.run(options, change);

  it.each(REAL_CHANGES)('f: %s loses nothing', { timeout: 60_000 }, async (change) => {
    // Two changes: buckets that have been where they are for longest move first, so none moves twice here.
    expect(await run(BEAMER, change)).toMatchObject({ joined: 1, subflowsAlive: 1, connectionsAlive: 1 });
  });

  it.each([
    ['b', MAGLEV],
    ['e', DIRECT],
  ] as const)('%s: nothing lost when the balancer is replaced', { timeout: 60_000 }, async (_, options) => {
    expect(await run(options, 'balancer-replaced')).toMatchObject({ subflowsAlive: 1, connectionsAlive: 1 });
  });

  it('e: no connection lost when a server is added, the first subflows of some', { timeout: 60_000 }, async () => {
    const result = await run(DIRECT, 'server-added');
    expect(result.connectionsAlive).toBe(1);
    expect(result.subflowsAlive).toBeGreaterThan(0.7);
    expect(result.subflowsAlive).toBeLessThan(1);
  });

  it('b: some are lost when a server is added', { timeout: 60_000 }, async () => {
    const result = await run(MAGLEV, 'server-added');
    expect(result.connectionsAlive).toBeLessThan(0.95);
    expect(result.connectionsAlive).toBeGreaterThan(0.4);
  });

  it.each(['server-added', 'server-drained', 'balancer-restarted'] as const)(
    'a and d: %s loses nothing, the tables survive',
    { timeout: 60_000 },
    async (change) => {
      expect(await run(TABLE, change)).toMatchObject({ subflowsAlive: 1, connectionsAlive: 1 });
      expect(await run(LEARNT, change)).toMatchObject({ joined: 1, subflowsAlive: 1, connectionsAlive: 1 });
    },
  );

  it('d: a balancer without memory loses joined subflows, connections live on', { timeout: 60_000 }, async () => {
    const result = await run(LEARNT, 'balancer-replaced');
    expect(result.connectionsAlive).toBe(1);
    expect(result.subflowsAlive).toBeLessThan(1);
  });
});
