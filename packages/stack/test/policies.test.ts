/** Schedulers, path managers, controllers, Fast Open, black holes, counters and snapshots, between two hosts of ours. */
import { existsSync, readdirSync, readFileSync, statSync } from 'node:fs';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { describe, expect, it } from 'vitest';
import { parseAddress } from '@subflow/wire';
import {
  connectionInfo,
  CONGESTION_CONTROLLERS,
  COUPLED_CONTROLLERS,
  eventPathManager,
  fullMesh,
  Host,
  MPTCP_COUNTERS,
  ndiffports,
  noPathManager,
  SCHEDULERS,
  StackError,
  UNUSED_COUNTERS,
} from '@subflow/stack';
import type { Connection, CongestionView, HostOptions, PathManagerEvent, Scheduler, SchedulerFactory, StackEvent } from '@subflow/stack';
import { dropUnknownOptions } from '@subflow/emulator';
import type { LinkConfig } from '@subflow/emulator';
import { establish, pair, readAll, REMOTE } from './world.ts';
import type { Pair } from './world.ts';

const SECOND = 1_000_000;

/** Two hosts, paths with their own configuration, and a connection with all its subflows up. */
function world(
  links: Partial<LinkConfig>[],
  options: { client?: Partial<HostOptions>; server?: Partial<HostOptions> } = {},
): Pair & { up: Connection; down: Connection } {
  const made = pair({ paths: links.length, ...options });
  links.forEach((link, i) => {
    made.links[i]!.up.config = { ...made.links[i]!.up.config, ...link };
    made.links[i]!.down.config = { ...made.links[i]!.down.config, ...link };
  });
  const { client, server } = establish(made);
  client.write(new Uint8Array(1), made.agenda.now);
  made.client.pump();
  made.agenda.runUntil(made.agenda.now + 2 * SECOND);
  return Object.assign(made, { up: client, down: server });
}

/** Sends `size` bytes up and runs `time`; returns the payload bytes per subflow id. */
function send(w: ReturnType<typeof world>, size: number, time = 10 * SECOND): number[] {
  const before = w.up.subflows.map((one) => one.bytesScheduled);
  w.up.noDelay = true;
  let left = size;
  const until = w.agenda.now + time;
  while (w.agenda.now < until) {
    if (left > 0 && w.up.write(new Uint8Array(Math.min(left, 8000)), w.agenda.now)) left -= Math.min(left, 8000);
    w.client.pump();
    w.agenda.runUntil(w.agenda.now + 2000);
    readAll(w.down, w.agenda.now);
    w.server.pump();
  }
  return w.up.subflows.map((one, i) => one.bytesScheduled - (before[i] ?? 0));
}

const using = (name: string, more: object = {}): { client: Partial<HostOptions> } => ({ client: { mptcp: { scheduler: SCHEDULERS[name]!, ...more } } });
const FAST: Partial<LinkConfig> = { delay: 10_000, rate: 10_000_000, queueTime: 50_000 };
const SLOW: Partial<LinkConfig> = { delay: 60_000, rate: 10_000_000, queueTime: 50_000 };

