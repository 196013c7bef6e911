/** From observations to verdicts: which behaviour, between which hops, in which direction, how sure. */

import { BEHAVIOURS } from './behaviours.ts';
import type { BehaviourId } from './behaviours.ts';
import { differences, optionName, optionText, seen } from './compare.ts';
import type { Difference, SeenPacket } from './compare.ts';
import type { Observation, SeenAnswer, Stage } from './observation.ts';
import type { PathFacts } from './path.ts';

export type Certainty = 'proved' | 'likely' | 'cannot tell';

export interface Finding {
  behaviour: BehaviourId;
  direction: 'forward' | 'backward';
  /** The box stands between these hops; 0 is the prober, `distance` the target. */
  from: number;
  to: number;
  certainty: Certainty;
  evidence: string[];
}

/** Whether a hop's quotes show a behaviour; null: they are too short to tell, or do not agree. */
type Visible = (answers: readonly SeenAnswer[]) => boolean | null;

/** All quotes of a hop say the same. */
function each(test: (answer: SeenAnswer) => boolean | null): Visible {
  return (answers) => {
    const told = answers.map(test).filter((one) => one !== null);
    if (told.length === 0) return null;
    return told.every(Boolean) ? true : told.every((one) => !one) ? false : null;
  };
}

/** Joined segments show in one quote; that they were not joined takes the quotes of both. */
const JOINED: Visible = (answers) => {
  if (answers.some((one) => lengthsDiffer(one, 'joined') === true)) return true;
  const windows = new Set(answers.map((one) => seen(one.sent)!.seq));
  return windows.size > 1 ? false : null;
};

const STREAM: ReadonlySet<Stage> = new Set(['data', 'plain-data', 'hole', 'pair', 'answer', 'answer-pair']);
/** Copies of which none arrived: less than one in ten thousand by a loss of a fifth. */
const ENOUGH = 6;

/** Reads the facts. An empty list is a clean path, as far as it could be seen. */
export function findings(facts: PathFacts): Finding[] {
  const out = new Map<string, Finding>();
  const length =
    facts.distance ?? Math.max(1, ...facts.observations.flatMap(({ hops }) => (hops ?? []).filter((hop) => hop.answers.length > 0).map((hop) => hop.ttl + 1)));
  const add = (
    behaviour: BehaviourId,
    direction: 'forward' | 'backward',
    place: { from: number; to: number },
    certainty: Certainty,
    evidence: string,
  ): void => {
    const key = `${behaviour} ${direction}`;
    const known = out.get(key);
    if (known === undefined) {
      out.set(key, { behaviour, direction, ...place, certainty, evidence: [evidence] });
      return;
    }
    // Several stages tell of one box: each may narrow its place down.
    const from = Math.max(known.from, place.from);
    const to = Math.min(known.to, place.to);
    // Stages that contradict each other narrow nothing.
    if (from < to) Object.assign(known, { from, to });
    if (certainty === 'proved') known.certainty = 'proved';
    if (known.evidence.length < 6 && !known.evidence.includes(evidence)) known.evidence.push(evidence);
  };
  const proxy = proxyPlace(facts, length);
  if (proxy !== null) {
    add('proxy', 'forward', proxy, proxy.certainty, proxy.evidence);
    return [...out.values()];
  }
  for (const observation of facts.observations) readObservation(facts, observation, length, add);
  readActive(facts, length, add);
  return merged([...out.values()]);
}

type Add = (behaviour: BehaviourId, direction: 'forward' | 'backward', place: { from: number; to: number }, certainty: Certainty, evidence: string) => void;

