/** What a host is made of: checked whole before anything is built, so that a wrong setting is an error and not a behaviour. */
import { StackError } from '../errors.ts';
import { DEFAULT_MPTCP_CONFIG } from '../mptcp/config.ts';
import type { MptcpConfig } from '../mptcp/config.ts';
import { congestionFactory, coupledFactory } from '../mptcp/congestion/controllers.ts';
import type { SchedulerFactory } from '../mptcp/scheduler/types.ts';
import { schedulerNamed } from '../mptcp/service-type.ts';
import { DEFAULT_TCP_CONFIG } from '../tcp/config.ts';
import type { TcpConfig } from '../tcp/config.ts';

/** Returns a fresh random number, 0 to 2^32 - 1. The only source of chance in the stack. */
export type Entropy = () => number;

export interface HostOptions {
  entropy: Entropy;
  tcp?: Partial<TcpConfig>;
  mptcp?: Partial<Omit<MptcpConfig, 'scheduler'> & { scheduler: SchedulerFactory | string }>;
  /** Emit `data-scheduled`, `data-received` and `data-acknowledged` events: one or more per segment. */
  traceData?: boolean;
  /** Largest number of events kept for `pollEvent`; then older ones are dropped and counted, but never the end of a connection. */
  eventLimit?: number;
}

/** Options with every default filled in. */
export interface HostSettings {
  readonly entropy: Entropy;
  readonly tcp: TcpConfig;
  readonly mptcp: MptcpConfig;
  readonly traceData: boolean;
  readonly eventLimit: number;
}

const DEFAULT_EVENT_LIMIT = 1_000_000;
/** Numbers that may not be zero. */
const POSITIVE = new Set([
  'minRto',
  'maxRto',
  'initialRto',
  'receiveBuffer',
  'maxReceiveBuffer',
  'sendBuffer',
  'maxSendBuffer',
  'keepaliveInterval',
  'eventLimit',
]);
/** Largest values where a field of the protocol or a table sets one. */
const LARGEST: Readonly<Record<string, number>> = { serverId: 255, maxReceiveBuffer: 2 ** 30, receiveBuffer: 2 ** 30 };
const WORDS: Readonly<Record<string, readonly string[]>> = { synCookies: ['never', 'when-full', 'always'], fastclose: ['reset', 'ack'] };
/** Settings that are a name or a factory; {@link checkOptions} looks the names up. */
const NAMED = new Set(['congestion', 'coupled', 'scheduler', 'pathManager']);