describe('schedulers', () => {
  it('lowest RTT: a small message takes the fast path', () => {
    expect(send(world([SLOW, FAST], using('lowest-rtt')), 1000, SECOND)).toEqual([0, 1000]);
  });

  it('round-robin: both paths take turns', () => {
    const [a, b] = send(world([FAST, FAST], using('round-robin')), 80_000, 3 * SECOND);
    expect(Math.abs(a! - b!)).toBeLessThan(20_000);
  });

  it('redundant: every byte on both paths, delivered once', () => {
    const w = world([FAST, SLOW], using('redundant'));
    const [a, b] = send(w, 20_000, 3 * SECOND);
    expect(a).toBe(20_000);
    expect(b!).toBeGreaterThan(10_000);
    expect(w.down.dataRcvNxt).toBe(20_002);
  });

  it('BLEST: with a small window the slow path stays unused, with a large one it helps', () => {
    const small = { tcp: { receiveBuffer: 30_000, maxReceiveBuffer: 30_000 } };
    expect(send(world([FAST, SLOW], { ...using('blest'), server: small }), 200_000)[1]).toBe(0);
    expect(send(world([FAST, SLOW], using('blest')), 2_000_000)[1]!).toBeGreaterThan(100_000);
  });

  it('ECF: the end of a transfer waits for the fast path; lowest RTT puts some of it on the slow one', () => {
    const slow = { ...SLOW, delay: 200_000 };
    const ecf = send(world([FAST, slow], using('ecf')), 40_000, 3 * SECOND)[1]!;
    const plain = send(world([FAST, slow], using('lowest-rtt')), 40_000, 3 * SECOND)[1]!;
    expect(ecf).toBeLessThan(plain);
  });

  it('handover: the backup path only after the first has failed, and back again', () => {
    const w = world([FAST, SLOW], { client: { mptcp: { scheduler: SCHEDULERS['handover']!, silenceTimeout: 0 } } });
    w.up.setBackup(w.up.subflows[1]!, true, w.agenda.now);
    w.client.pump();
    expect(send(w, 20_000, SECOND)[1]).toBe(0);
    w.links[0]!.up.setUp(false);
    w.links[0]!.down.setUp(false);
    const before = w.down.dataRcvNxt;
    send(w, 20_000, 2 * SECOND);
    expect(w.down.dataRcvNxt - before).toBe(20_000);
    w.links[0]!.up.setUp(true);
    w.links[0]!.down.setUp(true);
    w.agenda.runUntil(w.agenda.now + 20 * SECOND);
    expect(send(w, 20_000, SECOND)[0]!).toBeGreaterThan(10_000);
  });

  it('service type handover marks every further subflow as backup, for the peer too', () => {
    const made = pair({ paths: 2 });
    made.server.host.listen({ port: 80 });
    const up = made.client.host.connect({ remote: REMOTE, port: 80, service: 'handover' }, made.agenda.now);
    up.write(new Uint8Array(10), made.agenda.now);
    made.client.pump();
    made.agenda.runUntil(made.agenda.now + SECOND);
    expect(up.scheduler!.name).toBe('handover');
    expect(up.subflows.map((one) => one.backup)).toEqual([false, true]);
    expect([...made.server.host.connections.values()][0]!.subflows.map((one) => one.backup)).toEqual([false, true]);
  });

  it('service type none is plain TCP', () => {
    const made = pair();
    made.server.host.listen({ port: 80 });
    const up = made.client.host.connect({ remote: REMOTE, port: 80, service: 'none' }, made.agenda.now);
    made.client.pump();
    made.agenda.runUntil(made.agenda.now + SECOND);
    expect(up).toMatchObject({ mode: 'tcp', fallbackReason: 'disabled' });
  });

  it('interactive: a small message on a path that stops answering is copied to the other before any timeout', () => {
    const w = world([FAST, { ...FAST, delay: 15_000 }], using('interactive'));
    w.links[0]!.up.setUp(false);
    const started = w.agenda.now;
    const wanted = w.down.dataRcvNxt + 500;
    w.up.noDelay = true;
    w.up.write(new Uint8Array(500), w.agenda.now);
    w.client.pump();
    while (w.down.dataRcvNxt < wanted && w.agenda.now < started + 5 * SECOND) w.agenda.runUntil(w.agenda.now + 1000);
    const rto = w.up.subflows[0]!.tcb.rto;
    expect(w.agenda.now - started).toBeLessThan(Math.max(rto, 320_000));
  });

  it('opportunistic retransmission and penalisation: the slow path that blocks the window is bypassed and slowed down', () => {
    const server = { tcp: { receiveBuffer: 40_000, maxReceiveBuffer: 40_000 } };
    const links = [FAST, { ...SLOW, delay: 150_000, rate: 1_000_000, queueTime: 2_000_000 }];
    const helped = world(links, { ...using('lowest-rtt'), server });
    const plain = world(links, { ...using('lowest-rtt', { opportunisticRetransmission: false, penalisation: false }), server });
    send(helped, 2_000_000, 5 * SECOND);
    send(plain, 2_000_000, 5 * SECOND);
    const count = (w: Pair, type: StackEvent['type']): number => w.clientEvents.filter((event) => event.type === type).length;
    expect(count(helped, 'opportunistic-retransmission')).toBeGreaterThan(0);
    expect(count(helped, 'penalisation')).toBeGreaterThan(0);
    expect(count(plain, 'opportunistic-retransmission') + count(plain, 'penalisation')).toBe(0);
    expect(helped.down.dataRcvNxt).toBeGreaterThan(plain.down.dataRcvNxt);
  });

  it('one of your own: 30 lines, passed in', () => {
    const second: SchedulerFactory = (): Scheduler => ({
      name: 'always the last',
      select: (subflows, _request, roomOf) => {
        const last = subflows[subflows.length - 1] ?? null;
        return last !== null && roomOf(last) > 0 ? last : null;
      },
    });
    const w = world([FAST, SLOW], { client: { mptcp: { scheduler: second } } });
    expect(send(w, 5000, SECOND)).toEqual([0, 5000]);
  });
});

