/**
 * A run of the playground: our stack at both ends, emulated links between, in virtual time. What a page shows of it comes from
 * the hosts' events, from snapshots of the connection and from taps on the links; nothing is counted a second time.
 */
import { Agenda, attachMiddlebox, EmulatedHost, LinkDirection, MIDDLEBOXES, PERFECT_LINK, Random } from '@subflow/emulator';
import type { LinkConfig } from '@subflow/emulator';
import { connectionInfo, defaultPathManager, fullMesh, Host, ndiffports, noPathManager, SCHEDULERS } from '@subflow/stack';
import type { Connection, ConnectionInfo, ConnectOptions, PathManagerFactory, Scheduler, SchedulerFactory, StackEvent, SubflowInfo } from '@subflow/stack';
import { formatAddress, ipDestination, isMalformed, parseAddress, parsePacketValue } from '@subflow/wire';
import { BIN, LONGEST } from './names.ts';
import { OutOfOrder } from './out-of-order.ts';
import type { PlayAction, PlaySetup } from './setup.ts';
import { sentence, words } from './words.ts';

const MS = 1000;
const SECOND = 1e6;
const PORT = 443;
const CHUNK = 32_768;
const MESSAGE = 200;
const MESSAGE_EVERY = 50 * MS;
const QUEUE_TIME = 200 * MS;
/** Packets and events that are kept, newest last. */
const KEPT_PACKETS = 20_000;
const KEPT_EVENTS = 400;
const KEPT_DECISIONS = 60;

const PATH_MANAGERS: Readonly<Record<string, () => PathManagerFactory>> = {
  default: () => defaultPathManager,
  fullmesh: () => fullMesh,
  ndiffports: () => ndiffports(2) as PathManagerFactory,
  none: () => noPathManager,
};

/** A packet on a path, as it left the link or was lost on it. */
export interface PlayPacket {
  number: number;
  at: number;
  path: number;
  /** Towards the server. */
  forward: boolean;
  bytes: Uint8Array;
}

/** A column of 20 milliseconds of one subflow: the lowest and highest data sequence number that the receiver got. */
export interface SequencePoint {
  at: number;
  subflow: number;
  low: number;
  high: number;
}

export interface Decision {
  at: number;
  subflow: number | null;
  length: number;
  why: string;
}

export interface Snapshot {
  at: number;
  subflows: Pick<
    SubflowInfo,
    | 'id'
    | 'interface'
    | 'srtt'
    | 'cwnd'
    | 'inFlight'
    | 'established'
    | 'stale'
    | 'localBackup'
    | 'remoteBackup'
    | 'bytesSent'
    | 'bytesReceived'
    | 'retransmissions'
  >[];
  /** Octets that wait at the receiver for a hole to be filled. */
  outOfOrder: number;
  received: number;
  acknowledged: number;
}

/** What is new since the last time somebody asked. */
export interface Progress {
  now: number;
  done: boolean;
  /** And half a second later, when the last packets have come: nothing moves any more. */
  ended: boolean;
  /** Null while it runs. */
  verdict: string | null;
  intact: boolean | null;
  /** Octets delivered on each path in the columns since; the first is column `from`. */
  from: number;
  bins: number[][];
  sequence: SequencePoint[];
  acknowledged: [at: number, position: number][];
  snapshots: Snapshot[];
  events: { at: number; side: 'client' | 'server'; text: string }[];
  decisions: Decision[];
  packets: number;
  total: { received: number; wanted: number; reinjected: number; duplicate: number; fallback: string | null; version: number | null };
  /** Subflow to its path. */
  subflowPaths: [subflow: number, path: number][];
}

interface Way {
  up: LinkDirection;
  down: LinkDirection;
}

