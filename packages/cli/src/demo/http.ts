/** Just enough HTTP/1.1 (RFC 9112) over a connection of our stack: one GET or PUT, and a server for it. */
import { createHash } from 'node:crypto';
import type { Hash } from 'node:crypto';
import type { Connection } from '@subflow/stack';

const HEAD_LIMIT = 16_384;
const PIECE = 65_536;

/** The client's side of one exchange. */
export class HttpClient {
  readonly connection: Connection;
  readonly hash: Hash = createHash('sha256');
  received = 0;
  expected = -1;
  /** SHA-256 the other side claims, hexadecimal. */
  claimed: string | null = null;
  status = 0;
  private head = '';
  private headDone = false;
  private readonly upload: Uint8Array | null;
  private sent = 0;

  constructor(connection: Connection, host: string, upload: Uint8Array | null, now: number) {
    this.connection = connection;
    this.upload = upload;
    const head =
      upload === null
        ? `GET /payload HTTP/1.1\r\nHost: ${host}\r\nConnection: close\r\n\r\n`
        : `PUT /payload HTTP/1.1\r\nHost: ${host}\r\nConnection: close\r\nContent-Length: ${upload.length}\r\n\r\n`;
    connection.write(new TextEncoder().encode(head), now);
    this.send(now);
  }

  /** Bytes of the body that have got through: received, or acknowledged. */
  get progress(): number {
    if (this.upload === null) return this.received;
    return Math.max(0, Math.min(this.upload.length, this.connection.dataUna - 1));
  }

  send(now: number): void {
    if (this.upload === null) return;
    while (this.sent < this.upload.length) {
      const piece = this.upload.subarray(this.sent, this.sent + PIECE);
      if (!this.connection.write(piece, now)) return;
      this.sent += piece.length;
    }
  }

  read(now: number): void {
    const { connection } = this;
    for (let chunk = connection.peek(); chunk !== null; chunk = connection.peek()) {
      if (this.headDone) {
        this.hash.update(chunk);
        this.received += chunk.length;
        connection.consume(chunk.length, now);
        continue;
      }
      const before = this.head.length;
      this.head += new TextDecoder('latin1').decode(chunk);
      const end = this.head.indexOf('\r\n\r\n');
      connection.consume(end < 0 ? chunk.length : end + 4 - before, now);
      if (end >= 0) this.takeHead(this.head.slice(0, end));
      else if (this.head.length > HEAD_LIMIT) this.headDone = true;
    }
  }

  private takeHead(head: string): void {
    this.headDone = true;
    const lines = head.split('\r\n');
    this.status = Number(lines[0]!.split(' ')[1]);
    for (const line of lines.slice(1)) {
      const [name, value] = line.split(/:\s*/, 2);
      if (name!.toLowerCase() === 'content-length') this.expected = Number(value);
      if (name!.toLowerCase() === 'x-sha256') this.claimed = value!;
    }
  }
}

/** The server's side, for the emulated mode. */
export class HttpServer {
  private readonly connection: Connection;
  private readonly body: Uint8Array;
  private readonly digest: string;
  private head = '';
  private request: 'GET' | 'PUT' | null = null;
  private sent = 0;
  private readonly hash = createHash('sha256');
  private remaining = 0;

  constructor(connection: Connection, body: Uint8Array, digest: string) {
    this.connection = connection;
    this.body = body;
    this.digest = digest;
  }

  read(now: number): void {
    const { connection } = this;
    for (let chunk = connection.peek(); chunk !== null; chunk = connection.peek()) {
      if (this.request === null) {
        const before = this.head.length;
        this.head += new TextDecoder('latin1').decode(chunk);
        const end = this.head.indexOf('\r\n\r\n');
        connection.consume(end < 0 ? chunk.length : end + 4 - before, now);
        if (end >= 0) this.start(now);
      } else {
        this.hash.update(chunk);
        this.remaining -= chunk.length;
        connection.consume(chunk.length, now);
        if (this.remaining === 0) this.answer(`HTTP/1.1 200 OK\r\nContent-Length: 0\r\nX-SHA256: ${this.hash.digest('hex')}\r\n\r\n`, now);
      }
    }
  }

  send(now: number): void {
    if (this.request !== 'GET') return;
    while (this.sent < this.body.length) {
      const piece = this.body.subarray(this.sent, this.sent + PIECE);
      if (!this.connection.write(piece, now)) return;
      this.sent += piece.length;
    }
    this.connection.shutdown(now);
  }

  private start(now: number): void {
    this.request = this.head.startsWith('PUT') ? 'PUT' : 'GET';
    if (this.request === 'PUT') {
      this.remaining = Number(/content-length: (\d+)/i.exec(this.head)?.[1] ?? 0);
      return;
    }
    this.connection.write(new TextEncoder().encode(`HTTP/1.1 200 OK\r\nContent-Length: ${this.body.length}\r\nX-SHA256: ${this.digest}\r\n\r\n`), now);
    this.send(now);
  }

  private answer(text: string, now: number): void {
    this.connection.write(new TextEncoder().encode(text), now);
    this.connection.shutdown(now);
  }
}
