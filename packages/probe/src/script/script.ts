/** Probes of one's own as data: packets to send, answers to expect, values to keep for later packets, walks. */
import { FLAG, formatEndpoint } from '@subflow/wire';
import type { IpAddress } from '@subflow/wire';
import { z } from 'zod';
import { differences, mptcpHex, optionName, seen } from '../compare.ts';
import { ProbeError } from '../errors.ts';
import { Flow } from '../flow.ts';
import type { Arrival } from '../flow.ts';
import type { Hub } from '../hub.ts';
import { layersOf } from '../layers.ts';
import type { Paint } from '../report/text.ts';
import { walk } from '../walk.ts';
import { readYaml } from '../yaml.ts';
import { compose } from './compose.ts';
import { parseValue } from './expression.ts';
import type { Scope, Value } from './expression.ts';

const expectation = z.strictObject({
  /** Flags of the answer, `SYN ACK`; `none`: there must be no answer. */
  flags: z.string().optional(),
  /** Options that must be there: `MP_CAPABLE`, `MSS`, `DSS` … */
  has: z.union([z.string(), z.array(z.string())]).optional(),
  lacks: z.union([z.string(), z.array(z.string())]).optional(),
  /** Octets behind kind and length of the Multipath TCP option, in hexadecimal; `.` stands for any digit. */
  option: z.string().optional(),
});

const step = z.strictObject({
  name: z.string().optional(),
  /** A flow of one's own; the first one is `main`. */
  flow: z.string().default('main'),
  send: z.string().optional(),
  walk: z.string().optional(),
  hops: z.number().int().min(1).max(64).default(16),
  expect: expectation.optional(),
  /** Values kept from the answer: `serverKey: capable.senderKey`. */
  save: z.record(z.string(), z.string()).optional(),
  tries: z.number().int().min(1).max(20).default(4),
  wait: z.number().min(0.01).max(60).default(0.3),
  /** Fields that no hop may change. */
  unchanged: z.array(z.string()).optional(),
});

const schema = z.strictObject({
  name: z.string(),
  version: z.union([z.literal(0), z.literal(1)]).default(1),
  let: z.record(z.string(), z.union([z.string(), z.number()])).default({}),
  steps: z.array(step).min(1).max(200),
});

export type ProbeScript = z.infer<typeof schema>;

export interface ScriptStepResult {
  name: string;
  passed: boolean;
  /** What was sent and what came back, as layers. */
  sent: string;
  received: string | null;
  options: string[];
  failure: string | null;
  hops: { ttl: number; from: string[]; changed: string[] }[];
}

export interface ScriptResult {
  name: string;
  target: string;
  passed: boolean;
  steps: ScriptStepResult[];
}

const OPTION_FIELDS: Readonly<Record<string, string>> = {
  MSS: 'tcp.option.mss',
  WSCALE: 'tcp.option.window-scale',
  SACKOK: 'tcp.option.sack-permitted',
  TIMESTAMPS: 'tcp.option.timestamps',
  MP_CAPABLE: 'mptcp.capable',
  MP_JOIN: 'mptcp.join',
  DSS: 'mptcp.dss',
  ADD_ADDR: 'mptcp.add-addr',
  REMOVE_ADDR: 'mptcp.remove-addr',
  MP_PRIO: 'mptcp.prio',
  MP_FAIL: 'mptcp.fail',
  MP_FASTCLOSE: 'mptcp.fastclose',
  MP_TCPRST: 'mptcp.tcprst',
};

