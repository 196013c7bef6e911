/** `subflow cat`: netcat over Multipath TCP. */
import { closeSync, openSync } from 'node:fs';
import { Command } from 'commander';
import { connect, createServer } from '@subflow/net';
import type { Socket } from '@subflow/net';
import { fail, UsageError } from '../errors.ts';
import { BACKEND_HELP, openBackend, parsePort, withBackend } from '../network/backend-options.ts';
import type { BackendFlags } from '../network/backend-options.ts';
import { narrate, summary } from '../network/facts.ts';

const EXAMPLES = `
Examples:
  subflow cat server.example 7                        stdin to the socket, the socket to stdout
  subflow cat --listen 7000                           accept one connection
  ssh -o ProxyCommand='subflow cat %h %p' server      ssh that survives the loss of a path
  subflow cat --verbose --service handover HOST PORT  tells on stderr what happens to subflows
${BACKEND_HELP}

Exit code 0 when both directions ended properly, 1 when the connection failed or broke.`;

interface Flags extends BackendFlags {
  listen: boolean;
  bind?: string;
  wait?: string;
  verbose: boolean;
}

export function catCommand(): Command {
  return withBackend(new Command('cat'))
    .description('netcat over Multipath TCP; usable as ssh’s ProxyCommand')
    .argument('<host>', 'name or address; with --listen: the port')
    .argument('[port]')
    .option('-l, --listen', 'accept one connection instead of making one', false)
    .option('--bind <address>', 'with --listen: address to listen on', '127.0.0.1')
    .option('-w, --wait <seconds>', 'give up when connecting takes longer')
    .option('-v, --verbose', 'tell on stderr what happens', false)
    .addHelpText('after', EXAMPLES)
    .action((host: string, port: string | undefined, flags: Flags) => {
      const settings = openBackend(flags);
      if (flags.listen) {
        const server = createServer({ ...settings, allowHalfOpen: true }, (socket) => {
          server.close();
          relay(socket, flags.verbose);
        });
        server.on('error', fail);
        server.listen(parsePort(port ?? host), port === undefined ? flags.bind : host);
        return;
      }
      if (port === undefined) throw new UsageError('MISSING_ARGUMENT', 'the port is missing; expected HOST PORT');
      const socket = connect({ ...settings, host, port: parsePort(port), allowHalfOpen: true, noDelay: true });
      const seconds = flags.wait === undefined ? null : Number(flags.wait);
      if (seconds !== null && !(seconds > 0)) throw new UsageError('BAD_ARGUMENT', `--wait "${flags.wait}"; expected a number of seconds`);
      if (seconds !== null) {
        const timer = setTimeout(
          () => fail(Object.assign(new Error(`no connection to ${host}:${port} within ${seconds} s`), { code: 'ETIMEDOUT' })),
          seconds * 1000,
        );
        socket.once('connect', () => clearTimeout(timer));
      }
      socket.once('connect', () => relay(socket, flags.verbose));
      socket.on('error', fail);
    });
}

function relay(socket: Socket, verbose: boolean): void {
  const say = (text: string): void => void process.stderr.write(`subflow: ${text}\n`);
  if (verbose) {
    say(`connected to ${socket.remoteAddress}:${socket.remotePort}, ${summary(socket.multipath?.info() ?? null)}`);
    narrate(socket.multipath, say);
  }
  socket.on('error', fail);
  process.stdin.pipe(socket);
  socket.pipe(process.stdout, { end: false });
  // Whoever reads our output has gone: nothing left to do.
  process.stdout.on('error', () => socket.destroy());
  // A program may have more to say after the peer's end; a person at the keyboard has not.
  socket.on('end', () => {
    process.stdout.write('', closeStdout);
    if (process.stdin.isTTY) socket.end();
  });
  socket.on('close', () => {
    if (verbose) say(`closed, ${summary(socket.multipath?.info() ?? null)}; ${socket.bytesWritten} bytes sent, ${socket.bytesRead} received`);
    process.exit(process.exitCode ?? 0);
  });
}

/** Whoever reads our output learns of the end now, not when we have ended: `process.stdout.end()` keeps a pipe open. */
function closeStdout(): void {
  if (process.stdout.isTTY) return;
  closeSync(1);
  // The number stays taken, so that no socket gets it.
  openSync('/dev/null', 'w');
}
