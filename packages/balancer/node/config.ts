/** `lb.yaml`: what is balanced, to whom, how. Mistakes are named with their line and value. */
import { isNode, LineCounter, parseDocument } from 'yaml';
import { z } from 'zod';
import { hashText } from '@subflow/balancer';
import { isMalformed, parseAddress } from '@subflow/wire';
import { parseDuration } from '@subflow/emulator';
import { DESIGN_LETTER, DESIGN_NAMES, FORWARDING, obstacle, PLANES } from './plan.ts';

export class ConfigError extends Error {
  readonly code = 'BAD_CONFIG';
  /** Line in the file, from 1; 0 when it is about the whole. */
  readonly line: number;

  constructor(file: string, line: number, message: string) {
    super(line === 0 ? `${file}: ${message}` : `${file}:${line}: ${message}`);
    this.line = line;
  }
}

const name = z.string().regex(/^[a-zA-Z0-9][\w.-]{0,62}$/, 'expected letters, digits, dots, dashes and underscores');

const address = z.string().transform((text, context) => {
  try {
    const parsed = parseAddress(text);
    if (!isMalformed(parsed)) return parsed as Uint8Array;
  } catch {
    // Said below.
  }
  context.addIssue({ code: 'custom', message: `"${text}" is no address; expected IPv4 or IPv6` });
  return z.NEVER;
});

/** Milliseconds. */
const duration = z.union([z.string(), z.number()]).transform((value, context) => {
  const microseconds = parseDuration(value);
  if (microseconds !== null && microseconds > 0) return microseconds / 1000;
  context.addIssue({ code: 'custom', message: `"${value}" is no duration; expected for example "500 ms" or "2 s"` });
  return z.NEVER;
});

const port = z.number().int().min(1).max(65_535);
const end = z.string().regex(/^(.+):(\d+)$/, 'expected ADDRESS:PORT');

const server = z.strictObject({
  name,
  id: z.number().int().min(1).max(255),
  address,
  port: port.optional(),
  weight: z.number().min(0).max(65_535).default(1),
  ownPort: z.number().int().min(1024).max(65_535).optional(),
});

const health = z.strictObject({
  type: z.enum(['none', 'tcp', 'http', 'mptcp']).default('tcp'),
  path: z.string().startsWith('/').default('/'),
  interval: duration.default(1000),
  timeout: duration.default(1000),
  rise: z.number().int().min(1).max(100).default(2),
  fall: z.number().int().min(1).max(100).default(3),
});

const service = z.strictObject({
  name,
  address,
  port,
  design: z.enum(DESIGN_NAMES).default('beamer'),
  forwarding: z.enum(FORWARDING).default('encapsulation'),
  seed: z.number().int().min(0).max(0xffff_ffff).optional(),
  health: health.prefault({}),
  servers: z.array(server).max(255),
});

const store = z.union([
  z.strictObject({ log: z.string(), listen: end.optional(), token: z.string().optional() }),
  z.strictObject({ remote: end, token: z.string().optional() }),
  z.strictObject({
    nats: z.array(z.string()).min(1),
    bucket: name.default('subflow-lb'),
    replicas: z.number().int().min(1).max(5).default(1),
    user: z.string().optional(),
    password: z.string().optional(),
    token: z.string().optional(),
    credentials: z.string().optional(),
    tls: z.strictObject({ ca: z.string(), name: z.string().optional(), certificate: z.string().optional(), key: z.string().optional() }).optional(),
  }),
]);

const schema = z.strictObject({
  /** Balancers of one name share a state; `instance` tells those on one machine apart (sockets, pins, tables). */
  name: name.default('lb'),
  instance: name.optional(),
  dataPlane: z.enum(PLANES).default('xdp'),
  interface: z.string().optional(),
  mode: z.enum(['native', 'generic']).default('native'),
  flows: z
    .number()
    .int()
    .min(8)
    .max(1 << 26)
    .default(1 << 20),
  control: z.string().optional(),
  metrics: end.optional(),
  store: store.optional(),
  services: z.array(service).min(1).max(64),
});

export type LbConfig = z.output<typeof schema>;
export type ServiceConfig = LbConfig['services'][number];
export type ServerConfig = ServiceConfig['servers'][number];
export type StoreConfig = NonNullable<LbConfig['store']>;
export type HealthConfig = ServiceConfig['health'];

