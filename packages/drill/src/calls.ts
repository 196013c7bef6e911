/** The system calls of a script, on our host: one row is one call. Every other one is refused. */
import type { Agenda, EmulatedHost } from '@subflow/emulator';
import { StackError } from '@subflow/stack';
import type { Connection, Host } from '@subflow/stack';
import { Arguments } from './arguments.ts';
import { proposal } from './proposal.ts';
import { Mismatch, ScriptError } from './script.ts';
import type { CallSpec } from './script.ts';
import { applyOptions, compareOptionOf, newSocket, setOption } from './sockets.ts';
import type { Socket } from './sockets.ts';

export interface CallsConfig {
  remote: Uint8Array;
  port: number;
  fastOpen: boolean;
}

/** A number, or the name of an error. */
type Outcome = number | string;

/** A call under way: tried again until there is an outcome, unless the socket does not block. */
export interface Attempt {
  spec: CallSpec;
  /** Null: not yet. */
  outcome: Outcome | null;
  again(): Outcome | null;
}

/** A step that may have to wait; `busy` is what a socket that does not block says meanwhile. */
interface Step {
  socket: Socket;
  busy: string;
  again(): Outcome | null;
}

interface SystemCall {
  /** How it is written. */
  form: string;
  count: number;
  begin(calls: Calls, args: Arguments): Outcome | Step;
}

const ERRORS: Readonly<Record<string, string>> = {
  reset: 'ECONNRESET',
  refused: 'ECONNREFUSED',
  timeout: 'ETIMEDOUT',
  unreachable: 'EHOSTUNREACH',
  aborted: 'ECONNABORTED',
  'user-timeout': 'ETIMEDOUT',
};
const STACK_ERRORS: Readonly<Record<string, string>> = { ADDRESS_IN_USE: 'EADDRINUSE', NO_ROUTE: 'ENETUNREACH', NO_PORTS: 'EADDRNOTAVAIL' };

const O_RDWR = 2;
const O_NONBLOCK = 0x800;
/** What one write may carry. */
const MOST_BYTES = 1 << 26;

