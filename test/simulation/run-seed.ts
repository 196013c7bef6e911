/** One random scenario: two hosts of ours, 1 to 4 paths that do all that paths do, and the invariants that must hold. */
import type { StackEvent } from '@subflow/stack';
import { violations } from './invariants.ts';
import { OffPath } from './off-path.ts';
import { PacketBudget } from './packet-budget.ts';
import { SECOND } from './settings.ts';
import { drawTimeline } from './timeline.ts';
import { makeWorld } from './world.ts';
import type { World } from './world.ts';

/** Virtual time after which a scenario counts as stuck. */
const LIMIT = 3600 * SECOND;
const MAX_EVENTS = 5_000_000;

export interface SeedResult {
  seed: number;
  /** Empty when every invariant held. */
  problems: string[];
  virtualSeconds: number;
  bytes: number;
  /** Short description of what was drawn. */
  summary: string;
  events: StackEvent[];
}

export interface SeedOptions {
  /** Keep the events of both hosts. */
  events?: boolean;
  /** False: nobody sends from off the path. */
  offPath?: boolean;
}

export function runSeed(seed: number, options: SeedOptions = {}): SeedResult {
  const budget = new PacketBudget();
  const world = makeWorld(seed, (side, direction, packet, now) => {
    budget.watch(side, direction, packet, now);
    if (direction === 'out') offPath.watch(side, packet);
  });
  const offPath = new OffPath(world, budget);
  const { agenda, client, server } = world;
  const timeline = drawTimeline(world);
  const events: StackEvent[] = [];
  for (const side of [client, server]) side.follow(options.events === true ? events : null);
  if (options.offPath !== false) offPath.start(timeline.start);
  const problems = run(world, timeline.start + LIMIT, budget);
  // A run that was stopped says nothing about its end.
  if (problems.length === 0) problems.push(...violations(world, timeline, LIMIT));
  problems.push(...offPath.problems);
  return {
    seed,
    problems,
    virtualSeconds: (agenda.now - timeline.start) / SECOND,
    bytes: client.received + server.received,
    summary: summarize(world, timeline.violent),
    events,
  };
}

/** Runs until nothing is left to do or the limit; returns why it was stopped, or nothing. */
function run({ agenda }: World, limit: number, budget: PacketBudget): string[] {
  try {
    for (let steps = 0; agenda.step(limit); steps++) {
      if (budget.problem !== null) return [budget.problem];
      if (steps > MAX_EVENTS) return [`more than ${MAX_EVENTS} events: a loop`];
    }
  } catch (error) {
    return [`threw ${(error as Error).stack ?? String(error)}`];
  }
  return [];
}

function summarize({ settings, client, server, boxes, strips }: World, violent: boolean): string {
  const parts = [`${settings.paths} paths`, `${client.size}+${server.size} bytes`, `buffer ${settings.buffer}`];
  if (settings.checksum) parts.push('checksum');
  if (strips) parts.push('strips');
  if (violent) parts.push('violent');
  return [...parts, settings.summary, ...boxes.map((box) => box.name)].join(', ');
}
