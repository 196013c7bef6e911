/**
 * The experiment on a path: packets of every stage of a connection are sent, walked hop by hop, and (with an echo server at
 * the other end) compared with what arrived, in both directions. What comes out are observations; `rules.ts` reads them.
 */
import { DSS_FLAG, FLAG, formatAddress, parseAddress } from '@subflow/wire';
import type { IpAddress, TcpOption } from '@subflow/wire';
import { hex, seen } from './compare.ts';
import { EchoClient } from './echo-client.ts';
import { unhex } from './echo-protocol.ts';
import type { EchoFlow, EchoPacket, EchoTemplate } from './echo-protocol.ts';
import { Flow, mptcp } from './flow.ts';
import type { Hub } from './hub.ts';
import { forged, isSynAck, matched, optionsWith, payloadOf, reflects, sentReset } from './evidence.ts';
import { mark, UNMARKED } from './observation.ts';
import type { Observation, Stage } from './observation.ts';
import { mssFor, Session } from './session.ts';
import { echoWalk, until, walk } from './walk.ts';

export interface PathFacts {
  target: IpAddress;
  port: number;
  version: 0 | 1;
  /** Hops to the target by echo requests; null: no echo reply. */
  distance: number | null;
  /** And back, as the echo server counts. */
  distanceBack: number | null;
  /** Routers by echo requests or quotes. */
  routers: (string | null)[];
  echoServer: boolean;
  /** Our address, and the one that the echo server sees. */
  own: string;
  outside: string | null;
  /** Hop at which the outside address answers. */
  outsideAt: number | null;
  observations: Observation[];
  /** What answered SYNs with and without Multipath TCP: nothing, RST, SYN+ACK. */
  answers: { plain: Reply; multipath: Reply };
  /** Smallest TTL at which a SYN is answered. */
  answeredAt: number | null;
  /** Smallest TTL at which a reset came for a SYN or data with options, null: none. */
  resetAt: { syn: number | null; data: number | null };
  /** The connection was reset when data with options went through, and the server sent no reset. */
  resetOnData: boolean;
  /** Data with a TTL that does not reach the server was acknowledged: the TTL. */
  ackedAt: number | null;
  /** Data with options was never acknowledged, the same data without was. */
  unansweredData: boolean;
  /** The server has sent a reset on the connection that carried data; null: unknown. */
  serverReset: boolean | null;
  /** An acknowledgement came that the server never sent. */
  forgedAck: boolean | null;
  /** The SYN's own options came back. */
  reflected: boolean;
  /** Options of the server's SYN+ACK as it says it sent them; null: unknown. */
  serverSynAck: Uint8Array | null;
  /** TTL that SYNs of ours arrived with at the server. */
  arrivalTtl: number | null;
  /** Does the server answer MP_CAPABLE with a key? */
  multipath: boolean;
  rejectedQuotes: number;
  /** The echo server stopped answering before the end. */
  echoLost: boolean;
}

export type Reply = 'nothing' | 'reset' | 'syn-ack';

export interface PathOptions {
  target: IpAddress;
  port: number;
  version?: 0 | 1;
  maxHops?: number;
  /** Ask an echo server there; found out when absent. */
  echo?: boolean;
  onProgress?: (text: string) => void;
}

const DSCP = 10 << 2;
const ECT0 = 2;
const COPIES = 6;
/** Pairs sent, and the time between them, microseconds. */
const PAIRS = 4;
const PAIR_SPACING = 4_000;
/** Octets of the server's answer that are sent again: room is left for options. */
const ANSWER = 1_000;
const SETTLE = 30_000;
/** For options on connections where no key was agreed on: only boxes look at them. */
const NOBODYS_KEY = 0x0123_4567_89ab_cdefn;
const MARKED = Uint8Array.from({ length: 100 }, (_, i) => 0x61 + (i % 26));
/** An option nobody knows (RFC 6994 experiments use 253 and 254): who sends it back reflects. */
const UNKNOWN_OPTION: TcpOption = { kind: 'unknown', code: 254, data: Uint8Array.of(0x5b, 0xf1, 0x0a, 0x0e) };

