/**
 * A host: interfaces, connections, listeners. It neither reads a clock nor opens a socket.
 *
 * In: {@link Host.handlePacket}, {@link Host.handleTimeout}, and the application's calls (`listen`, `connect`, and the
 * methods of {@link Connection}). Out: {@link Host.pollTransmit}, {@link Host.pollTimeout}, {@link Host.pollEvent}.
 * After anything that goes in, poll packets until there are none, then events, then the next wake-up.
 * Time is in microseconds from any fixed start, and never runs backwards.
 */
import { formatAddress, formatEndpoint, PARSED, parsePacket, sameAddress, inPrefix, Segment, FLAG } from '@subflow/wire';
import { ChunkPool } from '../buffers.ts';
import type { StackEvent } from '../events.ts';
import { Connection, MODE } from '../mptcp/connection.ts';
import { DEFAULT_MPTCP_CONFIG } from '../mptcp/config.ts';
import type { MptcpConfig } from '../mptcp/config.ts';
import { emptyCounters } from '../mptcp/counters.ts';
import type { MptcpCounter } from '../mptcp/counters.ts';
import { announceCreated } from '../mptcp/handshake.ts';
import { keyMaterial } from '../mptcp/keys.ts';
import { tokenOfKey } from '../mptcp/token-hash.ts';
import type { KeyMaterial } from '../mptcp/keys.ts';
import type { Endpoint } from '../mptcp/path-manager/types.ts';
import { applySettings } from '../mptcp/settings.ts';
import type { ConnectionSettings } from '../mptcp/settings.ts';
import type { ServiceType } from '../mptcp/service-type.ts';
import { Subflow } from '../mptcp/subflow.ts';
import { versionOf } from '../mptcp/version.ts';
import type { MptcpVersion, VersionNumber } from '../mptcp/version.ts';
import type { CongestionControl, CongestionFactory } from '../tcp/congestion/types.ts';
import { DEFAULT_TCP_CONFIG } from '../tcp/config.ts';
import type { TcpConfig } from '../tcp/config.ts';
import { remove } from '../tcp/close.ts';
import { initialSequence, tupleHash } from '../tcp/isn.ts';
import { pollSegment } from '../tcp/output.ts';
import { openActive, segmentArrives } from '../tcp/state-machine.ts';
import { toSeq } from '../tcp/sequence.ts';
import { STATE } from '../tcp/state.ts';
import { Tcb } from '../tcp/tcb.ts';
import { fireTimers, nextDeadline } from '../tcp/timers.ts';
import type { TransmitSlot } from '../tcp/transmit-slot.ts';
import type { TcpContext } from '../tcp/user.ts';
import { withoutConnection } from './accept.ts';
import { StackError } from './config.ts';
import type { Entropy, HostOptions } from './config.ts';
import { congestionFactory, coupledFactory } from './congestion.ts';
import type { CoupledFactory } from './congestion.ts';
import { JoinTable } from './cookies.ts';
import { Demux } from './demux.ts';
import { addEndpoint, addressIdOf, changeEndpoint, removeEndpoint } from './endpoints.ts';
import { handleIcmp } from './icmp.ts';
import { Interface } from './interface.ts';
import type { InterfaceConfig } from './interface.ts';
import { ListenerTable } from './listeners.ts';
import type { Listener, ListenOptions } from './listeners.ts';
import { PeerMemory } from './peer-memory.ts';
import { TimerTable } from './timer-table.ts';

/** RFC 6056 §3.2's range. */
const EPHEMERAL_FIRST = 49152;
const EPHEMERAL_COUNT = 16384;
const MAX_RAW_PACKETS = 1024;
const KEY_TRIES = 16;
/** One in 256 fits: that none of so many does happens once in 10^13 keys, and costs one connection its joins. */
const MOST_DRAWS = 8192;
const RETRY_DELAY = 1000;

/** Route to a prefix through an interface; the longest prefix wins, then the order of addition. */
export interface Route {
  prefix: Uint8Array;
  bits: number;
  interface: Interface;
}