describe('path managers', () => {
  const subflowsWith = (client: Partial<HostOptions>, server: Partial<HostOptions> = {}, paths = 3): ReturnType<typeof world> =>
    world(Array(paths).fill(FAST), { client, server });

  it('none: one subflow', () => {
    expect(subflowsWith({ mptcp: { pathManager: noPathManager } }, { mptcp: { pathManager: noPathManager } }).up.subflows).toHaveLength(1);
  });

  it('ndiffports: several subflows between the same addresses', () => {
    const w = subflowsWith({ mptcp: { pathManager: ndiffports(4) } }, { mptcp: { pathManager: noPathManager } }, 1);
    expect(w.up.subflows).toHaveLength(4);
    expect(new Set(w.up.subflows.map((one) => one.tcb.localPort)).size).toBe(4);
    expect(new Set(w.up.subflows.map((one) => one.tcb.local.join('.'))).size).toBe(1);
  });

  it('fullmesh: every address to every address', () => {
    const made = pair({ paths: 2, client: { mptcp: { pathManager: fullMesh } }, server: { mptcp: { pathManager: fullMesh } } });
    for (const host of [made.client.host, made.server.host]) for (const through of host.interfaces) host.addRoute(parseAddress('0.0.0.0'), 0, through);
    // A wire that carries everything to everybody: which interface a packet leaves by does not matter.
    for (const link of made.links) for (const other of made.links) if (link !== other) crossConnect(made);
    const { client } = establish(made);
    client.write(new Uint8Array(1), made.agenda.now);
    made.client.pump();
    made.agenda.runUntil(made.agenda.now + 2 * SECOND);
    expect(client.subflows.filter((one) => one.established)).toHaveLength(4);
  });

  it('default: endpoints added, changed and removed while the connection is up', () => {
    const made = pair({ paths: 3, client: { mptcp: { maxSubflows: 8 } } });
    made.client.host.endpoints.length = 0;
    made.server.host.endpoints.length = 0;
    for (const through of made.server.host.interfaces) made.server.host.addRoute(parseAddress('0.0.0.0'), 0, through);
    const { client } = establish(made);
    client.write(new Uint8Array(1), made.agenda.now);
    made.client.pump();
    made.agenda.runUntil(made.agenda.now + SECOND);
    expect(client.subflows).toHaveLength(1);
    const id = made.server.host.addEndpoint({ address: parseAddress('192.0.2.6'), signal: true }, made.agenda.now);
    made.server.pump();
    made.agenda.runUntil(made.agenda.now + SECOND);
    expect(client.subflows).toHaveLength(2);
    made.server.host.changeEndpoint(id, { backup: true }, made.agenda.now);
    made.server.pump();
    made.agenda.runUntil(made.agenda.now + SECOND);
    expect(client.subflows[1]!.remoteBackup).toBe(true);
    made.server.host.removeEndpoint(id, made.agenda.now);
    made.server.pump();
    made.agenda.runUntil(made.agenda.now + 5 * SECOND);
    expect(client.subflows).toHaveLength(1);
  });

  it('limits count at once, also for connections that are up', () => {
    const made = pair({ paths: 3 });
    made.client.host.setLimits({ subflows: 0 }, 0);
    made.server.host.setLimits({ subflows: 8 }, 0);
    const { client } = establish(made);
    client.write(new Uint8Array(1), made.agenda.now);
    made.client.pump();
    made.agenda.runUntil(made.agenda.now + SECOND);
    expect(client.subflows).toHaveLength(1);
    for (const through of made.client.host.interfaces) made.client.host.addRoute(parseAddress('0.0.0.0'), 0, through);
    made.client.host.setLimits({ subflows: 1 }, made.agenda.now);
    made.client.pump();
    expect(client.subflows).toHaveLength(2);
  });

  it('endpoints that make no sense are refused with a code', () => {
    const host = new Host({ entropy: () => 1 });
    const address = parseAddress('192.0.2.1');
    const code = (run: () => unknown): string | null => {
      try {
        run();
        return null;
      } catch (error) {
        return (error as StackError).code;
      }
    };
    expect(code(() => host.addEndpoint({ address, port: 80 }))).toBe('BAD_ENDPOINT');
    expect(code(() => host.addEndpoint({ address, signal: true, fullmesh: true }))).toBe('BAD_ENDPOINT');
    expect(code(() => host.addEndpoint({ address, id: 256 }))).toBe('BAD_ADDRESS_ID');
  });

  it('as a stream of events with commands: create, destroy, announce, remove, priority', () => {
    const seen: string[] = [];
    const manager = eventPathManager((event: PathManagerEvent) => {
      seen.push(event.type);
      const { connection, time } = event;
      if (event.type === 'established' && !event.serverSide)
        connection.join({ local: parseAddress('192.0.2.5'), localId: 7, remote: parseAddress('192.0.2.6'), remotePort: 80, remoteId: 9 }, time);
      if (event.type === 'subflow-established') {
        connection.setBackup(event.subflow, true, time);
        connection.announce(3, parseAddress('192.0.2.5'), null, time);
      }
    });
    const w = world([FAST, FAST], { client: { mptcp: { pathManager: manager } }, server: { mptcp: { pathManager: noPathManager } } });
    expect(w.up.subflows).toHaveLength(2);
    expect(w.down.subflows[1]!.remoteBackup).toBe(true);
    expect(w.down.remoteAddresses).toHaveLength(1);
    w.up.dropSubflow(w.up.subflows[1]!, w.agenda.now);
    w.up.abort(w.agenda.now);
    w.client.pump();
    expect(seen).toEqual(['created', 'established', 'subflow-established', 'subflow-closed', 'closed']);
  });
});