/** Runs the whole experiment. Throws ProbeError `NO_ROUTE`. */
export async function observePath(hub: Hub, options: PathOptions): Promise<PathFacts> {
  return new PathRun(hub, options).run();
}

class PathRun {
  private readonly hub: Hub;
  private readonly options: PathOptions;
  private readonly version: 0 | 1;
  private readonly facts: PathFacts;
  private echo: EchoClient | null = null;
  private serial = 0;
  /** Packets that belong to no stage. */
  private readonly unmarked: Uint8Array[] = [];

  constructor(hub: Hub, options: PathOptions) {
    this.hub = hub;
    this.options = options;
    this.version = options.version ?? 1;
    this.facts = {
      target: options.target,
      port: options.port,
      version: this.version,
      distance: null,
      distanceBack: null,
      routers: [],
      echoServer: false,
      own: '',
      outside: null,
      outsideAt: null,
      observations: [],
      answers: { plain: 'nothing', multipath: 'nothing' },
      answeredAt: null,
      resetAt: { syn: null, data: null },
      resetOnData: false,
      ackedAt: null,
      unansweredData: false,
      serverReset: null,
      forgedAck: null,
      reflected: false,
      serverSynAck: null,
      arrivalTtl: null,
      multipath: false,
      rejectedQuotes: 0,
      echoLost: false,
    };
  }

  async run(): Promise<PathFacts> {
    const { facts, hub, options } = this;
    const client = new EchoClient(hub, options.target, options.port);
    this.say('how far it is');
    const own = hub.port.source(options.target)!;
    facts.own = formatAddress(own);
    const maxHops = options.maxHops ?? 24;
    const [distance, present] = await Promise.all([echoWalk(hub, own, options.target, maxHops), options.echo === false ? false : client.present()]);
    facts.distance = distance.distance;
    facts.routers = distance.hops.map((one) => (one === null ? null : formatAddress(one)));
    facts.echoServer = present;
    // What it cannot tell, or tells in a way that makes no sense, stays unknown.
    if (present) await this.greet(client, own, maxHops).catch(() => (facts.echoLost = true));
    this.say('SYNs with and without Multipath TCP');
    const length = facts.distance ?? (await this.answerPoint(maxHops)) ?? maxHops;
    const plain = await this.plainSyn(length);
    const session = await this.multipathSyn(length);
    if (facts.answers.multipath === 'reset' && facts.answers.plain === 'syn-ack') facts.resetAt.syn = await this.resetPoint(length);
    if (facts.answers.plain === 'syn-ack' && facts.answeredAt === null) await this.answerPoint(length);
    // What follows is tried on a plain connection too: boxes look at options, not at what was agreed.
    const flow = session.first.irs >= 0 && session.first.reset === null ? session.first : plain;
    const carrier = flow === session.first ? session : this.carrierFor(plain);
    if (flow.irs >= 0 && flow.reset === null) {
      this.say('inside the connection');
      await this.inside(carrier, flow, length);
      if (flow.reset === null) await this.joinStage(session, length);
    }
    if (this.echo !== null) {
      this.say('what arrived, and the way back');
      // What the echo server could not tell any more stays unknown.
      await this.compare(session, plain, flow).catch(() => (facts.echoLost = true));
    }
    for (const one of [plain, ...session.flows]) one.close();
    return facts;
  }

  private async greet(client: EchoClient, own: IpAddress, maxHops: number): Promise<void> {
    const { facts } = this;
    this.echo = client;
    const hello = await client.ask({ op: 'flows', since: 0 });
    if ('flows' in hello) {
      this.serial = hello.serial;
      facts.outside = hello.you;
    }
    const back = await client.ask({ op: 'distance', hops: maxHops }).catch(() => null);
    if (back !== null && 'distance' in back) {
      facts.distanceBack = back.distance;
    }
    await this.outside(own, maxHops);
  }

  private say(text: string): void {
    this.options.onProgress?.(text);
  }

  /** Where the address that the server sees answers: the translator's place. */
  private async outside(own: IpAddress, maxHops: number): Promise<void> {
    const { facts, hub } = this;
    if (facts.outside === null) return;
    const outside = parseAddress(facts.outside);
    if (outside.every((byte, i) => byte === own[i])) return;
    const result = await echoWalk(hub, own, outside, facts.distance ?? maxHops, 3);
    facts.outsideAt = result.distance;
  }

