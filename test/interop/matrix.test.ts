import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, expect, it } from 'vitest';
import { allCases, caseName, runCase } from './case.ts';
import { describeSystem } from './require-system.ts';
import { tsharkOpinion } from './tshark.ts';

const SIZE = 8_000_000;
const directory = mkdtempSync(join(tmpdir(), 'subflow-interop-'));
afterAll(() => rmSync(directory, { recursive: true, force: true }));

describeSystem('interop matrix with the Linux kernel, 8 MB each, captured and read by tshark', () => {
  for (const one of allCases()) {
    it(caseName(one), async () => {
      const capture = join(directory, 'case.pcapng');
      const result = await runCase(one, { size: SIZE, capture });
      expect(result.problems).toEqual([]);
      const opinion = tsharkOpinion(capture);
      expect(opinion).toEqual({ bad: [], connections: 1, subflows: one.subflows });
    });
  }
});

describeSystem('the same over TUN with segmentation and checksum offload', () => {
  for (const one of allCases().filter((entry) => entry.subflows === 2 && entry.families !== 'both')) {
    it(caseName(one), async () => {
      expect((await runCase(one, { size: SIZE, offload: true })).problems).toEqual([]);
    });
  }
});
