/**
 * Service types over wifi and lte, in virtual time: a connection begins on lte; wifi appears at 5 s, fades from 15 s on and is
 * gone at 22 s. Two workloads, each with every service type and with plain TCP on either path: a download that never
 * ends, and requests of 300 bytes answered by 3 kB, ten a second. The numbers are the same on every machine.
 */
import { Agenda, EmulatedHost, LinkDirection, PERFECT_LINK, Random } from '@subflow/emulator';
import type { LinkConfig } from '@subflow/emulator';
import { Host } from '@subflow/stack';
import type { Connection, ServiceType } from '@subflow/stack';
import { parseAddress } from '@subflow/wire';
import { median, row } from './rows.ts';
import type { Row } from './rows.ts';

const SECOND = 1_000_000;
const APPEARS = 5 * SECOND;
const FADES = 15 * SECOND;
const GONE = 22 * SECOND;
const END = 30 * SECOND;
const REQUEST_INTERVAL = SECOND / 10;
const REQUEST = 300;
const ANSWER = 3000;
const PORT = 80;
const PATHS = {
  wifi: { ...PERFECT_LINK, rate: 20e6, delay: 10_000, jitter: 2_000, queueTime: 150_000 },
  lte: { ...PERFECT_LINK, rate: 10e6, delay: 30_000, jitter: 5_000, queueTime: 250_000 },
} as const;
type PathName = keyof typeof PATHS;

/** Plain TCP names its path. */
export type Contender = Exclude<ServiceType, 'none'> | `TCP on ${PathName}`;
export const CONTENDERS: readonly Contender[] = ['handover', 'interactive', 'aggregate', 'TCP on wifi', 'TCP on lte'];

export interface ServiceResult {
  contender: Contender;
  /** Download: Mbit/s over the whole of it, from 0 to 30 s. */
  goodput: number;
  /** Download: longest time without a byte for the application after wifi appeared, milliseconds, and when it began, seconds. */
  gap: number;
  gapAt: number;
  /** Download: share of the bytes that wifi carried, second by second. */
  wifiShare: number[];
  /** Requests: latency, milliseconds. */
  p50: number;
  p95: number;
  worst: number;
  answered: number;
  asked: number;
}

/** Both workloads for one contender. */
export function measureService(contender: Contender, seed = 1): ServiceResult {
  const download = run(contender, 'download', seed);
  const requests = run(contender, 'requests', seed);
  const sorted = requests.latencies.toSorted((a, b) => a - b);
  const at = (share: number): number => sorted[Math.min(sorted.length - 1, Math.floor(share * sorted.length))] ?? Number.POSITIVE_INFINITY;
  return {
    contender,
    goodput: (8 * download.received) / END,
    gap: download.gap / 1000,
    gapAt: download.gapAt / SECOND,
    wifiShare: download.perSecond.map(({ wifi, lte }) => (wifi + lte === 0 ? 0 : wifi / (wifi + lte))),
    p50: at(0.5) / 1000,
    p95: at(0.95) / 1000,
    worst: at(1) / 1000,
    answered: requests.answered,
    asked: requests.latencies.length,
  };
}

interface Run {
  received: number;
  gap: number;
  gapAt: number;
  perSecond: { wifi: number; lte: number }[];
  /** Of every request; those never answered count until the end. */
  latencies: number[];
  answered: number;
}

