/** One TCP subflow made by hand: builds, sends, asks again, acknowledges, and closes what it opened. */
import { buildPacket, FLAG, ipHeader, PROTOCOL } from '@subflow/wire';
import type { IpAddress, MptcpOption, TcpOption } from '@subflow/wire';
import { ProbeError } from './errors.ts';
import type { Hub, Receiver, TcpPacket } from './hub.ts';
import type { ReservedPort } from './port.ts';

/** What a packet of a flow is made of; what is left out follows from the flow's state. */
export interface SegmentSpec {
  flags: number;
  seq?: number;
  ack?: number;
  options?: readonly TcpOption[];
  payload?: Uint8Array;
  ttl?: number;
  window?: number;
  /** DSCP and ECN. */
  trafficClass?: number;
  /** IPv4 identification; a fresh mark when absent. */
  identification?: number;
}

/** A packet that arrived. */
export interface Arrival {
  at: number;
  packet: TcpPacket;
  bytes: Uint8Array;
}

export interface AskOptions {
  /** Transmissions in all. */
  tries?: number;
  /** First wait, microseconds; doubled up to four times. */
  wait?: number;
}

const WINDOW = 0xfaf0;
const FIRST_WAIT = 200_000;
const TRIES = 6;
const MAX_HELD = 256;
const MAX_ARRIVALS = 20_000;
/** Resets sent for one flow after its end. */
const MAX_REFUSED = 20;

interface Waiter {
  accepts(arrival: Arrival): boolean;
  done(arrival: Arrival | null): void;
}

export class Flow implements Receiver {
  readonly hub: Hub;
  readonly local: IpAddress;
  readonly localPort: number;
  readonly remote: IpAddress;
  readonly remotePort: number;
  /** Our initial and next sequence numbers, unsigned. */
  readonly iss: number;
  sndNxt: number;
  /** The peer's initial and next expected sequence numbers; -1 before its SYN. */
  irs = -1;
  rcvNxt = 0;
  /** What the peer has acknowledged. */
  sndUna: number;
  /** Timestamps are sent (and echoed) once set. */
  timestamps = false;
  tsRecent = 0;
  /** Smoothed time between a question and its answer, microseconds; 0 before the first. */
  rtt = 0;
  reset: Arrival | null = null;
  finReceived = false;
  closed = false;
  /** Answers data with an acknowledgement. */
  acknowledges = true;
  /** Options that every acknowledgement carries. */
  ackOptions: () => TcpOption[] = () => [];
  readonly arrivals: Arrival[] = [];
  /** In-order payload, as it comes. */
  onData: (payload: Uint8Array, seq: number, arrival: Arrival) => void = () => undefined;
  onSegment: (arrival: Arrival) => void = () => undefined;
  /** Before something is sent again: what it depends on may have been lost as well. */
  onRetry: () => void = () => undefined;
  private readonly reserved: ReservedPort;
  private readonly unclaim: () => void;
  private readonly waiters = new Set<Waiter>();
  private readonly held = new Map<number, { payload: Uint8Array; arrival: Arrival }>();
  private finSeq = -1;

  /** Throws {@link ProbeError} `NO_ROUTE`. */
  constructor(hub: Hub, remote: IpAddress, remotePort: number, options: { source?: IpAddress; iss?: number; reserved?: ReservedPort } = {}) {
    const source = options.source ?? hub.port.source(remote);
    if (source === null) throw new ProbeError('NO_ROUTE', `no way to ${remote.join('.')}; expected a route`);
    this.hub = hub;
    this.local = source;
    this.remote = remote;
    this.remotePort = remotePort;
    this.reserved = options.reserved ?? hub.port.reserve(source);
    this.localPort = this.reserved.port;
    this.iss = options.iss ?? hub.port.entropy();
    this.sndNxt = this.sndUna = this.iss;
    this.unclaim = hub.claim(this.localPort, remote, remotePort, this);
  }

  /** A packet of this flow, checksums right. */
  build(spec: SegmentSpec): Uint8Array {
    const ip = ipHeader(this.local, this.remote, PROTOCOL.tcp, spec.ttl ?? 64);
    ip.trafficClass = spec.trafficClass ?? 0;
    if (ip.version === 4) ip.identification = spec.identification ?? this.hub.mark(this);
    else ip.flowLabel = (this.localPort << 4) | (this.remotePort & 15);
    const options: TcpOption[] = [...(spec.options ?? [])];
    if (this.timestamps && !options.some((one) => one.kind === 'timestamps')) {
      options.unshift({ kind: 'nop' }, { kind: 'nop' }, { kind: 'timestamps', value: this.timestamp(), echo: this.tsRecent });
    }
    const tcp = {
      sourcePort: this.localPort,
      destinationPort: this.remotePort,
      seq: (spec.seq ?? this.sndNxt) >>> 0,
      ack: (spec.flags & FLAG.ack) === 0 ? 0 : (spec.ack ?? this.rcvNxt) >>> 0,
      headerLength: 20,
      reserved: 0,
      flags: spec.flags,
      window: spec.window ?? WINDOW,
      checksum: 0,
      urgent: 0,
      options,
    };
    return buildPacket(ip, { tcp, payload: spec.payload ?? new Uint8Array(0) });
  }

