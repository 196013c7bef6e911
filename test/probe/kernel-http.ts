/** A server on the kernel's Multipath TCP (or plain TCP): answers each request; `CLOSE` makes it close with data unread. `PORT [plain]`. */
import { createServer as createPlain } from 'node:net';
import type { Server, Socket } from 'node:net';
import { createServer, kernelBackend } from '@subflow/net';

const [, , port, kind] = process.argv;
const BODY = 'Multipath TCP '.repeat(40);
const RESPONSE = `HTTP/1.1 200 OK\r\nContent-Length: ${BODY.length}\r\n\r\n${BODY}`;

const serve = (socket: Socket): void => {
  let text = '';
  socket.on('error', () => undefined);
  socket.on('data', (chunk: Buffer) => {
    text += chunk.toString('latin1');
    if (text.startsWith('CLOSE')) {
      // What comes from now on stays unread in the kernel: closing then resets (RFC 1122 §4.2.2.13).
      (socket as unknown as { _handle: { readStop(): void } })._handle.readStop();
      text = '';
      setTimeout(() => socket.destroy(), 150);
      return;
    }
    for (let end = text.indexOf('\r\n\r\n'); end >= 0; end = text.indexOf('\r\n\r\n')) {
      text = text.slice(end + 4);
      socket.write(RESPONSE);
    }
  });
};

const server = (kind === 'plain' ? createPlain(serve) : createServer({ backend: kernelBackend }, serve as never)) as unknown as Server;
server.listen(Number(port), '::', () => process.stdout.write('listening\n'));
