/** Every behaviour of the catalogue on a path, and what the prober says of it. */
import { MIDDLEBOXES, Random } from '@subflow/emulator';
import type { LinkConfig, RouterConfig } from '@subflow/emulator';
import { EXPECTED, findings, inVirtualTime, observePath, ProbeWorld, WORLD_PORT } from '@subflow/probe';
import type { Finding, PathFacts } from '@subflow/probe';

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

export { EXPECTED };
