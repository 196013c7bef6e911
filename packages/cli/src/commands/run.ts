/** `subflow run -- node app.js`: unmodified Node programs get Multipath TCP by a preload. */
import { spawn } from 'node:child_process';
import { constants } from 'node:os';
import { basename } from 'node:path';
import { Command } from 'commander';
import { kernelMptcpObstacle } from '@subflow/link';
import { UsageError } from '../errors.ts';

const EXAMPLES = `
Examples:
  subflow run -- node server.js          its sockets and servers ask the kernel for Multipath TCP
  subflow run -- npm start               children that are Node programs too
  subflow run --verbose -- node app.js   says when the system has none and plain TCP is used

It works by NODE_OPTIONS=--import …, for Node 20.6 and later. Programs that are not written for Node: mptcpize run PROGRAM.`;

export function runCommand(): Command {
  return new Command('run')
    .description('run an unmodified Node program over Multipath TCP')
    .argument('<command...>', 'the program and its arguments, after --')
    .option('--verbose', 'say whether the system can do it', false)
    .option('--strict', 'fail instead of using plain TCP when the kernel has no Multipath TCP', false)
    .passThroughOptions()
    .addHelpText('after', EXAMPLES)
    .action((words: string[], flags: { verbose: boolean; strict: boolean }) => {
      const obstacle = kernelMptcpObstacle();
      if (obstacle !== null && flags.strict) throw obstacle;
      const [program, ...args] = words;
      if (/\.[cm]?[jt]s$/.test(basename(program!)))
        throw new UsageError('BAD_ARGUMENT', `"${program}" is a script; expected a program, for example: subflow run -- node ${program}`);
      const preload = import.meta.resolve('@subflow/net/preload');
      const options = [process.env['NODE_OPTIONS'], `--import=${preload}`].filter(Boolean).join(' ');
      const child = spawn(program!, args, {
        stdio: 'inherit',
        env: { ...process.env, NODE_OPTIONS: options, ...(flags.verbose ? { SUBFLOW_VERBOSE: '1' } : {}) },
      });
      // Ctrl-C reaches the child by itself; what only we are told is passed on.
      for (const signal of ['SIGINT', 'SIGTERM', 'SIGHUP'] as const) process.on(signal, () => (signal === 'SIGINT' ? undefined : child.kill(signal)));
      child.on('error', (error: NodeJS.ErrnoException) => {
        process.stderr.write(`${error.code === 'ENOENT' ? 'PROGRAM_MISSING' : 'FAILED'}: ${program}: ${error.message}\n`);
        process.exit(127);
      });
      child.on('exit', (code, signal) => process.exit(code ?? 128 + (signal === null ? 1 : constants.signals[signal])));
    });
}
