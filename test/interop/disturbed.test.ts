import { expect, it } from 'vitest';
import { allCases, caseName, runCase } from './case.ts';
import type { Case } from './case.ts';
import { disturbances } from './disturb.ts';
import type { Disturbance } from './disturb.ts';
import { describeSystem } from './require-system.ts';

const SIZE = 8_000_000;

/** The whole matrix runs with `npm run interop -- --disturb NAME`; here a cross-section of it. */
function chosen(disturbance: Disturbance): Case[] {
  const { leastSubflows, directions } = disturbances[disturbance];
  return allCases().filter(
    (one) =>
      one.families !== 'IPv6' &&
      one.subflows === leastSubflows &&
      one.checksum === (one.families === 'both') &&
      (directions ?? [one.direction]).includes(one.direction),
  );
}

for (const name of Object.keys(disturbances) as Disturbance[]) {
  describeSystem(`interop with the Linux kernel, ${name}`, () => {
    for (const one of chosen(name)) {
      it(caseName(one), async () => {
        const recipe = disturbances[name];
        const result = await runCase(one, { size: SIZE, ...recipe.options(one) });
        expect([...result.problems, ...recipe.check(one, result)]).toEqual([]);
      });
    }
  });
}