  private synOptions(): TcpOption[] {
    return [
      { kind: 'mss', value: mssFor(this.options.target) },
      { kind: 'sack-permitted' },
      { kind: 'timestamps', value: Math.floor(this.hub.now() / 1000) >>> 0, echo: 0 },
      { kind: 'nop' },
      { kind: 'window-scale', shift: 7 },
    ];
  }

  private async plainSyn(length: number): Promise<Flow> {
    const flow = new Flow(this.hub, this.options.target, this.options.port);
    const spec = { trafficClass: DSCP | ECT0, window: mark('plain-syn') };
    const synFlags = FLAG.syn | FLAG.ece | FLAG.cwr;
    const options = this.synOptions();
    const build = (): Uint8Array => flow.build({ ...spec, flags: synFlags, seq: flow.iss, options });
    const stage = await this.walked('plain-syn', flow, [build], length - 1);
    const answer = await flow.ask(
      () => this.copy(stage.sent, build()),
      ({ packet }) => (packet.tcp.flags & FLAG.syn) !== 0,
      { tries: COPIES },
    );
    this.facts.answers.plain = answer === null ? 'nothing' : (answer.packet.tcp.flags & FLAG.syn) !== 0 ? 'syn-ack' : 'reset';
    if (flow.reset !== null) this.facts.answers.plain = 'reset';
    flow.timestamps = answer !== null && answer.packet.tcp.options.some((one) => one.kind === 'timestamps');
    if (answer !== null) flow.acknowledge([]);
    return flow;
  }

  private async multipathSyn(length: number): Promise<Session> {
    const { facts, hub, options } = this;
    const session = new Session(hub, { address: options.target, port: options.port, version: this.version });
    const flow = new Flow(hub, options.target, options.port);
    session.adopt(flow);
    // Version 0 leaves no room for the unknown option beside its key.
    const extra = this.version === 1 ? [UNKNOWN_OPTION] : [];
    const list: TcpOption[] = [...this.synOptions(), mptcp(session.capableSyn()), ...extra];
    const spec = { flags: FLAG.syn | FLAG.ece | FLAG.cwr, seq: flow.iss, options: list, trafficClass: DSCP | ECT0, window: mark('syn') };
    const stage = await this.walked('syn', flow, [() => flow.build(spec)], length - 1);
    const sent: Uint8Array[] = [];
    const answer = await flow.ask(
      () => this.copy(sent, flow.build(spec)),
      ({ packet }) => (packet.tcp.flags & FLAG.syn) !== 0,
      { tries: COPIES },
    );
    stage.sent.push(...sent);
    facts.answers.multipath = answer === null ? (flow.reset === null ? 'nothing' : 'reset') : 'syn-ack';
    if (answer === null) return session;
    flow.timestamps = answer.packet.tcp.options.some((one) => one.kind === 'timestamps');
    facts.multipath = session.accept(answer);
    facts.reflected = reflects(answer, list);
    const confirm = { flags: FLAG.ack, options: [mptcp(session.capableAck())], window: mark('ack'), trafficClass: DSCP | ECT0 };
    const ackStage = await this.walked('ack', flow, [() => flow.build(confirm)], length - 1);
    for (let i = 0; i < 2; i++) hub.send(this.copy(ackStage.sent, flow.build(confirm)));
    return session;
  }

  /** The smallest TTL at which a SYN is answered: less than the distance means that somebody answers for the server. */
  private async answerPoint(length: number): Promise<number | null> {
    const { facts } = this;
    const quoting = facts.observations.find((one) => one.stage === 'plain-syn')?.hops ?? [];
    let low = 0;
    for (const hop of quoting) if (hop.answers.length > 0) low = hop.ttl;
    if (!(await this.answers(length, COPIES))) return null;
    // One hop behind the last that quoted is the rule: try that first, then halve what is left.
    let high = length;
    for (let ttl = low + 1; low + 1 < high; ttl = (low + high) >>> 1) {
      if (await this.answers(ttl, 4)) high = ttl;
      else low = ttl;
    }
    facts.answeredAt = high;
    return high;
  }

