/** What the steps of the conversation share: how a connection is begun, and how an answer is read. */
import type { IpAddress, TcpOption } from '@subflow/wire';
import type { VersionNumber } from '@subflow/stack';
import { mptcp, mptcpOption } from '../flow.ts';
import type { Arrival, Flow } from '../flow.ts';
import type { Hub } from '../hub.ts';
import { Session } from '../session.ts';
import type { Join, MapOptions, OpenOptions, SessionTarget } from '../session.ts';
import { until } from '../walk.ts';

export interface StepContext {
  hub: Hub;
  address: IpAddress;
  port: number;
  version: VersionNumber;
  /** What is asked for; each request draws one response. */
  request: Uint8Array;
  /** Local address of second subflows; the first one's by default. */
  second: IpAddress | null;
  /** A port where nobody listens. */
  closedPort: number | null;
  /** Key of ours, instead of one that is drawn: for published vectors. */
  key?: bigint;
  /** Longest wait for something that may never come, microseconds. */
  silence: number;
  /** Wait out timers of minutes. */
  patient: boolean;
  /** The step's id, for reports. */
  label: string;
  /** Connections of the step: whatever happens, they are closed at its end. */
  sessions: Session[];
}

/** What a step saw. */
export interface StepResult {
  /** Tokens joined by `+`, in a fixed order: compared with the tables. */
  outcome: string;
  details: string[];
}

export interface Step {
  id: string;
  title: string;
  /** Versions in which it means something. */
  versions: readonly VersionNumber[];
  /** Takes minutes. */
  patient?: boolean;
  run(context: StepContext): Promise<StepResult>;
}

/** Larger responses are not waited for to their end, nor is the rest of one for longer than this, microseconds. */
const MOST_AWAITED = 65_536;
const REST = 3_000_000;

export class StepFailure extends Error {}

export function targetOf({ address, port, version, label }: StepContext): SessionTarget {
  return { address, port, version, label };
}

/** A session that is open (SYN+ACK with Multipath TCP). Throws {@link StepFailure} when it does not come up. */
export async function opened(context: StepContext, options: OpenOptions = {}): Promise<Session> {
  const session = new Session(context.hub, targetOf(context), { ...(context.key === undefined ? {} : { key: context.key }), ...options });
  context.sessions.push(session);
  if (await session.open(options)) return session;
  const why = session.synAck === null ? (session.first.reset === null ? 'no answer to the SYN' : 'the SYN was reset') : 'a SYN+ACK without Multipath TCP';
  session.close();
  throw new StepFailure(why);
}

/** A session with its third ACK sent and one request answered with mappings: Multipath TCP for certain. */
export async function established(context: StepContext, options: OpenOptions = {}): Promise<Session> {
  const session = await opened(context, options);
  session.confirm();
  const answer = await exchange(context, session);
  if (answer.outcome === 'mptcp') return session;
  session.close();
  throw new StepFailure(`the first request was answered by "${answer.outcome}"`);
}

/** Sends a request (mapped as told) and reads what comes. */
export async function exchange(context: StepContext, session: Session, map: MapOptions = {}, flow: Flow = session.first): Promise<StepResult> {
  return reaction(context, session, flow, () => session.send(context.request, map, flow));
}

/** Sends a request with other options than a mapping. */
export async function exchangeWith(
  context: StepContext,
  session: Session,
  options: readonly TcpOption[],
  flow: Flow = session.first,
  payload = context.request,
): Promise<StepResult> {
  return reaction(context, session, flow, () => flow.deliver(payload, options));
}