/** A proxy answers SYNs nearer than the target, or puts a SYN of its own in place of ours. */
function proxyPlace(facts: PathFacts, length: number): { from: number; to: number; certainty: Certainty; evidence: string } | null {
  const syn = facts.observations.find((one) => one.stage === 'syn');
  const plain = facts.observations.find((one) => one.stage === 'plain-syn');
  const foreign = [plain, syn].some(
    (one) =>
      one !== undefined &&
      one.arrived !== null &&
      one.arrived.length > 0 &&
      one.sent.length > 0 &&
      one.arrived.every((bytes) => isForeign([...one.sent, ...one.walked], bytes)),
  );
  const same = [plain, syn].some(
    (one) => one !== undefined && one.arrived !== null && one.arrived.some((bytes) => !isForeign([...one.sent, ...one.walked], bytes)),
  );
  const near = facts.answeredAt !== null && facts.distance !== null && facts.answeredAt < facts.distance;
  if (same || (!foreign && !near)) return null;
  // Behind a TTL that was set anew everything is answered; without an echo server the two look alike.
  const at = facts.answeredAt ?? length;
  const place = { from: lastQuoting(plain, at), to: at };
  if (foreign)
    return {
      ...place,
      certainty: 'proved',
      evidence: 'the SYN that reached the server is not the one that was sent: sequence number, window and options are others',
    };
  return { ...place, certainty: 'likely', evidence: `SYNs are answered at hop ${at}, echo requests at hop ${facts.distance}` };
}

function isForeign(sent: readonly Uint8Array[], arrived: Uint8Array): boolean {
  const one = seen(arrived)!;
  return sent.every((bytes) => {
    const own = seen(bytes)!;
    const stamp = (packet: SeenPacket): number | undefined => packet.options?.find((option) => option.kind === 'timestamps')?.value;
    return own.seq !== one.seq && own.window !== one.window && stamp(own) !== stamp(one);
  });
}

function lastQuoting(observation: Observation | undefined, below: number): number {
  let last = 0;
  for (const hop of observation?.hops ?? []) if (hop.ttl < below && hop.answers.length > 0) last = hop.ttl;
  return last;
}

function readObservation(facts: PathFacts, observation: Observation, length: number, add: Add): void {
  const { stage, direction, arrived } = observation;
  const place = (visible: Visible): { from: number; to: number; shown: boolean } => placed(facts, observation, length, visible);
  if (arrived !== null && arrived.length > 0) {
    for (const bytes of arrived) {
      const sent = pairOf([...observation.sent, ...observation.walked], bytes);
      const structure = STREAM.has(stage) ? structureOf(observation.sent, bytes) : 'whole';
      if (structure === 'piece' || structure === 'joined') {
        const behaviour = structure === 'piece' ? 'split-segments' : 'coalesce-segments';
        const visible = structure === 'piece' ? each((answer) => lengthsDiffer(answer, 'piece')) : JOINED;
        add(
          behaviour,
          direction,
          place(visible),
          'proved',
          `${stage}: a segment of ${seen(bytes)!.payloadLength} octets arrived where ${seen(sent)!.payloadLength} were sent`,
        );
        continue;
      }
      for (const difference of differences(sent, bytes)) {
        const behaviour = behaviourOf(stage, difference, structure, [...observation.sent, ...observation.walked], facts, direction);
        if (behaviour === null) continue;
        // An option that was taken out, not overwritten, shows in the length: in any quote.
        const shorter = difference.change === 'removed' && seen(bytes)!.length < seen(sent)!.length;
        const visible = each((answer) => shows(answer, difference, behaviour) ?? (shorter ? seen(answer.quote)!.length < seen(answer.sent)!.length : null));
        add(
          behaviour,
          direction,
          placed(facts, observation, length, visible, behaviour),
          'proved',
          `${stage}: ${difference.field} ${difference.change}${difference.change === 'changed' ? ` from ${difference.before} to ${difference.after}` : ''}`,
        );
      }
    }
    return;
  }
  if (arrived === null && direction === 'forward' && (!facts.echoServer || facts.echoLost)) readQuotes(facts, observation, length, add);
}

