/** What is played: a few words that fit into a link, checked before anything is made of them. */
import type { ServiceType } from '@subflow/stack';
import { CONTROLLER_NAMES, COUPLED_NAMES, MIDDLEBOX_NAMES, SCHEDULER_NAMES, SERVICE_NAMES } from './names.ts';

export const PATH_MANAGERS = ['default', 'fullmesh', 'ndiffports', 'none'] as const;
export const TRAFFIC = ['download', 'upload', 'chat'] as const;

export interface PlayPath {
  name: string;
  family: 4 | 6;
  /** Mbit/s each way. */
  rate: number;
  /** One way, milliseconds. */
  delay: number;
  /** Percent of packets. */
  loss: number;
  backup: boolean;
  up: boolean;
  /** Name of the middlebox catalogue, or null. */
  box: string | null;
}

/** Something done while it runs: at a time of the emulated clock, so that it can be done again. */
export interface PlayAction {
  /** Microseconds. */
  at: number;
  path: number;
  up?: boolean;
  rate?: number;
  delay?: number;
  loss?: number;
}

export interface PlaySetup {
  seed: number;
  version: 0 | 1;
  service: ServiceType | 'default';
  scheduler: string;
  pathManager: (typeof PATH_MANAGERS)[number];
  /** Of each subflow for itself. */
  controller: string;
  /** Coupled; `none` leaves it to `controller`. */
  coupled: string;
  checksum: boolean;
  /** Receive buffer, kB. */
  buffer: number;
  traffic: (typeof TRAFFIC)[number];
  /** MB (download and upload), or messages of 200 octets (chat). */
  amount: number;
  paths: PlayPath[];
  actions: PlayAction[];
  /** All paths share one bottleneck of so many Mbit/s before they part; 0: none. */
  shared: number;
}

/** A setup that cannot be: a stable code, the place, the value, what was expected. */
export class SetupError extends Error {
  readonly code = 'BAD_SETUP';
}

export const DEFAULT_SETUP: PlaySetup = {
  seed: 1,
  version: 1,
  service: 'default',
  scheduler: 'lowest-rtt',
  pathManager: 'default',
  controller: 'cubic',
  coupled: 'none',
  checksum: false,
  buffer: 4096,
  traffic: 'download',
  amount: 20,
  paths: [
    { name: 'wifi', family: 4, rate: 20, delay: 10, loss: 0, backup: false, up: true, box: null },
    { name: 'lte', family: 4, rate: 10, delay: 30, loss: 0, backup: false, up: true, box: null },
  ],
  actions: [],
  shared: 0,
};

export const LIMITS = { paths: 8, rate: 1000, delay: 2000, loss: 100, amount: 2000, buffer: 65_536, actions: 500 } as const;
const MOST_TEXT = 20_000;

/** Checks any value. Throws {@link SetupError}. */
export function checkSetup(value: unknown): PlaySetup {
  const from = object(value, 'the scenario');
  const out: PlaySetup = {
    seed: number(from, 'seed', 0, 2 ** 31, true),
    version: choice(from, 'version', [0, 1]),
    service: choice(from, 'service', ['default', ...SERVICE_NAMES]),
    scheduler: choice(from, 'scheduler', SCHEDULER_NAMES),
    pathManager: choice(from, 'pathManager', PATH_MANAGERS),
    controller: choice(from, 'controller', CONTROLLER_NAMES),
    coupled: choice(from, 'coupled', ['none', ...COUPLED_NAMES]),
    checksum: boolean(from, 'checksum'),
    buffer: number(from, 'buffer', 16, LIMITS.buffer),
    traffic: choice(from, 'traffic', TRAFFIC),
    amount: number(from, 'amount', 0.001, LIMITS.amount),
    shared: number(from, 'shared', 0, LIMITS.rate),
    paths: list(from, 'paths', 1, LIMITS.paths).map((one, i) => path(one, `paths[${i}]`)),
    actions: [],
  };
  const names = new Set(out.paths.map((one) => one.name));
  if (names.size < out.paths.length) throw new SetupError('two paths have the same name; expected different ones');
  out.actions = list(from, 'actions', 0, LIMITS.actions).map((one, i) => action(one, `actions[${i}]`, out.paths.length));
  return out;
}

function path(value: unknown, place: string): PlayPath {
  const from = object(value, place);
  const { name } = from;
  if (typeof name !== 'string' || !/^[a-z][a-z0-9-]{0,9}$/.test(name))
    throw new SetupError(`${place}.name ${show(name)}; expected a short name of lower-case letters, digits and dashes`);
  const box = from['box'] ?? null;
  if (box !== null && (typeof box !== 'string' || !Object.hasOwn(MIDDLEBOX_NAMES, box)))
    throw new SetupError(`${place}.box ${show(box)}; expected a box of the catalogue`);
  return {
    name,
    family: choice(from, 'family', [4, 6], place),
    rate: number(from, 'rate', 0.01, LIMITS.rate, false, place),
    delay: number(from, 'delay', 0, LIMITS.delay, false, place),
    loss: number(from, 'loss', 0, LIMITS.loss, false, place),
    backup: boolean(from, 'backup', place),
    up: boolean(from, 'up', place),
    box,
  };
}