export class PlayRun {
  readonly setup: PlaySetup;
  readonly agenda = new Agenda();
  /** Every event of both hosts, for whoever wants to compare. */
  onEvent: ((side: 'client' | 'server', event: StackEvent) => void) | null = null;
  readonly client: EmulatedHost;
  readonly server: EmulatedHost;
  readonly packets: PlayPacket[] = [];
  private packetCount = 0;
  private readonly ways: Way[] = [];
  private readonly pending: PlayAction[];
  private connection: Connection;
  private peer: Connection | null = null;
  private written = 0;
  private received = 0;
  private intact = true;
  private readonly wanted: number;
  private done = false;
  private stopAt = LONGEST;
  private verdict: string | null = null;
  private bins: number[][] = [];
  private firstBin = 0;
  private sequence: SequencePoint[] = [];
  private lastPoint = new Map<number, SequencePoint>();
  private acknowledged: [number, number][] = [];
  private snapshots: Snapshot[] = [];
  private events: Progress['events'] = [];
  private decisions: Decision[] = [];
  private nextSnapshot = 0;
  private readonly subflowPaths = new Map<number, number>();
  private readonly queue = new OutOfOrder();

  /** Throws {@link SetupError} only before: a checked setup always runs. */
  constructor(setup: PlaySetup) {
    this.setup = setup;
    this.pending = setup.actions.toSorted((a, b) => a.at - b.at);
    const random = new Random(setup.seed);
    this.wanted = setup.traffic === 'chat' ? Math.round(setup.amount) * MESSAGE : Math.round(setup.amount * 1e6);
    const make = (name: string): EmulatedHost => {
      const own = random.fork(name);
      const host = new Host({
        entropy: () => own.uint32(),
        traceData: true,
        tcp: {
          congestion: setup.controller,
          maxReceiveBuffer: setup.buffer * 1024,
          receiveBuffer: Math.min(setup.buffer * 1024, 256 * 1024),
          timeWait: SECOND,
        },
        mptcp: {
          enabled: setup.service !== 'none',
          versions: [setup.version],
          acceptVersions: [1, 0],
          checksum: setup.checksum,
          coupled: setup.coupled,
          pathManager: PATH_MANAGERS[setup.pathManager]!(),
          scheduler: this.explained(SCHEDULERS[setup.scheduler]!),
        },
      });
      return new EmulatedHost(name, host, this.agenda);
    };
    this.client = make('client');
    this.server = make('server');
    this.client.onEvent = (event) => this.take('client', event);
    this.server.onEvent = (event) => this.take('server', event);
    this.build(random);
    this.server.host.listen({ port: PORT });
    const options: ConnectOptions = {
      remote: parseAddress(addressOf(0, setup.paths[0]!.family, 2)),
      port: PORT,
      local: this.client.host.interfaces[0]!.addresses[0]!.address,
    };
    if (setup.service !== 'default') options.service = setup.service;
    this.connection = this.client.host.connect(options, 0);
    this.client.pump();
  }

  /** Does something to a path now; it is remembered, so that a link to this page does it again. */
  act(action: Omit<PlayAction, 'at'>): PlayAction {
    const done = { ...action, at: this.agenda.now };
    this.perform(done);
    return done;
  }

  /** Lets the emulated clock run to a time. */
  runTo(time: number): void {
    const end = Math.min(time, this.stopAt);
    for (;;) {
      const action = this.pending[0];
      const at = Math.min(end, action?.at ?? end, this.nextSnapshot);
      this.agenda.runUntil(at);
      if (action !== undefined && action.at <= at) {
        this.pending.shift();
        this.perform(action);
      } else if (at >= this.nextSnapshot) {
        this.snapshot(at);
        this.nextSnapshot += BIN;
      }
      if (at >= end && !(this.pending[0] !== undefined && this.pending[0].at <= end) && this.nextSnapshot > end) return;
    }
  }

  /** Up to the next thing that happens: a packet, a timer. */
  step(): void {
    const next = this.agenda.next;
    this.runTo(Number.isFinite(next) ? next : this.agenda.now + MS);
  }

  get finished(): boolean {
    return this.done;
  }

  /** Whether the clock has reached the end of the run. */
  get ended(): boolean {
    return this.agenda.now >= this.stopAt;
  }

