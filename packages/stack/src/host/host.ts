/**
 * A host: interfaces, connections, listeners. It neither reads a clock nor opens a socket.
 *
 * In: {@link Host.handlePacket}, {@link Host.handleTimeout}, and the application's calls (`listen`, `connect`, and the
 * methods of {@link Connection}). Out: {@link Host.pollTransmit}, {@link Host.pollTimeout}, {@link Host.pollEvent}.
 * After anything that goes in, poll packets until there are none, then events, then the next wake-up.
 * Time is in microseconds from any fixed start, and never runs backwards.
 */
import { formatAddress, formatEndpoint, PARSED, parsePacket, sameAddress, inPrefix, Segment, FLAG, RESET_REASON } from '@subflow/wire';
import { ChunkPool } from '../buffers.ts';
import type { StackEvent } from '../events.ts';
import { Connection, MODE } from '../mptcp/connection.ts';
import { DEFAULT_MPTCP_CONFIG } from '../mptcp/config.ts';
import type { MptcpConfig } from '../mptcp/config.ts';
import { announceCreated, findCapable, findJoinSyn } from '../mptcp/handshake.ts';
import { joinHmac, keyMaterial } from '../mptcp/keys.ts';
import type { KeyMaterial } from '../mptcp/keys.ts';
import { Lia } from '../mptcp/congestion/lia.ts';
import type { Endpoint } from '../mptcp/path-manager/types.ts';
import { Subflow } from '../mptcp/subflow.ts';
import { VERSION } from '../mptcp/version.ts';
import { Cubic } from '../tcp/congestion/cubic.ts';
import { NewReno } from '../tcp/congestion/newreno.ts';
import type { CongestionControl } from '../tcp/congestion/types.ts';
import { DEFAULT_TCP_CONFIG } from '../tcp/config.ts';
import type { TcpConfig } from '../tcp/config.ts';
import { remove } from '../tcp/close.ts';
import { initialSequence, tupleHash } from '../tcp/isn.ts';
import { pollSegment } from '../tcp/output.ts';
import { openActive, openFromCookie, openPassive, segmentArrives } from '../tcp/state-machine.ts';
import { toSeq } from '../tcp/sequence.ts';
import { STATE } from '../tcp/state.ts';
import { checkCookie, makeCookie } from '../tcp/syn-cookie.ts';
import { Tcb } from '../tcp/tcb.ts';
import { fireTimers, nextDeadline } from '../tcp/timers.ts';
import type { TransmitSlot } from '../tcp/transmit-slot.ts';
import type { TcpContext } from '../tcp/user.ts';
import { StackError } from './config.ts';
import type { Entropy, HostOptions } from './config.ts';
import { Demux } from './demux.ts';
import { handleIcmp } from './icmp.ts';
import { Interface } from './interface.ts';
import type { InterfaceConfig } from './interface.ts';
import { bareResponse, cookieSynAck } from './stateless.ts';
import { TimerTable } from './timer-table.ts';

/** RFC 6056 §3.2's range. */
const EPHEMERAL_FIRST = 49152;
const EPHEMERAL_COUNT = 16384;
const DEFAULT_BACKLOG = 4096;
const MAX_RAW_PACKETS = 1024;
const KEY_TRIES = 16;
const RETRY_DELAY = 1000;

/** A passive opener. */
export interface Listener {
  readonly id: number;
  readonly port: number;
  /** Null: every local address. */
  readonly address: Uint8Array | null;
  readonly backlog: number;
  readonly multipath: boolean;
  /** Half-open connections. */
  pending: number;
}

/** Route to a prefix through an interface; the longest prefix wins, then the order of addition. */
export interface Route {
  prefix: Uint8Array;
  bits: number;
  interface: Interface;
}