/** Does something on a flow and tells what followed: reset, MP_FAIL, a response with or without mappings, silence. */
export async function reaction(context: StepContext, session: Session, flow: Flow, act: () => Promise<unknown> | void): Promise<StepResult> {
  const before = session.mapped + session.unmapped;
  const mappedBefore = session.mapped;
  const arrivalsBefore = flow.arrivals.length;
  // Acknowledging what was there before is no answer.
  const ackedBefore = Math.max(session.dataAcked, session.sent);
  const acked = await act();
  const answered = (): boolean => session.mapped + session.unmapped > before;
  await until(context.hub, context.silence, () => answered() || flow.reset !== null);
  // What belongs to the answer may come a little behind it.
  if (answered() && session.promised <= MOST_AWAITED)
    await until(context.hub, REST, () => session.mapped + session.unmapped >= session.promised || flow.reset !== null);
  const quiet = Math.max(12_000, Math.min(flow.rtt, 100_000));
  for (let last = -1; last !== session.mapped + session.unmapped;) {
    last = session.mapped + session.unmapped;
    await context.hub.sleep(quiet);
  }
  const parts: string[] = [];
  const details: string[] = [];
  const arrivals = flow.arrivals.slice(arrivalsBefore);
  const fail = arrivals.map(({ packet }) => mptcpOption(packet, 'fail')).find((one) => one !== undefined);
  if (fail !== undefined) {
    parts.push('mp-fail');
    details.push(`MP_FAIL for data sequence number ${fail.dsn.high.toString(16)}${fail.dsn.low.toString(16).padStart(8, '0')}`);
  }
  if (flow.reset !== null) parts.push(resetText(flow.reset));
  else if (session.mapped > mappedBefore) parts.push('mptcp');
  else if (answered()) parts.push('fallback');
  else if (acked === null) parts.push('silence');
  else parts.push(session.dataAcked > ackedBefore ? 'data-acked' : 'undelivered');
  return { outcome: parts.join('+'), details };
}

/** `reset`, with the reason of MP_TCPRST and MP_FASTCLOSE if they are there. */
export function resetText(arrival: Arrival): string {
  const reason = mptcpOption(arrival.packet, 'tcprst');
  const fastclose = mptcpOption(arrival.packet, 'fastclose') !== undefined ? '+fastclose' : '';
  return `reset${reason === undefined ? '' : `:${reason.reason}`}${fastclose}`;
}

/** A second subflow, joined and confirmed by the server. Throws {@link StepFailure}. */
export async function joined(context: StepContext, session: Session): Promise<Join> {
  const join = await session.join(context.second === null ? {} : { source: context.second });
  if (!join.isJoin) throw new StepFailure(join.flow.reset === null ? 'no MP_JOIN in the answer' : `the join was answered by ${resetText(join.flow.reset)}`);
  if (!join.verified) throw new StepFailure('the HMAC of the SYN+ACK is wrong');
  const fourth = await session.confirmJoin(join);
  if (fourth === null || join.flow.reset !== null) throw new StepFailure('the third ACK of the join was not answered');
  return join;
}

/** What became of a join: `joined`, `join-reset:1` (on the SYN), `join-synack-reset:3` (on the third ACK), `join-plain`, `join-silence`. */
export async function joinOutcome(
  context: StepContext,
  session: Session,
  options: { token?: number; hmac?: 'wrong' | 'none'; backup?: boolean; port?: number } = {},
): Promise<StepResult> {
  const join = await session.join({ ...options, ...(context.second === null ? {} : { source: context.second }), ask: { tries: 4 } });
  const { flow } = join;
  if (join.synAck === null || flow.reset !== null) return { outcome: flow.reset === null ? 'join-silence' : `join-${resetText(flow.reset)}`, details: [] };
  if (!join.isJoin) return { outcome: 'join-plain', details: ['the SYN+ACK has no MP_JOIN'] };
  const details = join.verified ? [] : ['the HMAC of the SYN+ACK is wrong'];
  const list: TcpOption[] | null =
    options.hmac === 'none'
      ? []
      : options.hmac === 'wrong'
        ? [mptcp({ subtype: 'join-ack', reserved: 0, hmac: Uint8Array.from(join.hmac ?? new Uint8Array(20), (byte) => byte ^ 0xff) })]
        : null;
  const fourth = await session.confirmJoin(join, list);
  if (flow.reset !== null) return { outcome: `join-synack-${resetText(flow.reset)}`, details };
  if (!join.verified) return { outcome: 'join-bad-hmac', details };
  return { outcome: fourth === null ? 'join-unconfirmed' : 'joined', details };
}
