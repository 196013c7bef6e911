/**
 * A client made by hand, in every guise in which a TCP connection meets our host: both families; plain TCP, TCP to a listener
 * that speaks Multipath TCP, Multipath TCP of both versions, and after a fallback. One subflow, so that positions in the
 * subflow are positions in the data stream.
 */
import { Agenda, EmulatedHost, Random } from '@subflow/emulator';
import { Host, keyMaterial, versionOf } from '@subflow/stack';
import type { Connection, HostOptions, Interface, KeyMaterial, StackEvent, Tcb } from '@subflow/stack';
import { buildPacket, FLAG, ipHeader, isMalformed, parseAddress, parsePacketValue, PROTOCOL } from '@subflow/wire';
import type { MptcpOption, Packet, TcpHeader, TcpOption } from '@subflow/wire';

export const MODES = ['plain TCP', 'TCP to a Multipath TCP listener', 'after fallback', 'version 0', 'version 1'] as const;
export type Mode = (typeof MODES)[number];
export type Family = 4 | 6;

/** Every family with every mode, for `it.each`. */
export const VARIANTS: readonly [Family, Mode][] = ([4, 6] as const).flatMap((family) => MODES.map((mode): [Family, Mode] => [family, mode]));

/** Those in which the subflow's window is the connection's. */
export const TCP_VARIANTS = VARIANTS.filter(([, mode]) => !mode.startsWith('version'));

export const ADDRESSES = {
  4: { local: parseAddress('192.0.2.1'), remote: parseAddress('192.0.2.2'), bits: 24 },
  6: { local: parseAddress('2001:db8::1'), remote: parseAddress('2001:db8::2'), bits: 64 },
} as const;

export const SECOND = 1_000_000;

export interface ClientOptions {
  /** Without Nagle's algorithm, unless they say otherwise. */
  host?: Partial<HostOptions>;
  mss?: number;
  sack?: boolean;
  timestamps?: boolean;
  /** Window scale; none by default. */
  scale?: number;
  /** The window field of every segment, unless it says otherwise. */
  window?: number;
  /** Our host hands down super-segments, which are cut on the way. */
  offload?: boolean;
}

const KEY = { high: 0x01234567, low: 0x89abcdef } as const;

export class Client {
  readonly mode: Mode;
  readonly agenda = new Agenda(SECOND);
  readonly host: Host;
  readonly node: EmulatedHost;
  readonly through: Interface;
  readonly events: StackEvent[] = [];
  /** What our host has sent, parsed, not yet taken. */
  readonly sent: Packet[] = [];
  readonly port: number = 1000;
  /** Initial sequence numbers, ours (the host's) and the client's. */
  iss = 0;
  readonly irs: number = 0x12345678;
  /** Position after the last byte the client has sent, and after the last one it has received. */
  next = 1;
  received = 1;
  window: number;
  private readonly family: Family;
  private readonly options: ClientOptions;
  private readonly key: KeyMaterial;
  private server: KeyMaterial | null = null;
  private connectionId = -1;
  /** The latest timestamp of our host. */
  private echo = 0;

  constructor(family: Family, mode: Mode, options: ClientOptions = {}) {
    this.family = family;
    this.mode = mode;
    this.options = options;
    this.window = options.window ?? 65535;
    this.key = keyMaterial(KEY.high, KEY.low, versionOf(this.version));
    const random = new Random(7);
    const { local, bits } = ADDRESSES[family];
    this.host = new Host({ entropy: () => random.uint32(), ...options.host, tcp: { nagle: false, ...options.host?.tcp } });
    this.node = new EmulatedHost('host', this.host, this.agenda);
    this.node.onEvent = (event) => void this.events.push(event);
    this.through = this.host.addInterface({
      name: 'if0',
      mtu: 1500,
      addresses: [{ address: local, bits }],
      segmentationLimit: options.offload === true ? 65_415 : 0,
    });
    this.node.attach(this.through, (packet) => {
      const parsed = parsePacketValue(packet);
      if (isMalformed(parsed)) throw new Error(`our host sent ${parsed.reason}`);
      this.sent.push(parsed);
      for (const option of parsed.tcp?.options ?? []) if (option.kind === 'timestamps') this.echo = option.value;
    });
    this.host.listen({ port: 80, multipath: mode !== 'plain TCP' });
  }

  /** Whether the connection is a Multipath TCP connection. */
  get multipath(): boolean {
    return this.mode.startsWith('version');
  }

  get connection(): Connection {
    const found = this.host.connections.get(this.connectionId);
    if (found === undefined) throw new Error('there is no connection');
    return found;
  }

  get alive(): boolean {
    return this.host.connections.has(this.connectionId) && this.connection.open;
  }

