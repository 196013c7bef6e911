import { beforeAll, describe, expect, it } from 'vitest';
import { campaign, readCorpus } from './campaign.ts';
import { loadInstrumented } from './instrument.ts';
import type { Instrumented } from './instrument.ts';
import { liveTarget } from './live-target.ts';
import { probeTarget } from './probe-target.ts';
import { captureSeeds, packetSeeds, programSeeds } from './seeds.ts';
import { traceTarget } from './trace-target.ts';
import { wireTarget } from './wire-target.ts';

const SEED = Number(process.env['SUBFLOW_SEED'] ?? 1);
let loaded: Instrumented;

beforeAll(async () => {
  loaded = await loadInstrumented(['wire', 'stack', 'trace', 'probe']);
});

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