  private async answers(ttl: number, tries: number): Promise<boolean> {
    const flow = new Flow(this.hub, this.options.target, this.options.port);
    const options = this.synOptions();
    const answer = await flow.ask(
      () => flow.build({ flags: FLAG.syn, seq: flow.iss, options, ttl }),
      ({ packet }) => (packet.tcp.flags & FLAG.syn) !== 0,
      { tries, wait: 150_000 },
    );
    flow.close();
    return answer !== null;
  }

  private async resetPoint(length: number): Promise<number | null> {
    const { hub, options } = this;
    for (let ttl = 1; ttl <= length; ttl++) {
      const session = new Session(hub, { address: options.target, port: options.port, version: this.version });
      const flow = new Flow(hub, options.target, options.port);
      await flow.ask(
        () => flow.build({ flags: FLAG.syn, seq: flow.iss, options: [...this.synOptions(), mptcp(session.capableSyn())], ttl }),
        () => false,
        { tries: 2, wait: 150_000 },
      );
      const reset = flow.reset !== null;
      flow.close();
      if (reset) return ttl;
    }
    return null;
  }

  /** For connections without Multipath TCP: keys that nobody agreed on, for options that only the path is to see. */
  private carrierFor(flow: Flow): Session {
    const { hub, options } = this;
    const session = new Session(hub, { address: options.target, port: options.port, version: this.version });
    session.adopt(flow);
    session.serverKey = NOBODYS_KEY;
    return session;
  }

  private async inside(session: Session, flow: Flow, length: number): Promise<void> {
    const { facts, hub } = this;
    const mapped = facts.multipath && session.first === flow && session.capable !== null;
    if (!mapped && session.serverKey === null) session.serverKey = NOBODYS_KEY;
    flow.acknowledges = true;
    const filler = 'abcdefghijklmnopqrstuvwxyz'.repeat(30).slice(0, 640);
    const request = new TextEncoder().encode(`GET /path HTTP/1.1\r\nHost: probe\r\nX-Filler: ${filler}\r\n\r\n`);
    const start = flow.sndNxt;
    const spec = { flags: FLAG.ack | FLAG.psh, seq: start, trafficClass: DSCP | ECT0, window: mark('data') };
    const option = (): TcpOption => session.mapping(flow, request, { at: 0 }, start);
    // Plain data first, for comparison: only hops see it.
    const behind = { ...spec, window: mark('plain-data') };
    await this.walked('plain-data', flow, [() => flow.build({ ...behind, payload: request })], length - 1);
    const stage = await this.walked('data', flow, [() => flow.build({ ...spec, payload: request, options: [option()] })], length - 1, {
      stop: () => flow.reset !== null,
    });
    if (flow.reset === null && ((flow.sndUna - start) | 0) >= request.length) facts.ackedAt = await this.ackPoint(length);
    if (flow.reset === null) {
      session.sent = request.length;
      flow.sndNxt = (start + request.length) >>> 0;
      const copies: Uint8Array[] = [];
      const end = flow.sndNxt;
      const already = ((flow.sndUna - end) | 0) >= 0;
      if (already) for (let i = 0; i < 3; i++) hub.send(this.copy(copies, flow.build({ ...spec, payload: request, options: [option()] })));
      else
        await flow.ask(
          () => this.copy(copies, flow.build({ ...spec, payload: request, options: [option()] })),
          ({ packet }) => ((packet.tcp.ack - end) | 0) >= 0,
          { tries: COPIES },
        );
      stage.sent.push(...copies);
      const acked = ((flow.sndUna - end) | 0) >= 0;
      if (!acked && flow.reset === null) {
        // The option may be what is in the way: without it the rest can go on.
        const plain = await flow.ask(
          () => this.copy(this.unmarked, flow.build({ ...spec, window: UNMARKED, payload: request })),
          ({ packet }) => ((packet.tcp.ack - end) | 0) >= 0,
          { tries: COPIES },
        );
        facts.unansweredData = plain !== null;
      }
    }
    if (flow.reset !== null) {
      facts.resetOnData = true;
      // A server that resets by itself (its mappings do not fit what came) needs no search on the way.
      facts.serverReset = await this.serverReset(flow);
      if (facts.serverReset !== true) facts.resetAt.data = await this.dataResetPoint(length);
      return;
    }
    await this.segments(session, flow, length);
  }