function action(value: unknown, place: string, paths: number): PlayAction {
  const from = object(value, place);
  const out: PlayAction = { at: number(from, 'at', 0, 3600e6, false, place), path: number(from, 'path', 0, paths - 1, true, place) };
  if (from['up'] !== undefined) out.up = boolean(from, 'up', place);
  if (from['rate'] !== undefined) out.rate = number(from, 'rate', 0.01, LIMITS.rate, false, place);
  if (from['delay'] !== undefined) out.delay = number(from, 'delay', 0, LIMITS.delay, false, place);
  if (from['loss'] !== undefined) out.loss = number(from, 'loss', 0, LIMITS.loss, false, place);
  return out;
}

/** For the part of an address behind `#`: nothing of it reaches a server. */
export function setupToText(setup: PlaySetup): string {
  return encodeURIComponent(JSON.stringify(setup));
}

/** Throws {@link SetupError}. */
export function setupFromText(text: string): PlaySetup {
  if (text.length > MOST_TEXT) throw new SetupError(`the link has ${text.length} characters; expected at most ${MOST_TEXT}`);
  let value: unknown;
  try {
    value = JSON.parse(decodeURIComponent(text));
  } catch {
    throw new SetupError('the link is no scenario; expected one that this page has made');
  }
  return checkSetup(value);
}

/** A scenario for `subflow demo --scenario` (docs/scenarios.md); what that has no words for stands in comments. */
export function setupToYaml(setup: PlaySetup): string {
  const size = Math.max(1, Math.round(setup.traffic === 'chat' ? setup.amount * 200 : setup.amount * 1e6));
  const lines = [
    '# Made by the playground of Subflow. Run it: subflow demo --scenario FILE',
    `# version ${setup.version}, service ${setup.service}, scheduler ${setup.scheduler}, path manager ${setup.pathManager}, controller ${setup.coupled === 'none' ? setup.controller : setup.coupled}`,
    'name: playground',
    `seed: ${setup.seed}`,
    `checksum: ${setup.checksum}`,
    'paths:',
  ];
  for (const one of setup.paths) {
    lines.push(
      `  - name: ${one.name}`,
      `    family: ${one.family}`,
      `    rate: ${one.rate} Mbit/s`,
      `    delay: ${one.delay} ms`,
      `    loss: ${one.loss} %`,
      `    backup: ${one.backup}`,
      '    queue: { time: 200 ms }',
    );
    if (one.box !== null) lines.push(`    # middlebox: ${one.box}`);
  }
  lines.push(`transfer: { direction: ${setup.traffic === 'upload' ? 'upload' : 'download'}, size: ${size} }`);
  const steps = [
    ...setup.paths.flatMap((one) => (one.up ? [] : [`  - { at: 0 ms, path: ${one.name}, up: false }`])),
    ...setup.actions.map((one) => {
      const words = [`at: ${one.at / 1000} ms`, `path: ${setup.paths[one.path]!.name}`];
      if (one.up !== undefined) words.push(`up: ${one.up}`);
      if (one.rate !== undefined) words.push(`rate: ${one.rate} Mbit/s`);
      if (one.delay !== undefined) words.push(`delay: ${one.delay} ms`);
      if (one.loss !== undefined) words.push(`loss: ${one.loss} %`);
      return `  - { ${words.join(', ')} }`;
    }),
  ];
  if (steps.length > 0) lines.push('timeline:', ...steps);
  return `${lines.join('\n')}\n`;
}

type Fields = Readonly<Record<string, unknown>>;

function object(value: unknown, place: string): Fields {
  if (typeof value !== 'object' || value === null || Array.isArray(value)) throw new SetupError(`${place} is ${show(value)}; expected fields`);
  return value as Fields;
}

function list(from: Fields, key: string, low: number, high: number): unknown[] {
  const value = from[key];
  if (!Array.isArray(value) || value.length < low || value.length > high)
    throw new SetupError(`${key} ${Array.isArray(value) ? `has ${value.length} entries` : `is ${show(value)}`}; expected ${low} to ${high}`);
  return value;
}

function number(from: Fields, key: string, low: number, high: number, whole = false, place = ''): number {
  const value = from[key];
  if (typeof value !== 'number' || !(value >= low && value <= high) || (whole && !Number.isInteger(value)))
    throw new SetupError(`${place === '' ? '' : `${place}.`}${key} ${show(value)}; expected ${whole ? 'a whole number ' : ''}${low} to ${high}`);
  return value;
}

function boolean(from: Fields, key: string, place = ''): boolean {
  const value = from[key];
  if (typeof value !== 'boolean') throw new SetupError(`${place === '' ? '' : `${place}.`}${key} ${show(value)}; expected true or false`);
  return value;
}

function choice<T extends string | number>(from: Fields, key: string, all: readonly T[], place = ''): T {
  const value = from[key];
  if (!all.includes(value as T)) throw new SetupError(`${place === '' ? '' : `${place}.`}${key} ${show(value)}; expected one of ${all.join(', ')}`);
  return value as T;
}

function show(value: unknown): string {
  const text = JSON.stringify(value) ?? 'nothing';
  return text.length > 60 ? `${text.slice(0, 60)}…` : text;
}
