/** What takes minutes of waiting: it runs beside everything else. */
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { afterAll, beforeAll, expect, it } from 'vitest';
import { PathBench } from '@subflow/probe/node';
import { describeSystem } from '../interop/require-system.ts';

const ROOT = fileURLToPath(new URL('../..', import.meta.url));

describeSystem('the kernel after a wrong checksum', () => {
  const world = new PathBench({ routers: 1 });

  beforeAll(async () => {
    await world.startAndWait(world.server, process.execPath, ['--import', 'tsx', join(ROOT, 'test/probe/kernel-http.ts'), '8080']);
  });
  afterAll(() => world.remove());

  it('resets the subflow after two minutes of silence', { timeout: 240_000 }, async () => {
    const args = [
      join(ROOT, 'packages/cli/bin/subflow.mjs'),
      'probe',
      `${world.serverAddress}:8080`,
      '--no-path',
      '--patient',
      '--steps',
      'bad-checksum-then-silence',
      '--timeout',
      '190',
      '--json',
    ];
    const { code, stdout, stderr } = await world.run(world.client, process.execPath, args, 220_000);
    expect(code, `${stdout}\n${stderr}`).toBe(0);
    const report = JSON.parse(stdout) as { conversation: { steps: { id: string; outcome: string; details: string[] }[] } };
    const step = report.conversation.steps.find((one) => one.id === 'bad-checksum-then-silence')!;
    expect(step.outcome).toBe('mp-fail+mptcp, then reset:0');
    expect(Number(step.details.find((one) => one.endsWith(' s'))!.split(' ')[0])).toBeGreaterThanOrEqual(115);
  });
});
