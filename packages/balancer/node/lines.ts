/** Lines from a socket, with a bound on their length. Not readline: it throws what befalls the socket. */
import type { Socket } from 'node:net';

/** The object in a line of JSON; null for anything else. */
export function objectIn(line: string): object | null {
  try {
    const value: unknown = JSON.parse(line);
    return typeof value === 'object' && !Array.isArray(value) ? value : null;
  } catch {
    return null;
  }
}

/** Calls back for every line; a longer one than `most` octets ends the connection. */
export function onLines(socket: Socket, most: number, line: (text: string) => void): void {
  let held: Buffer[] = [];
  let size = 0;
  socket.on('data', (chunk: Buffer) => {
    let from = 0;
    for (let end = chunk.indexOf(10); end >= 0; end = chunk.indexOf(10, from)) {
      const text = Buffer.concat([...held, chunk.subarray(from, end)]).toString();
      held = [];
      size = 0;
      from = end + 1;
      line(text);
    }
    if (from === chunk.length) return;
    held.push(chunk.subarray(from));
    size += chunk.length - from;
    if (size > most) socket.destroy();
  });
}