  /** A segment behind a hole, then the two that fill it, close together. */
  private async segments(session: Session, flow: Flow, length: number): Promise<void> {
    const { hub } = this;
    const start = flow.sndNxt;
    const at = session.sent;
    const piece = (offset: number, window: number) => ({
      flags: FLAG.ack,
      seq: (start + offset) >>> 0,
      payload: MARKED,
      window,
      trafficClass: DSCP | ECT0,
      options: [session.mapping(flow, MARKED, { at: at + offset }, (start + offset) >>> 0)],
    });
    const hole = await this.walked('hole', flow, [() => flow.build(piece(200, mark('hole')))], length - 1);
    for (let i = 0; i < COPIES; i++) {
      hub.send(this.copy(hole.sent, flow.build(piece(200, mark('hole')))));
      await hub.sleep(5_000);
    }
    await hub.sleep(SETTLE);
    const pair = await this.walked('pair', flow, [() => flow.build(piece(0, mark('pair'))), () => flow.build(piece(100, mark('pair', 1)))], length - 1, {
      repeat: 3,
    });
    const end = (start + 300) >>> 0;
    // Several times, also when they are acknowledged: what comes between two segments keeps a box from joining them.
    for (let i = 0; i < COPIES && (i < PAIRS || ((flow.sndUna - end) | 0) < 0) && flow.reset === null; i++) {
      for (const [offset, window] of [
        [0, mark('pair')],
        [100, mark('pair', 1)],
      ] as const)
        hub.send(this.copy(pair.sent, flow.build(piece(offset, window))));
      await until(hub, flow.patience(), () => ((flow.sndUna - end) | 0) >= 0);
      await hub.sleep(PAIR_SPACING);
      if (((flow.sndUna - end) | 0) < 0) hub.send(this.copy(this.unmarked, flow.build(piece(200, UNMARKED))));
    }
    flow.sndNxt = end;
    session.sent = at + 300;
    // The echo of an announcement that was never made: receivers ignore it, boxes do not know that (RFC 8684 §3.4.1).
    const announce = mptcp(
      this.version === 1
        ? { subtype: 'add-addr', version: 1, flags: 1, addressId: 77, address: Uint8Array.of(192, 0, 2, 77), port: null, hmac: null }
        : { subtype: 'add-addr', version: 0, flags: 4, addressId: 77, address: Uint8Array.of(192, 0, 2, 77), port: null, hmac: null },
    );
    const spec = { flags: FLAG.ack, options: [...session.ackOptions(), announce], window: mark('add-addr'), trafficClass: DSCP | ECT0 };
    const addAddr = await this.walked('add-addr', flow, [() => flow.build(spec)], length - 1);
    for (let i = 0; i < 4; i++) {
      hub.send(this.copy(addAddr.sent, flow.build(spec)));
      await hub.sleep(5_000);
    }
  }

  private async ackPoint(length: number): Promise<number | null> {
    const { hub, options } = this;
    for (let ttl = 1; ttl <= length; ttl++) {
      const flow = new Flow(hub, options.target, options.port);
      const answer = await flow.open(this.synOptions());
      if (answer === null) {
        flow.close();
        continue;
      }
      flow.timestamps = answer.packet.tcp.options.some((one) => one.kind === 'timestamps');
      flow.acknowledge([]);
      const seq = flow.sndNxt;
      const end = (seq + MARKED.length) >>> 0;
      const acked = await flow.ask(
        () => flow.build({ flags: FLAG.ack | FLAG.psh, seq, payload: MARKED, ttl }),
        ({ packet }) => (packet.tcp.flags & FLAG.syn) === 0 && ((packet.tcp.ack - end) | 0) >= 0,
        { tries: 3, wait: 120_000 },
      );
      flow.close();
      if (acked !== null) return ttl;
    }
    return null;
  }

