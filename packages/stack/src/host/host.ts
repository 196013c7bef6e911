/**
 * A host: interfaces, connections, listeners. It neither reads a clock nor opens a socket.
 *
 * In: {@link Host.handlePacket}, {@link Host.handleTimeout}, and the application's calls (`listen`, `connect`, and the
 * methods of {@link Connection}). Out: {@link Host.pollTransmit}, {@link Host.pollTimeout}, {@link Host.pollEvent}.
 * After anything that goes in, poll packets until there are none, then events, then the next wake-up.
 * Time is in microseconds from any fixed start, and never runs backwards.
 */
import { formatAddress, formatEndpoint, PARSED, parsePacket, Segment } from '@subflow/wire';
import { isUnicast } from '../ends.ts';
import { StackError } from '../errors.ts';
import type { StackEvent } from '../events.ts';
import { withoutConnection } from './accept.ts';
import { checkOptions } from './config.ts';
import type { HostOptions } from './config.ts';
import { EPHEMERAL_COUNT, HostCore } from './core.ts';
import { insertEndpoint } from './endpoints.ts';
import { handleIcmp } from './icmp.ts';
import { checkAddress, checkPort } from './listeners.ts';
import type { Listener, ListenOptions } from './listeners.ts';
import { judgeTimeWait, TimeWait, timeWaitAck } from './time-wait.ts';
import type { Interface } from '../interface.ts';
import type { Limits } from '../mptcp/config.ts';
import { Connection } from '../mptcp/connection.ts';
import { announceCreated, INITIAL_ACTIVE } from '../mptcp/handshake.ts';
import type { Endpoint } from '../mptcp/path-manager/types.ts';
import type { ServiceType } from '../mptcp/service-type.ts';
import { applySettings, checkSettings } from '../mptcp/settings.ts';
import type { ConnectionSettings } from '../mptcp/settings.ts';
import { MODE } from '../mptcp/state.ts';
import { versionOf } from '../mptcp/version.ts';
import type { VersionNumber } from '../mptcp/version.ts';
import { pollSegment } from '../tcp/output.ts';
import { openActive, segmentArrives } from '../tcp/state-machine.ts';
import { STATE } from '../tcp/state.ts';
import { Tcb } from '../tcp/tcb.ts';
import { fireTimers, nextDeadline } from '../tcp/timers.ts';
import type { TransmitSlot } from '../tcp/transmit-slot.ts';

const RETRY_DELAY = 1000;

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

export class Host extends HostCore {
  private readonly segment = new Segment();
  private readyHead = 0;
  /** The latest time we were told: events of calls without a time bear it. */
  private lastNow = 0;

  /** Throws {@link StackError} `BAD_OPTION` or `UNKNOWN_CONGESTION` for an option that is unknown or out of range. */
  constructor(options: HostOptions) {
    super(checkOptions(options));
  }

  /** Adds an endpoint for the path manager, also while connections are up; returns its id. Throws {@link StackError} `BAD_ADDRESS_ID`, `BAD_ENDPOINT`. */
  addEndpoint(endpoint: Partial<Endpoint> & { address: Uint8Array }, now?: number): number {
    const added = insertEndpoint(this.endpoints, endpoint);
    if (now !== undefined) for (const connection of [...this.connections.values()]) connection.endpointAdded(added, now);
    return added.id;
  }

  /** Takes an endpoint away: it is withdrawn from every connection (RFC 8684 §3.4.2). Returns whether it was there. Id 0: the initial addresses. */
  removeEndpoint(id: number, now: number): boolean {
    const index = this.endpoints.findIndex((other) => other.id === id);
    if (index < 0 && id !== 0) return false;
    const removed = index < 0 ? null : this.endpoints.splice(index, 1)[0]!;
    for (const connection of [...this.connections.values()]) connection.endpointRemoved(removed, now);
    return true;
  }

