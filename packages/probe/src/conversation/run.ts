/** Holds the conversation: every step on connections of its own, several at a time, judged against the tables. */
import type { IpAddress } from '@subflow/wire';
import type { VersionNumber } from '@subflow/stack';
import { ProbeError } from '../errors.ts';
import type { Hub } from '../hub.ts';
import { CHECKSUMS } from './checksums.ts';
import { StepFailure } from './context.ts';
import type { Step, StepContext, StepResult } from './context.ts';
import { HANDSHAKE } from './handshake.ts';
import { judge } from './known.ts';
import type { Judgement, KnownTable } from './known.ts';
import { MAPPINGS } from './mappings.ts';
import { SIGNALS } from './signals.ts';

export const STEPS: readonly Step[] = [...HANDSHAKE, ...CHECKSUMS, ...MAPPINGS, ...SIGNALS];

export interface ConversationOptions {
  address: IpAddress;
  port: number;
  /** Found out when absent: version 1 first, then 0. */
  version?: VersionNumber;
  /** Ids of steps; all by default. */
  steps?: readonly string[];
  /** Steps that are under way at the same time. */
  atOnce?: number;
  request?: Uint8Array;
  /** Local address for second subflows. */
  second?: IpAddress;
  closedPort?: number;
  key?: bigint;
  /** Also steps that wait for minutes. */
  patient?: boolean;
  /** Further tables of known implementations. */
  tables?: readonly KnownTable[];
  /** Longest wait for what may never come, microseconds. */
  silence?: number;
  onStep?: (step: ReportedStep) => void;
}

export interface ReportedStep extends StepResult, Judgement {
  id: string;
  title: string;
  /** Times it was run; more than once when something unexpected was seen. */
  runs: number;
}

export type ServerKind = 'multipath' | 'plain' | 'reflects' | 'refused' | 'silent';

export interface Conversation {
  address: IpAddress;
  port: number;
  kind: ServerKind;
  version: VersionNumber | null;
  steps: ReportedStep[];
  /** Implementations whose tables fit every step but the fewest. */
  resembles: { name: string; agrees: number; of: number } | null;
  microseconds: number;
}

const AT_ONCE = 16;
const SILENCE = 500_000;
/** Runs of a step that saw something new, and how many of them must agree: more where packets get lost. */
const RUNS = 8;
const AGREE = 2;
const AGREE_LOSSY = 5;
const LOSSY = 0.02;
const ENCODER = new TextEncoder();

/** The request of the published experiment, for a host. */
export function httpRequest(host: string): Uint8Array {
  return ENCODER.encode(`GET / HTTP/1.1\r\nHost: ${host}\r\nConnection: keep-alive\r\n\r\n`);
}

