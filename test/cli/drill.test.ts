import { spawnSync } from 'node:child_process';
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { afterAll, describe, expect, it } from 'vitest';

const root = fileURLToPath(new URL('../../', import.meta.url));
const directory = mkdtempSync(join(tmpdir(), 'subflow-drill-'));
afterAll(() => rmSync(directory, { recursive: true, force: true }));

function drill(...args: string[]): { status: number | null; stdout: string; stderr: string } {
  return spawnSync(process.execPath, [join(root, 'packages/cli/bin/subflow.mjs'), 'drill', ...args], { cwd: root, encoding: 'utf8', timeout: 60_000 });
}

describe('subflow drill', () => {
  it('has help with examples', () => {
    const { status, stdout } = drill('--help');
    expect(status).toBe(0);
    expect(stdout).toContain('Examples:');
  });

  it('runs every script under a folder and says how many passed', () => {
    const { status, stdout } = drill('test/drill/scripts');
    expect(status).toBe(0);
    expect(stdout).toMatch(/(\d+) scripts, \1 passed, 0 failed\n$/);
  });

  it('prints results as JSON and nothing else', () => {
    const results = JSON.parse(drill('test/drill/scripts/v0', '--json').stdout) as { passed: boolean; trace: unknown[] }[];
    expect(results.length).toBeGreaterThan(10);
    expect(results.every((result) => result.passed && result.trace.length > 1)).toBe(true);
  });

  it('a script that does not hold: exit code 1, with line, what was seen and what was expected', () => {
    const file = join(directory, 'wrong.pkt');
    writeFileSync(
      file,
      '0 socket(..., SOCK_STREAM, IPPROTO_MPTCP) = 3\n+0 bind(3, ..., ...) = 0\n+0 listen(3, 1) = 0\n+0 < S 0:0(0) win 9 <mss 1000>\n+0 > S. 0:0(0) ack 7 <...>\n',
    );
    const { status, stdout } = drill(file);
    expect(status).toBe(1);
    expect(stdout).toContain('DRILL_MISMATCH: line 5: ack is 1, expected 7');
  });

  it('mistakes have stable codes and exit codes', () => {
    expect(drill(join(directory, 'absent.pkt'))).toMatchObject({ status: 1, stderr: expect.stringContaining('FILE_NOT_READ') });
    expect(drill('docs')).toMatchObject({ status: 1, stderr: expect.stringContaining('NO_SCRIPTS') });
    expect(drill().status).toBe(2);
  });
});