/** Without an echo server the quotes of the last hops stand for what arrives. */
function readQuotes(facts: PathFacts, observation: Observation, length: number, add: Add): void {
  const { stage, hops } = observation;
  const answering = (hops ?? []).filter((hop) => hop.answers.length > 0);
  const last = answering.at(-1);
  if (last === undefined) return;
  for (const answer of last.answers) {
    const structure = STREAM.has(stage) ? structureOf([answer.sent], answer.quote) : 'whole';
    if (structure !== 'whole') continue;
    for (const difference of differences(answer.sent, answer.quote)) {
      const behaviour = behaviourOf(stage, difference, structure, [answer.sent], facts, 'forward');
      if (behaviour === null) continue;
      const visible = each((one) => shows(one, difference, behaviour));
      const where = placed(facts, observation, length, visible);
      const witnesses = answering.filter((hop) => visible(hop.answers) === true).length;
      // One router alone may quote badly; two do not lie alike.
      if (where.shown)
        add(behaviour, 'forward', where, witnesses > 1 ? 'likely' : 'cannot tell', `${stage}: hop ${last.ttl} quotes ${difference.field} ${difference.change}`);
    }
  }
}

/** Resets, drops, acknowledgements, reflections, TTLs: what shows in answers rather than in fields. */
function readActive(facts: PathFacts, length: number, add: Add): void {
  const stage = (name: Stage): Observation | undefined => facts.observations.find((one) => one.stage === name);
  const arrivedAny = (one: Observation | undefined): boolean => one?.arrived !== null && (one?.arrived?.length ?? 0) > 0;
  const gone = (one: Observation | undefined): boolean => one !== undefined && one.sent.length >= ENOUGH && (one.arrived === null || one.arrived.length === 0);
  const syn = stage('syn');
  const plainSyn = stage('plain-syn');
  if (facts.answers.plain === 'syn-ack' && facts.answers.multipath === 'nothing' && gone(syn)) {
    const where = silentFrom(syn!, plainSyn, length);
    add(
      'drop-syn',
      'forward',
      where,
      facts.echoServer || where.shown ? 'proved' : 'likely',
      `${syn!.sent.length} SYNs with the option were not answered, SYNs without it are`,
    );
  }
  if (facts.answers.plain === 'syn-ack' && facts.answers.multipath === 'reset') {
    const at = facts.resetAt.syn ?? length;
    const inner = at < length || facts.echoServer;
    add(
      'reset-syn',
      'forward',
      { from: at - 1, to: at },
      inner ? 'proved' : 'cannot tell',
      `SYNs with the option are reset from TTL ${at} on, SYNs without it are answered`,
    );
  }
  const data = stage('data');
  if (facts.resetOnData && facts.serverReset !== true) {
    const at = facts.resetAt.data ?? length;
    add(
      'reset-data',
      'forward',
      { from: at - 1, to: at },
      at < length ? 'proved' : facts.echoServer ? 'likely' : 'cannot tell',
      `the connection is reset when data with a Multipath TCP option has a TTL of ${at} or more`,
    );
  } else if (gone(data) && (data!.arrived !== null || facts.unansweredData)) {
    const where = silentFrom(data!, stage('plain-data'), length);
    add(
      'drop-data',
      'forward',
      where,
      data!.arrived !== null || where.shown ? 'proved' : 'likely',
      `${data!.sent.length} segments with Multipath TCP options did not arrive, the same data without did`,
    );
  }
  const answer = stage('answer');
  if (gone(answer)) {
    add(
      'drop-data',
      'backward',
      reversed(facts, silentFrom(answer!, stage('synack'), lengthBack(facts, length)), length),
      'likely',
      `${answer!.sent.length} segments of the server's with Multipath TCP options did not arrive`,
    );
  }
  const hole = stage('hole');
  if (gone(hole) && hole!.arrived !== null && arrivedAny(data) && arrivedAny(stage('pair'))) {
    add(
      'drop-holes',
      'forward',
      silentFrom(hole!, data, length),
      'proved',
      `${hole!.sent.length} segments behind a hole did not arrive; those that filled it did`,
    );
  }
  // One could be chance: numbers that a box draws anew may meet a mark.
  const reached = facts.distance !== null && tooFar(facts, facts.distance) > 1;
  const farther = facts.arrivalTtl !== null && facts.distance !== null && facts.arrivalTtl > 64 - (facts.distance - 1);
  if (facts.ackedAt !== null && facts.ackedAt < length && !farther && !reached && !(facts.answeredAt !== null && facts.answeredAt < length)) {
    add(
      'proactive-ack',
      'forward',
      { from: facts.ackedAt - 1, to: facts.ackedAt },
      'proved',
      `data with a TTL of ${facts.ackedAt} is acknowledged, the server is ${length} hops away`,
    );
  } else if (facts.forgedAck === true && !facts.resetOnData) {
    add('proactive-ack', 'forward', { from: length - 1, to: length }, 'likely', 'acknowledgements came that the server has not sent');
  }
  if (facts.reflected) {
    const own = facts.serverSynAck === null ? null : seen(facts.serverSynAck);
    const byServer = own?.options?.some((one) => one.kind === 'unknown') === true;
    if (!byServer) {
      const removed = each((one) => shows(one, { field: 'mptcp.capable', change: 'removed', before: '', after: '' }, 'strip-syn'));
      const where = syn === undefined ? { from: 0, to: length } : placed(facts, syn, length, removed);
      add(
        'reflect-options',
        'backward',
        { from: where.from, to: where.to },
        own === null ? 'likely' : 'proved',
        "the SYN+ACK carries the SYN's own options" + (own === null ? '; the server, or a box before it' : ', the server has not sent them'),
      );
    }
  }
  if ((farther || reached) && facts.distance !== null) {
    const quoting = lastQuoting(plainSyn, length);
    const next = facts.routers.findIndex((one, i) => i + 1 > quoting && one !== null) + 1;
    add(
      'rewrite-ttl',
      'forward',
      { from: quoting, to: next > quoting ? next : length },
      'proved',
      farther
        ? `SYNs arrive with a TTL of ${facts.arrivalTtl}; ${64 - (facts.distance - 1)} was expected`
        : 'packets arrived whose TTL should have ended on the way',
    );
  }
}

