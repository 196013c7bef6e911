/** The sockets of a script, and the options that may be set and asked for: one row is one option. Every other one is refused. */
import type { Connection, Listener } from '@subflow/stack';
import type { Arguments } from './arguments.ts';
import { ERROR_NAMES } from './errno.ts';
import { proposal } from './proposal.ts';
import { Mismatch, ScriptError } from './script.ts';

export interface Socket {
  multipath: boolean;
  nonBlocking: boolean;
  bound: boolean;
  fastOpen: boolean;
  noDelay: boolean;
  keepAlive: boolean;
  /** Idle time before keepalives, seconds. */
  keepIdle: number;
  /** SO_LINGER with a time of 0: `close` resets. */
  lingersNot: boolean;
  /** shutdown(SHUT_RD): nothing to read is the end. */
  readShut: boolean;
  reuse: Map<string, number>;
  listener: Listener | null;
  connection: Connection | null;
  /** Connections accepted by the stack and not yet by the script. */
  waiting: Connection[];
  /** Error to report once. */
  failed: string | null;
}

/** As Linux begins (net.ipv4.tcp_keepalive_time). */
const KEEP_IDLE = 7200;

export function newSocket(multipath: boolean, nonBlocking: boolean): Socket {
  return {
    multipath,
    nonBlocking,
    bound: false,
    fastOpen: false,
    noDelay: false,
    keepAlive: false,
    keepIdle: KEEP_IDLE,
    lingersNot: false,
    readShut: false,
    reuse: new Map(),
    listener: null,
    connection: null,
    waiting: [],
    failed: null,
  };
}

/** A connection gets the options that were set before it was there: an accepted one has its listener's. */
export function applyOptions(socket: Socket, now: number): void {
  const { connection, noDelay, keepAlive, keepIdle } = socket;
  connection?.configure({ noDelay, ...(keepAlive ? { keepaliveIdle: keepIdle * 1e6 } : {}) }, now);
}

interface SocketOption {
  level: 'SOL_SOCKET' | 'SOL_TCP';
  /** Takes argument 3. */
  set?(socket: Socket, args: Arguments, now: number): void;
  /** A number, or the name of an error. */
  get?(socket: Socket): number | string;
}

const LEVELS: Readonly<Record<string, SocketOption['level']>> = { SOL_SOCKET: 'SOL_SOCKET', SOL_TCP: 'SOL_TCP', IPPROTO_TCP: 'SOL_TCP' };

/** Octets of an int and of a struct linger. */
const INT = 4;
const LINGER = 8;

const SOCKET_OPTIONS: Readonly<Record<string, SocketOption>> = {
  // One program has the host for itself: nothing to share.
  SO_REUSEADDR: reuse('SO_REUSEADDR'),
  SO_REUSEPORT: reuse('SO_REUSEPORT'),
  SO_KEEPALIVE: {
    level: 'SOL_SOCKET',
    set: (socket, args, now) => {
      socket.keepAlive = integer(args) !== 0;
      socket.connection?.configure({ keepaliveIdle: socket.keepAlive ? socket.keepIdle * 1e6 : 0 }, now);
    },
    get: (socket) => Number(socket.keepAlive),
  },
  SO_LINGER: {
    level: 'SOL_SOCKET',
    set: (socket, args) => {
      const { onoff, linger } = args.struct(3, ['onoff', 'linger']) as { onoff: number; linger: number };
      args.number(4, LINGER, LINGER);
      if (onoff !== 0 && linger !== 0) args.refuse(3, 'linger=0, or onoff=0: nobody waits in close');
      socket.lingersNot = onoff !== 0;
    },
  },
  SO_ERROR: {
    level: 'SOL_SOCKET',
    get: (socket) => {
      const error = socket.failed ?? 0;
      socket.failed = null;
      return error;
    },
  },
  TCP_NODELAY: {
    level: 'SOL_TCP',
    set: (socket, args, now) => {
      socket.noDelay = integer(args) !== 0;
      socket.connection?.configure({ noDelay: socket.noDelay }, now);
    },
    get: (socket) => Number(socket.noDelay),
  },
  TCP_KEEPIDLE: {
    level: 'SOL_TCP',
    set: (socket, args, now) => {
      socket.keepIdle = integer(args, 1, 32_767);
      if (socket.keepAlive) socket.connection?.configure({ keepaliveIdle: socket.keepIdle * 1e6 }, now);
    },
    get: (socket) => socket.keepIdle,
  },
  TCP_FASTOPEN: { level: 'SOL_TCP', set: (socket, args) => void (socket.fastOpen = integer(args) !== 0), get: (socket) => Number(socket.fastOpen) },
  TCP_FASTOPEN_CONNECT: { level: 'SOL_TCP', set: (socket, args) => void (socket.fastOpen = integer(args) !== 0), get: (socket) => Number(socket.fastOpen) },
};

/** setsockopt(fd, level, name, value, length). Throws {@link ScriptError}. */
export function setOption(socket: Socket, args: Arguments, now: number): void {
  const { name, option } = optionOf(args);
  if (option.set === undefined) args.refuse(2, `an option that can be set; ${name} can only be asked for`);
  option.set(socket, args, now);
}

/** getsockopt(fd, level, name, [value], [length]): compares what the script expects. Throws {@link Mismatch}. */
export function compareOptionOf(socket: Socket, args: Arguments): void {
  const { name, option } = optionOf(args);
  if (option.get === undefined) args.refuse(2, `an option that can be asked for; ${name} can only be set`);
  const length = args.inBrackets(4);
  if (length !== null && (length.kind !== 'number' || length.value !== INT)) args.refuse(4, `[${INT}]`);
  const value = args.inBrackets(3);
  const seen = option.get(socket);
  if (value === null) return;
  const expected = value.kind === 'number' ? value.value : value.kind === 'names' && value.names.length === 1 ? value.names[0]! : args.refuse(3, '[number]');
  if (typeof expected === 'string' && !ERROR_NAMES.has(expected))
    throw new ScriptError('SCRIPT_SYNTAX', value.place, `error "${expected}"; ${proposal(expected, [...ERROR_NAMES])}`);
  if (seen !== expected) throw new Mismatch(`${name} is ${seen}, expected ${expected}`);
}

function optionOf(args: Arguments): { name: string; option: SocketOption } {
  const level = LEVELS[args.name(1, [...Object.keys(LEVELS)])]!;
  const name = args.name(2, Object.keys(SOCKET_OPTIONS));
  const option = SOCKET_OPTIONS[name]!;
  if (option.level !== level) args.refuse(1, `${option.level} for ${name}`);
  return { name, option };
}

function integer(args: Arguments, low = 0, high = 2 ** 31 - 1): number {
  const value = args.inBrackets(3);
  if (value === null || value.kind !== 'number' || value.value < low || value.value > high) args.refuse(3, `[number] from ${low} to ${high}`);
  args.number(4, INT, INT);
  return value.value;
}

function reuse(name: string): SocketOption {
  return {
    level: 'SOL_SOCKET',
    set: (socket, args) => void socket.reuse.set(name, Number(integer(args) !== 0)),
    get: (socket) => socket.reuse.get(name) ?? 0,
  };
}