/** Reads and checks a configuration. Throws {@link ConfigError}. */
export function parseConfig(text: string, file: string): LbConfig {
  const lines = new LineCounter();
  const document = parseDocument(text, { lineCounter: lines });
  const lineAt = (offset: number | undefined): number => (offset === undefined ? 0 : lines.linePos(offset).line);
  const problem = document.errors[0];
  if (problem !== undefined) throw new ConfigError(file, lineAt(problem.pos[0]), problem.message.split('\n')[0]!);
  let value: unknown;
  try {
    value = document.toJS();
  } catch (error) {
    throw new ConfigError(file, 0, (error as Error).message);
  }
  /** The line of a place; of the nearest thing around it that is there. */
  const lineOf = (path: readonly PropertyKey[]): number => {
    for (let length = path.length; length >= 0; length--) {
      const node = length === 0 ? document.contents : document.getIn(path.slice(0, length), true);
      if (isNode(node) && node.range !== undefined && node.range !== null) return lineAt(node.range[0]);
    }
    return 0;
  };
  const placeOf = (path: readonly PropertyKey[]): string =>
    path.map((part, i) => (typeof part === 'number' ? `[${part}]` : `${i === 0 ? '' : '.'}${String(part)}`)).join('');
  const fail = (path: readonly PropertyKey[], message: string): never => {
    throw new ConfigError(file, lineOf(path), `${path.length === 0 ? '' : `${placeOf(path)}: `}${message}`);
  };
  const parsed = schema.safeParse(value);
  if (!parsed.success) {
    // A typo makes two mistakes: what is written is one, what is missing then the other.
    const { issues } = parsed.error;
    const issue = issues.find((one) => one.code === 'unrecognized_keys') ?? issues[0]!;
    const found = path(value, issue.path);
    // A key too many is reported at the thing that has it.
    const at = issue.code === 'unrecognized_keys' ? [...issue.path, issue.keys[0]!] : issue.path;
    const shown = issue.code === 'custom' || typeof found === 'object' || found === undefined ? '' : `${JSON.stringify(found)}: `;
    return fail(at, `${shown}${issue.message}`);
  }
  const config = parsed.data;
  if (config.dataPlane !== 'userspace' && config.interface === undefined)
    fail(['interface'], `missing; expected the interface that clients' packets come in on (data plane ${config.dataPlane})`);
  check(config, fail);
  return config;
}

/** What the shape alone does not tell. */
function check(config: LbConfig, fail: (path: readonly PropertyKey[], message: string) => never): void {
  const ends = new Map<string, string>();
  const serviceNames = new Set<string>();
  config.services.forEach((one, i) => {
    const at = ['services', i] as const;
    if (serviceNames.has(one.name)) fail([...at, 'name'], `"${one.name}" is the name of another service; expected a name of its own`);
    serviceNames.add(one.name);
    const claim = (path: readonly PropertyKey[], number: number, who: string): void => {
      const key = `${one.address.join('.')} ${number}`;
      const other = ends.get(key);
      if (other !== undefined) fail(path, `port ${number} of this address belongs to ${other} already; services must not overlap`);
      ends.set(key, who);
    };
    claim([...at, 'port'], one.port, `service "${one.name}"`);
    const why = obstacle(config.dataPlane, one.design, one.forwarding);
    if (why !== null)
      fail(
        [...at, one.forwarding === 'encapsulation' && config.dataPlane !== 'nftables' ? 'design' : 'forwarding'],
        `design "${one.design}" with forwarding "${one.forwarding}" and data plane "${config.dataPlane}": ${why}`,
      );
    if (DESIGN_LETTER[one.design] === 'f' && one.port >= 1024)
      fail([...at, 'port'], `${one.port}: with design "beamer" ports from 1024 on are servers' own; expected a port below`);
    const names = new Set<string>();
    const ids = new Map<number, string>();
    one.servers.forEach((each, j) => {
      const place = [...at, 'servers', j] as const;
      if (names.has(each.name)) fail([...place, 'name'], `"${each.name}" is the name of another server of this service`);
      names.add(each.name);
      const twin = ids.get(each.id);
      if (twin !== undefined) fail([...place, 'id'], `${each.id} is the id of "${twin}" already; expected different ones, from 1 to 255`);
      ids.set(each.id, each.name);
      if (each.ownPort !== undefined) claim([...place, 'ownPort'], each.ownPort, `server "${each.name}"`);
      if (one.forwarding === 'nat' && each.address.length !== one.address.length)
        fail([...place, 'address'], 'the server is of the other address family; expected the same, or forwarding "encapsulation"');
      if (one.forwarding === 'dsr' && each.port !== undefined && each.port !== one.port)
        fail([...place, 'port'], `${each.port}: with forwarding "dsr" ports stay as they are; expected ${one.port}`);
    });
  });
}

/** What a balancer's own things on this machine are called. */
export function instanceOf(config: Pick<LbConfig, 'name' | 'instance'>): string {
  return config.instance === undefined ? config.name : `${config.name}-${config.instance}`;
}

/** Seed of a service's hashes: the same on every balancer. */
export function seedOf(service: ServiceConfig): number {
  return service.seed ?? hashText(service.name);
}

function path(value: unknown, keys: readonly PropertyKey[]): unknown {
  let at = value;
  for (const key of keys) at = (at as Record<PropertyKey, unknown> | undefined | null)?.[key];
  return at;
}