export interface ConnectOptions extends Omit<ConnectionSettings, 'service'> {
  remote: Uint8Array;
  port: number;
  /** Source address; chosen by route when absent. */
  local?: Uint8Array;
  localPort?: number;
  /** Offer Multipath TCP; default: the host's setting. */
  multipath?: boolean;
  /** Versions to offer, the first first; default: the host's setting. */
  versions?: readonly VersionNumber[];
  /** `none` is plain TCP; default: the host's scheduler and path manager as they are. */
  service?: ServiceType;
  /** Use TCP Fast Open (RFC 7413): data written before the first poll rides on the SYN once a cookie is known. */
  fastOpen?: boolean;
}

/** How many subflows and addresses connections may have; changes count at once, also for open connections. */
export interface Limits {
  /** Further subflows per connection, both directions together. */
  subflows: number;
  /** Announced addresses that may be joined, per connection. */
  addressesAccepted: number;
}

export class Host implements TcpContext {
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
  readonly secret: Uint8Array;
  traceData: boolean;
  private readonly routes: Route[] = [];
  private readonly entropy: Entropy;
  private readonly demux = new Demux();
  private readonly listeners = new ListenerTable();
  private readonly congestion: CongestionFactory;
  private readonly coupled: CoupledFactory | null;
  private readonly tokens = new Map<number, Connection>();
  /** Keys drawn in advance whose tokens name this server. */
  private readonly keyPool: [number, number][] = [];
  private readonly timers = new TimerTable<Tcb | Connection>();
  private readonly segment = new Segment();
  private readonly events: StackEvent[] = [];
  private eventHead = 0;
  private readonly eventLimit: number;
  private ready: Tcb[] = [];
  private readyHead = 0;
  private raw: { interface: Interface; packet: Uint8Array }[] = [];
  private nextConnectionId = 1;
  private portOffset = 0;
  private challengeBudget = 0;
  private challengeSecond = -1;
  /** The latest time we were told: events of calls without a time bear it. */
  private lastNow = 0;

