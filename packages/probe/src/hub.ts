/** Shares one port among many flows: finds whom a packet is for, keeps a record of all that was sent and received. */
import { formatEndpoint, isMalformed, parsePacketValue } from '@subflow/wire';
import type { IcmpEcho, IpAddress, Packet, TcpHeader } from '@subflow/wire';
import type { ProbePort } from './port.ts';
import { quotesTcp, readQuote } from './quote.ts';
import type { Quote } from './quote.ts';

export type TcpPacket = Packet & { tcp: TcpHeader };

/** Takes what is for one flow. */
export interface Receiver {
  segment(packet: TcpPacket, bytes: Uint8Array, now: number): void;
  /** An ICMP error about a packet of ours, or one that may be. */
  quote(quote: Quote, now: number): void;
}

/** Sees every packet that goes out or comes in for somebody here. */
export type PacketLog = (direction: 'out' | 'in', bytes: Uint8Array, now: number) => void;

/** IP identifications are marks: 65,536 of them, the oldest is given up first. */
const MARKS = 65_536;
/** How long the endpoints of a flow that has ended stay ours, microseconds. */
const LINGER = 4_000_000;
const QUIET = 250_000;

export class Hub {
  readonly port: ProbePort;
  log: PacketLog | null = null;
  /** What local ports were used for, in reports. */
  readonly labels = new Map<number, string>();
  /** Takes packets that are for nobody else. */
  onStranger: ((bytes: Uint8Array, now: number) => void) | null = null;
  /** Packets for nobody here, quotes of packets that were not sent, and what had to be sent again. */
  readonly counters = { strangers: 0, malformed: 0, foreignQuotes: 0, sent: 0, received: 0, retries: 0 };
  private readonly receivers = new Map<string, Receiver>();
  private readonly byLocalPort = new Map<number, Receiver>();
  private readonly walkers = new Map<string, Receiver>();
  private readonly walkersByPort = new Map<number, Receiver>();
  private readonly expected = new Map<number, (packet: TcpPacket) => void>();
  private readonly marks = new Map<Receiver, number[]>();
  private readonly byMark = new Map<number, Receiver>();
  private readonly echoes = new Map<number, (from: IpAddress, icmp: IcmpEcho, now: number) => void>();
  private readonly echoQuotes = new Map<number, (quote: Quote, now: number) => void>();
  private readonly lingering: { until: number; release: () => void }[] = [];
  private readonly closing: (() => void)[] = [];
  private nextMark: number;

  constructor(port: ProbePort) {
    this.port = port;
    this.nextMark = port.entropy() % MARKS;
    port.onPacket((packet) => this.arrive(packet));
  }

  now(): number {
    return this.port.now();
  }

  /** Resolves after `microseconds`. */
  sleep(microseconds: number): Promise<void> {
    return new Promise((resolve) => this.port.at(this.port.now() + microseconds, resolve));
  }

  send(bytes: Uint8Array): void {
    this.counters.sent++;
    this.log?.('out', bytes, this.port.now());
    this.port.send(bytes);
  }

  /** A mark for the IPv4 identification field: quotes that bear it come to `receiver` even if the rest was rewritten. */
  mark(receiver: Receiver): number {
    this.nextMark = (this.nextMark + 1) % MARKS;
    // 0 would be filled in by the kernel.
    if (this.nextMark === 0) this.nextMark = 1;
    const mark = this.nextMark;
    this.byMark.set(mark, receiver);
    const own = this.marks.get(receiver);
    if (own === undefined) this.marks.set(receiver, [mark]);
    else own.push(mark);
    return mark;
  }

  private forgetMarks(receiver: Receiver): void {
    for (const mark of this.marks.get(receiver) ?? []) if (this.byMark.get(mark) === receiver) this.byMark.delete(mark);
    this.marks.delete(receiver);
  }

  /** Takes the packets of one pair of endpoints. Returns what gives them back. */
  claim(localPort: number, remote: IpAddress, remotePort: number, receiver: Receiver): () => void {
    const key = `${localPort}<${formatEndpoint(remote, remotePort)}`;
    this.receivers.set(key, receiver);
    this.byLocalPort.set(localPort, receiver);
    return () => {
      if (this.receivers.get(key) === receiver) this.receivers.delete(key);
      if (this.byLocalPort.get(localPort) === receiver) this.byLocalPort.delete(localPort);
      this.forgetMarks(receiver);
    };
  }

  /** Sees segments to a local port that belong to no flow. Returns what ends it. */
  expect(localPort: number, handler: (packet: TcpPacket) => void): () => void {
    this.expected.set(localPort, handler);
    return () => this.expected.delete(localPort);
  }

