/** The system calls of a script, on our host. */
import type { Agenda, EmulatedHost } from '@subflow/emulator';
import type { Connection, Host, Listener } from '@subflow/stack';
import { Mismatch, ScriptError } from './script.ts';
import type { CallSpec } from './script.ts';

interface Socket {
  multipath: boolean;
  nonBlocking: boolean;
  fastOpen: boolean;
  noDelay: boolean;
  listener: Listener | null;
  connection: Connection | null;
  /** Connections accepted by the stack and not yet by the script. */
  waiting: Connection[];
  /** Error to report once. */
  failed: string | null;
}

export interface CallsConfig {
  remote: Uint8Array;
  port: number;
  fastOpen: boolean;
}

/** Options that change nothing here, or nothing that a script could see. */
const HARMLESS = new Set([
  'SO_REUSEADDR',
  'SO_REUSEPORT',
  'SO_KEEPALIVE',
  'TCP_USER_TIMEOUT',
  'SO_SNDBUF',
  'SO_RCVBUF',
  'SO_LINGER',
  'SO_SNDTIMEO',
  'SO_RCVTIMEO',
  'IP_TOS',
  'TCP_QUICKACK',
  'SO_MARK',
  'IPV6_V6ONLY',
]);

const ERRORS: Readonly<Record<string, string>> = {
  reset: 'ECONNRESET',
  refused: 'ECONNREFUSED',
  timeout: 'ETIMEDOUT',
  unreachable: 'EHOSTUNREACH',
  aborted: 'ECONNABORTED',
  'user-timeout': 'ETIMEDOUT',
};

export class Calls {
  private readonly host: Host;
  private readonly node: EmulatedHost;
  private readonly agenda: Agenda;
  private readonly config: CallsConfig;
  private readonly sockets = new Map<number, Socket>();
  private nextFd = 3;

  constructor(host: Host, node: EmulatedHost, agenda: Agenda, config: CallsConfig) {
    this.host = host;
    this.node = node;
    this.agenda = agenda;
    this.config = config;
    node.onEvent = (event) => {
      if (event.type === 'connection-accepted') {
        const connection = host.connections.get(event.connection);
        for (const socket of this.sockets.values()) if (connection !== undefined && socket.listener?.id === event.listener) socket.waiting.push(connection);
      }
      if (event.type === 'connection-closed') {
        for (const socket of this.sockets.values())
          if (socket.connection?.id === event.connection && event.reason !== 'normal') socket.failed = ERRORS[event.reason] ?? 'EIO';
      }
    };
  }

  /** Does a call and compares its result. A blocking one may take until `limit`. */
  call(spec: CallSpec, line: number, limit: number): void {
    const result = this.execute(spec, line, limit);
    this.node.pump();
    if (spec.result === '...') return;
    const seen = typeof result === 'string' ? `-1 ${result}` : String(result);
    const expected = spec.result === '-1' ? `-1${spec.error === null ? '' : ` ${spec.error}`}` : String(Number(spec.result));
    if (seen !== expected && !(spec.result === '-1' && spec.error === null && typeof result === 'string'))
      throw new Mismatch(`${spec.name} returned ${seen}, expected ${expected}`);
  }