  /** Our clock in milliseconds, as the timestamp option has it. */
  timestamp(): number {
    return Math.floor(this.hub.now() / 1000) >>> 0;
  }

  /** Acknowledges what has come. */
  acknowledge(options: readonly TcpOption[] = this.ackOptions()): void {
    this.hub.send(this.build({ flags: FLAG.ack, options }));
  }

  /** The first arrival from now on that is accepted, or null after `timeout` microseconds or a reset. */
  wait(accepts: (arrival: Arrival) => boolean, timeout: number): Promise<Arrival | null> {
    return new Promise((resolve) => {
      const waiter: Waiter = {
        accepts,
        done: (arrival) => {
          this.waiters.delete(waiter);
          cancel();
          resolve(arrival);
        },
      };
      const cancel = this.hub.port.at(this.hub.now() + timeout, () => waiter.done(null));
      this.waiters.add(waiter);
    });
  }

  /** Sends again and again until an answer is accepted; null when none came. */
  async ask(build: () => Uint8Array, accepts: (arrival: Arrival) => boolean, options: AskOptions = {}): Promise<Arrival | null> {
    let wait = options.wait ?? this.patience();
    const tries = options.tries ?? TRIES;
    for (let i = 0; i < tries && this.reset === null && !this.closed; i++) {
      const sentAt = this.hub.now();
      const answer = this.wait(accepts, wait);
      if (i > 0) {
        this.hub.counters.retries++;
        this.onRetry();
      }
      this.hub.send(build());
      const arrival = await answer;
      if (arrival !== null) {
        // Karn: only what was sent once is measured.
        if (i === 0) this.rtt = this.rtt === 0 ? arrival.at - sentAt : (7 * this.rtt + arrival.at - sentAt) / 8;
        return arrival;
      }
      wait = Math.min(2 * wait, 8 * FIRST_WAIT);
    }
    return null;
  }

  /** How long an answer may take before it is asked for again. */
  patience(): number {
    return this.rtt === 0 ? FIRST_WAIT : Math.max(60_000, 3 * this.rtt);
  }

  /** SYN until SYN+ACK; null when there is none (`reset` tells a refusal). The third ACK is the caller's. */
  async open(options: readonly TcpOption[], spec: Partial<SegmentSpec> & AskOptions = {}): Promise<Arrival | null> {
    const answer = await this.ask(
      () => this.build({ ...spec, flags: spec.flags ?? FLAG.syn, seq: this.iss, options }),
      (arrival) => (arrival.packet.tcp.flags & FLAG.syn) !== 0,
      spec,
    );
    return answer;
  }

  /** Sends payload until it is acknowledged. Returns the acknowledgement. */
  async deliver(payload: Uint8Array, options: readonly TcpOption[], spec: Partial<SegmentSpec> & AskOptions = {}): Promise<Arrival | null> {
    const seq = spec.seq ?? this.sndNxt;
    const end = (seq + payload.length) >>> 0;
    if (spec.seq === undefined) this.sndNxt = end;
    return this.ask(
      () => this.build({ ...spec, flags: spec.flags ?? FLAG.ack | FLAG.psh, seq, options, payload }),
      (arrival) => (arrival.packet.tcp.flags & FLAG.ack) !== 0 && ((arrival.packet.tcp.ack - end) | 0) >= 0,
      spec,
    );
  }

  /** Resets the connection, so that nothing stays at the peer, and frees the port after a while (`linger`, microseconds). */
  close(options: readonly TcpOption[] = [], linger?: number): void {
    if (this.closed) return;
    this.closed = true;
    // A peer that has reset it, or never answered, keeps nothing; a SYN that is still under way is covered by the ACK number.
    if (this.reset === null && this.irs >= 0) this.hub.send(this.build({ flags: FLAG.rst | FLAG.ack, seq: this.sndNxt, options }));
    else if (this.reset === null) this.hub.send(this.build({ flags: FLAG.rst, seq: (this.iss + 1) >>> 0 }));
    for (const waiter of [...this.waiters]) waiter.done(null);
    // What still comes is answered with resets: ours may be lost, and the system must not answer in our place.
    this.unclaim();
    const { reserved } = this;
    const unclaim = this.hub.claim(this.localPort, this.remote, this.remotePort, new Refusing(this));
    this.hub.linger(() => {
      unclaim();
      reserved.release();
    }, linger);
  }