/** Reads a script (YAML or JSON). Throws {@link ProbeError} `BAD_PROBE` with the place, the value and what was expected. */
export function parseScript(text: string, file = 'script'): ProbeScript {
  const result = schema.safeParse(readYaml(text, file));
  if (!result.success) {
    const issue = result.error.issues[0]!;
    throw new ProbeError('BAD_PROBE', `${file}: ${issue.path.join('.') || 'the file'}: ${issue.message}`);
  }
  for (const [i, one] of result.data.steps.entries()) {
    if ((one.send === undefined) === (one.walk === undefined))
      throw new ProbeError(
        'BAD_PROBE',
        `${file}: steps.${i} has ${one.send === undefined ? 'neither "send" nor "walk"' : 'both "send" and "walk"'}; expected one of them`,
      );
    for (const name of [one.expect?.has ?? [], one.expect?.lacks ?? []].flat()) {
      if (OPTION_FIELDS[name] === undefined)
        throw new ProbeError('BAD_PROBE', `${file}: steps.${i}.expect: no option "${name}"; expected one of ${Object.keys(OPTION_FIELDS).join(', ')}`);
    }
  }
  return result.data;
}

/** Runs a script against a target. What was opened is closed, whatever happens. */
export async function runScript(hub: Hub, script: ProbeScript, target: { address: IpAddress; port: number }): Promise<ScriptResult> {
  const scope: Scope = { values: new Map<string, Value>(), version: script.version, random: () => hub.port.entropy() };
  for (const [name, value] of Object.entries(script.let)) scope.values.set(name, typeof value === 'number' ? BigInt(value) : parseValue(value, scope));
  const flows = new Map<string, Flow>();
  const steps: ScriptStepResult[] = [];
  try {
    for (const [i, one] of script.steps.entries()) {
      let flow = flows.get(one.flow);
      if (flow === undefined) {
        flow = new Flow(hub, target.address, target.port);
        flows.set(one.flow, flow);
      }
      const result = one.walk === undefined ? await sendStep(one, flow, scope) : await walkStep(one, flow, scope);
      steps.push({ ...result, name: one.name ?? `step ${i + 1}` });
      if (!result.passed) break;
    }
  } finally {
    for (const flow of flows.values()) flow.close();
  }
  return { name: script.name, target: formatEndpoint(target.address, target.port), passed: steps.every((one) => one.passed), steps };
}

type Step = ProbeScript['steps'][number];
type Partly = Omit<ScriptStepResult, 'name'>;

async function sendStep(one: Step, flow: Flow, scope: Scope): Promise<Partly> {
  const spec = compose(one.send!, scope, flow);
  const seq = (spec.flags & FLAG.syn) !== 0 ? flow.iss : (spec.seq ?? flow.sndNxt);
  let sent: Uint8Array = new Uint8Array(0);
  const build = (): Uint8Array => (sent = flow.build({ ...spec, seq }));
  const wanted = one.expect;
  let answer: Arrival | null = null;
  if (wanted === undefined) {
    flow.hub.send(build());
  } else {
    const none = wanted.flags === 'none';
    const flags =
      wanted.flags === undefined || none
        ? 0
        : wanted.flags.split(/[ .|-]+/).reduce((bits, name) => bits | (FLAG[name.toLowerCase() as keyof typeof FLAG] ?? 0), 0);
    answer = await flow.ask(build, ({ packet }) => none || (packet.tcp.flags & flags) === flags, { tries: one.tries, wait: one.wait * 1e6 });
    answer ??= flow.reset !== null && (flags & FLAG.rst) !== 0 ? flow.reset : null;
  }
  if (spec.seq === undefined && (spec.flags & FLAG.syn) === 0)
    flow.sndNxt = (seq + (spec.payload?.length ?? 0) + ((spec.flags & FLAG.fin) !== 0 ? 1 : 0)) >>> 0;
  const failure = wanted === undefined ? null : failureOf(wanted, answer);
  if (answer !== null && failure === null) for (const [name, path] of Object.entries(one.save ?? {})) scope.values.set(name, saved(answer, path));
  return {
    passed: failure === null,
    sent: layersOf(sent),
    received: answer === null ? null : layersOf(answer.bytes),
    options: answer === null ? [] : mptcpHex(answer.bytes),
    failure,
    hops: [],
  };
}

