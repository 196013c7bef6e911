/** `--script FILE`: probes of one's own. */
import { runScript, parseScript, scriptText } from '@subflow/probe';
import type { Hub } from '@subflow/probe';
import type { IpAddress } from '@subflow/wire';
import { readText } from '../errors.ts';
import { paintFor } from './session.ts';

/** Runs the scripts one after the other; the exit code is 1 when an expectation was not met. */
export async function runScripts(
  hub: Hub,
  files: readonly string[],
  target: { host: string; address: IpAddress; port: number; json: boolean; words: NodeJS.WriteStream },
): Promise<number> {
  const scripts = files.map((file) => parseScript(readText(file), file));
  let failed = 0;
  for (const script of scripts) {
    const result = await runScript(hub, script, target);
    if (!result.passed) failed++;
    target.words.write(target.json ? `${JSON.stringify(result)}\n` : `${scriptText(result, paintFor(target.words)).join('\n')}\n`);
  }
  return failed === 0 ? 0 : 1;
}