/** Packets that arrived although their TTL was too small for it. */
function tooFar(facts: PathFacts, distance: number): number {
  return facts.observations
    .filter((one) => one.direction === 'forward')
    .reduce((total, one) => total + (one.arrived ?? []).filter((bytes) => one.walked.some((sent) => sameMark(sent, bytes, distance))).length, 0);
}

/** Whether what arrived is a packet of a walk, by its mark, whose TTL was too small for it. */
function sameMark(sent: Uint8Array, arrived: Uint8Array, distance: number): boolean {
  const own = seen(sent)!;
  const one = seen(arrived)!;
  if (own.ttl >= distance || own.seq !== one.seq) return false;
  return own.version === 4 ? own.identification === one.identification : own.window === one.window;
}

/** Where packets of a stage stop drawing answers while others still do. */
function silentFrom(observation: Observation, reference: Observation | undefined, length: number): { from: number; to: number; shown: boolean } {
  let from = 0;
  for (const hop of observation.hops ?? []) if (hop.answers.length > 0) from = hop.ttl;
  const next = (reference?.hops ?? []).find((hop) => hop.ttl > from && hop.answers.length > 0);
  return { from, to: next?.ttl ?? length, shown: next !== undefined };
}

/** One behaviour may show in several ways: what is part of another is taken out. */
function merged(list: Finding[]): Finding[] {
  const has = (behaviour: BehaviourId, direction?: 'forward' | 'backward'): boolean =>
    list.some((one) => one.behaviour === behaviour && (direction === undefined || one.direction === direction));
  return list.filter((one) => {
    switch (one.behaviour) {
      case 'strip-syn':
        return !has('reflect-options');
      case 'strip-join':
        return !has('strip-syn', 'forward') && !has('reflect-options');
      case 'strip-add-addr':
        return !has('strip-data', one.direction);
      case 'proactive-ack':
        // Acknowledgements are translated where payload was inserted.
        return !has('resize-payload') || one.certainty === 'proved';
      case 'rewrite-payload':
        return !has('resize-payload', one.direction);
      default:
        return true;
    }
  });
}

