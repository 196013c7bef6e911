/** Every behaviour at random hops: named rightly, placed rightly, and nothing named that is not there. */
import { describe, expect, it } from 'vitest';
import { BOXES, campaignRun, EXPECTED, lineOf, ONLY_IPV4 } from './campaign.ts';
import type { CampaignOptions, CampaignRun } from './campaign.ts';

const SEEDS = Number(process.env['SUBFLOW_PROBE_SEEDS'] ?? 20);
/** Routers that quote eight octets behind the IP header (RFC 792), and as many as fit into 548. */
const SHORT = 8;
const LONG = 520;
const RIGHT = 0.95;

async function all(boxes: readonly string[], seeds: number, options: CampaignOptions): Promise<CampaignRun[]> {
  const runs: CampaignRun[] = [];
  for (const box of boxes) for (let seed = 1; seed <= seeds; seed++) runs.push(await campaignRun(box, seed, options));
  return runs;
}

function wrong(runs: readonly CampaignRun[]): string[] {
  return runs.filter((run) => !run.named || !run.placed).map(lineOf);
}

describe('the campaign', () => {
  it('knows what to expect of every box in the catalogue', () => {
    expect(BOXES.filter((box) => EXPECTED[box] === undefined)).toEqual([]);
    expect(BOXES.length).toBeGreaterThanOrEqual(25);
  });

  it('names behaviour and link with quotes of 548 octets', { timeout: 240_000 }, async () => {
    const runs = await all(BOXES, SEEDS, { quote: LONG });
    expect(wrong(runs).length / runs.length, wrong(runs).join('\n')).toBeLessThanOrEqual(1 - RIGHT);
    // One link, not a range.
    expect(runs.filter((run) => run.exact).length / runs.length).toBeGreaterThanOrEqual(RIGHT);
    expect(runs.filter((run) => run.findings.length === 0).map(lineOf)).toEqual([]);
  });

  it('names the behaviour with quotes of 8 octets, and a range where they end before the change', { timeout: 240_000 }, async () => {
    const runs = await all(BOXES, SEEDS, { quote: SHORT });
    expect(wrong(runs).length / runs.length, wrong(runs).join('\n')).toBeLessThanOrEqual(1 - RIGHT);
    expect(runs.filter((run) => run.findings.length === 0).map(lineOf)).toEqual([]);
    // Lengths, addresses, DSCP, sequence numbers and answers show in any quote.
    const visible = runs.filter((run) =>
      ['remove-syn', 'nat', 'rewrite-dscp', 'rewrite-sequence', 'split-all', 'proxy', 'drop-syn', 'reset-syn', 'insert-payload'].includes(run.box),
    );
    expect(visible.filter((run) => !run.exact).map(lineOf)).toEqual([]);
  });

  it('does the same over IPv6', { timeout: 120_000 }, async () => {
    const runs = await all(
      BOXES.filter((box) => !ONLY_IPV4.has(box)),
      3,
      { quote: 1200, family: 6 },
    );
    expect(wrong(runs)).toEqual([]);
  });

  it('does the same with version 0', { timeout: 120_000 }, async () => {
    const runs = await all(BOXES, 2, { quote: LONG, version: 0 });
    expect(wrong(runs)).toEqual([]);
  });

  it('names no box on a clean path, a hundred times', { timeout: 120_000 }, async () => {
    for (const quote of [SHORT, LONG]) {
      for (let seed = 1; seed <= 100; seed++) {
        const run = await campaignRun(null, seed, { quote });
        expect(run.findings, lineOf(run)).toEqual([]);
        expect(run.facts.echoServer && !run.facts.echoLost).toBe(true);
      }
    }
  });
});

describe('a path that loses a fifth of the packets and reorders others', () => {
  const lossy = { quote: LONG, link: { loss: 0.037, reorder: 0.08, reorderDelay: 5_000 } } as const;

  it('says nothing wrong about boxes', { timeout: 240_000 }, async () => {
    const runs = await all(BOXES, 3, lossy);
    const false_ = runs.filter((run) => run.findings.some((one) => !EXPECTED[run.box]!.includes(`${one.behaviour} ${one.direction}`)));
    expect(false_.map(lineOf)).toEqual([]);
    // What was not found is not called clean: the report says what could not be seen.
    const missed = runs.filter((run) => run.findings.length === 0 && !run.facts.echoLost);
    expect(missed.map(lineOf)).toEqual([]);
  });

  it('names no box where there is none', { timeout: 120_000 }, async () => {
    for (let seed = 1; seed <= 40; seed++) {
      const run = await campaignRun(null, seed, lossy);
      expect(run.findings, lineOf(run)).toEqual([]);
    }
  });
});