  private async dataResetPoint(length: number): Promise<number | null> {
    const { hub, options } = this;
    for (let ttl = 1; ttl <= length; ttl++) {
      const session = new Session(hub, { address: options.target, port: options.port, version: this.version });
      const opened = await session.open();
      const { first } = session;
      if (first.irs < 0) {
        session.close();
        continue;
      }
      if (!opened) session.serverKey = NOBODYS_KEY;
      session.confirm(opened ? undefined : []);
      const option = session.mapping(first, MARKED);
      await first.ask(
        () => first.build({ flags: FLAG.ack | FLAG.psh, options: [option], payload: MARKED, ttl }),
        () => false,
        { tries: 2, wait: 120_000 },
      );
      const reset = first.reset !== null;
      session.close();
      if (reset) return ttl;
    }
    return null;
  }

  private async serverReset(flow: Flow): Promise<boolean | null> {
    const flows = await this.echo?.ask({ op: 'flows', since: this.serial }).catch(() => null);
    const record = flows !== null && flows !== undefined && 'flows' in flows ? this.recordOf(flow, flows.flows) : undefined;
    if (record === undefined) return null;
    return this.echo!.packets(record.id).then(sentReset, () => null);
  }

  private async joinStage(session: Session, length: number): Promise<void> {
    const { hub, options } = this;
    const flow = new Flow(hub, options.target, options.port);
    session.flows.push(flow);
    const token = session.token(session.serverKey ?? 0n);
    const join = mptcp({ subtype: 'join-syn', flags: 0, addressId: 9, token, nonce: hub.port.entropy() });
    const spec = { flags: FLAG.syn, seq: flow.iss, options: [...this.synOptions(), join], window: mark('join'), trafficClass: DSCP | ECT0 };
    const stage = await this.walked('join', flow, [() => flow.build(spec)], length - 1);
    await flow.ask(
      () => this.copy(stage.sent, flow.build(spec)),
      ({ packet }) => (packet.tcp.flags & (FLAG.syn | FLAG.rst)) !== 0,
      { tries: COPIES },
    );
  }

  private copy(list: Uint8Array[], bytes: Uint8Array): Uint8Array {
    list.push(bytes);
    return bytes;
  }

  private async walked(
    stage: Stage,
    flow: Flow,
    make: readonly (() => Uint8Array)[],
    hops: number,
    more: { stop?: () => boolean; repeat?: number } = {},
  ): Promise<Observation> {
    const result = await walk(this.hub, () => make.map((one) => one()), { hops: Math.max(0, hops), patience: Math.max(120_000, flow.patience()), ...more });
    this.facts.rejectedQuotes += result.rejected;
    const observation: Observation = {
      stage,
      direction: 'forward',
      sent: [],
      walked: result.sent,
      arrived: null,
      hops: result.hops.map(({ ttl, answers }) => ({
        ttl,
        answers: answers.map((one) => ({
          from: formatAddress(one.from),
          sent: one.sent,
          quote: one.quote.bytes,
          rtt: one.rtt,
          labels: one.labels.map((label) => label.label).join(' '),
        })),
      })),
    };
    this.facts.observations.push(observation);
    return observation;
  }

  // With an echo server.

  private async compare(session: Session, plain: Flow, carrier: Flow): Promise<void> {
    const { facts } = this;
    const echo = this.echo!;
    const flows = await echo.ask({ op: 'flows', since: this.serial });
    if (!('flows' in flows)) return;
    for (const [flow, stages] of [
      [plain, ['plain-syn']],
      [session.first, ['syn', 'ack']],
      [carrier, ['data', 'hole', 'pair', 'add-addr']],
      [session.flows.at(-1)!, ['join']],
    ] as const) {
      const record = this.recordOf(flow, flows.flows);
      const packets = record === undefined ? [] : await echo.packets(record.id);
      const arrived = packets.filter((one) => one.direction === 'in').map((one) => unhex(one.hex));
      for (const observation of facts.observations) {
        if (!(stages as readonly string[]).includes(observation.stage) || observation.sent.length === 0) continue;
        observation.arrived = matched(observation, arrived, flow, this.foreign(observation));
      }
      if (flow === session.first && (stages as readonly string[]).includes('syn') && packets.length > 0) {
        const synAck = packets.find((one) => one.direction === 'out' && isSynAck(one));
        facts.serverSynAck = synAck === undefined ? null : unhex(synAck.hex);
        const first = arrived[0] === undefined ? null : seen(arrived[0]);
        facts.arrivalTtl = first?.ttl ?? null;
      }
      if (flow === carrier && record !== undefined && (stages as readonly string[]).includes('data')) {
        facts.serverReset = sentReset(packets);
        facts.forgedAck = forged(flow, packets, record.irs);
        await this.backward(record, packets, flow, session);
      }
    }
  }

