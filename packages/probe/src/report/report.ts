/** Everything a probe found out, as one value: what the texts, pages and JSON are made from. */
import { formatAddress, formatEndpoint } from '@subflow/wire';
import type { IpAddress } from '@subflow/wire';
import { BEHAVIOURS } from '../behaviours.ts';
import { differences, hex, mptcpHex, seen } from '../compare.ts';
import type { Difference } from '../compare.ts';
import { layersOf } from '../layers.ts';
import type { Conversation } from '../conversation/run.ts';
import type { Observation } from '../observation.ts';
import type { PathFacts } from '../path.ts';
import { findings, sentence } from '../rules.ts';
import type { Finding } from '../rules.ts';

/** A packet that was sent or received, with what it was for. */
export interface RecordedPacket {
  /** Microseconds from the first packet. */
  at: number;
  direction: 'out' | 'in';
  label: string;
  bytes: Uint8Array;
}

export interface HopLine {
  ttl: number;
  /** Routers that answered at this hop: more than one where paths are parallel. */
  routers: { address: string; name: string | null; rtt: number; labels: string; quoted: number; differences: Difference[] }[];
}

/** A walk, ready to be shown. */
export interface WalkReport {
  stage: string;
  direction: 'forward' | 'backward';
  /** Layers and options of what was sent, as the published tool names them. */
  sent: string;
  options: string[];
  hops: HopLine[];
}

export interface ProbeReport {
  target: string;
  conversation: Conversation | null;
  path: { facts: PathFacts; findings: Finding[]; walks: WalkReport[]; notes: string[] } | null;
  /** Plain words: what it comes to. */
  verdict: string[];
  packets: RecordedPacket[];
}

export function probeReport(
  target: IpAddress,
  port: number,
  conversation: Conversation | null,
  facts: PathFacts | null,
  packets: RecordedPacket[],
  names: ReadonlyMap<string, string> = new Map(),
): ProbeReport {
  const path = facts === null ? null : { facts, findings: findings(facts), walks: walksOf(facts, names), notes: notesOf(facts) };
  return { target: formatEndpoint(target, port), conversation, path, verdict: verdictOf(conversation, path), packets };
}

/** What the whole means for users; the first sentence is the answer to "does it get through?". */
function verdictOf(conversation: Conversation | null, path: ProbeReport['path']): string[] {
  const out: string[] = [];
  const blocking = path?.findings.filter((one) => BEHAVIOURS[one.behaviour].severity === 'blocks') ?? [];
  if (conversation !== null) out.push(serverSentence(conversation, path));
  else if (path !== null && path.facts.answers.plain === 'nothing') out.push('The server does not answer.');
  else if (path !== null && path.facts.answers.plain === 'reset') out.push('The server refuses the connection.');
  for (const finding of path?.findings ?? []) out.push(sentence(finding, path!.facts));
  if (path !== null && blocking.length === 0 && path.facts.answers.plain === 'syn-ack') {
    const { facts } = path;
    if (facts.echoServer && !facts.echoLost)
      out.push(path.findings.length === 0 ? 'Nothing on the path touches Multipath TCP, in either direction.' : 'Multipath TCP gets through this path.');
    else out.push(...unseen(facts, path.findings));
  }
  return out;
}

function serverSentence(conversation: Conversation, path: ProbeReport['path']): string {
  const { kind, version, steps } = conversation;
  switch (kind) {
    case 'silent':
      return 'The server does not answer SYNs with Multipath TCP.';
    case 'refused':
      return 'The server refuses the connection.';
    case 'reflects':
      return 'No Multipath TCP: the answer only reflects options that it does not understand.';
    case 'plain':
      return path?.findings.some((one) => one.behaviour === 'strip-syn' || one.behaviour === 'strip-synack') === true
        ? 'Connections are plain TCP: the option does not survive the path.'
        : `No Multipath TCP: the server answers as plain TCP does.${path === null || path.facts.echoServer ? '' : ' (A box that takes the option out of its answers looks the same from here.)'}`;
    case 'multipath': {
      const count = (judgement: string): number => steps.filter((one) => one.judgement === judgement).length;
      const deviations = count('known deviation') + count('new deviation');
      const like =
        conversation.resembles !== null && conversation.resembles.agrees / conversation.resembles.of > 0.9
          ? ` It behaves like ${conversation.resembles.name}.`
          : '';
      return `The server speaks Multipath TCP version ${version}: ${count('conforms')} of ${steps.length - count('not run')} steps as the RFC asks${deviations === 0 ? '' : `, ${count('known deviation')} known and ${count('new deviation')} new deviations`}.${like}`;
    }
  }
}

/** Without an echo server silence is not proof: say what could not be seen. */
function unseen(facts: PathFacts, list: readonly Finding[]): string[] {
  if (facts.distance === 1) return ['The server is a neighbour, or this host: there is no router on the way.'];
  const syn = facts.observations.find((one) => one.stage === 'syn');
  const last = (syn?.hops ?? []).filter((hop) => hop.answers.length > 0).at(-1);
  const reach =
    last === undefined ? 'No router quoted our packets' : `${list.length === 0 ? 'Nothing was changed' : 'Nothing else was changed'} as far as hop ${last.ttl}`;
  const short =
    last !== undefined && last.answers.every((one) => (seen(one.quote)?.options ?? null) === null)
      ? ' (its quote ends before the options: cannot tell for them)'
      : '';
  const rest = facts.echoLost ? 'the echo server stopped answering' : 'there is no echo server ("subflow probe --serve")';
  return [`${reach}${short}. What happens behind it and on the way back cannot be told: ${rest} at the other end.`];
}

