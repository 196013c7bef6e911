/** `subflow …`: one file per command. */
import { Command, CommanderError } from 'commander';
import { catCommand } from './commands/cat.ts';
import { demoCommand } from './commands/demo.ts';
import { drillCommand } from './commands/drill.ts';
import { getCommand } from './commands/get.ts';
import { iperfCommand } from './commands/iperf.ts';
import { monitorCommand } from './commands/monitor.ts';
import { proxyCommand } from './commands/proxy.ts';
import { runCommand } from './commands/run.ts';
import { serveCommand } from './commands/serve.ts';
import { siteCommand } from './commands/site.ts';
import { traceCommand } from './commands/trace.ts';

const program = new Command('subflow');
program
  .description('Multipath TCP for TypeScript: a stack, an emulator and tools that talk to the real Linux kernel')
  .version('0.1.0')
  .exitOverride()
  .enablePositionalOptions()
  .configureOutput({ writeErr: (text) => process.stderr.write(text.replace(/^error: /, 'BAD_ARGUMENT: ')) })
  .addCommand(demoCommand().copyInheritedSettings(program))
  .addCommand(drillCommand().copyInheritedSettings(program))
  .addCommand(catCommand().copyInheritedSettings(program))
  .addCommand(runCommand().copyInheritedSettings(program))
  .addCommand(getCommand().copyInheritedSettings(program))
  .addCommand(serveCommand().copyInheritedSettings(program))
  .addCommand(iperfCommand().copyInheritedSettings(program))
  .addCommand(proxyCommand().copyInheritedSettings(program))
  .addCommand(siteCommand().copyInheritedSettings(program))
  .addCommand(monitorCommand().copyInheritedSettings(program));
program.addCommand(traceCommand());

try {
  await program.parseAsync();
} catch (error) {
  if (error instanceof CommanderError) process.exit(error.exitCode === 0 ? 0 : 2);
  const { code, message } = error as { code?: string; message: string };
  process.stderr.write(`${code ?? 'INTERNAL'}: ${message}\n`);
  if (code === undefined) process.stderr.write(`${(error as Error).stack ?? ''}\n`);
  process.exit(1);
}
