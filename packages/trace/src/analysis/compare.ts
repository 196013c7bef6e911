/**
 * Two captures of the same connections, made at their two ends: which belong together (also behind address translation),
 * how far the clocks are apart, what was lost, delayed and changed on the way.
 */
import type { Connection, Subflow } from './connection.ts';
import type { Fingerprints, HalfPrints, SynFacts } from './fingerprints.ts';
import { Samples } from './samples.ts';
import type { Distribution } from './samples.ts';

export interface DirectionComparison {
  sent: number;
  arrived: number;
  lost: number;
  /** Seen where they arrive and not where they were sent: made or changed on the way. */
  appeared: number;
  /** One-way delay, microseconds, after the clocks were brought together. */
  delay: Distribution | null;
  hops: number | null;
}

export interface SubflowComparison {
  client: string;
  server: string;
  /** Addresses or ports differ between the two ends. */
  translated: boolean;
  /** Initial sequence numbers differ between the two ends. */
  sequenceRewritten: boolean;
  up: DirectionComparison;
  down: DirectionComparison;
  /** In words. */
  changes: string[];
}

export interface ConnectionComparison {
  client: number;
  server: number;
  /** How they were found to be the same. */
  by: 'keys' | 'sequence numbers';
  subflows: SubflowComparison[];
}

export interface CaptureComparison {
  connections: ConnectionComparison[];
  /** Multipath TCP connections without their other half. */
  onlyClient: number[];
  onlyServer: number[];
  /** What to add to the server's clock, microseconds, relative to the two captures' first packets; null when nothing matches. */
  clockOffset: number | null;
  /** Half of the round trip that the offset was told from: it cannot be more wrong than this. */
  uncertainty: number;
}

/** Compares what the packets looked like at the client's end and at the server's. */
export function compareCaptures(client: Fingerprints, server: Fingerprints): CaptureComparison {
  const pairs: { client: Connection; server: Connection; by: ConnectionComparison['by'] }[] = [];
  const left = new Set(server.connections);
  for (const mine of client.connections) {
    const found = [...left].find((other) => sameKeys(mine, other));
    const guess = found ?? [...left].find((other) => sameStart(client, server, mine, other));
    if (guess === undefined) continue;
    left.delete(guess);
    pairs.push({ client: mine, server: guess, by: found === undefined ? 'sequence numbers' : 'keys' });
  }
  const matched = pairs.map((pair) => ({ ...pair, subflows: matchSubflows(pair.client, pair.server, client, server) }));
  const { offset, uncertainty } = clockOffset(matched.flatMap((one) => one.subflows));
  return {
    connections: matched.map((one) => ({
      client: one.client.index,
      server: one.server.index,
      by: one.by,
      subflows: one.subflows.map((both) => compareSubflow(both, offset ?? 0)),
    })),
    onlyClient: client.connections.filter((one) => !pairs.some((pair) => pair.client === one)).map((one) => one.index),
    onlyServer: [...left].map((one) => one.index),
    clockOffset: offset,
    uncertainty,
  };
}

interface Both {
  client: Subflow;
  server: Subflow;
  near: [HalfPrints, HalfPrints];
  far: [HalfPrints, HalfPrints];
}

function sameKeys(a: Connection, b: Connection): boolean {
  return a.sides.some((side, i) => side.token !== null && side.token === b.sides[i]!.token);
}

/** Without keys (a middlebox took them, or the capture began later): the first subflow's sequence numbers. */
function sameStart(client: Fingerprints, server: Fingerprints, a: Connection, b: Connection): boolean {
  const mine = a.subflows[0] === undefined ? undefined : client.subflows.get(a.subflows[0]);
  const theirs = b.subflows[0] === undefined ? undefined : server.subflows.get(b.subflows[0]);
  if (mine === undefined || theirs === undefined) return false;
  return mine.some((half, i) => half.syn !== null && theirs[i]!.syn !== null && half.isn === theirs[i]!.isn);
}

function matchSubflows(a: Connection, b: Connection, client: Fingerprints, server: Fingerprints): Both[] {
  const out: Both[] = [];
  const left = new Set(b.subflows);
  for (const mine of a.subflows) {
    const near = client.subflows.get(mine);
    const found = [...left].find((other) => {
      if (mine.kind === 'join' && other.kind === 'join' && (mine.nonces[0] !== 0 || mine.nonces[1] !== 0))
        return mine.nonces[0] === other.nonces[0] && mine.token === other.token;
      if (mine.kind === 'initial' && other.kind === 'initial') return true;
      return near?.[0].isn === server.subflows.get(other)?.[0].isn;
    });
    const far = found === undefined ? undefined : server.subflows.get(found);
    if (found === undefined || near === undefined || far === undefined) continue;
    left.delete(found);
    out.push({ client: mine, server: found, near, far });
  }
  return out;
}

/** Delays of the packets that are at both ends, uncorrected. A packet that came by more often on one side is left out: which is which cannot be told. */
function* delays(from: HalfPrints, to: HalfPrints): Generator<number> {
  for (const [key, sent] of from.packets) {
    const arrived = to.packets.get(key);
    if (arrived === undefined || arrived.length !== sent.length) continue;
    for (let i = 0; i < sent.length; i++) yield arrived[i]! - sent[i]!;
  }
}

