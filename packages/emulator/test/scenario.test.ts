import { describe, expect, it } from 'vitest';
import { parseDuration, parseProbability, parseRate, parseScenario, parseSize, ScenarioError } from '@subflow/emulator';

const minimal = 'paths: [{ name: wifi, rate: 20 Mbit/s, delay: 15 ms }]\ntransfer: { size: 1 MB }\n';

function problem(text: string): ScenarioError {
  try {
    parseScenario(text);
  } catch (error) {
    if (error instanceof ScenarioError) return error;
    throw error;
  }
  throw new Error('no error');
}

describe('scenario files', () => {
  it('are read with units', () => {
    const scenario = parseScenario(`${minimal}timeline: [{ at: 5 s, path: wifi, up: false }, { at: 7 s, path: wifi, loss: 2 % }]`);
    expect(scenario.paths[0]!.link).toMatchObject({ rate: 20e6, delay: 15_000, loss: 0 });
    expect(scenario.transfer).toEqual({ direction: 'download', size: 1e6 });
    expect(scenario.timeline[0]).toMatchObject({ at: 5_000_000, up: false });
    expect(scenario.timeline[1]).toMatchObject({ at: 7_000_000, up: null, link: { loss: 0.02 } });
  });

  it('name the place, the value and what was expected when wrong', () => {
    expect(problem('*9*9').message).toMatch(/not YAML: Unresolved alias/);
    expect(problem(`${minimal}speed: 3`).message).toMatch(/scenario: unknown key "speed"/);
    expect(problem('paths: [{ name: wifi, rat: 1 }]\ntransfer: { size: 1 MB }').message).toMatch(/paths\[0\]: unknown key "rat"/);
    expect(problem('paths: [{ name: wifi, rate: fast }]\ntransfer: { size: 1 MB }').message).toMatch(
      /paths\[0\]\.rate: "fast" is not a rate; expected for example "20 Mbit\/s"/,
    );
    expect(problem('paths: []\ntransfer: { size: 1 MB }').place).toBe('paths');
    expect(problem(`${minimal}timeline: [{ at: 1 s, path: lte }]`).message).toMatch(/timeline\[0\]\.path: unknown path "lte"; expected one of wifi/);
    expect(problem('paths: [{ name: a }, { name: a }]\ntransfer: { size: 1 }').message).toMatch(/"a" is used twice/);
    expect(problem('paths: [').code).toBe('SCENARIO_INVALID');
    expect(problem('paths: [{ name: a, loss: 150 % }]\ntransfer: { size: 1 }').message).toMatch(/paths\[0\]\.loss/);
  });

  it('understand quantities as people write them', () => {
    expect(parseDuration('15ms')).toBe(15_000);
    expect(parseDuration(2)).toBe(2_000_000);
    expect(parseDuration('15 parsecs')).toBeNull();
    expect(parseRate('1.5 Gbit/s')).toBe(1.5e9);
    expect(parseSize('4 KiB')).toBe(4096);
    expect(parseProbability('0.1 %')).toBeCloseTo(0.001);
    expect(parseProbability(2)).toBeNull();
  });
});
