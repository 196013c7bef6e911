/**
 * The tables of a host and what its connections ask of it: interfaces and routes, control blocks, tokens, timers, events,
 * counters. It is the {@link TcpContext} of every TCP and the {@link MptcpContext} of every connection; what goes in and
 * out is in `host.ts`.
 */
import { inPrefix, sameAddress } from '@subflow/wire';
import type { Segment } from '@subflow/wire';
import { ChunkPool } from '../buffers.ts';
import type { Ends } from '../ends.ts';
import type { StackEvent } from '../events.ts';
import type { Entropy, HostSettings } from './config.ts';
import { JoinTable } from './cookies.ts';
import { Demux } from './demux.ts';
import { idOfAddress } from './endpoints.ts';
import { EventQueue } from './event-queue.ts';
import { ListenerTable } from './listeners.ts';
import { PeerMemory } from './peer-memory.ts';
import { bareResponse } from './stateless.ts';
import { TimeWait, TimeWaitTable } from './time-wait.ts';
import { TimerTable } from './timer-table.ts';
import { TokenTable } from './token-table.ts';
import { Interface } from '../interface.ts';
import type { InterfaceConfig } from '../interface.ts';
import type { Limits, MptcpConfig } from '../mptcp/config.ts';
import { congestionFactory, coupledFactory } from '../mptcp/congestion/controllers.ts';
import type { CoupledFactory } from '../mptcp/congestion/controllers.ts';
import type { Connection } from '../mptcp/connection.ts';
import { emptyCounters } from '../mptcp/counters.ts';
import type { MptcpCounter } from '../mptcp/counters.ts';
import type { KeyMaterial } from '../mptcp/keys.ts';
import type { Endpoint } from '../mptcp/path-manager/types.ts';
import { MODE } from '../mptcp/state.ts';
import type { MptcpContext, OpenEnds, SubflowOrigin, SubflowState } from '../mptcp/state.ts';
import { Subflow } from '../mptcp/subflow.ts';
import type { TcpConfig } from '../tcp/config.ts';
import type { CongestionControl, CongestionFactory } from '../tcp/congestion/types.ts';
import { initialSequence, timestampOffset } from '../tcp/isn.ts';
import { HostSecret } from '../tcp/keyed-hash.ts';
import { STATE } from '../tcp/state.ts';
import { Tcb } from '../tcp/tcb.ts';
import type { TcpContext } from '../tcp/tcb.ts';
import { nextDeadline } from '../tcp/timers.ts';

/** RFC 6056 §3.2's range. */
const EPHEMERAL_FIRST = 49152;
export const EPHEMERAL_COUNT = 16384;
const MAX_RAW_PACKETS = 1024;

/** Route to a prefix through an interface; the longest prefix wins, then the order of addition. */
export interface Route {
  prefix: Uint8Array;
  bits: number;
  interface: Interface;
}

/** What a control block is made for. */
export interface TcbOrigin {
  readonly interface: Interface;
  readonly ends: Ends;
  /** Initial sequence number when it is fixed already (a SYN cookie). */
  readonly iss?: number;
}

export class HostCore implements TcpContext, MptcpContext {
  readonly tcp: TcpConfig;
  readonly mptcp: MptcpConfig;
  readonly chunks = new ChunkPool();
  readonly interfaces: Interface[] = [];
  readonly endpoints: Endpoint[] = [];
  readonly connections = new Map<number, Connection>();
  /** Counters by reason: everything dropped and everything odd. */
  readonly counters = new Map<string, number>();
  /** Linux's MPTcpExt table, counted as Linux does. */
  readonly mptcpCounters = emptyCounters();
  readonly limits: Limits;
  readonly peers = new PeerMemory();
  readonly joinTable = new JoinTable();
  /** When a SYN was last answered with a cookie. */
  cookieSentAt = Number.NEGATIVE_INFINITY;
  /** Keys cookies, sequence numbers and ports. */
  readonly secret: HostSecret;
  readonly tokens: TokenTable;
  readonly listeners = new ListenerTable();
  readonly demux: Demux;
  readonly timeWaits: TimeWaitTable;
  traceData: boolean;
  protected readonly events: EventQueue;
  protected readonly timers = new TimerTable<Tcb | Connection>();
  protected readonly ready: Tcb[] = [];
  protected raw: { interface: Interface; packet: Uint8Array }[] = [];
  private readonly routes: Route[] = [];
  private readonly entropy: Entropy;
  private readonly congestion: CongestionFactory;
  private readonly coupled: CoupledFactory | null;
  private nextConnectionId = 1;
  private portOffset = 0;
  private challengeBudget = 0;
  private challengeSecond = -1;