  /** What is new, and forgets it. */
  progress(): Progress {
    const info = this.info();
    const [sender, receiver] = this.setup.traffic === 'download' ? [this.peerInfo(), info] : [info, this.peerInfo()];
    const out: Progress = {
      now: this.agenda.now,
      done: this.done,
      ended: this.ended,
      verdict: this.verdict,
      intact: this.done ? this.intact : null,
      from: this.firstBin,
      bins: this.bins,
      sequence: this.sequence,
      acknowledged: this.acknowledged,
      snapshots: this.snapshots,
      events: this.events,
      decisions: this.decisions,
      packets: this.packetCount,
      total: {
        received: this.received,
        wanted: this.wanted,
        reinjected: sender?.bytesReinjected ?? 0,
        duplicate: receiver?.bytesDuplicate ?? 0,
        fallback: info.fallback,
        version: info.version,
      },
      subflowPaths: [...this.subflowPaths],
    };
    // The last column is still growing: it is told again.
    const open = Math.floor(this.agenda.now / BIN);
    this.bins = this.bins.slice(Math.max(0, open - this.firstBin));
    this.firstBin = Math.max(this.firstBin, open);
    this.sequence = [];
    this.lastPoint = new Map();
    this.acknowledged = [];
    this.snapshots = [];
    this.events = [];
    this.decisions = [];
    return out;
  }

  /** A packet in words: headers and every option. Null when it is no longer kept. */
  describe(number: number): { title: string; lines: string[] } | null {
    const packet = this.packets.find((one) => one.number === number);
    if (packet === undefined) return null;
    const parsed = parsePacketValue(packet.bytes);
    const way = `${this.setup.paths[packet.path]!.name}, ${packet.forward ? 'client → server' : 'server → client'}, ${(packet.at / MS).toFixed(3)} ms`;
    if (isMalformed(parsed)) return { title: way, lines: [`malformed: ${parsed.reason}`] };
    const lines = [`${formatAddress(parsed.ip.source)} → ${formatAddress(parsed.ip.destination)}, ${packet.bytes.length} octets`];
    const { tcp } = parsed;
    if (tcp !== null) {
      const names = ['FIN', 'SYN', 'RST', 'PSH', 'ACK', 'URG', 'ECE', 'CWR'].filter((_, bit) => (tcp.flags & (1 << bit)) !== 0);
      lines.push(`TCP ${tcp.sourcePort} → ${tcp.destinationPort} ${names.join(' ')}, seq ${tcp.seq}, ack ${tcp.ack}, window ${tcp.window}`);
      for (const option of tcp.options) if (option.kind !== 'nop') lines.push(words(option));
    }
    return { title: `packet ${number}: ${way}`, lines };
  }

  /** Octets that each path delivered, as the links count them. */
  deliveredBytes(direction: 'up' | 'down'): number[] {
    return this.ways.map((way) => way[direction].counters.deliveredBytes);
  }

  /** The client's snapshot. */
  info(): ConnectionInfo {
    return connectionInfo(this.connection);
  }

  private peerInfo(): ConnectionInfo | null {
    return this.peer === null ? null : connectionInfo(this.peer);
  }