  segment(packet: TcpPacket, bytes: Uint8Array, now: number): void {
    const arrival: Arrival = { at: now, packet, bytes };
    const { tcp, payload } = packet;
    if (this.arrivals.length < MAX_ARRIVALS) this.arrivals.push(arrival);
    const stamps = tcp.options.find((one) => one.kind === 'timestamps');
    if (stamps !== undefined) this.tsRecent = stamps.value;
    if ((tcp.flags & FLAG.syn) !== 0 && (tcp.flags & FLAG.ack) !== 0) this.synAck(tcp);
    if ((tcp.flags & FLAG.rst) !== 0) {
      // A reset that does not fit is somebody's guess (RFC 9293 §3.10.7.4, RFC 5961 §3).
      const fits = this.irs < 0 ? ((tcp.ack - this.iss) | 0) === 1 || (tcp.flags & FLAG.ack) === 0 : Math.abs((tcp.seq - this.rcvNxt) | 0) < 0x10000;
      if (fits) this.reset ??= arrival;
    } else if ((tcp.flags & FLAG.ack) !== 0) {
      if (((tcp.ack - this.sndUna) | 0) > 0) this.sndUna = tcp.ack;
    }
    if (this.irs >= 0 && this.reset === null && (payload.length > 0 || (tcp.flags & FLAG.fin) !== 0)) this.take(arrival);
    // A keepalive wants to know whether we are here (RFC 9293 §3.8.4).
    if (this.irs >= 0 && this.reset === null && payload.length === 0 && tcp.flags === FLAG.ack && ((this.rcvNxt - tcp.seq) | 0) === 1) this.acknowledge();
    this.onSegment(arrival);
    for (const waiter of [...this.waiters]) {
      if (waiter.accepts(arrival)) waiter.done(arrival);
      else if (this.reset !== null) waiter.done(null);
    }
  }

  quote(): void {
    // Walks listen for theirs; errors about anything else are answered by asking again.
  }

  private synAck(tcp: TcpPacket['tcp']): void {
    if (this.irs >= 0) return;
    this.irs = tcp.seq;
    this.rcvNxt = (tcp.seq + 1) >>> 0;
    this.sndNxt = (this.iss + 1) >>> 0;
  }

  private take(arrival: Arrival): void {
    const { tcp, payload } = arrival.packet;
    if ((tcp.flags & FLAG.fin) !== 0) this.finSeq = (tcp.seq + payload.length) >>> 0;
    if (payload.length > 0 && this.held.size < MAX_HELD && ((tcp.seq + payload.length - this.rcvNxt) | 0) > 0) {
      const kept = this.held.get(tcp.seq);
      if (kept === undefined || kept.payload.length < payload.length) this.held.set(tcp.seq, { payload, arrival });
    }
    for (let moved = true; moved;) {
      moved = false;
      for (const [seq, piece] of this.held) {
        const skip = (this.rcvNxt - seq) | 0;
        if (skip < 0) continue;
        this.held.delete(seq);
        if (skip >= piece.payload.length) continue;
        const from = this.rcvNxt;
        this.rcvNxt = (seq + piece.payload.length) >>> 0;
        this.onData(piece.payload.subarray(skip), from, piece.arrival);
        moved = true;
      }
    }
    if (this.finSeq === this.rcvNxt && this.finSeq >= 0 && !this.finReceived) {
      this.finReceived = true;
      this.rcvNxt = (this.rcvNxt + 1) >>> 0;
    }
    if (this.acknowledges && !this.closed) this.acknowledge();
  }
}

/** Answers for a flow that has ended: with resets, a few. It keeps only the endpoints, scans end thousands of flows a second. */
class Refusing implements Receiver {
  private readonly hub: Hub;
  private refused = 0;

  constructor(flow: Flow) {
    this.hub = flow.hub;
  }

  segment(packet: TcpPacket): void {
    const { flags, ack } = packet.tcp;
    if ((flags & FLAG.rst) !== 0 || this.refused++ >= MAX_REFUSED || (flags & FLAG.ack) === 0) return;
    this.hub.send(refusal(packet, ack, null));
  }

  quote(): void {
    // Nothing of it matters any more.
  }
}

/** A reset in answer to a segment (RFC 9293 §3.10.7.1). `ack` null: without an acknowledgement. */
export function refusal({ tcp, ip }: TcpPacket, seq: number, ack: number | null): Uint8Array {
  const header = {
    sourcePort: tcp.destinationPort,
    destinationPort: tcp.sourcePort,
    seq: seq >>> 0,
    ack: (ack ?? 0) >>> 0,
    headerLength: 20,
    reserved: 0,
    flags: ack === null ? FLAG.rst : FLAG.rst | FLAG.ack,
    window: 0,
    checksum: 0,
    urgent: 0,
    options: [],
  };
  const reply = ipHeader(ip.destination, ip.source, PROTOCOL.tcp);
  // Told from the kernel's own by its number.
  if (reply.version === 4) reply.identification = 1;
  return buildPacket(reply, { tcp: header });
}

/** The Multipath TCP option of a subtype in a packet, or undefined. */
export function mptcpOption<S extends MptcpOption['subtype']>(packet: TcpPacket, subtype: S): Extract<MptcpOption, { subtype: S }> | undefined {
  for (const one of packet.tcp.options) {
    if (one.kind === 'mptcp' && one.option.subtype === subtype) return one.option as Extract<MptcpOption, { subtype: S }>;
  }
  return undefined;
}

/** A Multipath TCP option as a TCP option. */
export function mptcp(option: MptcpOption): TcpOption {
  return { kind: 'mptcp', option };
}
