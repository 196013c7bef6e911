import { beforeAll, describe, expect, it } from 'vitest';
import { campaign, readCorpus } from './campaign.ts';
import { loadInstrumented } from './instrument.ts';
import type { Instrumented } from './instrument.ts';
import { liveTarget } from './live-target.ts';
import { probeTarget } from './probe-target.ts';
import { captureSeeds, packetSeeds, programSeeds } from './seeds.ts';
import { StateCampaign } from './states/campaign.ts';
import { traceTarget } from './trace-target.ts';
import { wireTarget } from './wire-target.ts';

const SEED = Number(process.env['SUBFLOW_SEED'] ?? 1);
/** Milliseconds; the long campaign feeds all pairs. */
const STATES_TIME = 15_000;
let loaded: Instrumented;

// Instrumenting takes some seconds, and ten times as long on a busy machine.
beforeAll(async () => {
  loaded = await loadInstrumented(['wire', 'stack', 'trace', 'probe']);
}, 120_000);

describe(`fuzzing (seed ${SEED}; the long campaign is npm run fuzz)`, () => {
  it('no bytes make a codec throw, and what it parses survives being emitted', () => {
    loaded.coverage.hits.fill(0);
    const result = campaign(wireTarget(loaded), loaded.coverage, [...readCorpus('wire'), ...packetSeeds()], { executions: 300_000, seed: SEED });
    expect(result.findings.map((finding) => `${finding.error} ${Buffer.from(finding.input).toString('hex')}`)).toEqual([]);
    expect(result.reached).toBeGreaterThan(300);
  });

  it('no conversation makes the stack throw, loop, grow or leave anything behind', () => {
    loaded.coverage.hits.fill(0);
    const result = campaign(liveTarget(loaded), loaded.coverage, [...readCorpus('live'), ...programSeeds()], { executions: 15_000, seed: SEED });
    expect(result.findings.map((finding) => `${finding.error} ${Buffer.from(finding.input).toString('hex')}`)).toEqual([]);
    expect(result.reached).toBeGreaterThan(2000);
  });

  it('no capture makes the analyzer throw, hang or grow', () => {
    loaded.coverage.hits.fill(0);
    const result = campaign(traceTarget(loaded), loaded.coverage, [...readCorpus('trace'), ...captureSeeds()], { executions: 60_000, seed: SEED });
    expect(result.findings.map((finding) => `${finding.error} ${Buffer.from(finding.input).toString('hex')}`)).toEqual([]);
    expect(result.reached).toBeGreaterThan(1000);
    expect(result.heapAfter - result.heapBefore).toBeLessThan(30e6);
  });

  it('no packet, quote, frame or text makes the prober or its echo server throw, hang or grow', () => {
    loaded.coverage.hits.fill(0);
    const result = campaign(probeTarget(loaded), loaded.coverage, [...readCorpus('probe'), ...packetSeeds()], { executions: 60_000, seed: SEED });
    expect(result.findings.map((finding) => `${finding.error} ${Buffer.from(finding.input).toString('hex')}`)).toEqual([]);
    expect(result.reached).toBeGreaterThan(600);
    expect(result.heapAfter - result.heapBefore).toBeLessThan(30e6);
  });

  it('no pair or triple of packets in any state, from either side, makes the stack throw, answer without end or keep anything', () => {
    const campaign = new StateCampaign(loaded);
    const result = campaign.run({ executions: 1e6, milliseconds: STATES_TIME, seed: SEED });
    expect(
      result.findings.map(
        ({ steps, error, input }) => `${steps.join(' | ')}: ${error.split('\n').slice(0, 4).join('\n')} (npm run fuzz -- --target states --input ${input})`,
      ),
    ).toEqual([]);
    expect(Math.min(result.singles, result.pairs, result.triples)).toBeGreaterThan(100);
  });

  it('would find a bug: one planted behind four bytes of an option is reached by its coverage', () => {
    const hits = new Uint8Array(8);
    const coverage = { hits, points: 8, fresh: false };
    const planted = [30, 12, 0x1f, 0x55];
    const reach = (point: number): void => {
      if (hits[point] !== 0) return;
      hits[point] = 1;
      coverage.fresh = true;
    };
    const target = (bytes: Uint8Array, length: number): void => {
      for (let i = 0; i < planted.length; i++) {
        if (length <= i || bytes[i] !== planted[i]) return;
        reach(i);
      }
      throw new Error('planted');
    };
    const result = campaign(target, coverage, [new Uint8Array(40)], { executions: 2_000_000, seed: SEED });
    expect(result.findings[0]?.error).toContain('planted');
  });
});
