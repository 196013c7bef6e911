/** `subflow drill`: packetdrill scripts against our stack, in virtual time. */
import { readdirSync, readFileSync, statSync } from 'node:fs';
import { join } from 'node:path';
import { Command } from 'commander';
import { runDrill } from '@subflow/drill';
import type { DrillResult } from '@subflow/drill';
import { UsageError } from '../errors.ts';

const EXAMPLES = `
Examples:
  subflow drill test/drill/scripts            every .pkt file under a folder
  subflow drill my.pkt --verbose              every packet as it went
  subflow drill scripts --json | jq '.[] | select(.passed | not)'

The language is packetdrill's, with the options of its Multipath TCP variant (docs/drill.md). Nothing touches the network
and no privileges are needed; sysctl and ip mptcp lines become settings of the host under test.
Exit code 0 only if every script passed.`;

export function drillCommand(): Command {
  return new Command('drill')
    .description('run packetdrill scripts against the stack in virtual time')
    .argument('<paths...>', 'scripts (.pkt), or folders of them')
    .option('--verbose', 'print the packets of every script', false)
    .option('--json', 'print the results as JSON and nothing else', false)
    .addHelpText('after', EXAMPLES)
    .action((paths: string[], options: { verbose: boolean; json: boolean }) => {
      const files = paths.flatMap(scriptsUnder);
      if (files.length === 0) throw new UsageError('NO_SCRIPTS', `no .pkt file under ${paths.join(', ')}`);
      const results = files.map((file) => runDrill(file, readFileSync(file, 'utf8')));
      const failed = results.filter((result) => !result.passed).length;
      if (options.json) process.stdout.write(`${JSON.stringify(results)}\n`);
      else for (const result of results) print(result, options.verbose);
      if (!options.json) process.stdout.write(`${results.length} scripts, ${results.length - failed} passed, ${failed} failed\n`);
      process.exit(failed > 0 ? 1 : 0);
    });
}

function scriptsUnder(path: string): string[] {
  let isDirectory: boolean;
  try {
    isDirectory = statSync(path).isDirectory();
  } catch (error) {
    throw new UsageError('FILE_NOT_READ', `${path}: ${(error as Error).message}`);
  }
  if (!isDirectory) return [path];
  return readdirSync(path)
    .sort()
    .flatMap((name) => {
      const inner = join(path, name);
      return statSync(inner).isDirectory() ? scriptsUnder(inner) : name.endsWith('.pkt') ? [inner] : [];
    });
}

function print(result: DrillResult, verbose: boolean): void {
  process.stdout.write(`${result.passed ? 'ok  ' : 'FAIL'} ${result.name}\n`);
  if (verbose) for (const line of result.trace) process.stdout.write(`  ${(line.time / 1e6).toFixed(6)} ${line.direction === 'in' ? '<' : '>'} ${line.text}\n`);
  if (result.failure !== null) process.stdout.write(`  ${result.failure.code}: ${result.failure.message}\n`);
}