/** Throws {@link ProbeError} `BAD_PROBE` for an unknown step, `NO_ROUTE`. */
export async function converse(hub: Hub, options: ConversationOptions): Promise<Conversation> {
  const started = hub.now();
  const unknown = options.steps?.find((id) => !STEPS.some((step) => step.id === id));
  if (unknown !== undefined) throw new ProbeError('BAD_PROBE', `no step "${unknown}"; expected one of ${STEPS.map((step) => step.id).join(', ')}`);
  const context = (version: VersionNumber, label: string): StepContext => ({
    hub,
    address: options.address,
    port: options.port,
    version,
    request: options.request ?? httpRequest('localhost'),
    second: options.second ?? null,
    closedPort: options.closedPort ?? null,
    ...(options.key === undefined ? {} : { key: options.key }),
    silence: options.silence ?? SILENCE,
    patient: options.patient ?? false,
    label,
    sessions: [],
  });
  const first = STEPS[0]!;
  let version: VersionNumber | null = null;
  let kind: ServerKind = 'silent';
  let opening: StepResult = { outcome: 'silence', details: [] };
  for (const candidate of options.version === undefined ? ([1, 0] as const) : [options.version]) {
    opening = await first.run(context(candidate, first.id));
    kind = kindOf(opening.outcome, candidate);
    if (kind === 'multipath') version = candidate;
    if (version !== null || kind === 'refused' || kind === 'silent') break;
  }
  const conversation: Conversation = { address: options.address, port: options.port, kind, version, steps: [], resembles: null, microseconds: 0 };
  const report = (step: Step, result: StepResult, runs: number): void => {
    const reported: ReportedStep = { id: step.id, title: step.title, runs, ...result, ...judge(step.id, version ?? 1, result.outcome, options.tables ?? []) };
    conversation.steps.push(reported);
    options.onStep?.(reported);
  };
  report(first, opening, 1);
  if (version === null) {
    const reflection = STEPS.find((step) => step.id === 'reflection')!;
    if (kind === 'plain' || kind === 'reflects') {
      const result = await reflection.run(context(1, reflection.id));
      if (result.outcome === 'reflected') conversation.kind = 'reflects';
      report(reflection, result, 1);
    }
    conversation.microseconds = hub.now() - started;
    return conversation;
  }
  const agreed = version;
  const chosen = STEPS.slice(1).filter(
    (step) =>
      step.versions.includes(agreed) && (options.steps === undefined || options.steps.includes(step.id)) && (step.patient !== true || options.patient === true),
  );
  const queue = [...chosen];
  const worker = async (): Promise<void> => {
    for (let step = queue.shift(); step !== undefined; step = queue.shift()) {
      const { result, runs } = await steady(step, context(agreed, step.id), options.tables ?? []);
      report(step, result, runs);
    }
  };
  await Promise.all(Array.from({ length: options.atOnce ?? AT_ONCE }, worker));
  conversation.steps.sort((a, b) => place(a.id) - place(b.id));
  conversation.resembles = resemblance(conversation.steps);
  conversation.microseconds = hub.now() - started;
  return conversation;
}

/**
 * Runs a step; again when it saw what nobody is known to do, because that may be loss: an answer that is sent once can be
 * lost, an answer that was seen was sent. So one run that fits counts, and a deviation only when it comes again and again.
 */
async function steady(step: Step, context: StepContext, tables: readonly KnownTable[]): Promise<{ result: StepResult; runs: number }> {
  const seen = new Map<string, { result: StepResult; count: number }>();
  for (let i = 0; i < RUNS; i++) {
    let result: StepResult;
    try {
      result = await step.run(context);
    } catch (error) {
      if (!(error instanceof StepFailure)) throw error;
      result = { outcome: 'not-run', details: [error.message] };
    } finally {
      // A step that could not go on has left its connection open.
      for (const session of context.sessions.splice(0)) session.close();
    }
    const { judgement } = judge(step.id, context.version, result.outcome, tables);
    if (judgement !== 'new deviation' && result.outcome !== 'not-run') return { result, runs: i + 1 };
    const entry = seen.get(result.outcome) ?? { result, count: 0 };
    entry.count++;
    seen.set(result.outcome, entry);
    const { retries, sent } = context.hub.counters;
    if (entry.count >= (retries > LOSSY * sent ? AGREE_LOSSY : AGREE)) return { result: entry.result, runs: i + 1 };
  }
  const all = [...seen.values()].map(
    ({ result, count }) => `${count} × ${result.outcome}${result.details.length > 0 ? ` (${result.details.join('; ')})` : ''}`,
  );
  return { result: { outcome: 'unsteady', details: all }, runs: RUNS };
}

function kindOf(outcome: string, version: VersionNumber): ServerKind {
  if (outcome === `v${version}`) return 'multipath';
  if (outcome === 'reflected') return 'reflects';
  if (outcome === 'refused') return 'refused';
  return outcome === 'silence' ? 'silent' : 'plain';
}

function place(id: string): number {
  return STEPS.findIndex((step) => step.id === id);
}

function resemblance(steps: readonly ReportedStep[]): Conversation['resembles'] {
  const scores = new Map<string, { agrees: number; of: number }>();
  for (const { known } of steps) {
    for (const one of known) {
      const score = scores.get(one.name) ?? { agrees: 0, of: 0 };
      score.of++;
      if (one.agrees) score.agrees++;
      scores.set(one.name, score);
    }
  }
  const best = [...scores].sort(([, a], [, b]) => b.agrees / b.of - a.agrees / a.of)[0];
  return best === undefined ? null : { name: best[0], ...best[1] };
}