  /** Identifications of what was sent for other stages. */
  private foreign(observation: Observation): Set<number> {
    const others = this.facts.observations
      .filter((one) => one !== observation && one.direction === observation.direction)
      .flatMap((one) => [...one.sent, ...one.walked]);
    return new Set([...others, ...this.unmarked].map((bytes) => seen(bytes)!.identification).filter((id) => id !== 0));
  }

  /** The server's record of a flow: by sequence number and port; a box may have changed either. */
  private recordOf(flow: Flow, flows: readonly EchoFlow[]): EchoFlow | undefined {
    return flows.find((one) => one.irs === flow.iss) ?? flows.find((one) => one.remotePort === flow.localPort);
  }

  private async backward(record: EchoFlow, packets: readonly EchoPacket[], flow: Flow, session: Session): Promise<void> {
    const synAck = packets.find((one) => one.direction === 'out' && isSynAck(one));
    const data = packets.find((one) => one.direction === 'out' && payloadOf(one) >= 400);
    if (synAck !== undefined) {
      const options = hex(optionsWith(unhex(synAck.hex), mptcp({ ...session.capableSyn(), senderKey: { high: 0x0a0b0c0d, low: 0x01020304 } }), 'capable'));
      await this.back('synack', record, flow, [{ packet: synAck.index, options, window: mark('synack') }]);
    }
    if (data !== undefined) {
      const dss: TcpOption = mptcp({ subtype: 'dss', flags: DSS_FLAG.dataAck, dataAck: { high: 0, low: 1 }, dsn: null, ssn: 0, dataLength: 0, checksum: null });
      const options = hex(optionsWith(unhex(data.hex), dss, 'dss'));
      await this.back('answer', record, flow, [{ packet: data.index, options, from: 0, to: ANSWER, trafficClass: DSCP | ECT0, window: mark('answer') }]);
      await this.back('answer-pair', record, flow, [
        { packet: data.index, options, from: 0, to: 100, window: mark('answer-pair') },
        { packet: data.index, options, from: 100, to: 200, window: mark('answer-pair', 1) },
      ]);
    }
  }

  private async back(stage: Stage, record: EchoFlow, flow: Flow, packets: EchoTemplate[]): Promise<void> {
    const echo = this.echo!;
    const before = flow.arrivals.length;
    const observation: Observation = { stage, direction: 'backward', sent: [], walked: [], arrived: [], hops: null };
    try {
      for (let i = 0; i < COPIES && (observation.arrived!.length < packets.length || (packets.length > 1 && i < PAIRS)); i++) {
        const answer = await echo.ask({ op: 'again', flow: record.id, packets });
        if ('sent' in answer) observation.sent.push(...answer.sent.map(unhex));
        await this.hub.sleep(SETTLE);
        observation.arrived = matched(
          observation,
          flow.arrivals.slice(before).map((one) => one.bytes),
          flow,
          new Set(),
        );
      }
      const hops = (this.facts.distanceBack ?? this.facts.distance ?? 16) - 1;
      const answer = await echo.ask({ op: 'walk', flow: record.id, packets, hops });
      if ('hops' in answer && 'sent' in answer) {
        observation.hops = (answer.hops as { ttl: number; answers: { from: string; rtt: number; sent: string; quote: string }[] }[]).map(
          ({ ttl, answers }) => ({
            ttl,
            answers: answers.map((one) => ({ from: one.from, sent: unhex(one.sent), quote: unhex(one.quote), rtt: one.rtt, labels: '' })),
          }),
        );
      }
    } catch {
      // The echo server's answers are damaged or lost: what is missing is "cannot tell".
    }
    if (observation.sent.length > 0) this.facts.observations.push(observation);
  }
}