/** Carries what one path's interface sends to the peer's interface that has the address. */
function crossConnect(made: Pair): void {
  for (const link of made.links) {
    made.client.attach(link.client, (packet) => {
      const destination = packet.slice(16, 20).join('.');
      const there = made.links.find((other) => other.server.addresses[0]!.address.join('.') === destination) ?? link;
      made.agenda.at(made.agenda.now + 1000, (now) => made.server.receive(there.server, packet, now));
    });
    made.server.attach(link.server, (packet) => {
      const destination = packet.slice(16, 20).join('.');
      const there = made.links.find((other) => other.client.addresses[0]!.address.join('.') === destination) ?? link;
      made.agenda.at(made.agenda.now + 1000, (now) => made.client.receive(there.client, packet, now));
    });
  }
}

describe('congestion control', () => {
  it.each(Object.keys(CONGESTION_CONTROLLERS))('%s fills a path with loss and delivers', (congestion) => {
    const w = world([{ ...FAST, loss: 0.002 }], { client: { tcp: { congestion } } });
    send(w, 3_000_000, 6 * SECOND);
    expect(w.down.dataRcvNxt).toBe(3_000_002);
    expect(connectionInfo(w.up).subflowInfo[0]!.congestion).toBe(congestion);
  });

  it.each(Object.keys(COUPLED_CONTROLLERS))('%s delivers over two paths', (coupled) => {
    const w = world([{ ...FAST, loss: 0.001 }, FAST], { client: { mptcp: { coupled } } });
    send(w, 4_000_000, 8 * SECOND);
    expect(w.down.dataRcvNxt).toBe(4_000_002);
    expect(w.up.subflows.map((one) => one.tcb.congestion.name)).toEqual([coupled, coupled]);
  });

  it('LIA: two equal subflows together grow as one TCP (RFC 6356 §3)', () => {
    const group = { views: [] as CongestionView[] };
    const view = (): CongestionView =>
      ({
        cwnd: 100_000,
        ssthresh: 1,
        mss: 1000,
        srtt: 50_000,
        minRtt: 50_000,
        lastRtt: 50_000,
        inFlight: 0,
        sndUna: 1,
        sndNxt: 1,
        pacingRate: 0,
        congestion: COUPLED_CONTROLLERS['lia']!(group),
      }) as CongestionView;
    group.views.push(view(), view());
    const [first] = group.views;
    first!.congestion.onAck(first!, 100_000, 0);
    // alpha = 200000 * (100000 / rtt^2) / (200000 / rtt)^2 = 1/2: half of 1000 * 100000 / 200000.
    expect(first!.cwnd - 100_000).toBe(250);
  });

  it('BBR paces and keeps the queue short where CUBIC fills it', () => {
    const deep = { ...FAST, queueTime: 500_000 };
    const rtt = (congestion: string): number => {
      const w = world([deep], { client: { tcp: { congestion } } });
      send(w, 6_000_000, 5 * SECOND);
      return w.up.subflows[0]!.tcb.srtt;
    };
    expect(rtt('bbr')).toBeLessThan(rtt('cubic'));
  });

  it('an unknown name is refused with a code and the names there are', () => {
    expect(() => new Host({ entropy: () => 1, tcp: { congestion: 'vegas' } })).toThrow(/unknown congestion controller "vegas"; expected cubic, newreno, bbr/);
    expect(() => new Host({ entropy: () => 1, mptcp: { coupled: 'cubic' } })).toThrow(/expected lia, olia, balia, wvegas/);
  });
});

