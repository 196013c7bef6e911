/** HTTP by undici, HTTPS, HTTP/2 and WebSocket over our sockets: both ends, with hashes, and a word in the middle. */
import { createHash } from 'node:crypto';
import { createServer as createHttpServer } from 'node:http';
import type { IncomingMessage, ServerResponse } from 'node:http';
import { connect as http2Connect, createServer as createHttp2Server } from 'node:http2';
import { createServer as createHttpsServer, request as httpsRequest } from 'node:https';
import type { Server as NodeServer } from 'node:net';
import { Agent, fetch } from 'undici';
import { WebSocket, WebSocketServer } from 'ws';
import { connect, HttpAgent, HttpsAgent, multipathOf, serve, undiciConnect } from '@subflow/net';
import type { Backend, Server } from '@subflow/net';

export const PROTOCOLS = ['undici', 'https', 'http2', 'ws'] as const;
export type Protocol = (typeof PROTOCOLS)[number];
export const PORTS: Record<Protocol, number> = { undici: 8001, https: 8002, http2: 8003, ws: 8004 };
export const SIZE = 4_000_000;
const MESSAGE = 20_000;
const WINDOW = 20;

function body(): Buffer {
  const out = Buffer.allocUnsafe(SIZE);
  for (let i = 0; i < SIZE; i += 4) out.writeInt32LE(Math.imul(i, 2654435761), i);
  return out;
}

const BODY = body();
export const DIGEST = createHash('sha256').update(BODY).digest('hex');

export interface Outcome {
  protocol: Protocol;
  /** Whether every byte was right. */
  correct: boolean;
  /** Most subflows seen at once. */
  subflows: number;
  milliseconds: number;
}

/** Starts the four servers on a backend. */
export async function serveAll(backend: Backend, tls: { key: string; cert: string }): Promise<Server[]> {
  const answer = (_request: IncomingMessage, response: ServerResponse): void => {
    response.writeHead(200, { 'content-length': SIZE });
    response.end(BODY);
  };
  const http2 = createHttp2Server();
  http2.on('stream', (stream) => {
    stream.respond({ ':status': 200 });
    stream.end(BODY);
  });
  const web = createHttpServer();
  const sockets = new WebSocketServer({ server: web });
  sockets.on('connection', (socket) => socket.on('message', (message, isBinary) => socket.send(message as Buffer, { binary: isBinary })));
  const servers: Record<Protocol, NodeServer> = {
    undici: createHttpServer(answer),
    https: createHttpsServer(tls, answer),
    http2: http2 as unknown as NodeServer,
    ws: web,
  };
  return Promise.all(
    PROTOCOLS.map(
      (protocol) =>
        new Promise<Server>((resolve) => {
          const front = serve(servers[protocol], { port: PORTS[protocol] }, { backend }, () => resolve(front));
        }),
    ),
  );
}

/** One transfer; `middle` is called once when a third has arrived and, if possible, two subflows are up. */
export async function transfer(protocol: Protocol, backend: Backend, host: string, middle: () => void): Promise<Outcome> {
  const started = performance.now();
  const progress = new Middle(middle);
  const correct = await CLIENTS[protocol](backend, host, progress);
  return { protocol, correct, subflows: progress.subflows, milliseconds: performance.now() - started };
}

class Middle {
  subflows = 0;
  private readonly tell: () => void;
  private told = false;

  constructor(tell: () => void) {
    this.tell = tell;
  }

  at(share: number, socket: unknown): void {
    if (this.told) return;
    const count =
      multipathOf(socket)
        ?.info()
        ?.subflows.filter((one) => one.state === 'ESTABLISHED').length ?? 0;
    this.subflows = Math.max(this.subflows, count);
    if (share < 1 / 3 || (this.subflows < 2 && share < 0.6)) return;
    this.told = true;
    this.tell();
  }
}

type Client = (backend: Backend, host: string, progress: Middle) => Promise<boolean>;

async function hashOf(stream: AsyncIterable<Uint8Array>, onShare: (share: number) => void): Promise<boolean> {
  const hash = createHash('sha256');
  let received = 0;
  for await (const chunk of stream) {
    hash.update(chunk);
    received += chunk.length;
    onShare(received / SIZE);
  }
  return hash.digest('hex') === DIGEST;
}

const CLIENTS: Record<Protocol, Client> = {
  undici: async (backend, host, progress) => {
    let socket: unknown = null;
    const make = undiciConnect({ backend });
    const dispatcher = new Agent({
      connect: (options, callback) => {
        make(options as Parameters<typeof make>[0], (...args) => {
          socket = args[1];
          (callback as (...args: unknown[]) => void)(...args);
        });
      },
    });
    const response = await fetch(`http://${host}:${PORTS.undici}/`, { dispatcher });
    const correct = await hashOf(response.body as unknown as AsyncIterable<Uint8Array>, (share) => progress.at(share, socket));
    await dispatcher.close();
    return correct;
  },

  https: (backend, host, progress) =>
    new Promise((resolve, reject) => {
      const agent = new HttpsAgent({ backend, rejectUnauthorized: false });
      const request = httpsRequest({ host, port: PORTS.https, agent }, (response) => {
        hashOf(response, (share) => progress.at(share, response.socket)).then((correct) => {
          agent.destroy();
          resolve(correct);
        }, reject);
      });
      request.on('error', reject);
      request.end();
    }),

  http2: async (backend, host, progress) => {
    const socket = connect({ host, port: PORTS.http2, backend });
    const session = http2Connect(`http://${host}:${PORTS.http2}`, { createConnection: () => socket });
    session.on('error', () => undefined);
    const stream = session.request({ ':path': '/' });
    const correct = await hashOf(stream, (share) => progress.at(share, socket));
    session.close();
    return correct;
  },

  ws: (backend, host, progress) =>
    new Promise((resolve, reject) => {
      const agent = new HttpAgent({ backend });
      const socket = new WebSocket(`ws://${host}:${PORTS.ws}/`, { agent });
      const hash = createHash('sha256');
      let sent = 0;
      let received = 0;
      const send = (): void => {
        while (sent < SIZE && sent - received < WINDOW * MESSAGE) {
          socket.send(BODY.subarray(sent, sent + MESSAGE));
          sent += MESSAGE;
        }
      };
      socket.on('open', send);
      socket.on('message', (message: Buffer) => {
        hash.update(message);
        received += message.length;
        progress.at(received / SIZE, (socket as unknown as { _socket: unknown })._socket);
        if (received < SIZE) {
          send();
          return;
        }
        socket.close();
        resolve(hash.digest('hex') === DIGEST);
      });
      socket.on('error', reject);
    }),
};