const SYSTEM_CALLS: Readonly<Record<string, SystemCall>> = {
  socket: {
    form: 'socket(..., SOCK_STREAM, IPPROTO_TCP)',
    count: 3,
    begin: (calls, args) => {
      args.any(0);
      const type = args.names(1, ['SOCK_STREAM', 'SOCK_NONBLOCK', 'SOCK_CLOEXEC']);
      if (!type.includes('SOCK_STREAM')) args.refuse(1, 'SOCK_STREAM');
      return calls.add(newSocket(args.name(2, ['IPPROTO_TCP', 'IPPROTO_MPTCP']) === 'IPPROTO_MPTCP', type.includes('SOCK_NONBLOCK')));
    },
  },
  bind: {
    form: 'bind(3, ..., ...)',
    count: 3,
    begin: (calls, args) => {
      const socket = calls.socket(args);
      args.any(1);
      args.any(2);
      if (socket.bound) return 'EINVAL';
      socket.bound = true;
      return 0;
    },
  },
  listen: { form: 'listen(3, 1)', count: 2, begin: (calls, args) => calls.listen(calls.socket(args), args.number(1)) },
  accept: {
    form: 'accept(3, ..., ...)',
    count: 3,
    begin: (calls, args) => {
      const socket = calls.socket(args);
      args.any(1);
      args.any(2);
      if (socket.listener === null) return 'EINVAL';
      return { socket, busy: 'EAGAIN', again: () => calls.accept(socket) };
    },
  },
  connect: {
    form: 'connect(3, ..., ...)',
    count: 3,
    begin: (calls, args) => {
      const socket = calls.socket(args);
      args.any(1);
      args.any(2);
      return calls.connect(socket);
    },
  },
  read: { form: 'read(4, ..., 1000)', count: 3, begin: (calls, args) => calls.reading(args, 0) },
  recv: { form: 'recv(4, ..., 1000, 0)', count: 4, begin: (calls, args) => calls.reading(args, 3) },
  write: { form: 'write(4, ..., 1000)', count: 3, begin: (calls, args) => calls.writing(args, 0) },
  send: { form: 'send(4, ..., 1000, 0)', count: 4, begin: (calls, args) => calls.writing(args, 3) },
  sendto: {
    form: 'sendto(3, ..., 1000, MSG_FASTOPEN, ..., ...)',
    count: 6,
    begin: (calls, args) => {
      args.any(4);
      args.any(5);
      return calls.writing(args, 3);
    },
  },
  shutdown: {
    form: 'shutdown(4, SHUT_WR)',
    count: 2,
    begin: (calls, args) => {
      const socket = calls.socket(args);
      const how = args.name(1, ['SHUT_RD', 'SHUT_WR', 'SHUT_RDWR']);
      if (socket.connection === null) return 'ENOTCONN';
      if (how !== 'SHUT_WR') socket.readShut = true;
      if (how !== 'SHUT_RD') socket.connection.shutdown(calls.now);
      return 0;
    },
  },
  close: { form: 'close(4)', count: 1, begin: (calls, args) => calls.close(calls.socket(args), args.number(0)) },
  setsockopt: {
    form: 'setsockopt(4, SOL_SOCKET, SO_KEEPALIVE, [1], 4)',
    count: 5,
    begin: (calls, args) => {
      setOption(calls.socket(args), args, calls.now);
      return 0;
    },
  },
  getsockopt: {
    form: 'getsockopt(4, SOL_SOCKET, SO_ERROR, [0], [4])',
    count: 5,
    begin: (calls, args) => {
      compareOptionOf(calls.socket(args), args);
      return 0;
    },
  },
  fcntl: {
    form: 'fcntl(3, F_SETFL, O_RDWR|O_NONBLOCK)',
    count: 3,
    begin: (calls, args) => {
      const socket = calls.socket(args);
      if (args.name(1, ['F_SETFL']) === 'F_SETFL') socket.nonBlocking = args.flags(2, ['O_RDWR', 'O_NONBLOCK']).includes('O_NONBLOCK');
      return 0;
    },
  },
};
/** fcntl has another number of arguments when it only asks. */
const GET_FLAGS: SystemCall = {
  form: 'fcntl(3, F_GETFL)',
  count: 2,
  begin: (calls, args) => {
    const socket = calls.socket(args);
    args.name(1, ['F_GETFL']);
    return socket.nonBlocking ? O_RDWR | O_NONBLOCK : O_RDWR;
  },
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

  get now(): number {
    return this.agenda.now;
  }

  /** Begins a call; it has an outcome at once unless it blocks. Throws {@link ScriptError} for what is not understood. */
  begin(spec: CallSpec): Attempt {
    const known = Object.hasOwn(SYSTEM_CALLS, spec.name) ? SYSTEM_CALLS[spec.name]! : undefined;
    if (known === undefined)
      throw new ScriptError('SCRIPT_UNSUPPORTED', spec.place, `system call "${spec.name}"; ${proposal(spec.name, Object.keys(SYSTEM_CALLS))}`);
    const call = spec.name === 'fcntl' && spec.args.length === GET_FLAGS.count ? GET_FLAGS : known;
    const begun = this.stackErrors(() => call.begin(this, new Arguments(spec, call.form, call.count)));
    this.node.pump();
    if (typeof begun !== 'object') return { spec, outcome: begun, again: () => begun };
    const attempt: Attempt = {
      spec,
      outcome: null,
      again: () => {
        attempt.outcome ??= this.stackErrors(() => begun.again());
        this.node.pump();
        return attempt.outcome;
      },
    };
    if (attempt.again() === null && begun.socket.nonBlocking) attempt.outcome = begun.busy;
    return attempt;
  }

  /** The socket of the first argument. Throws {@link ScriptError} for a descriptor that is not open. */
  socket(args: Arguments): Socket {
    const fd = args.number(0);
    const socket = this.sockets.get(fd);
    if (socket !== undefined) return socket;
    const open = [...this.sockets.keys()];
    throw new ScriptError(
      'SCRIPT_SYNTAX',
      args.place(0),
      `file descriptor ${fd} is not open; expected ${open.length === 0 ? 'a socket to be made before' : open.join(', ')}`,
    );
  }

  add(socket: Socket): number {
    const fd = this.nextFd++;
    this.sockets.set(fd, socket);
    return fd;
  }

  listen(socket: Socket, backlog: number): Outcome {
    if (!socket.bound || socket.connection !== null) return 'EINVAL';
    socket.listener ??= this.host.listen({
      port: this.config.port,
      backlog: Math.max(1, backlog),
      multipath: socket.multipath,
      fastOpen: socket.fastOpen || this.config.fastOpen,
    });
    return 0;
  }

  accept(socket: Socket): Outcome | null {
    const connection = socket.waiting.shift();
    if (connection === undefined) return null;
    const accepted = { ...socket, nonBlocking: false, listener: null, waiting: [], connection, reuse: new Map(socket.reuse) };
    applyOptions(accepted, this.now);
    return this.add(accepted);
  }

  connect(socket: Socket): Outcome | Step {
    if (socket.listener !== null) return 'EISCONN';
    if (socket.connection !== null && socket.connection.open) return 'EISCONN';
    const connection = socket.connection ?? this.open(socket, false);
    this.node.pump();
    // Nothing goes out before there is something to send (TCP_FASTOPEN_CONNECT).
    if (socket.fastOpen && !connection.open) return 0;
    const again = (): Outcome | null => (connection.open ? 0 : connection.closed ? this.failure(socket) : null);
    return { socket, busy: 'EINPROGRESS', again };
  }

  reading(args: Arguments, flags: number): Outcome | Step {
    const socket = this.socket(args);
    args.any(1);
    const most = args.number(2);
    if (flags > 0) args.flags(flags, []);
    const { connection } = socket;
    if (connection === null) return 'ENOTCONN';
    return { socket, busy: 'EAGAIN', again: () => this.read(socket, connection, most) };
  }

  writing(args: Arguments, flags: number): Outcome | Step {
    const socket = this.socket(args);
    args.any(1);
    const length = args.number(2, 0, MOST_BYTES);
    const fastOpen = flags > 0 && args.flags(flags, ['MSG_NOSIGNAL', 'MSG_FASTOPEN']).includes('MSG_FASTOPEN');
    if (socket.connection === null && fastOpen) this.open(socket, true);
    const { connection } = socket;
    if (connection === null) return 'ENOTCONN';
    return { socket, busy: 'EAGAIN', again: () => this.write(socket, connection, length) };
  }

  close(socket: Socket, fd: number): Outcome {
    this.sockets.delete(fd);
    if (socket.listener !== null) this.host.unlisten(socket.listener);
    const { connection } = socket;
    // Unread data is lost: the peer is told so (RFC 9293 §3.10.4; RFC 8684 §3.5), as Linux does. SO_LINGER with no time is ABORT (§3.10.5).
    if (connection !== null && (connection.readable > 0 || socket.lingersNot)) connection.abort(this.now);
    else connection?.shutdown(this.now);
    return 0;
  }

  private open(socket: Socket, fastOpen: boolean): Connection {
    const { remote, port } = this.config;
    const connection = this.host.connect({ remote, port, multipath: socket.multipath, fastOpen: fastOpen || socket.fastOpen }, this.now);
    socket.connection = connection;
    applyOptions(socket, this.now);
    return connection;
  }

  private write(socket: Socket, connection: Connection, length: number): Outcome | null {
    if (socket.failed !== null) return this.failure(socket);
    if (connection.closed || connection.sendClosed) return 'EPIPE';
    const bytes = new Uint8Array(length);
    for (let i = 0; i < length; i++) bytes[i] = (connection.bytesWritten + i) & 0xff;
    return connection.write(bytes, this.now) ? length : null;
  }

  private read(socket: Socket, connection: Connection, most: number): Outcome | null {
    let total = 0;
    for (let chunk = connection.peek(); chunk !== null && total < most; chunk = connection.peek()) {
      const take = Math.min(chunk.length, most - total);
      connection.consume(take, this.now);
      total += take;
    }
    if (total > 0) return total;
    if (socket.failed !== null) return this.failure(socket);
    return connection.receiveEnded || connection.closed || socket.readShut ? 0 : null;
  }

  /** An error is told once. */
  private failure(socket: Socket): string {
    const error = socket.failed ?? 'ECONNABORTED';
    socket.failed = null;
    return error;
  }

  private stackErrors<T>(step: () => T): T | string {
    try {
      return step();
    } catch (error) {
      const name = error instanceof StackError ? STACK_ERRORS[error.code] : undefined;
      if (name === undefined) throw error;
      return name;
    }
  }
}

/** Holds the outcome against what the script says. Throws {@link Mismatch}. */
export function compareOutcome(spec: CallSpec, outcome: Outcome): void {
  const { result } = spec;
  if (result.kind === 'any' || (result.kind === 'error' && result.name === null && typeof outcome === 'string')) return;
  const seen = typeof outcome === 'string' ? `-1 ${outcome}` : String(outcome);
  const expected = result.kind === 'number' ? String(result.value) : `-1${result.name === null ? '' : ` ${result.name}`}`;
  if (seen !== expected) throw new Mismatch(`${spec.name} returned ${seen}, expected ${expected}`);
}