export interface ConnectOptions {
  remote: Uint8Array;
  port: number;
  /** Source address; chosen by route when absent. */
  local?: Uint8Array;
  localPort?: number;
  /** Offer Multipath TCP; default: the host's setting. */
  multipath?: boolean;
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
  traceData: boolean;
  private readonly routes: Route[] = [];
  private readonly entropy: Entropy;
  private readonly secret: Uint8Array;
  private readonly demux = new Demux();
  private readonly listeners: Listener[] = [];
  private readonly tokens = new Map<number, Connection>();
  private readonly timers = new TimerTable<Tcb | Connection>();
  private readonly segment = new Segment();
  private readonly events: StackEvent[] = [];
  private eventHead = 0;
  private readonly eventLimit: number;
  private ready: Tcb[] = [];
  private readyHead = 0;
  private raw: { interface: Interface; packet: Uint8Array }[] = [];
  private nextConnectionId = 1;
  private nextListenerId = 1;
  private portOffset = 0;
  private challengeBudget = 0;
  private challengeSecond = -1;
  private readonly addressIds = new Map<string, number>();

  constructor(options: HostOptions) {
    this.tcp = { ...DEFAULT_TCP_CONFIG, ...options.tcp };
    this.mptcp = { ...DEFAULT_MPTCP_CONFIG, ...options.mptcp };
    this.entropy = options.entropy;
    this.traceData = options.traceData ?? false;
    this.eventLimit = options.eventLimit ?? 1_000_000;
    this.secret = new Uint8Array(32);
    for (let i = 0; i < 32; i += 4) new DataView(this.secret.buffer).setInt32(i, this.entropy() | 0);
    this.makeCongestion(null);
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

  /** Adds an endpoint for the path manager; returns its id. Throws {@link StackError} `BAD_ADDRESS_ID`. */
  addEndpoint(endpoint: Partial<Endpoint> & { address: Uint8Array }): number {
    const id = endpoint.id ?? this.endpoints.reduce((highest, other) => Math.max(highest, other.id), 0) + 1;
    if (id < 1 || id > 255 || this.endpoints.some((other) => other.id === id))
      throw new StackError('BAD_ADDRESS_ID', `address id ${id} is taken or outside 1 to 255`);
    this.endpoints.push({
      id,
      address: endpoint.address,
      port: endpoint.port ?? null,
      subflow: endpoint.subflow ?? false,
      signal: endpoint.signal ?? false,
      backup: endpoint.backup ?? false,
    });
    return id;
  }

  /** Accepts connections to a port. Throws {@link StackError} `ADDRESS_IN_USE`. */
  listen(options: { port: number; address?: Uint8Array; backlog?: number; multipath?: boolean }): Listener {
    const address = options.address ?? null;
    const clash = this.listeners.find(
      (other) => other.port === options.port && (other.address === null || address === null || sameAddress(other.address, address)),
    );
    if (clash !== undefined) throw new StackError('ADDRESS_IN_USE', `port ${options.port} is in use by listener ${clash.id}; expected a free port`);
    const listener: Listener = {
      id: this.nextListenerId++,
      port: options.port,
      address,
      backlog: options.backlog ?? DEFAULT_BACKLOG,
      multipath: options.multipath ?? this.mptcp.enabled,
      pending: 0,
    };
    this.listeners.push(listener);
    return listener;
  }

  /** Stops listening; established connections stay. */
  unlisten(listener: Listener): void {
    const index = this.listeners.indexOf(listener);
    if (index >= 0) this.listeners.splice(index, 1);
  }

  /** Opens a connection. Throws {@link StackError} `NO_ROUTE` or `NO_PORTS`. */
  connect(options: ConnectOptions, now: number): Connection {
    const local = options.local ?? this.sourceFor(options.remote);
    if (local === null) throw new StackError('NO_ROUTE', `no route to ${formatAddress(options.remote)}; expected an interface that is up and reaches it`);
    const multipath = options.multipath ?? this.mptcp.enabled;
    const localPort = options.localPort ?? this.freePort(local, options.remote, options.port);
    const connection = new Connection(this, this.nextConnectionId++, true, -1, localPort, options.remote, options.port, multipath);
    if (multipath) connection.local = this.freshKey(connection);
    else connection.fallbackReason = 'disabled';
    const subflow = new Subflow(connection, connection.nextSubflowId++, true, false, 0, 0, false);
    const tcb = this.attachSubflow(subflow, local, localPort, options.remote, options.port, now);
    if (tcb === null) {
      this.forgetToken(connection);
      throw new StackError('NO_ROUTE', `no interface that is up has ${formatAddress(local)} and reaches ${formatAddress(options.remote)}`);
    }
    connection.subflows.push(subflow);
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
    this.withoutConnection(through, segment, now);
  }

  /** Fires every timer that is due. */
  handleTimeout(now: number): void {
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
      return true;
    }
    while (this.readyHead < this.ready.length) {
      const tcb = this.ready[this.readyHead]!;
      if (pollSegment(tcb, slot, now)) {
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
  routeTo(remote: Uint8Array, local: Uint8Array | null): Route | null {
    let best: Route | null = null;
    for (const route of this.routes) {
      if (!route.interface.up || !inPrefix(remote, route.prefix, route.bits)) continue;
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

  interfaceUp(up: Interface): void {
    up.up = true;
  }

  emit(event: StackEvent): void {
    if (this.events.length - this.eventHead >= this.eventLimit) {
      this.count('events-lost');
      return;
    }
    this.events.push(event);
  }

  count(reason: string): void {
    this.counters.set(reason, (this.counters.get(reason) ?? 0) + 1);
  }

  random32(): number {
    return this.entropy() | 0;
  }

  /** The address id under which an address without endpoint is announced or joined from. */
  addressIdOf(address: Uint8Array): number {
    const endpoint = this.endpoints.find((other) => sameAddress(other.address, address));
    if (endpoint !== undefined) return endpoint.id;
    const key = formatAddress(address);
    const known = this.addressIds.get(key);
    if (known !== undefined) return known;
    let id = 255;
    while (id > 1 && (this.endpoints.some((other) => other.id === id) || [...this.addressIds.values()].includes(id))) id--;
    this.addressIds.set(key, id);
    return id;
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
  attachSubflow(subflow: Subflow, local: Uint8Array, localPort: number, remote: Uint8Array, remotePort: number, now: number): Tcb | null {
    const route = this.routeTo(remote, local);
    if (route === null) return null;
    const port = localPort === 0 ? this.freePort(local, remote, remotePort) : localPort;
    if (this.demux.findTuple(local, port, remote, remotePort) !== null) return null;
    return this.makeTcb(subflow, route.interface, local, port, remote, remotePort, now);
  }

  accepted(connection: Connection, now: number): void {
    const listener = this.listeners.find((other) => other.id === connection.listener);
    if (listener !== undefined) listener.pending--;
    this.emit({ type: 'connection-accepted', time: now, connection: connection.id, listener: connection.listener, multipath: connection.mode === MODE.mptcp });
  }

  forgetToken(connection: Connection): void {
    if (connection.local !== null && this.tokens.get(connection.local.token) === connection) this.tokens.delete(connection.local.token);
  }

  /** The connection is over for the application. */
  released(connection: Connection): void {
    this.forgetToken(connection);
    if (!connection.active && !connection.wasOpen) {
      const listener = this.listeners.find((other) => other.id === connection.listener);
      if (listener !== undefined) listener.pending--;
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

  private rescheduleTcb(tcb: Tcb): void {
    this.timers.file(tcb, nextDeadline(tcb));
  }

  private makeTcb(
    subflow: Subflow,
    through: Interface,
    local: Uint8Array,
    localPort: number,
    remote: Uint8Array,
    remotePort: number,
    now: number,
    iss?: number,
  ): Tcb {
    const initial = iss ?? initialSequence(this.secret, local, localPort, remote, remotePort, now);
    const tcb = new Tcb(this, subflow, through, local, localPort, remote, remotePort, initial, this.makeCongestion(subflow.connection));
    tcb.tsOffset = tupleHash(this.secret, local, 0, remote, 0, 1);
    subflow.tcb = tcb;
    subflow.connection.views.push(tcb);
    this.demux.insert(tcb);
    return tcb;
  }

  private makeCongestion(connection: Connection | null): CongestionControl {
    if (this.mptcp.coupled === 'lia' && connection !== null && connection.mode === MODE.mptcp) return new Lia(connection);
    switch (this.tcp.congestion) {
      case 'cubic':
        return new Cubic();
      case 'newreno':
        return new NewReno();
      default:
        throw new StackError('UNKNOWN_CONGESTION', `unknown congestion controller "${this.tcp.congestion}"; expected cubic or newreno`);
    }
  }

  /** A key whose token no other connection uses (RFC 8684 §3.1). */
  private freshKey(connection: Connection): KeyMaterial | null {
    for (let i = 0; i < KEY_TRIES; i++) {
      const key = keyMaterial(this.random32(), this.random32());
      if (this.tokens.has(key.token)) continue;
      this.tokens.set(key.token, connection);
      return key;
    }
    return null;
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

  /** A segment that belongs to no connection (RFC 9293 §3.10.7.1, §3.10.7.2). */
  private withoutConnection(through: Interface, segment: Segment, now: number): void {
    const local = addressOf(segment, false);
    if (!this.interfaces.some((own) => own.addresses.some((known) => sameAddress(known.address, local)))) {
      this.drop(through, 'ip-not-for-us', now);
      return;
    }
    if ((segment.flags & FLAG.rst) !== 0) {
      this.drop(through, 'tcp-reset-without-connection', now);
      return;
    }
    const isSyn = (segment.flags & (FLAG.syn | FLAG.ack)) === FLAG.syn;
    const join = isSyn ? findJoinSyn(segment) : null;
    if (join !== null && findCapable(segment) === null && this.mptcp.enabled) {
      this.acceptJoin(through, segment, local, join, now);
      return;
    }
    const listener = this.listeners.find((other) => other.port === segment.destinationPort && (other.address === null || sameAddress(other.address, local)));
    if (listener === undefined) {
      this.refuse(through, segment, 'tcp-no-listener', -1, now);
    } else if (isSyn) {
      this.acceptSyn(through, segment, local, listener, now);
    } else {
      this.acceptCookie(through, segment, local, listener, now);
    }
  }

  private acceptSyn(through: Interface, segment: Segment, local: Uint8Array, listener: Listener, now: number): void {
    const remote = addressOf(segment, true);
    if (listener.pending >= listener.backlog) {
      this.count('tcp-syn-cookie-sent');
      const mss = segment.mss > 0 ? segment.mss : 536;
      const isn = makeCookie(this.secret, local, segment.destinationPort, remote, segment.sourcePort, segment.seq, mss, now);
      this.sendRaw(through, cookieSynAck(segment, isn, through.mtu - (segment.ipVersion === 4 ? 40 : 60)));
      return;
    }
    const option = listener.multipath ? findCapable(segment) : null;
    // Not with a join option beside it, and only with the algorithm we speak (RFC 8684 §3.1).
    const capable = option !== null && option.senderKey === null && option.version >= VERSION && (option.flags & 1) !== 0 && findJoinSyn(segment) === null;
    const connection = this.passiveConnection(listener, segment, remote, capable);
    if (capable && connection.local !== null) {
      if ((option.flags & 0x80) !== 0) connection.checksum = true;
      connection.peerDeniesJoin = (option.flags & 0x20) !== 0;
    }
    const subflow = new Subflow(connection, connection.nextSubflowId++, false, false, 0, 0, false);
    const tcb = this.makeTcb(subflow, through, local, segment.destinationPort, remote, segment.sourcePort, now);
    connection.subflows.push(subflow);
    listener.pending++;
    this.announcePassive(connection, subflow, now);
    openPassive(tcb, segment, now);
    this.rescheduleTcb(tcb);
  }

  private acceptCookie(through: Interface, segment: Segment, local: Uint8Array, listener: Listener, now: number): void {
    const remote = addressOf(segment, true);
    const isn = (segment.ack - 1) | 0;
    const mss =
      (segment.flags & FLAG.ack) === 0
        ? -1
        : checkCookie(this.secret, local, segment.destinationPort, remote, segment.sourcePort, (segment.seq - 1) | 0, isn, now);
    if (mss < 0) {
      this.refuse(through, segment, 'tcp-no-connection', -1, now);
      return;
    }
    this.count('tcp-syn-cookie-accepted');
    const connection = this.passiveConnection(listener, segment, remote, false);
    const subflow = new Subflow(connection, connection.nextSubflowId++, false, false, 0, 0, false);
    const tcb = this.makeTcb(subflow, through, local, segment.destinationPort, remote, segment.sourcePort, now, isn);
    connection.subflows.push(subflow);
    listener.pending++;
    this.announcePassive(connection, subflow, now);
    openFromCookie(tcb, segment, mss, now);
    if (tcb.state !== STATE.closed) this.rescheduleTcb(tcb);
  }

  private acceptJoin(through: Interface, segment: Segment, local: Uint8Array, join: NonNullable<ReturnType<typeof findJoinSyn>>, now: number): void {
    const connection = this.tokens.get(join.token | 0);
    if (connection === undefined || connection.mode !== MODE.mptcp || connection.remote === null) {
      this.refuse(through, segment, 'mptcp-join-token', RESET_REASON.mptcp, now);
      return;
    }
    if (!connection.open || connection.subflows.length > this.mptcp.maxSubflows) {
      this.refuse(through, segment, 'mptcp-join-limit', RESET_REASON.prohibited, now);
      return;
    }
    const remote = addressOf(segment, true);
    const subflow = new Subflow(connection, connection.nextSubflowId++, false, true, this.idOfJoined(connection, local), join.addressId, false);
    subflow.remoteBackup = (join.flags & 1) !== 0;
    subflow.remoteNonce = join.nonce | 0;
    subflow.localNonce = this.random32();
    subflow.hmac = joinHmac(connection.local!, connection.remote, subflow.localNonce, subflow.remoteNonce);
    const tcb = this.makeTcb(subflow, through, local, segment.destinationPort, remote, segment.sourcePort, now);
    connection.subflows.push(subflow);
    announceCreated(subflow, now);
    openPassive(tcb, segment, now);
    this.rescheduleTcb(tcb);
  }

  /** Our id for the address a join came to: that of the initial subflow is 0 (RFC 8684 §3.2). */
  private idOfJoined(connection: Connection, local: Uint8Array): number {
    return connection.initialLocal !== null && sameAddress(connection.initialLocal, local) ? 0 : this.addressIdOf(local);
  }

  private passiveConnection(listener: Listener, segment: Segment, remote: Uint8Array, capable: boolean): Connection {
    const connection = new Connection(this, this.nextConnectionId++, false, listener.id, segment.destinationPort, remote, segment.sourcePort, capable);
    connection.initialLocal = addressOf(segment, false);
    if (capable) {
      connection.local = this.freshKey(connection);
      if (connection.local === null) connection.mode = MODE.tcp;
    }
    if (connection.mode === MODE.tcp) connection.fallbackReason = listener.multipath ? 'peer-not-capable' : 'disabled';
    this.connections.set(connection.id, connection);
    return connection;
  }

  private announcePassive(connection: Connection, subflow: Subflow, now: number): void {
    const { tcb } = subflow;
    this.emit({
      type: 'connection-created',
      time: now,
      connection: connection.id,
      local: formatEndpoint(tcb.local, tcb.localPort),
      remote: formatEndpoint(tcb.remote, tcb.remotePort),
      active: false,
    });
    announceCreated(subflow, now);
  }

  /** RST for a segment without a connection, with MP_TCPRST when `reason` is not negative (RFC 8684 §3.2, §3.6). */
  private refuse(through: Interface, segment: Segment, counter: string, reason: number, now: number): void {
    this.drop(through, counter, now);
    this.sendRaw(through, bareResponse(segment, reason));
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

function addressOf(segment: Segment, source: boolean): Uint8Array {
  const at = segment.ipOffset + (segment.ipVersion === 4 ? (source ? 12 : 16) : source ? 8 : 24);
  return segment.bytes.slice(at, at + (segment.ipVersion === 4 ? 4 : 16));
}