  constructor(options: HostOptions) {
    this.tcp = { ...DEFAULT_TCP_CONFIG, ...options.tcp };
    this.mptcp = { ...DEFAULT_MPTCP_CONFIG, ...options.mptcp };
    this.entropy = options.entropy;
    this.traceData = options.traceData ?? false;
    this.eventLimit = options.eventLimit ?? 1_000_000;
    this.secret = new Uint8Array(32);
    for (let i = 0; i < 32; i += 4) new DataView(this.secret.buffer).setInt32(i, this.entropy() | 0);
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

  /** Adds an endpoint for the path manager, also while connections are up; returns its id. Throws {@link StackError} `BAD_ADDRESS_ID`, `BAD_ENDPOINT`. */
  addEndpoint(endpoint: Partial<Endpoint> & { address: Uint8Array }, now?: number): number {
    return addEndpoint(this, endpoint, now);
  }

  /** Takes an endpoint away: it is withdrawn from every connection (RFC 8684 §3.4.2). Returns whether it was there. Id 0: the initial addresses. */
  removeEndpoint(id: number, now: number): boolean {
    return removeEndpoint(this, id, now);
  }

  /** Sets or clears the flags backup and fullmesh of an endpoint, for open connections too. Returns whether it is there. */
  changeEndpoint(id: number, change: { backup?: boolean; fullmesh?: boolean }, now: number): boolean {
    return changeEndpoint(this, id, change, now);
  }

  /** Changes the limits; path managers use what has become possible. */
  setLimits(limits: Partial<Limits>, now: number): void {
    Object.assign(this.limits, limits);
    for (const connection of [...this.connections.values()]) connection.pathManager?.onLimitsChanged?.(connection, now);
  }

  /** Accepts connections to a port. Throws {@link StackError} `ADDRESS_IN_USE`. */
  listen(options: ListenOptions): Listener {
    const listener = this.listeners.add(options, this.mptcp.enabled);
    this.emit({
      type: 'listener-created',
      time: this.lastNow,
      listener: listener.id,
      address: listener.address === null ? null : formatAddress(listener.address),
      port: listener.port,
    });
    return listener;
  }

  /** Stops listening; established connections stay. */
  unlisten(listener: Listener): void {
    if (!this.listeners.remove(listener)) return;
    this.emit({
      type: 'listener-closed',
      time: this.lastNow,
      listener: listener.id,
      address: listener.address === null ? null : formatAddress(listener.address),
      port: listener.port,
    });
  }

  /** Opens a connection. Throws {@link StackError} `NO_ROUTE` or `NO_PORTS`. */
  connect(options: ConnectOptions, now: number): Connection {
    const local = options.local ?? this.sourceFor(options.remote);
    if (local === null) throw new StackError('NO_ROUTE', `no route to ${formatAddress(options.remote)}; expected an interface that is up and reaches it`);
    let multipath = (options.multipath ?? this.mptcp.enabled) && options.service !== 'none';
    if (multipath && this.peers.isBlackHole(options.remote, options.port, now)) {
      // SYNs with MP_CAPABLE vanished on the way to this destination a while ago.
      this.mib('MPCapableSYNTXDisabled');
      multipath = false;
    }
    const localPort = options.localPort ?? this.freePort(local, options.remote, options.port);
    const connection = new Connection(this, this.nextConnectionId++, true, -1, localPort, options.remote, options.port, multipath);
    const { service, ...settings } = options;
    applySettings(connection, service === undefined || service === 'none' ? settings : { ...settings, service }, now);
    connection.initialLocal = local;
    if (multipath) {
      const versions = options.versions ?? this.mptcp.versions;
      const known = this.peers.version(options.remote, options.port, now);
      // A destination that answered an older version lately is asked for that one at once (RFC 8684 §3.1).
      connection.offers = known !== null && versions.includes(known) ? versions.slice(versions.indexOf(known)) : versions;
      connection.version = versionOf(connection.offers[0] ?? 1);
      connection.local = this.freshKey(connection);
      if (connection.local === null) {
        connection.mode = MODE.tcp;
        connection.fallbackReason = 'no-token';
      }
    } else {
      connection.fallbackReason = 'disabled';
    }
    const subflow = new Subflow(connection, connection.nextSubflowId++, true, false, 0, 0, false);
    const tcb = this.attachSubflow(subflow, local, localPort, options.remote, options.port, now);
    if (tcb === null) {
      this.forgetToken(connection);
      throw new StackError('NO_ROUTE', `no interface that is up has ${formatAddress(local)} and reaches ${formatAddress(options.remote)}`);
    }
    connection.subflows.push(subflow);
    if (options.fastOpen === true) {
      const known = this.peers.cookie(options.remote, options.port);
      tcb.fastOpen = { cookie: known?.cookie ?? new Uint8Array(0), sent: 0 };
      if (known !== null) tcb.peerMss = known.mss;
    }
    this.connections.set(connection.id, connection);
    this.emit({
      type: 'connection-created',
      time: now,
      connection: connection.id,
      local: formatEndpoint(local, localPort),
      remote: formatEndpoint(options.remote, options.port),
      active: true,
    });
    announceCreated(subflow, now);
    openActive(tcb, now);
    return connection;
  }

  /**
   * Takes one IP packet of `length` bytes at `offset` of `bytes` (seen through `view`). The bytes may be reused after
   * the call. `checksumValid`: the driver vouches for the transport checksum.
   */
  handlePacket(through: Interface, view: DataView, bytes: Uint8Array, offset: number, length: number, checksumValid: boolean, now: number): void {
    this.lastNow = now;
    through.bytesReceived += length;
    const segment = this.segment;
    const result = parsePacket(view, bytes, offset, length, !checksumValid, segment);
    if (result !== PARSED.tcp) {
      if (result === PARSED.icmp || result === PARSED.icmpv6) handleIcmp(this, this.demux, through, segment, now);
      else this.drop(through, PARSE_REASONS[result] ?? 'ip-unknown', now);
      return;
    }
    const tcb = this.demux.find(segment);
    if (tcb !== null) {
      // A new SYN may take a tuple in TIME-WAIT over when its sequence number is beyond (RFC 9293 §3.10.7.4, RFC 6191).
      if (tcb.state !== STATE.timeWait || (segment.flags & (FLAG.syn | FLAG.ack)) !== FLAG.syn || ((segment.seq - toSeq(tcb.irs, tcb.rcvNxt)) | 0) <= 0) {
        segmentArrives(tcb, segment, now);
        if (tcb.state !== STATE.closed) this.rescheduleTcb(tcb);
        return;
      }
      remove(tcb, 'normal', now);
    }
    withoutConnection(this, through, segment, now);
  }

  /** Fires every timer that is due. */
  handleTimeout(now: number): void {
    this.lastNow = now;
    for (;;) {
      const entry = this.timers.pop(now);
      if (entry === null) return;
      if (entry instanceof Tcb) {
        const at = nextDeadline(entry);
        if (at !== 0 && at <= now) fireTimers(entry, now);
        if (entry.state !== STATE.closed) this.rescheduleTcb(entry);
      } else {
        const at = entry.deadline();
        if (at !== 0 && at <= now) entry.fire(now);
        // What is due but waits for a packet to be sent (an announcement) is looked at again later, not in a loop.
        const next = entry.deadline();
        this.timers.file(entry, next !== 0 && next <= now ? now + RETRY_DELAY : next);
      }
    }
  }

  /** Fills `slot` with the next packet to send. Returns false when there is none. */
  pollTransmit(slot: TransmitSlot, now: number): boolean {
    const packet = this.raw.shift();
    if (packet !== undefined) {
      slot.interface = packet.interface;
      slot.headerLength = 0;
      slot.slices[0] = packet.packet;
      slot.sliceCount = 1;
      slot.payloadLength = packet.packet.length;
      slot.ipVersion = packet.packet[0]! >>> 4;
      slot.transportOffset = -1;
      slot.segmentSize = 0;
      slot.checksumPartial = false;
      packet.interface.bytesSent += packet.packet.length;
      return true;
    }
    while (this.readyHead < this.ready.length) {
      const tcb = this.ready[this.readyHead]!;
      if (pollSegment(tcb, slot, now)) {
        slot.interface!.bytesSent += slot.length;
        if (tcb.state !== STATE.closed) this.rescheduleTcb(tcb);
        return true;
      }
      tcb.queued = false;
      this.readyHead++;
      if (tcb.state !== STATE.closed) this.rescheduleTcb(tcb);
    }
    this.ready.length = 0;
    this.readyHead = 0;
    return false;
  }

  /** Time of the next {@link handleTimeout} that will do something, or Infinity. May be earlier than necessary. */
  pollTimeout(): number {
    return this.timers.next;
  }

  /** The oldest event not yet taken, or null. */
  pollEvent(): StackEvent | null {
    if (this.eventHead === this.events.length) {
      if (this.eventHead > 0) {
        this.events.length = 0;
        this.eventHead = 0;
      }
      return null;
    }
    const event = this.events[this.eventHead++]!;
    if (this.eventHead > 4096) {
      this.events.splice(0, this.eventHead);
      this.eventHead = 0;
    }
    return event;
  }

  /** Whether an address of ours is meant as backup. */
  isBackup(address: Uint8Array | null): boolean {
    return address !== null && this.endpoints.some((endpoint) => endpoint.backup && sameAddress(endpoint.address, address));
  }

  /** Whether nothing is left: no connection, no half-closed subflow, no timer. */
  get idle(): boolean {
    return this.connections.size === 0 && this.demux.size === 0 && this.timers.size === 0 && this.tokens.size === 0;
  }

  /** Numbers for tests and monitors. */
  get sizes(): { connections: number; subflows: number; timers: number; tokens: number } {
    return { connections: this.connections.size, subflows: this.demux.size, timers: this.timers.size, tokens: this.tokens.size };
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

  /** An interface goes away: its subflows are closed and its addresses withdrawn (RFC 8684 §3.4.2). */
  interfaceDown(down: Interface, now: number): void {
    down.up = false;
    for (const connection of [...this.connections.values()]) {
      for (const { address } of down.addresses) if (connection.mode === MODE.mptcp) connection.removeAddress(address, now);
    }
  }

  /** An interface is there (again): its endpoints may carry subflows of open connections. */
  interfaceUp(up: Interface, now: number): void {
    up.up = true;
    const own = this.endpoints.filter((endpoint) => up.addresses.some((one) => sameAddress(one.address, endpoint.address)));
    for (const connection of [...this.connections.values()]) {
      for (const endpoint of own) if (connection.mode === MODE.mptcp) connection.endpointAdded(endpoint, now);
    }
  }

  emit(event: StackEvent): void {
    if (this.events.length - this.eventHead >= this.eventLimit) {
      this.count('events-lost');
      return;
    }
    this.events.push(event);
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
    return addressIdOf(this, address);
  }

  // TcpContext

  wake(tcb: Tcb): void {
    if (tcb.queued) return;
    tcb.queued = true;
    this.ready.push(tcb);
  }

  reschedule(tcb: Tcb): void {
    this.rescheduleTcb(tcb);
  }

  challengeAck(now: number): boolean {
    const second = Math.floor(now / 1_000_000);
    if (second !== this.challengeSecond) {
      this.challengeSecond = second;
      this.challengeBudget = this.tcp.challengeAckLimit;
    }
    return this.challengeBudget-- > 0;
  }

  fastOpenCookie(tcb: Tcb, cookie: Uint8Array | null): void {
    this.peers.rememberCookie(tcb.remote, tcb.remotePort, cookie, tcb.peerMss);
  }

  removed(tcb: Tcb): void {
    this.timers.remove(tcb);
    this.demux.remove(tcb);
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

  // For the Multipath TCP layer

  rescheduleConnection(connection: Connection): void {
    this.timers.file(connection, connection.deadline());
  }

  /** Makes the control block of a subflow and files it. Null without a route from `local`. */
  attachSubflow(
    subflow: Subflow,
    local: Uint8Array,
    localPort: number,
    remote: Uint8Array,
    remotePort: number,
    now: number,
    device: string | null = null,
  ): Tcb | null {
    const route = this.routeTo(remote, local, device);
    if (route === null) return null;
    const port = localPort === 0 ? this.freePort(local, remote, remotePort) : localPort;
    if (this.demux.findTuple(local, port, remote, remotePort) !== null) return null;
    return this.makeTcb(subflow, route.interface, local, port, remote, remotePort, now);
  }

  hasAddress(address: Uint8Array): boolean {
    return this.interfaces.some((own) => own.addresses.some((known) => sameAddress(known.address, address)));
  }

  accepted(connection: Connection, now: number): void {
    const listener = this.listeners.byId(connection.listener);
    if (listener !== null) listener.pending--;
    this.emit({ type: 'connection-accepted', time: now, connection: connection.id, listener: connection.listener, multipath: connection.mode === MODE.mptcp });
  }

  forgetToken(connection: Connection): void {
    if (connection.local !== null && this.tokens.get(connection.local.token) === connection) this.tokens.delete(connection.local.token);
  }

  /** The connection is over for the application. */
  released(connection: Connection): void {
    this.forgetToken(connection);
    if (!connection.active && !connection.wasOpen) {
      const listener = this.listeners.byId(connection.listener);
      if (listener !== null) listener.pending--;
    }
    this.connections.delete(connection.id);
  }

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

  /** Makes and files a control block. */
  makeTcb(subflow: Subflow, through: Interface, local: Uint8Array, localPort: number, remote: Uint8Array, remotePort: number, now: number, iss?: number): Tcb {
    const initial = iss ?? initialSequence(this.secret, local, localPort, remote, remotePort, now);
    const tcb = new Tcb(this, subflow, through, local, localPort, remote, remotePort, initial, this.makeCongestion(subflow.connection));
    tcb.keepaliveIdle = subflow.connection.keepaliveIdle;
    tcb.tsOffset = tupleHash(this.secret, local, 0, remote, 0, 1);
    tcb.tsStamp = this.mptcp.serverId;
    subflow.tcb = tcb;
    subflow.connection.views.push(tcb);
    this.demux.insert(tcb);
    return tcb;
  }

  private makeCongestion(connection: Connection): CongestionControl {
    const coupled = connection.congestionFactory === null ? (connection.coupledFactory ?? this.coupled) : connection.coupledFactory;
    return coupled !== null && connection.mode === MODE.mptcp ? coupled(connection) : (connection.congestionFactory ?? this.congestion)();
  }

  /** A key whose token no other connection of this host uses (RFC 8684 §3.1); null when several tries found none. */
  freshKey(connection: Connection): KeyMaterial | null {
    const { serverId } = this.mptcp;
    for (let i = 0; i < KEY_TRIES; i++) {
      const [high, low] = serverId === 0 ? [this.random32(), this.random32()] : this.namingKey(connection.version);
      const key = this.claimKey(connection, high, low);
      if (key !== null) return key;
    }
    this.mib('MPFallbackTokenInit');
    return null;
  }

  /**
   * Draws keys whose token names this server until the pool has `count` of them, for at most `tries` draws: a quarter of a
   * millisecond for each key. Whoever drives the host calls it when there is nothing else to do. Returns whether the pool is full.
   */
  fillKeyPool(count: number, tries: number): boolean {
    const { serverId } = this.mptcp;
    if (serverId === 0) return true;
    for (let i = 0; i < tries && this.keyPool.length < count; i++) {
      const key: [number, number] = [this.random32(), this.random32()];
      if (tokenOfKey(key[0], key[1]) >>> 24 === serverId) this.keyPool.push(key);
    }
    return this.keyPool.length >= count;
  }

  /** A key whose token begins with the name of this server: from the pool, or drawn now. */
  private namingKey(version: MptcpVersion): [number, number] {
    const pooled = version.number === 1 ? this.keyPool.pop() : undefined;
    if (pooled !== undefined) return pooled;
    for (let i = 0; ; i++) {
      const high = this.random32();
      const low = this.random32();
      const token = version.number === 1 ? tokenOfKey(high, low) : keyMaterial(high, low, version).token;
      if (token >>> 24 === this.mptcp.serverId || i >= MOST_DRAWS) return [high, low];
    }
  }

  /** Whether a connection of this host, a half-open one too, has the tuple of a received segment. */
  knows(segment: Segment): boolean {
    return this.demux.find(segment) !== null;
  }

  /** The material of a given key, if its token is free. */
  claimKey(connection: Connection, high: number, low: number): KeyMaterial | null {
    const key = keyMaterial(high, low, connection.version);
    if (this.tokens.has(key.token) || this.tokens.size >= this.mptcp.maxTokens) return null;
    this.tokens.set(key.token, connection);
    return key;
  }

  connectionOfToken(token: number): Connection | undefined {
    return this.tokens.get(token);
  }

  listenerFor(local: Uint8Array, port: number): Listener | null {
    return this.listeners.find(local, port);
  }

  nextConnection(): number {
    return this.nextConnectionId++;
  }

  private rescheduleTcb(tcb: Tcb): void {
    this.timers.file(tcb, nextDeadline(tcb));
  }

  /** RFC 6056 §3.3.3: a keyed hash of the remote end plus a counter. */
  private freePort(local: Uint8Array, remote: Uint8Array, remotePort: number): number {
    const base = tupleHash(this.secret, local, 0, remote, remotePort, 2) >>> 0;
    for (let i = 0; i < EPHEMERAL_COUNT; i++) {
      const port = EPHEMERAL_FIRST + ((base + this.portOffset++) % EPHEMERAL_COUNT);
      if (this.demux.findTuple(local, port, remote, remotePort) === null) return port;
    }
    throw new StackError('NO_PORTS', `all ${EPHEMERAL_COUNT} ephemeral ports to ${formatEndpoint(remote, remotePort)} are in use`);
  }
}

const PARSE_REASONS: readonly string[] = [
  '',
  'icmp',
  'icmpv6',
  'ip-protocol',
  'ip-fragment',
  'ip-truncated',
  'ip-version',
  'ip-header',
  'ip-checksum',
  'tcp-checksum',
  'tcp-options',
];
