/** `subflow …`: one file per command. */
import { Command, CommanderError } from 'commander';

/** Loaded when they are named: one command does not wait for the modules of the others. */
const COMMANDS: Readonly<Record<string, () => Promise<Command>>> = {
  demo: async () => (await import('./commands/demo.ts')).demoCommand(),
  drill: async () => (await import('./commands/drill.ts')).drillCommand(),
  cat: async () => (await import('./commands/cat.ts')).catCommand(),
  run: async () => (await import('./commands/run.ts')).runCommand(),
  get: async () => (await import('./commands/get.ts')).getCommand(),
  serve: async () => (await import('./commands/serve.ts')).serveCommand(),
  iperf: async () => (await import('./commands/iperf.ts')).iperfCommand(),
  proxy: async () => (await import('./commands/proxy.ts')).proxyCommand(),
  site: async () => (await import('./commands/site.ts')).siteCommand(),
  monitor: async () => (await import('./commands/monitor.ts')).monitorCommand(),
  probe: async () => (await import('./commands/probe.ts')).probeCommand(),
  lb: async () => (await import('./commands/lb.ts')).lbCommand(),
  'bench-path': async () => (await import('./commands/bench-path.ts')).benchPathCommand(),
  scan: async () => (await import('./commands/scan.ts')).scanCommand(),
  web: async () => (await import('./commands/web.ts')).webCommand(),
  trace: async () => (await import('./commands/trace.ts')).traceCommand(),
};

/** What a shell shows for a program that a closed pipe has ended: 128 and the number of SIGPIPE. */
const READER_GONE = 141;

// Whoever read our words has gone (head, less): a quiet end, unless the command itself listens.
process.stdout.on('error', (error: NodeJS.ErrnoException) => {
  if (process.stdout.listenerCount('error') > 1) return;
  if (error.code !== 'EPIPE') throw error;
  process.exit(READER_GONE);
});

const program = new Command('subflow');
program
  .description('Multipath TCP for TypeScript: a stack, an emulator and tools that talk to the real Linux kernel')
  .version('0.1.0')
  .exitOverride()
  .enablePositionalOptions()
  .configureOutput({ writeErr: (text) => process.stderr.write(text.replace(/^error: /, 'BAD_ARGUMENT: ')) });

try {
  const named = COMMANDS[process.argv[2] ?? ''];
  const commands = named === undefined ? await Promise.all(Object.values(COMMANDS).map((load) => load())) : [await named()];
  for (const command of commands) inherit(command, program);
  await program.parseAsync();
} catch (error) {
  if (error instanceof CommanderError) process.exit(error.exitCode === 0 ? 0 : 2);
  const { code, message } = error as { code?: string; message: string };
  if (code === 'READER_GONE') process.exit(READER_GONE);
  process.stderr.write(`${code ?? 'INTERNAL'}: ${message}\n`);
  if (code === undefined) process.stderr.write(`${(error as Error).stack ?? ''}\n`);
  process.exit(1);
}

/** A command and the commands below it write and end as the program does. */
function inherit(command: Command, parent: Command): void {
  parent.addCommand(command.copyInheritedSettings(parent));
  for (const child of command.commands) child.copyInheritedSettings(command);
}
