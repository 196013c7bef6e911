/** Every behaviour of the catalogue on a path, and what the prober says of it. */
import { MIDDLEBOXES, Random } from '@subflow/emulator';
import type { LinkConfig, RouterConfig } from '@subflow/emulator';
import { findings, inVirtualTime, observePath, ProbeWorld, WORLD_PORT } from '@subflow/probe';
import type { Finding, PathFacts } from '@subflow/probe';

/** What each box must be called: behaviour and direction, all of them and no more. */
export const EXPECTED: Readonly<Record<string, readonly string[]>> = {
  'strip-syn': ['strip-syn forward'],
  'remove-syn': ['strip-syn forward'],
  'strip-synack': ['strip-synack backward'],
  'strip-data': ['strip-data forward'],
  'strip-data-back': ['strip-data backward'],
  'strip-all': ['strip-syn forward', 'strip-data forward', 'strip-synack backward', 'strip-data backward'],
  'strip-join': ['strip-join forward'],
  'strip-add-addr': ['strip-add-addr forward'],
  'drop-syn': ['drop-syn forward'],
  'drop-data': ['drop-data forward', 'drop-data backward'],
  'clear-syn': ['rewrite-mptcp forward'],
  'rewrite-key': ['rewrite-mptcp forward'],
  'swap-options': ['reorder-options forward', 'reorder-options backward'],
  'reflect-options': ['reflect-options backward'],
  'strip-timestamps': ['strip-timestamps forward'],
  'shift-timestamps': ['rewrite-timestamps forward'],
  'strip-sack': ['strip-sack forward'],
  'strip-window-scale': ['strip-window-scale forward'],
  'clamp-mss': ['clamp-mss forward'],
  'clamp-mss-back': ['clamp-mss backward'],
  'clamp-window': ['rewrite-window forward'],
  'clear-ecn-setup': ['clear-ecn-setup forward'],
  'rewrite-dscp': ['rewrite-dscp forward'],
  'rewrite-ecn': ['rewrite-ecn forward'],
  'mark-ecn': ['mark-ecn forward'],
  'rewrite-ttl': ['rewrite-ttl forward'],
  'rewrite-ip-id': ['rewrite-ip-id forward'],
  'clear-df': ['clear-df forward'],
  nat: ['nat forward'],
  'rewrite-sequence': ['rewrite-sequence forward'],
  'split-all': ['split-segments forward', 'split-segments backward'],
  'split-first': ['split-segments forward', 'split-segments backward'],
  coalesce: ['coalesce-segments forward', 'coalesce-segments backward'],
  'drop-holes': ['drop-holes forward'],
  'rewrite-payload': ['rewrite-payload forward'],
  'insert-payload': ['resize-payload forward'],
  'remove-payload': ['resize-payload forward'],
  'reset-syn': ['reset-syn forward'],
  'reset-data': ['reset-data forward'],
  'proactive-ack': ['proactive-ack forward'],
  proxy: ['proxy forward'],
};

export interface CampaignRun {
  box: string;
  link: number;
  seed: number;
  named: boolean;
  /** The place holds the box. */
  placed: boolean;
  /** One link, no range. */
  exact: boolean;
  findings: Finding[];
  facts: PathFacts;
  /** Emulated microseconds. */
  took: number;
}

export interface CampaignOptions {
  quote: number;
  family?: 4 | 6;
  link?: Partial<LinkConfig>;
  router?: (i: number) => Partial<RouterConfig>;
  version?: 0 | 1;
  echo?: boolean;
}

const ROUTERS = 5;
const LIMIT = 600e6;

export async function campaignRun(box: string | null, seed: number, options: CampaignOptions): Promise<CampaignRun> {
  const random = new Random(seed).fork(box ?? 'clean');
  const link = random.integer(0, ROUTERS);
  const world = new ProbeWorld({
    seed,
    routers: ROUTERS,
    quote: options.quote,
    family: options.family ?? 4,
    link: { delay: 1_500, ...options.link },
    ...(options.router === undefined ? {} : { router: options.router }),
    boxes: box === null ? [] : [{ name: box, link }],
  });
  const facts = await inVirtualTime(
    world.agenda,
    observePath(world.hub, {
      target: world.target,
      port: WORLD_PORT,
      version: options.version ?? 1,
      ...(options.echo === undefined ? {} : { echo: options.echo }),
    }),
    LIMIT,
  );
  const list = findings(facts);
  const names = list.map((one) => `${one.behaviour} ${one.direction}`).sort();
  const expected = box === null ? [] : [...EXPECTED[box]!].sort();
  return {
    box: box ?? 'clean',
    link,
    seed,
    named: names.join() === expected.join(),
    placed: list.every((one) => one.from <= link && one.to >= link + 1),
    exact: list.every((one) => one.to - one.from === 1),
    findings: list,
    facts,
    took: world.agenda.now,
  };
}

export const BOXES = Object.keys(MIDDLEBOXES);
/** Fields that IPv6 has not. */
export const ONLY_IPV4: ReadonlySet<string> = new Set(['rewrite-ip-id', 'clear-df']);

/** One line about a run, for people. */
export function lineOf(run: CampaignRun): string {
  const list = run.findings.map((one) => `${one.behaviour} ${one.direction} ${one.from}-${one.to} ${one.certainty}`).join('; ');
  return `${run.box} on link ${run.link}, seed ${run.seed}: ${list === '' ? 'clean' : list}`;
}