  constructor(settings: HostSettings) {
    this.tcp = settings.tcp;
    this.mptcp = settings.mptcp;
    this.entropy = settings.entropy;
    this.traceData = settings.traceData;
    this.events = new EventQueue(settings.eventLimit);
    this.timeWaits = new TimeWaitTable(this.tcp.timeWait, this.tcp.timeWaitLimit);
    const secret = new Uint8Array(32);
    for (let i = 0; i < 32; i += 4) new DataView(secret.buffer).setInt32(i, this.entropy() | 0);
    this.secret = new HostSecret(secret);
    this.demux = new Demux(new DataView(secret.buffer).getInt32(0) ^ new DataView(secret.buffer).getInt32(16));
    this.tokens = new TokenTable(() => this.random32(), this.mptcp.serverId, this.mptcp.maxTokens);
    this.limits = { subflows: this.mptcp.maxSubflows, addressesAccepted: this.mptcp.maxAddressesAccepted };
    this.congestion = congestionFactory(this.tcp.congestion);
    this.coupled = coupledFactory(this.mptcp.coupled);
  }

  /** Adds an interface, with routes to the networks of its addresses. */
  addInterface(config: InterfaceConfig): Interface {
    const added = new Interface(this.interfaces.length, config);
    this.interfaces.push(added);
    for (const { address, bits } of added.addresses) this.addRoute(address, bits, added);
    return added;
  }

  addRoute(prefix: Uint8Array, bits: number, through: Interface): void {
    this.routes.push({ prefix, bits, interface: through });
  }

  /** Whether an address of ours is meant as backup. */
  isBackup(address: Uint8Array | null): boolean {
    return address !== null && this.endpoints.some((endpoint) => endpoint.backup && sameAddress(endpoint.address, address));
  }

  /** An address of ours from which `remote` is reached, or null. */
  sourceFor(remote: Uint8Array): Uint8Array | null {
    const route = this.routeTo(remote, null);
    const addresses = route?.interface.addresses.filter((own) => own.address.length === remote.length) ?? [];
    const near = addresses.find((own) => inPrefix(remote, own.address, own.bits));
    return (near ?? addresses[0])?.address ?? null;
  }

  /** The longest-prefix route, only through interfaces that have `local` when given. */
  routeTo(remote: Uint8Array, local: Uint8Array | null, device: string | null = null): Route | null {
    let best: Route | null = null;
    for (const route of this.routes) {
      if (!route.interface.up || !inPrefix(remote, route.prefix, route.bits)) continue;
      if (device !== null && route.interface.name !== device) continue;
      if (local !== null && !route.interface.addresses.some((own) => sameAddress(own.address, local))) continue;
      if (best === null || route.bits > best.bits) best = route;
    }
    return best;
  }

  emit(event: StackEvent): void {
    const lost = this.events.lost;
    this.events.push(event);
    if (this.events.lost > lost) this.counters.set('events-lost', this.events.lost);
  }

  /** Counts in Linux's MPTcpExt table. */
  mib(counter: MptcpCounter, by = 1): void {
    this.mptcpCounters[counter] += by;
  }

  count(reason: string): void {
    this.counters.set(reason, (this.counters.get(reason) ?? 0) + 1);
  }

  random32(): number {
    return this.entropy() | 0;
  }

  /** The address id under which an address without endpoint is announced or joined from. */
  addressIdOf(address: Uint8Array): number {
    return idOfAddress(this.endpoints, address);
  }

  // TcpContext

  wake(tcb: Tcb): void {
    if (tcb.queued) return;
    tcb.queued = true;
    this.ready.push(tcb);
  }

  reschedule(tcb: Tcb): void {
    this.timers.file(tcb, nextDeadline(tcb));
  }

  challengeAck(now: number): boolean {
    const second = Math.floor(now / 1_000_000);
    if (second !== this.challengeSecond) {
      this.challengeSecond = second;
      // Half as many to one and a half times as many, drawn anew each second: who counts them learns nothing (CVE-2016-5696).
      const limit = this.tcp.challengeAckLimit;
      this.challengeBudget = Math.floor(limit / 2) + ((this.random32() >>> 0) % (limit + 1));
    }
    return this.challengeBudget-- > 0;
  }

  refuse(tcb: Tcb, segment: Segment): void {
    this.sendRaw(tcb.interface, bareResponse(segment, null));
  }

  fastOpenCookie(tcb: Tcb, cookie: Uint8Array | null): void {
    this.peers.rememberCookie(tcb.remote, tcb.remotePort, cookie, tcb.peerMss);
  }

  removed(tcb: Tcb): void {
    this.timers.remove(tcb);
    this.demux.remove(tcb);
  }

  /** A connection in TIME-WAIT has said its last word: its block goes, its ends stay. */
  protected waitOut(tcb: Tcb, now: number): void {
    tcb.state = STATE.closed;
    this.removed(tcb);
    const entry = new TimeWait(tcb);
    this.demux.insert(entry);
    const oldest = this.timeWaits.start(entry, now);
    if (oldest === null) return;
    this.demux.remove(oldest);
    this.count('tcp-time-wait-full');
  }

