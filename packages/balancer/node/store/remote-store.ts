/** A store served to other balancers over TCP, and the other end of that: lines of JSON, values in base64. */
import { timingSafeEqual } from 'node:crypto';
import { connect, createServer } from 'node:net';
import type { Server, Socket } from 'node:net';
import { objectIn, onLines } from '../lines.ts';
import { StoreError } from './store.ts';
import type { Entry, Store } from './store.ts';

type Request = { id: number } & (
  | { do: 'hello'; token: string }
  | { do: 'read'; key: string }
  | { do: 'write'; key: string; value: string; expected: number }
  | { do: 'watch'; key: string; from: number }
);

const MOST_LINE = 4 << 20;
const ANSWER_TIME = 2000;
const AGAIN = 500;
const HELLO_TIME = 5000;

/** Serves a store. `token`: what clients must say first; null: nothing. */
export function serveStore(store: Store, host: string, port: number, token: string | null): Promise<Server> {
  const server = createServer((socket) => serve(store, socket, token));
  return new Promise((resolve, reject) => {
    server.once('error', reject);
    server.listen(port, host, () => resolve(server));
  });
}

function serve(store: Store, socket: Socket, token: string | null): void {
  let welcome = token === null;
  const stops: (() => void)[] = [];
  const say = (value: object): void => void socket.write(`${JSON.stringify(value)}\n`);
  const patience = setTimeout(() => {
    if (!welcome) socket.destroy();
  }, HELLO_TIME);
  const handle = async (request: Request): Promise<object> => {
    if (request.do === 'hello') {
      welcome ||= token !== null && same(String(request.token), token);
      if (!welcome) throw new StoreError('REFUSED', 'wrong token');
      return {};
    }
    if (!welcome) throw new StoreError('REFUSED', 'expected a token first');
    switch (request.do) {
      case 'read': {
        const entry = await store.read(String(request.key));
        return { entry: entry === null ? null : encode(entry) };
      }
      case 'write':
        return { revision: await store.write(String(request.key), new Uint8Array(Buffer.from(String(request.value), 'base64')), Number(request.expected)) };
      case 'watch': {
        const { key } = request;
        stops.push(store.watch(String(key), Number(request.from), (entry) => say({ watch: key, entry: encode(entry) })));
        return {};
      }
    }
    throw new StoreError('REFUSED', 'unknown request');
  };
  onLines(socket, MOST_LINE, (line) => {
    const request = objectIn(line) as Request | null;
    if (request === null) {
      socket.destroy();
      return;
    }
    handle(request).then(
      (answer) => say({ id: request.id, ...answer }),
      (error: Error) => say({ id: request.id, error: { code: error instanceof StoreError ? error.code : 'UNAVAILABLE', message: error.message } }),
    );
  });
  socket.on('error', () => {});
  socket.on('close', () => {
    clearTimeout(patience);
    for (const stop of stops) stop();
  });
}

interface Answer {
  id?: number;
  error?: { code: StoreError['code']; message: string };
  watch?: string;
  entry?: { value: string; revision: number } | null;
  revision?: number;
}

export class RemoteStore implements Store {
  private readonly host: string;
  private readonly port: number;
  private readonly token: string | null;
  private socket: Socket | null = null;
  private closed = false;
  private next = 1;
  private readonly waiting = new Map<number, { resolve: (answer: Answer) => void; reject: (error: Error) => void }>();
  private readonly watches = new Map<number, { key: string; from: number; listener: (entry: Entry) => void }>();

  constructor(host: string, port: number, token: string | null) {
    this.host = host;
    this.port = port;
    this.token = token;
    this.open();
  }

  async read(key: string): Promise<Entry | null> {
    const { entry } = await this.ask({ do: 'read', key });
    return entry === null || entry === undefined ? null : decode(entry);
  }

  async write(key: string, value: Uint8Array, expected: number): Promise<number> {
    const { revision } = await this.ask({ do: 'write', key, value: Buffer.from(value).toString('base64'), expected });
    return revision!;
  }

  watch(key: string, from: number, listener: (entry: Entry) => void): () => void {
    const id = this.next++;
    const watch = { key, from, listener };
    this.watches.set(id, watch);
    this.ask({ do: 'watch', key, from }).catch(() => {});
    return () => this.watches.delete(id);
  }

  close(): Promise<void> {
    this.closed = true;
    this.socket?.destroy();
    return Promise.resolve();
  }

  private open(): void {
    if (this.closed) return;
    const socket = connect({ host: this.host, port: this.port, noDelay: true });
    this.socket = socket;
    socket.on('error', () => {});
    // Before anything else that is asked while the connection is being made.
    if (this.token !== null) this.ask({ do: 'hello', token: this.token }).catch(() => {});
    // Watches begin again where they were.
    for (const { key, from } of this.watches.values()) this.ask({ do: 'watch', key, from }).catch(() => {});
    socket.on('close', () => {
      for (const { reject } of this.waiting.values()) reject(new StoreError('UNAVAILABLE', `the store at ${this.host}:${this.port} is away`));
      this.waiting.clear();
      this.socket = null;
      if (!this.closed) setTimeout(() => this.open(), AGAIN).unref();
    });
    onLines(socket, MOST_LINE, (line) => {
      const answer = objectIn(line) as Answer | null;
      if (answer === null) socket.destroy();
      else this.take(answer);
    });
  }

  private take(answer: Answer): void {
    if (answer.watch !== undefined && answer.entry) {
      const entry = decode(answer.entry);
      for (const watch of this.watches.values()) {
        if (watch.key !== answer.watch || entry.revision <= watch.from) continue;
        watch.from = entry.revision;
        watch.listener(entry);
      }
      return;
    }
    const waiting = this.waiting.get(answer.id ?? -1);
    this.waiting.delete(answer.id ?? -1);
    if (answer.error !== undefined) waiting?.reject(new StoreError(answer.error.code, answer.error.message));
    else waiting?.resolve(answer);
  }

  private ask(request: object): Promise<Answer> {
    const { socket } = this;
    if (socket === null || socket.destroyed) return Promise.reject(new StoreError('UNAVAILABLE', `the store at ${this.host}:${this.port} is away`));
    const id = this.next++;
    return new Promise((resolve, reject) => {
      const timer = setTimeout(() => {
        this.waiting.delete(id);
        reject(new StoreError('UNAVAILABLE', `the store at ${this.host}:${this.port} does not answer`));
        // A partition: nothing says so but silence.
        socket.destroy();
      }, ANSWER_TIME);
      this.waiting.set(id, {
        resolve: (answer) => {
          clearTimeout(timer);
          resolve(answer);
        },
        reject: (error) => {
          clearTimeout(timer);
          reject(error);
        },
      });
      socket.write(`${JSON.stringify({ id, ...request })}\n`);
    });
  }
}

function encode({ value, revision }: Entry): { value: string; revision: number } {
  return { value: Buffer.from(value).toString('base64'), revision };
}

function decode({ value, revision }: { value: string; revision: number }): Entry {
  return { value: new Uint8Array(Buffer.from(value, 'base64')), revision };
}

function same(a: string, b: string): boolean {
  const [left, right] = [Buffer.from(a), Buffer.from(b)];
  return left.length === right.length && timingSafeEqual(left, right);
}
