/** `Server`: node:net's own, listening on a backend's handle, handing out our sockets. */
import { Server as NodeServer } from 'node:net';
import type { ListenOptions, ServerOpts, Socket as NodeSocket } from 'node:net';
import type { Backend, MultipathSettings, ServerHandle } from './backend.ts';
import { defaultBackend } from './default-backend.ts';
import { adopt, split } from './socket.ts';
import type { MultipathOptions, Socket } from './socket.ts';

export type ServerOptions = ServerOpts & MultipathOptions;

interface Hidden {
  _handle: ServerHandle | null;
  _listen2(address: string | null, port: number, addressType: number, backlog: number, fd: number, flags: number): void;
}

const { _listen2: nodeListen } = NodeServer.prototype as unknown as Hidden;

export class Server extends NodeServer {
  readonly backend: Backend;
  readonly settings: MultipathSettings;

  constructor(options?: ServerOptions | ((socket: Socket) => void), listener?: (socket: Socket) => void) {
    const given = typeof options === 'object' ? options : {};
    const handler = typeof options === 'function' ? options : listener;
    super((typeof options === 'function' ? {} : options) as ServerOpts, handler as ((socket: NodeSocket) => void) | undefined);
    const { backend, settings } = split(given);
    this.backend = backend ?? defaultBackend();
    this.settings = settings;
  }

  override emit(event: string | symbol, ...args: unknown[]): boolean {
    if (event === 'connection') adopt(args[0] as NodeSocket, this.backend, this.settings);
    return (super.emit as (event: string | symbol, ...args: unknown[]) => boolean).call(this, event, ...args);
  }
}

// Called by every form of `listen`, after arguments were checked and names looked up.
Object.defineProperty(Server.prototype, '_listen2', {
  configurable: true,
  writable: true,
  value(this: Server & Hidden, address: string | null, port: number, addressType: number, backlog: number, fd: number, flags: number): void {
    const tcp = (addressType === 4 || addressType === 6) && !(typeof fd === 'number' && fd >= 0);
    if (tcp && this._handle === null) this._handle = this.backend.serverHandle(address, port, flags ?? 0, this.settings);
    if (tcp && address === null) nodeListen.call(this, '::', port, 6, backlog, fd, flags);
    else nodeListen.call(this, address, port, addressType, backlog, fd, flags);
  },
});

/**
 * Lets any server that takes connections (http, https, http2, tls, …) accept them over Multipath TCP. Returns the server
 * that listens; closing it stops that, closing the other one does too.
 */
export function serve(server: NodeServer, listen: ListenOptions, options: MultipathOptions = {}, listening?: () => void): Server {
  const front = new Server({ ...options, allowHalfOpen: (server as NodeServer & { allowHalfOpen?: boolean }).allowHalfOpen ?? true }, (socket) => {
    server.emit('connection', socket);
  });
  front.on('error', (error) => {
    // Told to whoever listens, on either server; to nobody it is thrown, as node:net does.
    if (server.listenerCount('error') > 0 || front.listenerCount('error') === 1) server.emit('error', error);
  });
  front.on('listening', () => server.emit('listening'));
  server.once('close', () => front.close());
  front.listen(listen, listening);
  return front;
}