  private build(random: Random): void {
    const { setup, agenda } = this;
    // A bottleneck that all paths share stands at the server's end of each way.
    const bottleneck = (deliver: (packet: Uint8Array, now: number) => void, name: string): ((packet: Uint8Array, now: number) => void) => {
      if (setup.shared === 0) return deliver;
      this.shared[name] ??= new LinkDirection(
        agenda,
        random.fork(`shared ${name}`),
        { ...PERFECT_LINK, rate: setup.shared * 1e6, queueTime: QUEUE_TIME },
        (packet, now) => this.route(name, packet, now),
      );
      const link = this.shared[name]!;
      return (packet, now) => link.send(packet, now);
    };
    setup.paths.forEach((path, i) => {
      const bits = path.family === 4 ? 30 : 64;
      const own = parseAddress(addressOf(i, path.family, 1));
      const far = parseAddress(addressOf(i, path.family, 2));
      const clientSide = this.client.host.addInterface({ name: path.name, mtu: 1500, addresses: [{ address: own, bits }] });
      const serverSide = this.server.host.addInterface({ name: path.name, mtu: 1500, addresses: [{ address: far, bits }] });
      this.client.host.addRoute(parseAddress(path.family === 4 ? '0.0.0.0' : '::'), 0, clientSide);
      this.server.host.addRoute(own, path.family === 4 ? 32 : 128, serverSide);
      this.client.host.addEndpoint({ address: own, subflow: true, backup: path.backup });
      if (path.family !== setup.paths[0]!.family) this.server.host.addEndpoint({ address: far, signal: true });
      const config: LinkConfig = { ...PERFECT_LINK, rate: path.rate * 1e6, delay: path.delay * MS, loss: path.loss / 100, queueTime: QUEUE_TIME };
      this.deliveries.up[i] = (packet, now) => this.server.receive(serverSide, packet, now);
      this.deliveries.down[i] = (packet, now) => this.client.receive(clientSide, packet, now);
      const up = new LinkDirection(agenda, random.fork(`up ${path.name}`), config, bottleneck(this.deliveries.up[i], 'up'));
      const down = new LinkDirection(agenda, random.fork(`down ${path.name}`), config, this.deliveries.down[i]);
      up.tap = (packet, now, point) => this.tapped(i, true, packet, now, point);
      down.tap = (packet, now, point) => this.tapped(i, false, packet, now, point);
      this.client.attach(clientSide, (packet) => up.send(packet, agenda.now));
      const back =
        setup.shared === 0
          ? (packet: Uint8Array): void => down.send(packet, agenda.now)
          : (packet: Uint8Array): void => bottleneck(() => {}, 'down')(packet, agenda.now);
      this.server.attach(serverSide, back);
      if (path.box !== null)
        attachMiddlebox(MIDDLEBOXES[path.box]!.make({ random: random.fork(path.box), outside: parseAddress('203.0.113.200') }), agenda, up, down);
      this.ways.push({ up, down });
      if (!path.up) {
        up.setUp(false);
        down.setUp(false);
      }
    });
  }

  private readonly shared: Record<string, LinkDirection> = {};
  private readonly deliveries: { up: ((packet: Uint8Array, now: number) => void)[]; down: ((packet: Uint8Array, now: number) => void)[] } = {
    up: [],
    down: [],
  };

  /** Behind the shared bottleneck: to the path whose address the packet has. */
  private route(name: string, packet: Uint8Array, now: number): void {
    const destination = ipDestination(packet);
    const address = destination === null ? '' : formatAddress(destination);
    const i = this.setup.paths.findIndex((path, k) => addressOf(k, path.family, name === 'up' ? 2 : 1) === address);
    if (i < 0) return;
    if (name === 'up') this.deliveries.up[i]!(packet, now);
    else this.ways[i]!.down.send(packet, now);
  }

  private perform(action: PlayAction): void {
    const way = this.ways[action.path];
    if (way === undefined) return;
    for (const link of [way.up, way.down]) {
      if (action.up !== undefined) link.setUp(action.up);
      link.config = {
        ...link.config,
        ...(action.rate === undefined ? {} : { rate: action.rate * 1e6 }),
        ...(action.delay === undefined ? {} : { delay: action.delay * MS }),
        ...(action.loss === undefined ? {} : { loss: action.loss / 100 }),
      };
    }
    const { name } = this.setup.paths[action.path]!;
    const words = [
      action.up === undefined ? '' : action.up ? 'restored' : 'cut',
      action.rate === undefined ? '' : `${action.rate} Mbit/s`,
      action.delay === undefined ? '' : `${action.delay} ms`,
      action.loss === undefined ? '' : `${action.loss} % lost`,
    ].filter(Boolean);
    this.note('client', `you: ${name} ${words.join(', ')}`);
  }

  /** Octets count where they leave a path. */
  private tapped(path: number, forward: boolean, packet: Uint8Array, now: number, point: 'enter' | 'leave'): void {
    if (point !== 'leave') return;
    const payload = forward === (this.setup.traffic !== 'download');
    if (payload) {
      const bin = Math.floor(now / BIN) - this.firstBin;
      while (this.bins.length <= bin) this.bins.push(this.setup.paths.map(() => 0));
      if (bin >= 0) this.bins[bin]![path]! += packet.length;
    }
    this.packetCount++;
    this.packets.push({ number: this.packetCount, at: now, path, forward, bytes: packet });
    if (this.packets.length > KEPT_PACKETS * 1.2) this.packets.splice(0, this.packets.length - KEPT_PACKETS);
  }