/** The smallest delays of both directions are taken to be equal, on the path where their sum is smallest. */
function clockOffset(both: readonly Both[]): { offset: number | null; uncertainty: number } {
  let best: { offset: number; sum: number } | null = null;
  for (const { near, far } of both) {
    const up = least(delays(near[0], far[0]));
    const down = least(delays(far[1], near[1]));
    if (!Number.isFinite(up) || !Number.isFinite(down)) continue;
    if (best === null || up + down < best.sum) best = { offset: (down - up) / 2, sum: up + down };
  }
  return best === null ? { offset: null, uncertainty: Number.NaN } : { offset: best.offset, uncertainty: best.sum / 2 };
}

function least(values: Iterable<number>): number {
  let out = Number.POSITIVE_INFINITY;
  for (const value of values) if (value < out) out = value;
  return out;
}

function compareSubflow({ client, server, near, far }: Both, offset: number): SubflowComparison {
  const up = compareDirection(near[0], far[0], offset);
  const down = compareDirection(far[1], near[1], -offset);
  const changes: string[] = [];
  describe('the client', near[0], far[0], up, changes);
  describe('the server', far[1], near[1], down, changes);
  const translated = client.sourceText !== server.sourceText || client.destinationText !== server.destinationText;
  if (client.sourceText !== server.sourceText)
    changes.unshift(`the client is ${client.sourceText} at its own end and ${server.sourceText} for the server: its address is translated`);
  if (client.destinationText !== server.destinationText)
    changes.unshift(`the server is ${client.destinationText} for the client and ${server.destinationText} at its own end: its address is translated`);
  const sequenceRewritten = near.some((half, i) => half.syn !== null && far[i]!.syn !== null && half.isn !== far[i]!.isn);
  if (sequenceRewritten) changes.push('initial sequence numbers are rewritten on the way');
  return {
    client: `${client.sourceText} → ${client.destinationText}`,
    server: `${server.sourceText} → ${server.destinationText}`,
    translated,
    sequenceRewritten,
    up,
    down,
    changes,
  };
}

function compareDirection(from: HalfPrints, to: HalfPrints, offset: number): DirectionComparison {
  let sent = 0;
  let arrived = 0;
  let lost = 0;
  let appeared = 0;
  for (const [key, times] of from.packets) {
    const there = to.packets.get(key)?.length ?? 0;
    sent += times.length;
    arrived += Math.min(there, times.length);
    lost += Math.max(0, times.length - there);
  }
  for (const [key, times] of to.packets) appeared += Math.max(0, times.length - (from.packets.get(key)?.length ?? 0));
  const samples = new Samples();
  for (const delay of delays(from, to)) samples.add(Math.max(0, delay + offset));
  const ttls = [...from.ttls];
  const others = [...to.ttls];
  return {
    sent,
    arrived,
    lost,
    appeared,
    delay: samples.distribution(),
    hops: ttls.length === 1 && others.length === 1 && ttls[0]! >= others[0]! ? ttls[0]! - others[0]! : null,
  };
}

function describe(who: string, from: HalfPrints, to: HalfPrints, direction: DirectionComparison, changes: string[]): void {
  if (from.syn !== null && to.syn !== null) synChanges(who, from.syn, to.syn, changes);
  const before = from.dataPackets === 0 ? 0 : from.dataWithOption / from.dataPackets;
  const after = to.dataPackets === 0 ? 0 : to.dataWithOption / to.dataPackets;
  if (before > 0.5 && after < before * 0.5) changes.push(`Multipath TCP options are taken off ${who}'s data on the way`);
  if (direction.appeared > 10 && direction.lost > 10 && from.dataPackets !== to.dataPackets)
    changes.push(`${who}'s data are cut up or joined on the way (${from.dataPackets} packets become ${to.dataPackets})`);
  const classes = [...from.trafficClasses].filter((one) => !to.trafficClasses.has(one));
  if (classes.length > 0 && to.packets.size > 0)
    changes.push(`DSCP or ECN of ${who}'s packets is changed on the way (${[...from.trafficClasses].join(', ')} becomes ${[...to.trafficClasses].join(', ')})`);
}

const OPTION_NAMES: Record<string, string> = {
  '2': 'MSS',
  '3': 'window scale',
  '4': 'SACK permitted',
  '5': 'SACK',
  '8': 'timestamps',
  '30.0': 'MP_CAPABLE',
  '30.1': 'MP_JOIN',
  '34': 'Fast Open',
};

function synChanges(who: string, sent: SynFacts, arrived: SynFacts, changes: string[]): void {
  const before = sent.options.split(' ').filter((one) => one !== '');
  const after = arrived.options.split(' ').filter((one) => one !== '');
  const name = (option: string): string => OPTION_NAMES[option] ?? `option ${option}`;
  const gone = before.filter((one) => !after.includes(one));
  const come = after.filter((one) => !before.includes(one));
  if (gone.length > 0) changes.push(`${gone.map(name).join(', ')} is taken off ${who}'s SYN on the way`);
  if (come.length > 0) changes.push(`${come.map(name).join(', ')} is put on ${who}'s SYN on the way`);
  if (sent.mss !== arrived.mss && sent.mss >= 0 && arrived.mss >= 0) changes.push(`the MSS in ${who}'s SYN is changed from ${sent.mss} to ${arrived.mss}`);
  if (sent.windowScale !== arrived.windowScale && sent.windowScale >= 0 && arrived.windowScale >= 0)
    changes.push(`the window scale in ${who}'s SYN is changed from ${sent.windowScale} to ${arrived.windowScale}`);
}
