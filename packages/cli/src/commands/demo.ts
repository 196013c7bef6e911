/** `subflow demo`: a download over two paths that survives losing one. */
import { readFileSync } from 'node:fs';
import { Command, Option } from 'commander';
import { parseScenario } from '@subflow/emulator';
import type { Scenario } from '@subflow/emulator';
import { HANDOVER } from '../demo/handover.ts';
import { runDemo } from '../demo/run.ts';
import { UsageError } from '../errors.ts';

const EXAMPLES = `
Examples:
  subflow demo                              the handover demonstration; the kernel at the other end when possible
  subflow demo --mode emulated              our stack at both ends, no privileges needed
  subflow demo --scenario my.yaml --json    another scenario, the summary as JSON
  subflow demo --mode emulated --fast       virtual time as fast as it goes

Files written: one pcapng per path, events.jsonl, summary.json and plot.svg.
Exit code 0 only if every byte arrived and the hashes agree.`;

export function demoCommand(): Command {
  return new Command('demo')
    .description('download over several emulated paths, cut one, bring it back; verify every byte')
    .addOption(new Option('--mode <mode>', 'kernel: against the Linux kernel (root); emulated: in this process').choices(['kernel', 'emulated']))
    .option('--scenario <file>', 'scenario in YAML (docs/scenarios.md); default: the handover from Wi-Fi to LTE and back')
    .option('--out <directory>', 'where the files go', 'out/demo')
    .option('--fast', 'emulated mode: do not wait for real time to pass', false)
    .option('--json', 'print the summary as JSON and nothing else', false)
    .addHelpText('after', EXAMPLES)
    .action(async (options: { mode?: 'kernel' | 'emulated'; scenario?: string; out: string; fast: boolean; json: boolean }) => {
      if (options.fast && options.mode === 'kernel') throw new UsageError('BAD_ARGUMENT', '--fast needs --mode emulated: a real kernel lives in real time');
      const good = await runDemo(load(options.scenario), {
        mode: options.mode ?? (options.fast ? 'emulated' : null),
        directory: options.out,
        fast: options.fast,
        json: options.json,
      });
      process.exit(good ? 0 : 1);
    });
}

function load(file: string | undefined): Scenario {
  if (file === undefined) return parseScenario(HANDOVER);
  let text: string;
  try {
    text = readFileSync(file, 'utf8');
  } catch (error) {
    throw new UsageError('FILE_NOT_READ', `scenario ${file}: ${(error as Error).message}`);
  }
  return parseScenario(text);
}
