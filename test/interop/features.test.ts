import { expect, it } from 'vitest';
import { FEATURES, runFeature } from './features.ts';
import { describeSystem } from './require-system.ts';

describeSystem('the kernel’s own test cases, with our stack at one end', () => {
  for (const feature of FEATURES) {
    it(`${feature.role}: ${feature.name}`, async () => {
      expect(await runFeature(feature)).toEqual([]);
    });
  }
});