  /** Keeps something for a while longer. */
  linger(release: () => void, time = LINGER): void {
    const now = this.port.now();
    this.lingering.push({ until: now + time, release });
    let over = 0;
    while (over < this.lingering.length && this.lingering[over]!.until <= now) this.lingering[over++]!.release();
    if (over > 0) this.lingering.splice(0, over);
  }

  /** Waits until nothing comes any more: what is late must find us, not the system's TCP. */
  async settle(longest = 1_500_000): Promise<void> {
    const end = this.port.now() + longest;
    for (let last = -1; last !== this.counters.received && this.port.now() < end;) {
      last = this.counters.received;
      await this.sleep(QUIET);
    }
  }

  /** Gives back what lingers; the port itself is the caller's. */
  close(): void {
    for (const one of this.lingering.splice(0)) one.release();
    for (const action of this.closing.splice(0)) action();
  }

  /** Something to be done at the end. */
  onClose(action: () => void): void {
    this.closing.push(action);
  }

  /** Adds a listener for quotes of the packets of one pair of endpoints, besides the flow itself. Returns what ends it. */
  listen(receiver: Receiver, { localPort, remote, remotePort }: { localPort: number; remote: IpAddress; remotePort: number }): () => void {
    const key = `${localPort}<${formatEndpoint(remote, remotePort)}`;
    this.walkers.set(key, receiver);
    this.walkersByPort.set(localPort, receiver);
    return () => {
      this.walkers.delete(key);
      this.walkersByPort.delete(localPort);
      this.forgetMarks(receiver);
    };
  }

  /** Takes answers to echo requests with this identifier, and errors about them. */
  claimEcho(identifier: number, reply: (from: IpAddress, icmp: IcmpEcho, now: number) => void, error: (quote: Quote, now: number) => void): () => void {
    this.echoes.set(identifier, reply);
    this.echoQuotes.set(identifier, error);
    return () => {
      this.echoes.delete(identifier);
      this.echoQuotes.delete(identifier);
    };
  }

  private arrive(bytes: Uint8Array): void {
    const now = this.port.now();
    const packet = parsePacketValue(bytes);
    if (isMalformed(packet)) {
      this.counters.malformed++;
      return;
    }
    if (packet.tcp !== null) {
      const receiver = this.receivers.get(`${packet.tcp.destinationPort}<${formatEndpoint(packet.ip.source, packet.tcp.sourcePort)}`);
      if (receiver === undefined) {
        this.expected.get(packet.tcp.destinationPort)?.(packet as TcpPacket);
        this.stranger(bytes, now);
        return;
      }
      this.took(bytes, now);
      receiver.segment(packet as TcpPacket, bytes, now);
    } else if (packet.icmp?.kind === 'error') {
      this.error(bytes, now);
    } else if (packet.icmp?.kind === 'echo' && packet.icmp.reply) {
      const receiver = this.echoes.get(packet.icmp.identifier);
      if (receiver === undefined) return;
      this.took(bytes, now);
      receiver(packet.ip.source, packet.icmp, now);
    }
  }

  private stranger(bytes: Uint8Array, now: number): void {
    this.counters.strangers++;
    this.onStranger?.(bytes, now);
  }

  private took(bytes: Uint8Array, now: number): void {
    this.counters.received++;
    this.log?.('in', bytes, now);
  }

  private error(bytes: Uint8Array, now: number): void {
    const quote = readQuote(bytes);
    if (quote === null) {
      this.counters.malformed++;
      return;
    }
    if (quotesTcp(quote)) {
      const key = `${quote.sourcePort}<${formatEndpoint(quote.destination, quote.destinationPort)}`;
      const marked = quote.version === 4 ? this.byMark.get(quote.identification) : undefined;
      const receiver =
        this.walkers.get(key) ?? marked ?? this.walkersByPort.get(quote.sourcePort) ?? this.receivers.get(key) ?? this.byLocalPort.get(quote.sourcePort);
      if (receiver === undefined) {
        this.counters.foreignQuotes++;
        this.onStranger?.(bytes, now);
        return;
      }
      this.took(bytes, now);
      receiver.quote(quote, now);
      return;
    }
    // Echo: the identifier is where TCP has half of its sequence number.
    const at = quote.bytes.length - quote.quoted;
    const identifier = quote.quoted >= 6 ? (quote.bytes[at + 4]! << 8) | quote.bytes[at + 5]! : -1;
    const receiver = this.echoQuotes.get(identifier);
    if (receiver === undefined) {
      this.counters.foreignQuotes++;
      return;
    }
    this.took(bytes, now);
    receiver(quote, now);
  }
}