  private take(side: 'client' | 'server', event: StackEvent): void {
    this.onEvent?.(side, event);
    const sends = this.setup.traffic === 'download' ? 'server' : 'client';
    switch (event.type) {
      case 'connection-accepted':
        this.peer = this.server.host.connections.get(event.connection) ?? null;
        this.note(side, 'connection accepted');
        this.write();
        return;
      case 'connection-established':
        this.note(side, `connection established${event.multipath ? '' : ' without Multipath TCP'}`);
        this.write();
        return;
      case 'connection-writable':
        this.write();
        return;
      case 'connection-readable':
      case 'connection-end':
        this.read(side);
        return;
      case 'data-received':
        if (side === sends) return;
        this.queue.add(event.position, event.position + event.length);
        this.plot(event);
        return;
      case 'data-acknowledged':
        if (side === sends) this.acknowledged.push([event.time, event.position]);
        return;
      case 'subflow-created': {
        const path = this.setup.paths.findIndex((one) => one.name === event.interface);
        // The plots' numbers are the receiver's: so are the names of its subflows.
        if (side !== sends) this.subflowPaths.set(event.subflow, path);
        this.note(side, `subflow ${event.subflow} on ${event.interface}: ${event.active ? 'SYN sent' : 'SYN received'}${event.backup ? ', backup' : ''}`);
        return;
      }
      case 'data-scheduled':
        return;
      default:
        this.note(side, sentence(event));
    }
  }

  private plot(event: Extract<StackEvent, { type: 'data-received' }>): void {
    const column = Math.floor(event.time / (20 * MS));
    const last = this.lastPoint.get(event.subflow);
    const end = event.position + event.length;
    if (last !== undefined && Math.floor(last.at / (20 * MS)) === column) {
      last.low = Math.min(last.low, event.position);
      last.high = Math.max(last.high, end);
      return;
    }
    const point = { at: event.time, subflow: event.subflow, low: event.position, high: end };
    this.lastPoint.set(event.subflow, point);
    this.sequence.push(point);
  }

  private write(): void {
    const { setup, agenda } = this;
    const sender = setup.traffic === 'download' ? this.peer : this.connection;
    if (sender === null || this.written >= this.wanted) return;
    const node = setup.traffic === 'download' ? this.server : this.client;
    if (setup.traffic === 'chat') {
      if (this.chatting) return;
      this.chatting = true;
      const say = (): void => {
        if (this.written >= this.wanted) return;
        if (sender.write(pattern(this.written, MESSAGE), agenda.now)) this.written += MESSAGE;
        node.pump();
        if (this.written >= this.wanted) {
          sender.shutdown(agenda.now);
          node.pump();
          return;
        }
        if (!sender.open) return;
        agenda.at(agenda.now + MESSAGE_EVERY, say);
      };
      say();
      return;
    }
    while (this.written < this.wanted) {
      const length = Math.min(CHUNK, this.wanted - this.written);
      // Not taken: the connection tells when there is room again.
      if (!sender.write(pattern(this.written, length), agenda.now)) break;
      this.written += length;
    }
    if (this.written >= this.wanted) sender.shutdown(agenda.now);
    node.pump();
  }

  private chatting = false;

  private read(side: 'client' | 'server'): void {
    const receiver = side === 'client' ? this.connection : this.peer;
    if (receiver === null) return;
    for (let bytes = receiver.read(1 << 20, this.agenda.now); bytes !== null; bytes = receiver.read(1 << 20, this.agenda.now)) {
      if (side === (this.setup.traffic === 'download' ? 'client' : 'server')) {
        for (let i = 0; i < bytes.length && this.intact; i++) this.intact = bytes[i] === octet(this.received + i);
        this.received += bytes.length;
      }
    }
    if (this.received >= this.wanted && !this.done) this.finish();
    (side === 'client' ? this.client : this.server).pump();
  }

