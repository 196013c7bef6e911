import { spawnSync } from 'node:child_process';
import { readdirSync } from 'node:fs';
import { fileURLToPath } from 'node:url';
import { describe, expect, it } from 'vitest';

const directory = fileURLToPath(new URL('../examples/', import.meta.url));

describe('examples', () => {
  for (const file of readdirSync(directory).filter((name) => name.endsWith('.ts'))) {
    it(`${file} runs`, () => {
      const result = spawnSync(process.execPath, ['--import', 'tsx', `${directory}${file}`], { encoding: 'utf8', timeout: 30_000 });
      expect(result.stderr).toBe('');
      expect(result.status).toBe(0);
      expect(result.stdout).not.toBe('');
    });
  }
});