function run(contender: Contender, workload: 'download' | 'requests', seed: number): Run {
  const agenda = new Agenda();
  const random = new Random(seed);
  const service = contender.startsWith('TCP') ? null : (contender as Exclude<ServiceType, 'none'>);
  const plainOn: PathName | null = contender === 'TCP on wifi' ? 'wifi' : contender === 'TCP on lte' ? 'lte' : null;
  const make = (name: string): EmulatedHost =>
    new EmulatedHost(name, new Host({ entropy: () => random.uint32(), tcp: { timeWait: SECOND, nagle: false } }), agenda);
  const client = make('client');
  const server = make('server');
  const out: Run = { received: 0, gap: 0, gapAt: 0, perSecond: Array.from({ length: END / SECOND }, () => ({ wifi: 0, lte: 0 })), latencies: [], answered: 0 };
  const links = Object.fromEntries(
    (Object.keys(PATHS) as PathName[]).map((name, i) => {
      const ours = client.host.addInterface({ name, mtu: 1500, addresses: [{ address: parseAddress(`192.0.2.${4 * i + 1}`), bits: 30 }] });
      const theirs = server.host.addInterface({ name, mtu: 1500, addresses: [{ address: parseAddress(`192.0.2.${4 * i + 2}`), bits: 30 }] });
      client.host.addRoute(parseAddress('0.0.0.0'), 0, ours);
      server.host.addRoute(parseAddress(`192.0.2.${4 * i + 1}`), 32, theirs);
      // The phone knows which of its paths it prefers.
      client.host.addEndpoint({ address: parseAddress(`192.0.2.${4 * i + 1}`), subflow: true, backup: service === 'handover' && name === 'lte' });
      const direction = (label: string, deliver: (packet: Uint8Array, now: number) => void): LinkDirection =>
        new LinkDirection(agenda, random.fork(label), PATHS[name], deliver);
      const up = direction(`${name} up`, (packet, now) => server.receive(theirs, packet, now));
      const down = direction(`${name} down`, (packet, now) => {
        const bucket = out.perSecond[Math.floor(now / SECOND)];
        if (bucket !== undefined) bucket[name] += packet.length;
        client.receive(ours, packet, now);
      });
      client.attach(ours, (packet) => up.send(packet));
      server.attach(theirs, (packet) => down.send(packet));
      return [name, { ours, up, down }];
    }),
  ) as Record<PathName, { ours: ReturnType<Host['addInterface']>; up: LinkDirection; down: LinkDirection }>;
  const setWifi = (up: boolean): void => {
    links.wifi.up.setUp(up);
    links.wifi.down.setUp(up);
  };
  const change = (config: Partial<LinkConfig>): void => {
    for (const one of [links.wifi.up, links.wifi.down]) one.config = { ...one.config, ...config };
  };
  setWifi(false);
  client.host.interfaceDown(links.wifi.ours, 0);
  agenda.at(APPEARS, (now) => {
    setWifi(true);
    client.host.interfaceUp(links.wifi.ours, now);
    client.pump();
  });
  // Walking away from the access point: slower and lossier by the second, then nothing; the system notices two seconds later.
  for (let i = 0; i < 7; i++) agenda.at(FADES + i * SECOND, () => change({ rate: 20e6 * 0.6 ** (i + 1), loss: 0.01 * 1.8 ** i }));
  agenda.at(GONE, () => setWifi(false));
  agenda.at(GONE + 2 * SECOND, (now) => {
    client.host.interfaceDown(links.wifi.ours, now);
    client.pump();
  });

  // Plain TCP on wifi begins when there is wifi.
  const begin = plainOn === 'wifi' ? APPEARS + 1000 : 0;
  const body = new Uint8Array(65536);
  let theirs: Connection | null = null;
  let requested = 0;
  let lastByte = 0;
  const pending: { sentAt: number; until: number }[] = [];
  server.host.listen({ port: PORT, settings: service === null ? {} : { service } });
  server.onEvent = (event, now) => {
    if (event.type === 'connection-accepted') theirs = server.host.connections.get(event.connection) ?? null;
    if (theirs === null) return;
    if (workload === 'download') while (theirs.write(body, now));
    else {
      for (let chunk = theirs.peek(); chunk !== null; chunk = theirs.peek()) {
        requested += chunk.length;
        theirs.consume(chunk.length, now);
      }
      for (; requested >= REQUEST; requested -= REQUEST) theirs.write(body.subarray(0, ANSWER), now);
    }
    server.pump();
  };
  let mine: Connection | null = null;
  client.onEvent = (_event, now) => {
    if (mine === null) return;
    for (let chunk = mine.peek(); chunk !== null; chunk = mine.peek()) {
      if (now >= APPEARS && lastByte > 0 && now - Math.max(lastByte, APPEARS) > out.gap) {
        out.gap = now - Math.max(lastByte, APPEARS);
        out.gapAt = Math.max(lastByte, APPEARS);
      }
      lastByte = now;
      out.received += chunk.length;
      mine.consume(chunk.length, now);
    }
    for (let first = pending[0]; first !== undefined && out.received >= first.until; first = pending[0]) {
      out.latencies.push(now - first.sentAt);
      out.answered++;
      pending.shift();
    }
    client.pump();
  };
  agenda.at(begin, (now) => {
    const local = parseAddress(plainOn === 'wifi' ? '192.0.2.1' : '192.0.2.5');
    const remote = parseAddress(plainOn === 'wifi' ? '192.0.2.2' : '192.0.2.6');
    mine = client.host.connect({ local, remote, port: PORT, ...(service === null ? { multipath: false } : { service }) }, now);
    client.pump();
  });
  if (workload === 'requests') {
    // Latency counts from when wifi is there, so that plain TCP on wifi is not charged for the time before.
    for (let at = APPEARS + SECOND / 2, i = 1; at < END - SECOND; at += REQUEST_INTERVAL, i++) {
      agenda.at(at, (now) => {
        pending.push({ sentAt: now, until: ANSWER * i });
        mine?.write(body.subarray(0, REQUEST), now);
        client.pump();
      });
    }
  }
  agenda.runUntil(END);
  if (workload === 'download' && END - lastByte > out.gap) {
    out.gap = END - lastByte;
    out.gapAt = lastByte;
  }
  for (const { sentAt } of pending) out.latencies.push(END - sentAt);
  return out;
}