function lengthBack(facts: PathFacts, length: number): number {
  return facts.distanceBack ?? length;
}

/** Hops counted from the server, as hops counted from the prober. */
function reversed(facts: PathFacts, place: { from: number; to: number }, length: number): { from: number; to: number } {
  const back = lengthBack(facts, length);
  const turn = (hop: number): number => Math.max(0, Math.min(length, hop === back ? 0 : length - hop));
  return { from: turn(place.to), to: turn(place.from) };
}

/** The place of a change: behind the last hop that does not show it, before the first that does. */
function placed(
  facts: PathFacts,
  observation: Observation,
  length: number,
  visible: Visible,
  behaviour?: BehaviourId,
): { from: number; to: number; shown: boolean } {
  // Translators put quotes right again: the outside address itself tells where they are.
  if (behaviour === 'nat' && facts.outsideAt !== null) return { from: facts.outsideAt - 1, to: facts.outsideAt, shown: true };
  const end = observation.direction === 'forward' ? length : lengthBack(facts, length);
  let from = 0;
  let to = end;
  let shown = false;
  for (const hop of observation.hops ?? []) {
    const told = hop.answers.length === 0 ? null : visible(hop.answers);
    if (told === null) continue;
    if (!told) {
      // A hop behind that does not show it: what was seen before was a bad quote.
      from = hop.ttl;
      to = end;
      shown = false;
    } else if (!shown) {
      to = hop.ttl;
      shown = true;
    }
  }
  // When every hop shows it, the first link does it; when none does, the last.
  const place = observation.direction === 'forward' ? { from, to } : reversed(facts, { from, to }, length);
  return { ...place, shown };
}

/** The copy that became what arrived: by identification, by timestamp, by place in the stream. */
function pairOf(sent: readonly Uint8Array[], arrived: Uint8Array): Uint8Array {
  const one = seen(arrived)!;
  const stamp = (packet: SeenPacket): number | undefined => packet.options?.find((option) => option.kind === 'timestamps')?.value;
  const copies = sent.map((bytes) => ({ bytes, packet: seen(bytes)! }));
  const near = copies.filter(({ packet }) => packet.payloadLength === one.payloadLength && packet.seq === one.seq);
  const pool = near.length > 0 ? near : copies;
  return (
    pool.find(({ packet }) => packet.version === 4 && packet.identification === one.identification && packet.identification !== 0) ??
    pool.find(
      ({ packet }) => packet.version === 6 && packet.window === one.window && packet.payloadLength === one.payloadLength && stamp(packet) === stamp(one),
    ) ??
    pool.find(({ packet }) => packet.window === one.window && packet.payloadLength === one.payloadLength) ??
    pool.find(({ packet }) => stamp(packet) !== undefined && stamp(packet) === stamp(one)) ??
    pool[0]!
  ).bytes;
}

/** Whether stream data arrived as it was cut. */
function structureOf(sent: readonly Uint8Array[], arrived: Uint8Array): 'whole' | 'piece' | 'joined' | 'resized' {
  const one = seen(arrived);
  if (one === null || one.payloadLength <= 0) return 'whole';
  const own = sent.map((bytes) => seen(bytes)!).filter((packet) => packet.payloadLength > 0);
  if (own.length === 0) return 'whole';
  if (own.some((packet) => packet.payloadLength === one.payloadLength)) return 'whole';
  const longest = Math.max(...own.map((packet) => packet.payloadLength));
  const sameContent = own.some((packet) => within(packet, one));
  if (one.payloadLength < longest && sameContent) return 'piece';
  const starts = own.some((packet) => packet.payload.every((byte, i) => i >= one.payload.length || byte === one.payload[i]));
  const span = Math.max(...own.map((packet) => packet.seq + packet.payloadLength)) - Math.min(...own.map((packet) => packet.seq));
  if (one.payloadLength > longest && starts && one.payloadLength <= span) return 'joined';
  return 'resized';
}

