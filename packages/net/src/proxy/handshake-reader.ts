/** Reads the beginning of a byte stream, bounded in size and time, and gives the rest back. */
import type { Socket } from '../socket.ts';
import { ProxyError } from './errors.ts';

export class HandshakeReader {
  private readonly socket: Socket;
  private head: Buffer = Buffer.alloc(0);
  private wanted: { enough: (head: Buffer) => number; limit: number; resolve: (bytes: Buffer) => void; reject: (error: Error) => void } | null = null;
  private over: Error | null = null;
  private readonly timer: NodeJS.Timeout;

  /** `milliseconds` for the whole of the handshake: who sends a byte now and then gets no further. */
  constructor(socket: Socket, milliseconds: number) {
    this.socket = socket;
    this.timer = setTimeout(() => this.fail(new ProxyError('HANDSHAKE_TIMEOUT', `the handshake was not complete after ${milliseconds} ms`)), milliseconds);
    socket.on('data', this.take);
    socket.on('end', this.ended);
    socket.on('close', this.ended);
  }

  /** Exactly `count` bytes. Rejects with {@link ProxyError}. */
  bytes(count: number): Promise<Buffer> {
    return this.want((head) => (head.length >= count ? count : 0), count);
  }

  /** Up to and including `mark`, at most `limit` bytes. */
  until(mark: string, limit: number): Promise<Buffer> {
    return this.want((head) => {
      const at = head.indexOf(mark);
      return at < 0 ? 0 : at + mark.length;
    }, limit);
  }

  /** The next byte, which stays. */
  async peek(): Promise<number> {
    const [byte] = await this.bytes(1);
    this.head = Buffer.concat([Buffer.from([byte!]), this.head]);
    return byte!;
  }

  /** The handshake is over: what is left belongs to the stream. The socket is paused. */
  release(): void {
    clearTimeout(this.timer);
    this.socket.off('data', this.take);
    this.socket.off('end', this.ended);
    this.socket.off('close', this.ended);
    this.socket.pause();
    if (this.head.length > 0 && !this.socket.readableEnded) this.socket.unshift(this.head);
    this.head = Buffer.alloc(0);
  }

  private want(enough: (head: Buffer) => number, limit: number): Promise<Buffer> {
    return new Promise((resolve, reject) => {
      this.wanted = { enough, limit, resolve, reject };
      this.look();
    });
  }

  private readonly take = (chunk: Buffer): void => {
    this.head = this.head.length === 0 ? chunk : Buffer.concat([this.head, chunk]);
    this.look();
  };

  private readonly ended = (): void => this.fail(new ProxyError('HANDSHAKE_CUT', 'the connection ended in the middle of the handshake'));

  private look(): void {
    const { wanted } = this;
    if (wanted === null) return;
    const count = wanted.enough(this.head);
    if (count > 0) {
      this.wanted = null;
      const out = this.head.subarray(0, count);
      this.head = this.head.subarray(count);
      wanted.resolve(out);
      return;
    }
    if (this.over !== null) this.reject(this.over);
    else if (this.head.length >= wanted.limit) this.reject(new ProxyError('HANDSHAKE_TOO_LONG', `the handshake is longer than ${wanted.limit} bytes`));
  }

  private fail(error: Error): void {
    this.over ??= error;
    this.look();
  }

  private reject(error: Error): void {
    const { wanted } = this;
    this.wanted = null;
    wanted?.reject(error);
  }
}