/** Checks every option and fills in the defaults. Throws {@link StackError} `BAD_OPTION` or `UNKNOWN_CONGESTION`, which name the option. */
export function checkOptions(options: HostOptions): HostSettings {
  if (typeof options !== 'object' || options === null) bad('options', options, 'an object');
  for (const key of Object.keys(options)) {
    if (!['entropy', 'tcp', 'mptcp', 'traceData', 'eventLimit'].includes(key))
      bad(key, options[key as keyof HostOptions], 'entropy, tcp, mptcp, traceData or eventLimit');
  }
  if (typeof options.entropy !== 'function') bad('entropy', options.entropy, 'a function that returns random numbers, 0 to 2^32 - 1');
  for (const group of ['tcp', 'mptcp'] as const) {
    const value: unknown = options[group];
    if (value !== undefined && (typeof value !== 'object' || value === null)) bad(group, value, 'an object of settings');
  }
  const { tcp: tcpOptions = {}, mptcp: mptcpOptions = {}, traceData = false, eventLimit = DEFAULT_EVENT_LIMIT } = options;
  checkValue('traceData', traceData, false);
  checkValue('eventLimit', eventLimit, DEFAULT_EVENT_LIMIT);
  const scheduler = mptcpOptions.scheduler ?? DEFAULT_MPTCP_CONFIG.scheduler;
  if (typeof scheduler !== 'function' && typeof scheduler !== 'string') bad('mptcp.scheduler', scheduler, 'the name of a scheduler or a factory');
  const tcp = merged('tcp', DEFAULT_TCP_CONFIG, tcpOptions);
  const mptcp = merged('mptcp', DEFAULT_MPTCP_CONFIG, { ...mptcpOptions, scheduler: typeof scheduler === 'string' ? schedulerNamed(scheduler) : scheduler });
  if (typeof mptcp.pathManager !== 'function') bad('mptcp.pathManager', mptcp.pathManager, 'a path manager factory, such as defaultPathManager');
  for (const name of ['versions', 'acceptVersions'] as const) {
    const list: unknown = mptcp[name];
    if (!Array.isArray(list) || list.length === 0 || list.some((one, i) => (one !== 0 && one !== 1) || list.indexOf(one) !== i))
      bad(`mptcp.${name}`, list, 'one or both of 0 and 1');
  }
  // A default is no more than the limit that was given.
  if (tcpOptions.receiveBuffer === undefined) tcp.receiveBuffer = Math.min(tcp.receiveBuffer, tcp.maxReceiveBuffer);
  if (tcpOptions.sendBuffer === undefined) tcp.sendBuffer = Math.min(tcp.sendBuffer, tcp.maxSendBuffer);
  if (tcp.receiveBuffer > tcp.maxReceiveBuffer) bad('tcp.receiveBuffer', tcp.receiveBuffer, `at most tcp.maxReceiveBuffer, ${tcp.maxReceiveBuffer}`);
  if (tcp.sendBuffer > tcp.maxSendBuffer) bad('tcp.sendBuffer', tcp.sendBuffer, `at most tcp.maxSendBuffer, ${tcp.maxSendBuffer}`);
  if (tcp.minRto > tcp.maxRto) bad('tcp.minRto', tcp.minRto, `at most tcp.maxRto, ${tcp.maxRto}`);
  congestionFactory(tcp.congestion);
  coupledFactory(mptcp.coupled);
  return { entropy: options.entropy, tcp, mptcp, traceData, eventLimit };
}

function merged<T extends object>(group: string, defaults: T, given: Partial<T>): T {
  const out = { ...defaults };
  for (const [key, value] of Object.entries(given) as [keyof T & string, T[keyof T & string] | undefined][]) {
    if (!Object.hasOwn(defaults, key)) bad(`${group}.${key}`, value, `one of ${Object.keys(defaults).join(', ')}`);
    if (value === undefined) continue;
    if (!NAMED.has(key) && !Array.isArray(defaults[key])) checkValue(`${group}.${key}`, value, defaults[key]);
    out[key] = value;
  }
  return out;
}

/** A value must be of the default's type; numbers are whole and not negative. */
function checkValue(path: string, value: unknown, like: unknown): void {
  const key = path.slice(path.indexOf('.') + 1);
  const words = Object.hasOwn(WORDS, key) ? WORDS[key] : undefined;
  if (words !== undefined) {
    if (!words.includes(value as string)) bad(path, value, words.join(', '));
  } else if (typeof like === 'number') {
    const least = POSITIVE.has(key) ? Number.MIN_VALUE : 0;
    const most = LARGEST[key] ?? Number.MAX_SAFE_INTEGER;
    if (!Number.isInteger(value) || !((value as number) >= least && (value as number) <= most))
      bad(path, value, `a whole number ${POSITIVE.has(key) ? 'above 0' : 'of at least 0'}${most < Number.MAX_SAFE_INTEGER ? ` and at most ${most}` : ''}`);
  } else if (typeof value !== typeof like) {
    bad(path, value, `a ${typeof like}`);
  }
}

function bad(path: string, value: unknown, expected: string): never {
  const shown = typeof value === 'string' ? `"${value}"` : typeof value === 'function' ? 'a function' : String(JSON.stringify(value) ?? value);
  throw new StackError('BAD_OPTION', `option ${path} is ${shown}; expected ${expected}`);
}