  congestionEvent(tcb: Tcb, kind: 'fast-recovery' | 'timeout' | 'tail-loss-probe' | 'recovered' | 'ecn', now: number): void {
    const user = tcb.user;
    if (!(user instanceof Subflow)) return;
    this.emit({
      type: 'congestion',
      time: now,
      connection: user.connection.id,
      subflow: user.id,
      kind,
      cwnd: Math.round(tcb.cwnd),
      ssthresh: Math.round(tcb.ssthresh),
    });
  }

  // MptcpContext

  rescheduleConnection(connection: Connection): void {
    this.timers.file(connection, connection.deadline());
  }

  openSubflow(connection: Connection, origin: SubflowOrigin, ends: OpenEnds, now: number): SubflowState | null {
    const { local, localPort, remote, remotePort, device } = ends;
    const route = this.routeTo(remote, local, device);
    if (route === null) {
      if (origin.joining) this.mib(this.ownAddress(local) !== null ? 'MPJoinSynTxConnectErr' : 'MPJoinSynTxBindErr');
      return null;
    }
    const port = localPort === 0 ? this.freePort(local, remote, remotePort) : localPort;
    const tuple = { local, localPort: port ?? 0, remote, remotePort };
    if (port === null || this.demux.findEnds(tuple) !== null) {
      if (origin.joining) this.mib('MPJoinSynTxBindErr');
      return null;
    }
    return this.makeSubflow(connection, origin, { interface: route.interface, ends: tuple }, now);
  }

  hasAddress(address: Uint8Array): boolean {
    return this.ownAddress(address) !== null;
  }

  /** An address of ours as the interface has it, null for any other: one array for all connections. */
  ownAddress(address: Uint8Array): Uint8Array | null {
    for (const own of this.interfaces) for (const known of own.addresses) if (sameAddress(known.address, address)) return known.address;
    return null;
  }

  accepted(connection: Connection, now: number): void {
    const listener = this.listeners.byId(connection.listener);
    if (listener !== null) listener.pending--;
    this.emit({ type: 'connection-accepted', time: now, connection: connection.id, listener: connection.listener, multipath: connection.mode === MODE.mptcp });
  }

  freshKey(connection: Connection): KeyMaterial | null {
    const key = this.tokens.fresh(connection);
    if (key === null) this.mib('MPFallbackTokenInit');
    return key;
  }

  forgetToken(connection: Connection): void {
    this.tokens.forget(connection);
  }

  released(connection: Connection): void {
    this.forgetToken(connection);
    if (!connection.active && !connection.wasOpen) {
      const listener = this.listeners.byId(connection.listener);
      if (listener !== null) listener.pending--;
    }
    this.connections.delete(connection.id);
  }

  // For what is beside it in this folder

  /** Queues a packet that belongs to no connection. */
  sendRaw(through: Interface, packet: Uint8Array): void {
    if (this.raw.length >= MAX_RAW_PACKETS) {
      this.count('raw-queue-full');
      return;
    }
    this.raw.push({ interface: through, packet });
  }

  drop(through: Interface, reason: string, now: number): void {
    this.count(reason);
    this.emit({ type: 'drop', time: now, interface: through.name, reason });
  }

  /** Makes a subflow and its control block, and files them. */
  makeSubflow(connection: Connection, origin: SubflowOrigin, from: TcbOrigin, now: number): Subflow {
    const { ends } = from;
    const subflow = new Subflow(connection, connection.nextSubflowId++, origin);
    const iss = from.iss ?? initialSequence(this.secret, ends, now);
    const tcb = new Tcb(this, subflow, { interface: from.interface, ends, iss }, this.makeCongestion(connection));
    tcb.keepaliveIdle = connection.keepaliveIdle;
    tcb.tsOffset = timestampOffset(this.secret, ends);
    tcb.tsStamp = this.mptcp.serverId;
    subflow.tcb = tcb;
    connection.views = connection.views.length === 0 ? [tcb] : connection.views.concat(tcb);
    this.demux.insert(tcb);
    return subflow;
  }

  nextConnection(): number {
    return this.nextConnectionId++;
  }

  /** RFC 6056 §3.3.3: a keyed hash of the remote end plus a counter; null when all are in use. */
  freePort(local: Uint8Array, remote: Uint8Array, remotePort: number): number | null {
    const base = this.secret.word('port', { local, localPort: 0, remote, remotePort }) >>> 0;
    for (let i = 0; i < EPHEMERAL_COUNT; i++) {
      const localPort = EPHEMERAL_FIRST + ((base + this.portOffset++) % EPHEMERAL_COUNT);
      if (this.demux.findEnds({ local, localPort, remote, remotePort }) === null) return localPort;
    }
    return null;
  }

  private makeCongestion(connection: Connection): CongestionControl {
    const coupled = connection.congestionFactory === null ? (connection.coupledFactory ?? this.coupled) : connection.coupledFactory;
    return coupled !== null && connection.mode === MODE.mptcp ? coupled(connection) : (connection.congestionFactory ?? this.congestion)();
  }
}