async function walkStep(one: Step, flow: Flow, scope: Scope): Promise<Partly> {
  const spec = compose(one.walk!, scope, flow);
  const seq = (spec.flags & FLAG.syn) !== 0 ? flow.iss : (spec.seq ?? flow.sndNxt);
  const result = await walk(flow.hub, () => [flow.build({ ...spec, seq })], { hops: one.hops, tries: one.tries, patience: one.wait * 1e6 });
  const hops = result.hops.map((hop) => ({
    ttl: hop.ttl,
    from: [...new Set(hop.answers.map((answer) => answer.from.join('.')))],
    changed: [...new Set(hop.answers.flatMap((answer) => differences(answer.sent, answer.quote.bytes).map((difference) => difference.field)))],
  }));
  const bad = hops.find((hop) => hop.changed.some((field) => (one.unchanged ?? []).includes(field)));
  const example = result.sent[0];
  return {
    passed: bad === undefined,
    sent: example === undefined ? '' : layersOf(example),
    received: null,
    options: example === undefined ? [] : mptcpHex(example),
    failure: bad === undefined ? null : `hop ${bad.ttl} sees a change in ${bad.changed.join(', ')}`,
    hops,
  };
}

function failureOf(wanted: NonNullable<Step['expect']>, answer: Arrival | null): string | null {
  if (wanted.flags === 'none') return answer === null ? null : `expected no answer; ${layersOf(answer.bytes)} came`;
  if (answer === null) return `expected ${wanted.flags ?? 'an answer'}; none came`;
  const packet = seen(answer.bytes)!;
  const names = (packet.options ?? []).map(optionName);
  const has = (name: string): boolean => names.some((one) => one.startsWith(OPTION_FIELDS[name]!));
  for (const name of [wanted.has ?? []].flat()) if (!has(name)) return `expected ${name}; the answer is ${layersOf(answer.bytes)}`;
  for (const name of [wanted.lacks ?? []].flat()) if (has(name)) return `expected no ${name}; the answer is ${layersOf(answer.bytes)}`;
  if (wanted.option !== undefined) {
    const pattern = new RegExp(`^${wanted.option.toLowerCase()}$`);
    if (!mptcpHex(answer.bytes).some((one) => pattern.test(one)))
      return `expected option ${wanted.option}; the answer has ${mptcpHex(answer.bytes).join(' ') || 'none'}`;
  }
  return null;
}

/** `capable.senderKey`, `join-synack.nonce`, `tcp.seq` of an answer. Throws {@link ProbeError} `BAD_PROBE`. */
function saved(answer: Arrival, path: string): Value {
  const [layer, field] = path.split('.');
  const { tcp } = answer.packet;
  const source: unknown = layer === 'tcp' ? tcp : tcp.options.find((one) => one.kind === 'mptcp' && one.option.subtype === layer);
  const holder = (source as { option?: Record<string, unknown> } | undefined)?.option ?? (source as Record<string, unknown> | undefined);
  const value = holder?.[field ?? ''];
  if (typeof value === 'number') return BigInt(value >>> 0);
  if (value instanceof Uint8Array) return value;
  if (value !== null && typeof value === 'object' && 'high' in value) {
    const { high, low } = value as { high: number; low: number };
    return (BigInt(high >>> 0) << 32n) | BigInt(low >>> 0);
  }
  throw new ProbeError('BAD_PROBE', `save: there is no "${path}" in ${layersOf(answer.bytes)}`);
}

/** A result for terminals. */
export function scriptText(result: ScriptResult, paint: Paint = (_, text) => text): string[] {
  const out = [paint('bold', `${result.name} (${result.target})`)];
  for (const one of result.steps) {
    out.push(`  ${one.passed ? paint('good', '✓') : paint('bad', '✗')} ${one.name}: ${one.sent}`);
    if (one.received !== null) out.push(`      ${one.received}${one.options.length > 0 ? `  ${one.options.join(' ')}` : ''}`);
    for (const hop of one.hops)
      out.push(`      ${String(hop.ttl).padStart(2)}: ${hop.from.join(', ') || '*'}${hop.changed.length > 0 ? `  ${hop.changed.join(', ')}` : ''}`);
    if (one.failure !== null) out.push(paint('bad', `      ${one.failure}`));
  }
  out.push(result.passed ? paint('good', 'passed') : paint('bad', 'failed'));
  return out;
}