  /** A number, or the name of the error. */
  private execute(spec: CallSpec, line: number, limit: number): number | string {
    const { args } = spec;
    const now = this.agenda.now;
    const number = (i: number): number => Number((args[i] ?? '0').replace(/[[\]]/g, ''));
    switch (spec.name) {
      case 'socket': {
        const fd = this.nextFd++;
        this.sockets.set(fd, {
          multipath: args[2] === 'IPPROTO_MPTCP',
          nonBlocking: false,
          fastOpen: false,
          noDelay: false,
          listener: null,
          connection: null,
          waiting: [],
          failed: null,
        });
        return fd;
      }
      case 'bind':
        return 0;
      case 'listen': {
        const socket = this.socket(args[0]!, line);
        socket.listener = this.host.listen({
          port: this.config.port,
          backlog: Math.max(1, number(1)),
          multipath: socket.multipath,
          fastOpen: socket.fastOpen || this.config.fastOpen,
        });
        return 0;
      }
      case 'setsockopt':
        return this.setOption(this.socket(args[0]!, line), args[2] ?? '', number(3), line);
      case 'getsockopt': {
        if (args[2] !== 'SO_ERROR') throw new ScriptError('SCRIPT_UNSUPPORTED', line, `getsockopt ${args[2]}`);
        return 0;
      }
      case 'fcntl': {
        const socket = this.socket(args[0]!, line);
        if (args[1] === 'F_SETFL') socket.nonBlocking = args[2]?.includes('O_NONBLOCK') ?? false;
        return args[1] === 'F_GETFL' ? (socket.nonBlocking ? 0x802 : 2) : 0;
      }
      case 'accept': {
        const socket = this.socket(args[0]!, line);
        this.wait(socket, limit, () => socket.waiting.length > 0);
        const connection = socket.waiting.shift();
        if (connection === undefined) return this.wouldBlock(socket, 'accept');
        const fd = this.nextFd++;
        this.sockets.set(fd, { ...socket, listener: null, waiting: [], connection });
        return fd;
      }
      case 'connect': {
        const socket = this.socket(args[0]!, line);
        if (socket.connection === null) this.connect(socket, false);
        const { connection } = socket;
        if (connection === null) return 'EHOSTUNREACH';
        this.node.pump();
        if (socket.fastOpen && !connection.open) return 0;
        if (socket.nonBlocking && !connection.open) return 'EINPROGRESS';
        this.wait(socket, limit, () => connection.open || connection.closed);
        return connection.open ? 0 : (socket.failed ?? this.wouldBlock(socket, 'connect'));
      }
      case 'sendto': {
        const socket = this.socket(args[0]!, line);
        const length = number(2);
        if (socket.connection === null) this.connect(socket, true);
        return this.write(socket, length, now);
      }
      case 'write':
      case 'send':
        return this.write(this.socket(args[0]!, line), number(2), now);
      case 'read':
      case 'recv': {
        const socket = this.socket(args[0]!, line);
        const { connection } = socket;
        if (connection === null) return 'ENOTCONN';
        this.wait(socket, limit, () => connection.readable > 0 || connection.receiveEnded || connection.closed);
        return this.read(socket, connection, number(2));
      }
      case 'shutdown':
        this.socket(args[0]!, line).connection?.shutdown(now);
        return 0;
      case 'close': {
        const socket = this.socket(args[0]!, line);
        this.sockets.delete(Number(args[0]));
        if (socket.listener !== null) this.host.unlisten(socket.listener);
        // Unread data is lost: the peer is told so (RFC 9293 §3.10.4; RFC 8684 §3.5), as Linux does.
        if (socket.connection !== null && socket.connection.readable > 0) socket.connection.abort(now);
        else socket.connection?.shutdown(now);
        return 0;
      }
      default:
        throw new ScriptError('SCRIPT_UNSUPPORTED', line, `system call "${spec.name}"`);
    }
  }

  private socket(fd: string, line: number): Socket {
    const socket = this.sockets.get(Number(fd));
    if (socket === undefined) throw new ScriptError('SCRIPT_SYNTAX', line, `file descriptor ${fd} is not open`);
    return socket;
  }

  private setOption(socket: Socket, name: string, value: number, line: number): number {
    switch (name) {
      case 'TCP_NODELAY':
        socket.noDelay = value !== 0;
        if (socket.connection !== null) socket.connection.noDelay = socket.noDelay;
        return 0;
      case 'TCP_FASTOPEN':
      case 'TCP_FASTOPEN_CONNECT':
        socket.fastOpen = value !== 0;
        return 0;
      default:
        if (HARMLESS.has(name)) return 0;
        throw new ScriptError('SCRIPT_UNSUPPORTED', line, `socket option ${name}`);
    }
  }

  private connect(socket: Socket, fastOpen: boolean): void {
    const { remote, port } = this.config;
    socket.connection = this.host.connect({ remote, port, multipath: socket.multipath, fastOpen: fastOpen || socket.fastOpen }, this.agenda.now);
    socket.connection.noDelay = socket.noDelay;
  }

  private write(socket: Socket, length: number, now: number): number | string {
    const { connection } = socket;
    if (connection === null) return 'ENOTCONN';
    if (socket.failed !== null) return this.report(socket);
    if (connection.closed || connection.sendClosed) return 'EPIPE';
    const bytes = new Uint8Array(length);
    for (let i = 0; i < length; i++) bytes[i] = (connection.bytesWritten + i) & 0xff;
    return connection.write(bytes, now) ? length : 'EAGAIN';
  }

  private read(socket: Socket, connection: Connection, limit: number): number | string {
    let total = 0;
    for (let chunk = connection.peek(); chunk !== null && total < limit; chunk = connection.peek()) {
      const take = Math.min(chunk.length, limit - total);
      connection.consume(take, this.agenda.now);
      total += take;
    }
    if (total > 0) return total;
    if (socket.failed !== null) return this.report(socket);
    return connection.receiveEnded || connection.closed ? 0 : this.wouldBlock(socket, 'read');
  }

  private report(socket: Socket): string {
    const error = socket.failed!;
    socket.failed = null;
    return error;
  }

  private wait(socket: Socket, limit: number, done: () => boolean): void {
    if (socket.nonBlocking) return;
    while (!done() && this.agenda.step(limit));
  }

  private wouldBlock(socket: Socket, name: string): string {
    if (socket.nonBlocking) return 'EAGAIN';
    throw new Mismatch(`${name} would still block`, 'DRILL_TIMEOUT');
  }
}
