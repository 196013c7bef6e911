/** `subflow serve DIR`: static files over Multipath TCP. */
import { statSync } from 'node:fs';
import { createServer as createHttpServer } from 'node:http';
import type { IncomingMessage, ServerResponse } from 'node:http';
import { createServer as createHttpsServer } from 'node:https';
import type { AddressInfo } from 'node:net';
import { join, normalize } from 'node:path';
import { Command } from 'commander';
import sirv from 'sirv';
import { multipathOf, serve } from '@subflow/net';
import { fail, readText, UsageError } from '../errors.ts';
import { BACKEND_HELP, openBackend, parsePort, withBackend } from '../network/backend-options.ts';
import type { BackendFlags } from '../network/backend-options.ts';
import { endpoint, summary } from '../network/facts.ts';
import { listing } from '../serve/listing.ts';

const EXAMPLES = `
Examples:
  subflow serve .                                    this folder on http://127.0.0.1:8080/
  subflow serve --host :: --port 80 /srv/files       for everybody
  subflow serve --cert cert.pem --key key.pem DIR    https
${BACKEND_HELP}

Hidden files (.name) are not served. Ranges and ETags are answered. Ctrl-C ends it.`;

/** Who sends a request drop by drop is not waited for. */
const TIMEOUTS = { headersTimeout: 15_000, requestTimeout: 30_000 };

interface Flags extends BackendFlags {
  port: string;
  host: string;
  cert?: string;
  key?: string;
  json: boolean;
}

export function serveCommand(): Command {
  return withBackend(new Command('serve'))
    .description('serve the files of a directory')
    .argument('<directory>')
    .option('-p, --port <port>', 'port; 0: a free one', '8080')
    .option('--host <address>', 'address to listen on', '127.0.0.1')
    .option('--cert <file>', 'certificate (PEM): https')
    .option('--key <file>', 'its key (PEM)')
    .option('--json', 'a line of JSON for each request', false)
    .addHelpText('after', EXAMPLES)
    .action((directory: string, flags: Flags) => {
      if (!isDirectory(directory)) throw new UsageError('NOT_A_DIRECTORY', `"${directory}" is no directory that can be read`);
      if ((flags.cert === undefined) !== (flags.key === undefined)) throw new UsageError('BAD_ARGUMENT', '--cert and --key belong together');
      const files = sirv(directory, { dev: true, etag: true });
      const handle = (request: IncomingMessage, response: ServerResponse): void => {
        response.on('close', () => log(request, response, flags.json));
        const path = pathOf(request);
        // Hidden files are nobody's business.
        if (path === null || path.split('/').some((part) => part.startsWith('.'))) response.writeHead(404, { 'content-type': 'text/plain' }).end('not found\n');
        else files(request, response, () => missing(directory, path, response));
      };
      const server =
        flags.cert === undefined
          ? createHttpServer(TIMEOUTS, handle)
          : createHttpsServer({ ...TIMEOUTS, cert: readText(flags.cert), key: readText(flags.key!) }, handle);
      const front = serve(server, { port: parsePort(flags.port, 0), host: flags.host }, openBackend(flags), () => {
        const { address, port } = front.address() as AddressInfo;
        process.stdout.write(`serving ${directory} on ${flags.cert === undefined ? 'http' : 'https'}://${endpoint(address, port)}/\n`);
      });
      server.on('error', fail);
    });
}

/** The path asked for, which cannot climb above its root; null when it is malformed. */
function pathOf(request: IncomingMessage): string | null {
  try {
    return normalize(decodeURIComponent(new URL(request.url ?? '/', 'http://x').pathname));
  } catch {
    return null;
  }
}

function missing(directory: string, path: string, response: ServerResponse): void {
  if (path.endsWith('/') && isDirectory(join(directory, path))) {
    response.writeHead(200, { 'content-type': 'text/html; charset=utf-8' }).end(listing(join(directory, path), path));
    return;
  }
  response.writeHead(404, { 'content-type': 'text/plain' }).end('not found\n');
}

function log(request: IncomingMessage, response: ServerResponse, json: boolean): void {
  const info = multipathOf(request.socket)?.info() ?? null;
  const line = { time: new Date().toISOString(), from: request.socket.remoteAddress, method: request.method, url: request.url, status: response.statusCode };
  process.stdout.write(
    json
      ? `${JSON.stringify({ ...line, multipath: info })}\n`
      : `${line.time} ${line.from ?? '-'} ${line.method} ${line.url} ${line.status} ${summary(info)}\n`,
  );
}

function isDirectory(path: string): boolean {
  try {
    return statSync(path).isDirectory();
  } catch {
    return false;
  }
}