function notesOf(facts: PathFacts): string[] {
  const notes: string[] = [];
  if (facts.rejectedQuotes > 0) notes.push(`${facts.rejectedQuotes} ICMP errors quoted packets that were never sent; they were left out`);
  if (facts.distance === null) notes.push('the server does not answer echo requests: a proxy cannot be told from the server by distance');
  for (const hop of liars(facts))
    notes.push(`hop ${hop.ttl} (${hop.address}) quotes ${hop.fields.join(', ')} otherwise than all behind it: its quotes are not believed`);
  if (facts.echoServer && facts.outside !== null && facts.outside !== facts.own) notes.push(`this host is ${facts.own}; the server sees ${facts.outside}`);
  return notes;
}

/** Hops whose quotes differ from what was sent although hops behind them, or the server, saw it unchanged. */
function liars(facts: PathFacts): { ttl: number; address: string; fields: string[] }[] {
  const out = new Map<string, { ttl: number; address: string; fields: Set<string> }>();
  for (const { hops, direction } of facts.observations) {
    if (direction !== 'forward' || hops === null) continue;
    const clean = hops.filter((hop) => hop.answers.length > 0 && hop.answers.every((one) => differences(one.sent, one.quote).length === 0));
    const lastClean = clean.at(-1)?.ttl ?? 0;
    for (const hop of hops) {
      if (hop.ttl >= lastClean) continue;
      for (const answer of hop.answers) {
        const fields = differences(answer.sent, answer.quote).map((one) => one.field);
        if (fields.length === 0) continue;
        const known = out.get(answer.from) ?? { ttl: hop.ttl, address: answer.from, fields: new Set<string>() };
        for (const field of fields) known.fields.add(field);
        out.set(answer.from, known);
      }
    }
  }
  return [...out.values()].map((one) => ({ ...one, fields: [...one.fields] }));
}

function walksOf(facts: PathFacts, names: ReadonlyMap<string, string>): WalkReport[] {
  return facts.observations
    .filter((one) => one.hops !== null && one.hops.length > 0)
    .map((observation) => {
      const example = observation.sent[0] ?? observation.walked[0] ?? observation.hops!.flatMap((hop) => hop.answers)[0]?.sent ?? null;
      return {
        stage: observation.stage,
        direction: observation.direction,
        sent: example === null ? '' : layersOf(example),
        options: example === null ? [] : mptcpHex(example),
        hops: observation.hops!.map((hop) => hopLine(observation, hop, names)),
      };
    });
}

function hopLine(
  _observation: Observation,
  hop: { ttl: number; answers: readonly { from: string; sent: Uint8Array; quote: Uint8Array; rtt: number; labels: string }[] },
  names: ReadonlyMap<string, string>,
): HopLine {
  const routers = new Map<string, HopLine['routers'][number]>();
  for (const answer of hop.answers) {
    const known = routers.get(answer.from);
    const list = differences(answer.sent, answer.quote);
    if (known !== undefined) {
      for (const one of list) if (!known.differences.some((other) => other.field === one.field && other.change === one.change)) known.differences.push(one);
      continue;
    }
    const packet = seen(answer.quote);
    routers.set(answer.from, {
      address: answer.from,
      name: names.get(answer.from) ?? null,
      rtt: answer.rtt,
      labels: answer.labels,
      quoted: packet?.tcpBytes ?? 0,
      differences: list,
    });
  }
  return { ttl: hop.ttl, routers: [...routers.values()] };
}

/** What was sent and what came back in a step, a line each: microseconds, direction, layers, Multipath TCP options in hexadecimal. */
export function packetsOf(report: ProbeReport, step: string): { at: number; direction: 'out' | 'in'; packet: string; options: string[] }[] {
  return report.packets
    .filter((one) => one.label === step)
    .map(({ at, direction, bytes }) => ({ at: Math.round(at), direction, packet: layersOf(bytes), options: mptcpHex(bytes) }));
}

/** The report as JSON: octets in hexadecimal, no undefined values. */
export function reportJson(report: ProbeReport): unknown {
  return JSON.parse(
    JSON.stringify(
      {
        target: report.target,
        verdict: report.verdict,
        conversation:
          report.conversation === null
            ? null
            : {
                ...report.conversation,
                address: formatAddress(report.conversation.address),
                steps: report.conversation.steps.map((step) => ({ ...step, packets: packetsOf(report, step.id) })),
              },
        path:
          report.path === null
            ? null
            : {
                distance: report.path.facts.distance,
                routers: report.path.facts.routers,
                echoServer: report.path.facts.echoServer,
                outside: report.path.facts.outside,
                findings: report.path.findings.map((one) => ({ ...one, ...BEHAVIOURS[one.behaviour], sentence: sentence(one, report.path!.facts) })),
                walks: report.path.walks,
                notes: report.path.notes,
              },
      },
      (_, value: unknown) => (value instanceof Uint8Array ? hex(value) : typeof value === 'bigint' ? value.toString(16) : value),
    ),
  );
}
