/** Scenarios as data: paths, a transfer, a timeline. Validated once; errors name the place, the value and what was expected. */
import { parseDocument } from 'yaml';
import { z } from 'zod';
import type { LinkConfig, LossModel } from './link.ts';
import { PERFECT_LINK } from './link.ts';
import { parseDuration, parseProbability, parseRate, parseSize } from './units.ts';

/** A scenario that cannot be used. */
export class ScenarioError extends Error {
  readonly code = 'SCENARIO_INVALID';
  /** Where, for example `paths[0].rate`. */
  readonly place: string;

  constructor(place: string, message: string) {
    super(`${place === '' ? 'scenario' : place}: ${message}`);
    this.place = place;
  }
}

const quantity = (parse: (value: string | number) => number | null, expected: string) =>
  z.union([z.string(), z.number()]).transform((value, context) => {
    const result = parse(value);
    if (result !== null) return result;
    context.addIssue({ code: 'custom', message: `"${value}" is not ${expected}` });
    return z.NEVER;
  });

const duration = quantity(parseDuration, 'a duration; expected for example "15 ms" or "5 s"');
const rate = quantity(parseRate, 'a rate; expected for example "20 Mbit/s"');
const size = quantity(parseSize, 'a size; expected for example "40 MB"');
const probability = quantity(parseProbability, 'a probability; expected for example "0.1 %" or 0.001');

const loss = z.union([
  probability,
  z.strictObject({ goodToBad: probability, badToGood: probability, lossGood: probability.default(0), lossBad: probability.default(1) }),
]);

const linkFields = {
  rate: rate.optional(),
  delay: duration.optional(),
  jitter: duration.optional(),
  loss: loss.optional(),
  reorder: probability.optional(),
  reorderDelay: duration.optional(),
  duplicate: probability.optional(),
  corrupt: probability.optional(),
  queue: z.strictObject({ packets: z.number().int().positive().optional(), bytes: size.optional(), time: duration.optional() }).optional(),
  markAbove: duration.optional(),
};

const path = z.strictObject({
  name: z.string().regex(/^[a-z][a-z0-9-]{0,9}$/, 'expected a short name of lower-case letters, digits and dashes'),
  family: z.union([z.literal(4), z.literal(6)]).default(4),
  backup: z.boolean().default(false),
  ...linkFields,
});

const step = z.strictObject({ at: duration, path: z.string(), up: z.boolean().optional(), ...linkFields });

const schema = z.strictObject({
  name: z.string().default('scenario'),
  seed: z.number().int().nonnegative().default(1),
  paths: z.array(path).min(1).max(8),
  transfer: z.strictObject({ direction: z.enum(['download', 'upload']).default('download'), size }),
  timeline: z.array(step).default([]),
  /** Give up after this long. */
  limit: duration.default(120_000_000),
  checksum: z.boolean().default(false),
});

export interface ScenarioPath {
  name: string;
  family: 4 | 6;
  backup: boolean;
  link: LinkConfig;
}

export interface ScenarioStep {
  /** Microseconds from the start of the transfer. */
  at: number;
  path: string;
  up: boolean | null;
  link: Partial<LinkConfig>;
}

export interface Scenario {
  name: string;
  seed: number;
  paths: ScenarioPath[];
  transfer: { direction: 'download' | 'upload'; size: number };
  timeline: ScenarioStep[];
  limit: number;
  checksum: boolean;
}

/** Parses YAML (or JSON). Throws {@link ScenarioError}. */
export function parseScenario(text: string): Scenario {
  const document = parseDocument(text);
  const problem = document.errors[0];
  if (problem !== undefined) throw new ScenarioError('', `not YAML: ${problem.message.split('\n')[0]}`);
  let value: unknown;
  try {
    value = document.toJS();
  } catch (error) {
    // An alias without its anchor, or too many of them, is found only here.
    throw new ScenarioError('', `not YAML: ${(error as Error).message}`);
  }
  return validateScenario(value);
}

/** Validates plain data. Throws {@link ScenarioError}. */
export function validateScenario(data: unknown): Scenario {
  const result = schema.safeParse(data);
  if (!result.success) throw describe(result.error.issues[0]!);
  const value = result.data;
  const names = new Set<string>();
  value.paths.forEach((entry, i) => {
    if (names.has(entry.name)) throw new ScenarioError(`paths[${i}].name`, `"${entry.name}" is used twice; expected unique names`);
    names.add(entry.name);
  });
  value.timeline.forEach((entry, i) => {
    if (!names.has(entry.path)) throw new ScenarioError(`timeline[${i}].path`, `unknown path "${entry.path}"; expected one of ${[...names].join(', ')}`);
  });
  return {
    name: value.name,
    seed: value.seed,
    paths: value.paths.map((entry) => ({ name: entry.name, family: entry.family, backup: entry.backup, link: { ...PERFECT_LINK, ...linkOf(entry) } })),
    transfer: value.transfer,
    timeline: value.timeline.map((entry) => ({ at: entry.at, path: entry.path, up: entry.up ?? null, link: linkOf(entry) })),
    limit: value.limit,
    checksum: value.checksum,
  };
}

type LinkFields = { [K in keyof typeof linkFields]?: z.output<(typeof linkFields)[K]> | undefined };

function linkOf(fields: LinkFields): Partial<LinkConfig> {
  const out: Partial<LinkConfig> = {};
  if (fields.rate !== undefined) out.rate = fields.rate;
  if (fields.delay !== undefined) out.delay = fields.delay;
  if (fields.jitter !== undefined) out.jitter = fields.jitter;
  if (fields.loss !== undefined) out.loss = fields.loss as LossModel;
  if (fields.reorder !== undefined) out.reorder = fields.reorder;
  if (fields.reorderDelay !== undefined) out.reorderDelay = fields.reorderDelay;
  if (fields.duplicate !== undefined) out.duplicate = fields.duplicate;
  if (fields.corrupt !== undefined) out.corrupt = fields.corrupt;
  if (fields.markAbove !== undefined) out.markAbove = fields.markAbove;
  if (fields.queue?.packets !== undefined) out.queuePackets = fields.queue.packets;
  if (fields.queue?.bytes !== undefined) out.queueBytes = fields.queue.bytes;
  if (fields.queue?.time !== undefined) out.queueTime = fields.queue.time;
  return out;
}

function describe(issue: z.core.$ZodIssue): ScenarioError {
  const place = issue.path
    .map((part) => (typeof part === 'number' ? `[${part}]` : `.${String(part)}`))
    .join('')
    .replace(/^\./, '');
  if (issue.code === 'unrecognized_keys') return new ScenarioError(place, `unknown key "${issue.keys[0]}"; see docs/scenarios.md for the keys`);
  if (issue.code === 'invalid_union') {
    const inner = issue.errors.flat().find((entry) => entry.code === 'custom' || entry.code === 'unrecognized_keys');
    if (inner !== undefined) return describe({ ...inner, path: [...issue.path, ...inner.path] });
  }
  return new ScenarioError(place, issue.message);
}
