/** `subflow probe --serve`: the echo server at the other end of the path. */
import { networkInterfaces } from 'node:os';
import { EchoServer } from '@subflow/probe';
import { parseAddress } from '@subflow/wire';
import { parsePort } from '../network/backend-options.ts';
import { wordsBeside } from '../outputs.ts';
import { ProbeSession } from './session.ts';
import type { PortFlags } from './session.ts';

export async function serveEcho(text: string, flags: PortFlags & { pcapng?: string; json?: boolean }): Promise<void> {
  const port = parsePort(text, 1);
  const words = wordsBeside({ '--pcapng': flags.pcapng }, flags.json);
  const session = await ProbeSession.open(flags, flags.pcapng, false);
  const addresses = Object.values(networkInterfaces())
    .flatMap((list) => list ?? [])
    .filter((one) => !one.address.startsWith('fe80'))
    .map((one) => parseAddress(one.address));
  const server = new EchoServer(session.hub, { port, addresses });
  server.onFlow = (line) => words.write(flags.json === true ? `${JSON.stringify({ flow: line })}\n` : `${line}\n`);
  words.write(`echo server on port ${port}; at the other end: subflow probe THIS-HOST:${port}\n`);
  // The packet socket keeps the process alive; Ctrl-C ends it.
  await new Promise(() => undefined);
}