  get tcb(): Tcb {
    return this.connection.subflows[0]!.tcb;
  }

  /** SYN and third ACK. The host's application holds the connection from then on. */
  open(): this {
    const synAck = this.syn();
    this.iss = synAck.tcp!.seq;
    this.segment({ flags: FLAG.ack }, EMPTY, this.thirdAck(synAck));
    this.connectionId = [...this.host.connections.keys()].at(-1)!;
    if (this.mode === 'after fallback') {
      // The first data without a mapping: the connection goes on as TCP (RFC 8684 §3.7).
      this.data(1, { mapped: false });
      this.readAll();
    } else if (this.multipath) {
      // Until the first data is acknowledged every segment repeats the keys.
      this.data(1);
      this.readAll();
    }
    if (this.connection.mode !== (this.multipath ? 'mptcp' : 'tcp')) throw new Error(`the connection is ${this.connection.mode}, not ${this.mode}`);
    this.sent.length = 0;
    return this;
  }

  /** Sends the SYN; returns the SYN+ACK. */
  syn(): Packet {
    const { mss = 1000, sack = false, timestamps = false, scale } = this.options;
    const options: TcpOption[] = [{ kind: 'mss', value: mss }];
    if (sack) options.push({ kind: 'sack-permitted' });
    if (timestamps) options.push({ kind: 'timestamps', value: this.clock, echo: 0 });
    if (scale !== undefined) options.push({ kind: 'window-scale', shift: scale });
    const speaks = this.mode === 'after fallback' || this.multipath;
    const capable = speaks ? [this.capable(this.version === 0 ? { senderKey: KEY } : {})] : [];
    const [synAck] = this.segment({ flags: FLAG.syn, seq: this.irs, ack: 0, options, window: this.window }, EMPTY, capable);
    if (synAck === undefined) throw new Error('the SYN was not answered');
    return synAck;
  }

  /** Sends a segment at the next sequence number, acknowledging everything received; `tcp` replaces what it names. Returns the answers. */
  segment(tcp: Partial<TcpHeader>, payload: Uint8Array = EMPTY, mptcp: readonly MptcpOption[] = []): Packet[] {
    this.sent.length = 0;
    const { local, remote } = ADDRESSES[this.family];
    const given = tcp.options ?? this.timestampOption();
    const header: TcpHeader = {
      sourcePort: this.port,
      destinationPort: 80,
      seq: this.seqOf(this.next),
      ack: this.ackOf(this.received),
      headerLength: 20,
      reserved: 0,
      flags: FLAG.ack,
      window: this.window,
      checksum: 0,
      urgent: 0,
      ...tcp,
      options: [...given, ...mptcp.map((option): TcpOption => ({ kind: 'mptcp', option }))],
    };
    this.node.receive(this.through, buildPacket(ipHeader(remote, local, PROTOCOL.tcp), { tcp: header, payload }), this.agenda.now);
    return this.sent.slice();
  }

  /**
   * Sends data: `length` bytes of {@link pattern}, or the given ones, at position `at` (default: the next). Mapped in Multipath TCP
   * unless `mapped` is false. What is sent elsewhere than at the next position does not advance it.
   */
  data(content: number | Uint8Array, where: { at?: number; mapped?: boolean; flags?: number } = {}): Packet[] {
    const at = where.at ?? this.next;
    const payload = typeof content === 'number' ? pattern(at, content) : content;
    const mptcp = this.multipath && where.mapped !== false ? [this.mapping(at, payload.length)] : [];
    const answers = this.segment({ seq: this.seqOf(at), flags: FLAG.ack | FLAG.psh | (where.flags ?? 0) }, payload, mptcp);
    if (where.at === undefined) this.next += payload.length;
    return answers;
  }

  /** Acknowledges up to a position (default: everything received), at both levels. */
  acknowledge(options: { upTo?: number; window?: number; sack?: readonly (readonly [number, number])[] } = {}): Packet[] {
    this.received = options.upTo ?? this.received;
    const tcp: Partial<TcpHeader> = { flags: FLAG.ack };
    if (options.window !== undefined) this.window = options.window;
    const blocks = options.sack?.map(([left, right]): [number, number] => [this.ackOf(left), this.ackOf(right)]);
    if (blocks !== undefined) tcp.options = [...this.timestampOption(), { kind: 'nop' }, { kind: 'nop' }, { kind: 'sack', blocks }];
    return this.segment(tcp, EMPTY, this.multipath ? [this.dataAck()] : []);
  }

  /** The application writes `length` bytes of {@link pattern}; returns what goes out at once. */
  write(length: number): Packet[] {
    this.sent.length = 0;
    const { connection } = this;
    const begin = connection.sendBuffer.end;
    if (!connection.write(pattern(begin, length), this.agenda.now)) throw new Error('the send buffer is full');
    this.node.pump();
    return this.sent.slice();
  }