function within(whole: SeenPacket, piece: SeenPacket): boolean {
  const shift = piece.payload.length;
  for (let at = 0; at + shift <= whole.payload.length; at++) {
    let same = true;
    for (let i = 0; i < shift && same; i++) same = whole.payload[at + i] === piece.payload[i];
    if (same) return true;
  }
  return false;
}

/** A quote's declared length beside what was sent. */
function lengthsDiffer(answer: SeenAnswer, structure: 'piece' | 'joined'): boolean | null {
  const sent = seen(answer.sent);
  const quote = seen(answer.quote);
  if (sent === null || quote === null) return null;
  // Options that were taken out change the length by less than any payload here.
  const change = quote.length - sent.length;
  return structure === 'piece' ? change < -60 : change > 60;
}

/** Whether a quote shows a difference; null when the quote ends before the field. */
function shows(answer: SeenAnswer, difference: Difference, behaviour: BehaviourId): boolean | null {
  const quote = seen(answer.quote);
  const sent = seen(answer.sent);
  if (quote === null || sent === null) return null;
  const own = differences(answer.sent, answer.quote);
  if (behaviour === 'resize-payload') return quote.length !== sent.length && Math.abs(quote.length - sent.length) < 60;
  if (own.some((one) => one.field === difference.field && one.change === difference.change && sameSense(behaviour, one))) return true;
  const { field } = difference;
  if (field.startsWith('ip.')) return false;
  if (field.startsWith('mptcp.') || field.startsWith('tcp.option')) {
    return quote.options !== null ? false : null;
  }
  if (field === 'payload') {
    const at = firstDifference(difference, sent);
    const header = quote.headerLength > 0 ? quote.headerLength : 20;
    return at >= 0 && quote.tcpBytes >= header + at + 1 ? false : null;
  }
  const needs: Record<string, number> = {
    'tcp.source-port': 2,
    'tcp.destination-port': 4,
    'tcp.seq': 8,
    'tcp.ack': 12,
    'tcp.reserved': 13,
    'tcp.window': 16,
    'tcp.urgent': 20,
  };
  return quote.tcpBytes >= (needs[field] ?? 14) ? false : null;
}

function sameSense(behaviour: BehaviourId, difference: Difference): boolean {
  if (behaviour === 'mark-ecn') return difference.after === '3';
  if (behaviour === 'rewrite-timestamps') return stampOf(difference.before) !== stampOf(difference.after);
  return true;
}

function firstDifference(difference: Difference, sent: SeenPacket): number {
  const before = difference.before;
  const text = Array.from(sent.payload, (byte) => byte.toString(16).padStart(2, '0')).join('');
  const at = text.indexOf(before);
  return at < 0 ? -1 : at >>> 1;
}

const stampOf = (text: string): string => text.split(' ')[0] ?? '';

