/** What a behaviour gets: an implementation of node:net's interface, and helpers that clean up after it. */
import { once } from 'node:events';
import type { EventEmitter } from 'node:events';
import type * as NodeNet from 'node:net';
import type { AddressInfo, ListenOptions, NetConnectOpts, Server, ServerOpts, Socket } from 'node:net';

export type Net = Pick<typeof NodeNet, 'connect' | 'createConnection' | 'createServer' | 'Socket' | 'Server'>;

export interface Behaviour {
  /** A sentence. */
  name: string;
  /** The public file of Node's own tests that shows the same thing. */
  like: string;
  run(kit: Kit): Promise<void> | void;
}

/** Declares behaviours of one topic. */
export function behaviours(table: Record<string, [like: string, run: Behaviour['run']]>): Behaviour[] {
  return Object.entries(table).map(([name, [like, run]]) => ({ name, like, run }));
}

export interface Pair {
  server: Server;
  client: Socket;
  /** The server's end. */
  peer: Socket;
  port: number;
}

export class Kit {
  readonly net: Net;
  private readonly things: (Socket | Server)[] = [];

  constructor(net: Net) {
    this.net = net;
  }

  server(options: ServerOpts = {}, onConnection?: (socket: Socket) => void): Server {
    const server = this.net.createServer(options, onConnection);
    server.on('connection', (socket: Socket) => this.things.push(socket));
    this.things.push(server);
    return server;
  }

  socket(options?: ConstructorParameters<Net['Socket']>[0]): Socket {
    const socket = new this.net.Socket(options);
    this.things.push(socket);
    return socket;
  }

  connect(options: NetConnectOpts, listener?: () => void): Socket {
    const socket = this.net.connect(options, listener);
    this.things.push(socket);
    return socket;
  }

  async listen(server: Server, options: ListenOptions = { port: 0, host: '127.0.0.1' }): Promise<number> {
    server.listen(options);
    await once(server, 'listening');
    return (server.address() as AddressInfo).port;
  }

  /** A connected pair. */
  async pair(options: { server?: ServerOpts; client?: Partial<NetConnectOpts> } = {}): Promise<Pair> {
    const server = this.server(options.server);
    const port = await this.listen(server);
    const accepted = once(server, 'connection') as Promise<[Socket]>;
    const client = this.connect({ port, host: '127.0.0.1', ...options.client } as NetConnectOpts);
    await once(client, 'connect');
    const [peer] = await accepted;
    return { server, client, peer, port };
  }

  /** A server that sends everything back. */
  async echo(options: ServerOpts = {}): Promise<{ server: Server; port: number }> {
    const server = this.server(options, (socket) => {
      socket.on('error', () => undefined);
      socket.pipe(socket);
    });
    return { server, port: await this.listen(server) };
  }

  /** A port nobody listens on. */
  async freePort(): Promise<number> {
    const server = this.server();
    const port = await this.listen(server);
    server.close();
    await once(server, 'close');
    return port;
  }

  cleanUp(): void {
    for (const thing of this.things) {
      thing.on('error', () => undefined);
      if ('destroy' in thing) thing.destroy();
      else thing.close();
    }
  }
}

/** Everything a stream gives, as text. */
export async function textOf(socket: Socket): Promise<string> {
  let out = '';
  socket.setEncoding('latin1');
  for await (const chunk of socket) out += chunk as string;
  return out;
}

/** Waits for an event, at most a few seconds. Errors are not its business. */
export async function happens<T = unknown>(emitter: EventEmitter, event: string): Promise<T> {
  return new Promise((resolve, reject) => {
    const timer = setTimeout(() => reject(new Error(`no ${event} within 5 s`)), 5000);
    emitter.once(event, (value: T) => {
      clearTimeout(timer);
      resolve(value);
    });
  });
}

/** The error a socket or server emits. */
export async function errorOf(emitter: EventEmitter): Promise<NodeJS.ErrnoException> {
  return new Promise((resolve, reject) => {
    const timer = setTimeout(() => reject(new Error('no error within 5 s')), 5000);
    emitter.once('error', (error: NodeJS.ErrnoException) => {
      clearTimeout(timer);
      resolve(error);
    });
  });
}

export const pause = (milliseconds: number): Promise<void> => new Promise((resolve) => setTimeout(resolve, milliseconds));

/** Counts how often an event comes. */
export function counter(emitter: EventEmitter, event: string): { count: number } {
  const state = { count: 0 };
  emitter.on(event, () => state.count++);
  return state;
}
