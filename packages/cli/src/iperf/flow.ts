/** Sending and counting: what both ends of a throughput test do with a data connection. */
import type { Socket } from '@subflow/net';

const PIECE = Buffer.alloc(131_072, 'subflow ');

/** Sends until `bytes` are sent (0: no limit) or `until` (milliseconds on performance.now's clock) has come, then ends. */
export function send(socket: Socket, bytes: number, until: number): Promise<number> {
  return new Promise((resolve) => {
    let sent = 0;
    let over = false;
    const finish = (): void => {
      if (over) return;
      over = true;
      clearTimeout(timer);
      socket.end();
      resolve(sent);
    };
    const timer = setTimeout(finish, Math.max(0, until - performance.now()));
    const more = (): void => {
      while (!over) {
        const piece = bytes > 0 && bytes - sent < PIECE.length ? PIECE.subarray(0, bytes - sent) : PIECE;
        if (piece.length === 0) return finish();
        sent += piece.length;
        if (!socket.write(piece)) return;
      }
    };
    socket.on('drain', more);
    socket.on('close', finish);
    more();
  });
}

/** Counts what arrives, to the end. `onBytes` hears every piece. */
export function count(socket: Socket, onBytes: (bytes: number) => void): Promise<void> {
  return new Promise((resolve) => {
    socket.on('data', (chunk: Buffer) => onBytes(chunk.length));
    socket.on('end', resolve);
    socket.on('close', resolve);
  });
}

/** The first line of a socket and what came after it; null when it is too long or never ends. */
export function firstLine(socket: Socket, limit: number, timeout: number): Promise<string | null> {
  return new Promise((resolve) => {
    let head = Buffer.alloc(0);
    const done = (line: string | null): void => {
      clearTimeout(timer);
      socket.off('data', take);
      socket.off('close', closed);
      resolve(line);
    };
    const closed = (): void => done(null);
    const timer = setTimeout(() => done(null), timeout);
    const take = (chunk: Buffer): void => {
      head = Buffer.concat([head, chunk]);
      const end = head.indexOf(10);
      if (end < 0) {
        if (head.length > limit) done(null);
        return;
      }
      socket.pause();
      const rest = head.subarray(end + 1);
      const line = head.toString('utf8', 0, end);
      done(line);
      if (rest.length > 0) socket.unshift(rest);
    };
    socket.on('data', take);
    socket.on('close', closed);
    socket.resume();
  });
}
