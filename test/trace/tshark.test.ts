/** Field by field the same as tshark, packet by packet, on captures of everything we can make. */
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, describe, expect, it } from 'vitest';
import { fragmentCapture, linkCaptures, optionCapture, stackCaptures } from './corpus.ts';
import { compareWithTshark, MPTCP_FIELDS, OTHER_FIELDS, unexplained } from './tshark-fields.ts';

const directory = mkdtempSync(join(tmpdir(), 'subflow-tshark-'));
afterAll(() => rmSync(directory, { recursive: true, force: true }));

describe('the same as tshark, but for what tshark 4.0 gets wrong', () => {
  for (const capture of [...stackCaptures(), optionCapture(), ...linkCaptures(), fragmentCapture()])
    it(capture.name, async () => {
      const file = join(directory, `${capture.name}.pcap`);
      writeFileSync(file, capture.bytes);
      // Segments that belong to no conversation: what is relative to one cannot be compared.
      const fields = capture.name === 'every-option' ? OTHER_FIELDS.filter((name) => name !== 'tcp.ack') : OTHER_FIELDS;
      const { packets, values, differences } = await compareWithTshark(file, [...MPTCP_FIELDS, ...fields]);
      expect(packets).toBeGreaterThan(30);
      expect(values).toBeGreaterThan(packets * 15);
      expect(unexplained(differences)).toEqual([]);
    });
});