  /** Sets or clears the flags backup and fullmesh of an endpoint, for open connections too. Returns whether it is there. */
  changeEndpoint(id: number, change: { backup?: boolean; fullmesh?: boolean }, now: number): boolean {
    const endpoint = this.endpoints.find((other) => other.id === id);
    if (endpoint === undefined) return false;
    Object.assign(endpoint, change);
    for (const connection of [...this.connections.values()]) connection.endpointChanged(endpoint, now);
    return true;
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

  /** Opens a connection. Throws {@link StackError} `NO_ROUTE`, `NO_PORTS`, `ADDRESS_IN_USE`, `BAD_OPTION` or `UNKNOWN_CONGESTION`. */
  connect(options: ConnectOptions, now: number): Connection {
    checkConnect(options);
    const local = options.local ?? this.sourceFor(options.remote);
    if (local === null) throw new StackError('NO_ROUTE', `no route to ${formatAddress(options.remote)}; expected an interface that is up and reaches it`);
    let multipath = (options.multipath ?? this.mptcp.enabled) && options.service !== 'none';
    if (multipath && this.peers.isBlackHole(options.remote, options.port, now)) {
      // SYNs with MP_CAPABLE vanished on the way to this destination a while ago.
      this.mib('MPCapableSYNTXDisabled');
      multipath = false;
    }
    const localPort = options.localPort ?? this.freePort(local, options.remote, options.port);
    if (localPort === null)
      throw new StackError('NO_PORTS', `all ${EPHEMERAL_COUNT} ephemeral ports to ${formatEndpoint(options.remote, options.port)} are in use`);
    const inUse = { local, localPort, remote: options.remote, remotePort: options.port };
    if (this.demux.findEnds(inUse) !== null)
      throw new StackError(
        'ADDRESS_IN_USE',
        `there is a connection from ${formatEndpoint(local, localPort)} to ${formatEndpoint(options.remote, options.port)} already`,
      );
    const { remote, port } = options;
    const origin = { id: this.nextConnection(), active: true, listener: -1, localPort, remoteAddress: remote, remotePort: port, multipath };
    const connection = new Connection(this, origin);
    applySettings(connection, settingsOf(options), now);
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
    const subflow = this.openSubflow(connection, INITIAL_ACTIVE, { local, localPort, remote, remotePort: port, device: null }, now);
    if (subflow === null) {
      this.forgetToken(connection);
      throw new StackError('NO_ROUTE', `no interface that is up has ${formatAddress(local)} and reaches ${formatAddress(options.remote)}`);
    }
    const { tcb } = subflow;
    connection.addSubflow(subflow);
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
  // oxlint-disable-next-line max-params -- a call for every packet: an object for its arguments costs as much as the work
  handlePacket(through: Interface, view: DataView, bytes: Uint8Array, offset: number, length: number, checksumValid: boolean, now: number): void {
    this.lastNow = now;
    through.bytesReceived += length;
    const segment = this.segment;
    const result = parsePacket(view, bytes, offset, length, !checksumValid, segment);
    if (result !== PARSED.tcp) {
      if (result === PARSED.icmp || result === PARSED.icmpv6) handleIcmp(this, through, segment, now);
      else this.drop(through, PARSE_REASONS[result] ?? 'ip-unknown', now);
      return;
    }
    const found = this.demux.find(segment);
    if (found instanceof Tcb) {
      segmentArrives(found, segment, now);
      if (found.state !== STATE.closed) this.reschedule(found);
    } else if (found instanceof TimeWait) {
      if (!this.arrivesInTimeWait(found, segment, now)) withoutConnection(this, through, segment, now, found);
    } else {
      withoutConnection(this, through, segment, now);
    }
  }

  /** Returns false when the tuple is free again and the segment belongs to nobody. */
  private arrivesInTimeWait(entry: TimeWait, segment: Segment, now: number): boolean {
    const verdict = judgeTimeWait(entry, segment);
    switch (verdict.kind) {
      case 'reuse':
        this.timeWaits.remove(entry);
        this.demux.remove(entry);
        return false;
      case 'fin-again':
        this.timeWaits.restart(entry, now);
        this.answerFrom(entry, now);
        return true;
      case 'answer':
        this.answerFrom(entry, now);
        return true;
      case 'drop':
        this.count(verdict.reason);
        return true;
    }
  }

  private answerFrom(entry: TimeWait, now: number): void {
    if (entry.answers-- > 0) this.sendRaw(entry.interface, timeWaitAck(entry, now));
    else this.count('tcp-answer-limited');
  }

  /** Fires every timer that is due. */
  handleTimeout(now: number): void {
    this.lastNow = now;
    for (let over = this.timeWaits.pop(now); over !== null; over = this.timeWaits.pop(now)) this.demux.remove(over);
    for (;;) {
      const entry = this.timers.pop(now);
      if (entry === null) return;
      if (entry instanceof Tcb) {
        const at = nextDeadline(entry);
        if (at !== 0 && at <= now) fireTimers(entry, now);
        if (entry.state !== STATE.closed) this.reschedule(entry);
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
      const wrote = pollSegment(tcb, slot, now);
      if (wrote) slot.interface!.bytesSent += slot.length;
      if (!wrote) {
        tcb.queued = false;
        this.readyHead++;
      }
      if (tcb.state === STATE.timeWait && !tcb.ackNow) this.waitOut(tcb, now);
      else if (tcb.state !== STATE.closed) this.reschedule(tcb);
      if (wrote) return true;
    }
    this.ready.length = 0;
    this.readyHead = 0;
    return false;
  }

  /** Time of the next {@link handleTimeout} that will do something, or Infinity. May be earlier than necessary. */
  pollTimeout(): number {
    return Math.min(this.timers.next, this.timeWaits.next);
  }

  /** The oldest event not yet taken, or null. */
  pollEvent(): StackEvent | null {
    return this.events.take();
  }

  /** Whether nothing is left: no connection, no half-closed subflow, no timer. */
  get idle(): boolean {
    return this.connections.size === 0 && this.demux.size === 0 && this.timers.size === 0 && this.tokens.size === 0;
  }

  /** Numbers for tests and monitors. */
  get sizes(): { connections: number; subflows: number; timers: number; tokens: number } {
    return { connections: this.connections.size, subflows: this.demux.size, timers: this.timers.size, tokens: this.tokens.size };
  }

  /** An interface goes away: its subflows are closed and its addresses withdrawn (RFC 8684 §3.4.2). */
  interfaceDown(down: Interface, now: number): void {
    if (!down.up) return;
    down.up = false;
    for (const connection of [...this.connections.values()]) for (const { address } of down.addresses) connection.addressLost(address, now);
  }

  /** An interface is there (again): its addresses may carry subflows of open connections. */
  interfaceUp(up: Interface, now: number): void {
    if (up.up) return;
    up.up = true;
    for (const connection of [...this.connections.values()]) for (const { address } of up.addresses) connection.addressFound(address, now);
  }

  /**
   * Draws keys whose token names this server until the pool has `count` of them, for at most `tries` draws: a quarter of a
   * millisecond for each key. Whoever drives the host calls it when there is nothing else to do. Returns whether the pool is full.
   */
  fillKeyPool(count: number, tries: number): boolean {
    return this.tokens.fill(count, tries);
  }

  /** Whether a connection of this host, a half-open one too, has the tuple of a received segment. */
  knows(segment: Segment): boolean {
    return this.demux.find(segment) !== null;
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

/** What of the options of `connect` stays with the connection. */
function settingsOf(options: ConnectOptions): ConnectionSettings {
  const {
    remote: _remote,
    port: _port,
    local: _local,
    localPort: _localPort,
    multipath: _multipath,
    versions: _versions,
    fastOpen: _fastOpen,
    ...rest
  } = options;
  const { service, ...settings } = rest;
  return service === undefined || service === 'none' ? settings : { ...settings, service };
}

/** Throws {@link StackError} `BAD_OPTION` or `UNKNOWN_CONGESTION`. */
function checkConnect(options: ConnectOptions): void {
  checkAddress(options.remote);
  checkPort(options.port);
  if (!isUnicast(options.remote)) throw new StackError('BAD_OPTION', `remote is ${formatAddress(options.remote)}; expected the address of one host`);
  if (options.local !== undefined) {
    checkAddress(options.local);
    if (options.local.length !== options.remote.length)
      throw new StackError('BAD_OPTION', `local is ${formatAddress(options.local)}; expected an address of the family of ${formatAddress(options.remote)}`);
  }
  if (options.localPort !== undefined) checkPort(options.localPort);
  const { versions } = options;
  if (versions !== undefined && (versions.length === 0 || versions.some((one) => one !== 0 && one !== 1)))
    throw new StackError('BAD_OPTION', `versions is ${JSON.stringify(versions)}; expected one or both of 0 and 1`);
  checkSettings(settingsOf(options));
}