describe('simultaneous connects', () => {
  it('both ends call each other: plain TCP, data both ways (neither RFC has keys for it)', () => {
    const made = pair();
    const up = made.client.host.connect({ remote: REMOTE, port: 5000, localPort: 5000 }, 0);
    const down = made.server.host.connect({ remote: parseAddress('192.0.2.1'), port: 5000, localPort: 5000 }, 0);
    made.client.pump();
    made.server.pump();
    made.agenda.runUntil(SECOND);
    expect([up.open, down.open, up.mode, down.mode]).toEqual([true, true, 'tcp', 'tcp']);
    expect(made.client.host.mptcpCounters.SimultConnectFallback).toBe(1);
    up.write(new Uint8Array([1, 2, 3]), made.agenda.now);
    made.client.pump();
    made.agenda.runUntil(2 * SECOND);
    expect(readAll(down, made.agenda.now)).toEqual([1, 2, 3]);
    expect(made.client.host.sizes.tokens).toBe(0);
  });
});

describe('black holes and Fast Open', () => {
  it('a destination that swallows MP_CAPABLE is remembered, and tried again later', () => {
    const made = pair({ client: { mptcp: { blackHoleTimeout: 100 * SECOND } } });
    made.server.host.listen({ port: 80 });
    made.links[0]!.up.filter = dropUnknownOptions('syn')({ agenda: made.agenda, emit: () => undefined }).forward!;
    const open = (): Connection => {
      const connection = made.client.host.connect({ remote: REMOTE, port: 80 }, made.agenda.now);
      made.client.pump();
      return connection;
    };
    const first = open();
    made.agenda.runUntil(made.agenda.now + 20 * SECOND);
    expect(first).toMatchObject({ open: true, mode: 'tcp', fallbackReason: 'syn-timeout' });
    expect(made.client.host.mptcpCounters).toMatchObject({ MPCapableSYNTXDrop: 1, Blackhole: 1 });
    const second = open();
    made.agenda.runUntil(made.agenda.now + SECOND);
    expect(second).toMatchObject({ open: true, fallbackReason: 'disabled' });
    expect(made.client.host.mptcpCounters.MPCapableSYNTXDisabled).toBe(1);
    made.links[0]!.up.filter = null;
    made.agenda.runUntil(made.agenda.now + 200 * SECOND);
    const third = open();
    made.agenda.runUntil(made.agenda.now + SECOND);
    expect(third.mode).toBe('mptcp');
  });

  it.each([[0], [1]] as const)('Fast Open with version %i: the second connection brings data on its SYN, outside the data sequence space', (version) => {
    const made = pair({ paths: 2, client: { mptcp: { versions: [version], checksum: true } } });
    made.server.host.listen({ port: 80, fastOpen: true });
    const accepted: Connection[] = [];
    made.server.onEvent = (event) => {
      if (event.type === 'connection-accepted') accepted.push(made.server.host.connections.get(event.connection)!);
    };
    const text = new TextEncoder().encode('GET /');
    const open = (): Connection => {
      const connection = made.client.host.connect({ remote: REMOTE, port: 80, fastOpen: true }, made.agenda.now);
      connection.write(text, made.agenda.now);
      made.client.pump();
      made.agenda.runUntil(made.agenda.now + SECOND);
      return connection;
    };
    open();
    const second = open();
    expect(second.subflows[0]!.sendOffset).toBe(text.length);
    expect(accepted[1]!.subflows[0]!.receiveOffset).toBe(text.length);
    second.write(new TextEncoder().encode(' HTTP'), made.agenda.now);
    made.client.pump();
    made.agenda.runUntil(made.agenda.now + SECOND);
    expect(new TextDecoder().decode(Uint8Array.from(readAll(accepted[1]!, made.agenda.now)))).toBe('GET / HTTP');
    accepted[1]!.write(new TextEncoder().encode('200 OK'), made.agenda.now);
    made.server.pump();
    made.agenda.runUntil(made.agenda.now + SECOND);
    expect(new TextDecoder().decode(Uint8Array.from(readAll(second, made.agenda.now)))).toBe('200 OK');
    expect(second.mode).toBe('mptcp');
    expect(second.subflows).toHaveLength(2);
  });

  it('unacknowledged data older than the user timeout ends the connection (RFC 5482)', () => {
    const w = world([FAST], { client: { tcp: { userTimeout: 3 * SECOND } } });
    w.links[0]!.up.setUp(false);
    w.up.write(new Uint8Array(100), w.agenda.now);
    w.client.pump();
    const started = w.agenda.now;
    w.agenda.runUntil(started + 120 * SECOND);
    const closed = w.clientEvents.find((event) => event.type === 'subflow-closed');
    expect(closed).toMatchObject({ reason: 'user-timeout' });
    expect(closed!.time - started).toBeLessThan(10 * SECOND);
  });

  it('full-sized segments that vanish are tried smaller (RFC 4821 §7.7)', () => {
    const w = world([FAST]);
    w.links[0]!.up.filter = (packet) => (packet.length > 1300 ? null : packet);
    send(w, 30_000, 20 * SECOND);
    expect(w.down.dataRcvNxt).toBe(30_002);
    expect(w.up.subflows[0]!.tcb.pathMtu).toBe(1280);
  });
});