  /** Takes packets of the host in order, as a receiver with a window of any size would. Returns the bytes that were new. */
  take(packets: readonly Packet[]): number {
    const before = this.received;
    for (const packet of packets) {
      const at = this.positionOf(packet);
      if (at <= this.received && at + packet.payload.length > this.received) this.received = at + packet.payload.length;
    }
    return this.received - before;
  }

  /** Lets virtual time pass; returns what was sent meanwhile. */
  wait(microseconds: number): Packet[] {
    this.sent.length = 0;
    this.agenda.runUntil(this.agenda.now + microseconds);
    return this.sent.slice();
  }

  /** The application reads everything. */
  readAll(): Uint8Array {
    const chunks: Uint8Array[] = [];
    const { connection } = this;
    for (let chunk = connection.read(1 << 20, this.agenda.now); chunk !== null; chunk = connection.read(1 << 20, this.agenda.now)) chunks.push(chunk);
    this.node.pump();
    return Buffer.concat(chunks);
  }

  seqOf(position: number): number {
    return (this.irs + position) >>> 0;
  }

  /** The wire's number of a position in our host's stream. */
  ackOf(position: number): number {
    return (this.iss + position) >>> 0;
  }

  /** Position of a packet of our host. */
  positionOf(packet: Packet): number {
    return (packet.tcp!.seq - this.iss) | 0;
  }

  mapping(at: number, length: number): MptcpOption {
    return { subtype: 'dss', flags: 0x0c, dataAck: null, dsn: dataSequence(this.key, at), ssn: at, dataLength: length, checksum: null };
  }

  /** DATA_ACK of everything received. */
  dataAck(): MptcpOption {
    return { subtype: 'dss', flags: 3, dataAck: dataSequence(this.server!, this.received), dsn: null, ssn: 0, dataLength: 0, checksum: null };
  }

  /** MP_FASTCLOSE with our host's key, or another one (RFC 8684 §3.5). */
  fastclose(receiverKey: { high: number; low: number } = this.server!): MptcpOption {
    return { subtype: 'fastclose', reserved: 0, receiverKey };
  }

  /** DATA_FIN behind everything sent, and DATA_ACK of our host's (RFC 8684 §3.3.3). */
  bothFins(): MptcpOption {
    return { ...this.dataFin(), flags: 0x1f, dataAck: dataSequence(this.server!, this.received + 1) } as MptcpOption;
  }

  /** DATA_FIN behind everything sent, alone (RFC 8684 §3.3.3). */
  dataFin(): MptcpOption {
    return { subtype: 'dss', flags: 0x1c, dataAck: null, dsn: dataSequence(this.key, this.next), ssn: 0, dataLength: 1, checksum: null };
  }

  private get version(): 0 | 1 {
    return this.mode === 'version 0' ? 0 : 1;
  }

  private get clock(): number {
    return Math.floor(this.agenda.now / 1000);
  }

  private timestampOption(): TcpOption[] {
    return this.options.timestamps === true ? [{ kind: 'nop' }, { kind: 'nop' }, { kind: 'timestamps', value: this.clock, echo: this.echo }] : [];
  }

  private capable(more: Partial<Extract<MptcpOption, { subtype: 'capable' }>>): MptcpOption {
    return { subtype: 'capable', version: this.version, flags: 1, senderKey: null, receiverKey: null, dataLength: null, checksum: null, ...more };
  }

  private thirdAck(synAck: Packet): MptcpOption[] {
    const answer = synAck.tcp!.options.flatMap((one) => (one.kind === 'mptcp' && one.option.subtype === 'capable' ? [one.option] : []))[0];
    if (answer === undefined || answer.senderKey === null) return [];
    this.server = keyMaterial(answer.senderKey.high, answer.senderKey.low, versionOf(this.version));
    return [this.capable({ senderKey: KEY, receiverKey: answer.senderKey })];
  }
}

/** Bytes that tell their position, so that a wrong one is seen: no run of 251 repeats at a power of two. */
export function pattern(position: number, length: number): Uint8Array {
  return Uint8Array.from({ length }, (_, i) => byteAt(position + i));
}

export function byteAt(position: number): number {
  return (position * 31 + (position >>> 8)) % 251;
}

export const isReset = (packet: Packet): boolean => (packet.tcp!.flags & FLAG.rst) !== 0;

const EMPTY = new Uint8Array(0);

function dataSequence(key: KeyMaterial, position: number): { high: number; low: number } {
  const low = (key.idsnLow >>> 0) + position;
  return { high: (key.idsnHigh + Math.floor(low / 2 ** 32)) | 0, low: low | 0 };
}