  private finish(): void {
    this.done = true;
    this.stopAt = (Math.floor(this.agenda.now / BIN) + 6) * BIN;
    const seconds = this.agenda.now / SECOND;
    this.verdict = `${(this.received / 1e6).toFixed(2)} MB in ${seconds.toFixed(2)} s, ${((this.received * 8) / this.agenda.now).toFixed(1)} Mbit/s, ${this.intact ? 'every octet right' : 'octets are WRONG'}`;
    this.note('client', this.verdict);
    if (this.setup.traffic === 'download') this.connection.shutdown(this.agenda.now);
    else this.peer?.shutdown(this.agenda.now);
  }

  private snapshot(at: number): void {
    const sender = this.setup.traffic === 'download' ? this.peerInfo() : this.info();
    if (sender === null) return;
    this.snapshots.push({
      at,
      subflows: sender.subflowInfo.map(
        ({ id, interface: through, srtt, cwnd, inFlight, established, stale, localBackup, remoteBackup, bytesSent, bytesReceived, retransmissions }) => ({
          id,
          interface: through,
          srtt,
          cwnd,
          inFlight,
          established,
          stale,
          localBackup,
          remoteBackup,
          bytesSent,
          bytesReceived,
          retransmissions,
        }),
      ),
      outOfOrder: this.queue.waiting,
      received: this.queue.inOrder,
      acknowledged: sender.bytesAcknowledged,
    });
    if (!this.done && sender.phase === 'closed') {
      this.done = true;
      this.stopAt = at + 5 * BIN;
      this.verdict = 'the connection was lost';
    }
  }

  private note(side: 'client' | 'server', text: string): void {
    if (this.events.length < KEPT_EVENTS) this.events.push({ at: this.agenda.now, side, text });
  }

  /** The scheduler that was asked for, with an ear at its door. */
  private explained(factory: SchedulerFactory): SchedulerFactory {
    return () => {
      const inner = factory();
      const outer: Scheduler = {
        name: inner.name,
        ...(inner.redundant === undefined ? {} : { redundant: inner.redundant }),
        ...(inner.onDoubt === undefined ? {} : { onDoubt: inner.onDoubt.bind(inner) }),
        select: (subflows, request, roomOf) => {
          const chosen = inner.select(subflows, request, roomOf);
          if (subflows.length > 1 && this.decisions.length < KEPT_DECISIONS) {
            const state = subflows.map((one) => {
              const room = roomOf(one);
              const words = [
                `${(one.tcb.srtt / MS).toFixed(0)} ms`,
                room > 0 ? `room ${(Math.min(room, 1e9) / 1000).toFixed(0)} kB` : 'full',
                one.backup ? 'backup' : '',
                one.stale ? 'stale' : '',
              ];
              return `${one.tcb.interface.name} (${words.filter(Boolean).join(', ')})`;
            });
            this.decisions.push({
              at: request.now,
              subflow: chosen?.id ?? null,
              length: request.length,
              why: `${inner.name}: ${chosen === null ? 'waits' : `takes ${chosen.tcb.interface.name}`} of ${state.join(', ')}${request.avoid === null ? '' : `; sent again, not on ${request.avoid.tcb.interface.name}`}`,
            });
          }
          return chosen;
        },
      };
      return outer;
    };
  }
}

/** Addresses of path `i`: the client's is 1, the server's 2. */
function addressOf(i: number, family: 4 | 6, end: 1 | 2): string {
  return family === 4 ? `192.0.2.${4 * i + end}` : `2001:db8:${i}::${end}`;
}

/** The octet at a place of the stream: what arrives is compared with it. */
function octet(position: number): number {
  return (Math.imul(position, 0x9e3779b1) >>> 24) & 0xff;
}

function pattern(from: number, length: number): Uint8Array {
  const out = new Uint8Array(length);
  for (let i = 0; i < length; i++) out[i] = octet(from + i);
  return out;
}