/** A line for people. */
export function describeService(result: ServiceResult): string {
  const bars = result.wifiShare.map((share) => (share > 0.95 ? 'W' : share > 0.5 ? 'w' : share > 0.05 ? 'l' : 'L')).join('');
  const gap = `longest gap ${result.gap.toFixed(0).padStart(5)} ms at ${result.gapAt.toFixed(1)} s`;
  return `${result.contender.padEnd(12)} ${result.goodput.toFixed(2).padStart(6)} Mbit/s  ${gap.padEnd(36)}  requests p50 ${result.p50.toFixed(1).padStart(5)} p95 ${result.p95.toFixed(1).padStart(6)} ms, ${result.answered}/${result.asked} answered  ${bars}`;
}

/** The medians of several seeds; the picture and the place of the gap are those of the first. */
export function medianService(contender: Contender, seeds: readonly number[] = SEEDS): ServiceResult {
  const all = seeds.map((seed) => measureService(contender, seed));
  const of = (pick: (one: ServiceResult) => number): number => median(all.map(pick));
  return {
    ...all[0]!,
    goodput: of((one) => one.goodput),
    gap: of((one) => one.gap),
    p50: of((one) => one.p50),
    p95: of((one) => one.p95),
    worst: of((one) => one.worst),
  };
}

const SEEDS = [1, 2, 3, 4, 5, 6, 7];

/** For `npm run bench -- --only services`. */
export function services(): Row[] {
  console.log(
    'second by second which path carried the download: W wifi, w mostly wifi, l mostly lte, L lte; wifi appears at 5 s, fades from 15 s, is gone at 22 s',
  );
  const results = CONTENDERS.map((contender) => medianService(contender));
  for (const result of results) console.log(describeService(result));
  const plain = results.filter((one) => one.contender.startsWith('TCP'));
  const of = (contender: Contender): ServiceResult => results.find((one) => one.contender === contender)!;
  const bestGoodput = Math.max(...plain.map((one) => one.goodput));
  const bestP95 = Math.min(...plain.map((one) => one.p95));
  return [
    row('aggregate: goodput', 'Mbit/s', [of('aggregate').goodput], 'the better plain TCP', bestGoodput),
    row('handover: goodput', 'Mbit/s', [of('handover').goodput], 'the better plain TCP', bestGoodput),
    row('handover: longest gap', 'ms', [of('handover').gap], 'plain TCP on wifi', of('TCP on wifi').gap, true),
    row('interactive: 95th percentile of latency', 'ms', [of('interactive').p95], 'the better plain TCP', bestP95, true),
  ];
}