describe('observability', () => {
  it('counters are Linux’s 76, each either counted somewhere or listed with a reason why not', () => {
    const names = Object.keys(MPTCP_COUNTERS);
    expect(names).toHaveLength(76);
    if (existsSync('/proc/net/netstat')) {
      const table = readFileSync('/proc/net/netstat', 'utf8')
        .split('\n')
        .find((line) => line.startsWith('MPTcpExt: MP'));
      if (table !== undefined) expect(names).toEqual(table.split(' ').slice(1));
    }
    const source = sourcesUnder(fileURLToPath(new URL('../src', import.meta.url)));
    const silent = names.filter((name) => !source.includes(`'${name}'`) || (source.match(new RegExp(`'${name}'`, 'g'))?.length ?? 0) < 1);
    expect(silent.filter((name) => !(name in UNUSED_COUNTERS))).toEqual([]);
    for (const name of names) if (name in UNUSED_COUNTERS) expect(source).not.toContain(`mib('${name}'`);
  });

  it('established connections are counted up and down', () => {
    const w = world([FAST, FAST]);
    expect(w.client.host.mptcpCounters.MPCurrEstab).toBe(1);
    w.up.abort(w.agenda.now);
    w.client.pump();
    w.agenda.runUntil(w.agenda.now + SECOND);
    expect(w.client.host.mptcpCounters.MPCurrEstab).toBe(0);
    expect(w.server.host.mptcpCounters.MPCurrEstab).toBe(0);
  });

  it('a snapshot says what MPTCP_INFO and TCP_INFO say', () => {
    const w = world([FAST, SLOW]);
    send(w, 500_000, 5 * SECOND);
    const info = connectionInfo(w.up);
    expect(info).toMatchObject({
      multipath: true,
      version: 1,
      fallback: null,
      subflows: 1,
      subflowsLimit: 8,
      phase: 'open',
      scheduler: 'lowest-rtt',
      pathManager: 'default',
      bytesAcknowledged: 500_001,
    });
    expect(info.localToken).toBe(connectionInfo(w.down).remoteToken);
    const [fast, slow] = info.subflowInfo;
    expect(fast).toMatchObject({
      state: 'ESTABLISHED',
      local: '192.0.2.1:' + w.up.localPort,
      remote: '192.0.2.2:80',
      congestion: 'cubic',
      timestamps: true,
      sack: true,
    });
    expect(fast!.srtt).toBeGreaterThan(19_000);
    expect(slow!.srtt).toBeGreaterThan(119_000);
    expect(fast!.bytesSent + slow!.bytesSent).toBeGreaterThanOrEqual(500_001);
    expect(JSON.parse(JSON.stringify(info))).toEqual(info);
  });
});

function sourcesUnder(folder: string): string {
  return readdirSync(folder)
    .map((name) => {
      const path = join(folder, name);
      if (statSync(path).isDirectory()) return sourcesUnder(path);
      return name === 'counters.ts' ? '' : readFileSync(path, 'utf8');
    })
    .join('\n');
}