/** The behaviour that a difference is a sign of; null for what follows from another one, or means nothing. */
function behaviourOf(
  stage: Stage,
  difference: Difference,
  structure: 'whole' | 'resized',
  sent: readonly Uint8Array[],
  facts: PathFacts,
  direction: 'forward' | 'backward',
): BehaviourId | null {
  const { field, change, before, after } = difference;
  const syn = stage === 'syn' || stage === 'plain-syn' || stage === 'join' || stage === 'synack';
  if (field.startsWith('mptcp.')) {
    if (change === 'changed') {
      // Copies differ in their DATA_ACK; what equals another copy has not been changed.
      return (field === 'mptcp.dss' && structure === 'resized') || sent.some((bytes) => hasOption(bytes, field, after)) ? null : 'rewrite-mptcp';
    }
    if (change === 'added') return facts.reflected ? null : 'rewrite-mptcp';
    if (stage === 'syn') return 'strip-syn';
    if (stage === 'synack') return 'strip-synack';
    if (stage === 'join') return 'strip-join';
    if (field === 'mptcp.add-addr') return 'strip-add-addr';
    return 'strip-data';
  }
  switch (field) {
    case 'tcp.options.order':
      return 'reorder-options';
    case 'tcp.option.timestamps':
      if (change === 'removed') return 'strip-timestamps';
      if (change === 'added') return 'add-option';
      // The echo is translated back by whoever changes the other direction's value.
      return stampOf(before) === stampOf(after) || sent.some((bytes) => hasStamp(bytes, stampOf(after))) ? null : 'rewrite-timestamps';
    case 'tcp.option.sack-permitted':
      return change === 'removed' ? 'strip-sack' : 'add-option';
    case 'tcp.option.window-scale':
      return change === 'added' ? 'add-option' : 'strip-window-scale';
    case 'tcp.option.mss':
      return change === 'added' ? 'add-option' : 'clamp-mss';
    case 'tcp.option.sack':
    case 'tcp.option.254':
      return null;
    case 'tcp.window':
      return sent.some((bytes) => String(seen(bytes)!.window) === after) ? null : 'rewrite-window';
    case 'tcp.flags.ece':
    case 'tcp.flags.cwr':
      return syn && before === 'true' ? 'clear-ecn-setup' : null;
    case 'tcp.flags.urg':
    case 'tcp.urgent':
    case 'tcp.reserved':
      return 'rewrite-flags';
    case 'tcp.seq':
      return syn && direction === 'forward' ? 'rewrite-sequence' : null;
    case 'ip.dscp':
      return 'rewrite-dscp';
    case 'ip.ecn':
      return after === '3' ? 'mark-ecn' : 'rewrite-ecn';
    case 'ip.id':
      return sent.some((bytes) => String(seen(bytes)!.identification) === after) || before === '0' ? null : 'rewrite-ip-id';
    case 'ip.df':
      return before === 'true' ? 'clear-df' : null;
    case 'ip.source':
    case 'tcp.source-port':
    case 'ip.destination':
    case 'tcp.destination-port':
      return direction === 'forward' ? 'nat' : null;
    case 'payload':
      return structure === 'resized' ? 'resize-payload' : 'rewrite-payload';
    case 'payload.length':
      return structure === 'resized' ? 'resize-payload' : null;
    default:
      return field.startsWith('tcp.option.') && change === 'added' && !facts.reflected ? 'add-option' : null;
  }
}

function hasOption(bytes: Uint8Array, field: string, text: string): boolean {
  return seen(bytes)?.options?.some((one) => optionName(one) === field && optionText(one) === text) === true;
}

function hasStamp(bytes: Uint8Array, value: string): boolean {
  return seen(bytes)?.options?.some((one) => one.kind === 'timestamps' && String(one.value) === value) === true;
}

/** A finding as a sentence, for people. */
export function sentence(finding: Finding, facts: PathFacts): string {
  const behaviour = BEHAVIOURS[finding.behaviour];
  const way = finding.direction === 'forward' ? 'towards the server' : 'towards the client';
  return `${placeText(finding, facts)} ${behaviour.does} (${way}; ${finding.certainty}). ${behaviour.means}`;
}

/** "A box between hop 3 (203.0.113.3) and the server", "A box somewhere between this host and hop 2". */
export function placeText({ from, to }: { from: number; to: number }, facts: PathFacts): string {
  const length = facts.distance ?? to;
  const name = (hop: number): string => {
    if (hop === 0) return 'this host';
    if (hop >= length && facts.distance !== null) return 'the server';
    const router = facts.routers[hop - 1];
    return `hop ${hop}${router === null || router === undefined ? '' : ` (${router})`}`;
  };
  if (to - from === 1) return `A box between ${name(from)} and ${name(to)}`;
  return `A box somewhere between ${name(from)} and ${name(to)}`;
}
