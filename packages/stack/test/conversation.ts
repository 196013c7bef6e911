/** A client made by hand that knows how a conversation goes on, in both versions: each call sends one segment and returns the answers. */
import { dssPseudoHeader, finish, FLAG, sum } from '@subflow/wire';
import type { MpCapable, MptcpOption, Packet, TcpHeader, TcpOption } from '@subflow/wire';
import { addAddressHmac, joinHmac, keyMaterial, versionOf } from '@subflow/stack';
import type { Connection, HostOptions, KeyMaterial, Listener, VersionNumber } from '@subflow/stack';
import { HandPeer, mptcpOf } from './world.ts';

export function bytes(value: string): Uint8Array {
  return new TextEncoder().encode(value);
}

/** One subflow of the client. */
interface Flow {
  port: number;
  destination: number;
  seq: number;
  ack: number;
  ssn: number;
  nonce: number;
  serverNonce: number;
}

export interface DataOptions {
  flow?: number;
  /** Position in the data stream; default: where the last data ended. */
  at?: number;
  ssn?: number;
  length?: number;
  /** Subflow sequence number offset from where it belongs. */
  seqOffset?: number;
  fin?: boolean;
  /** 32-bit data sequence number. */
  short?: boolean;
  /** A wrong value, or null for none. */
  checksum?: number | null;
  /** Key whose IDSN is used. */
  key?: KeyMaterial;
  ack?: boolean;
  /** Do not advance: the segment counts as lost or repeated. */
  keep?: boolean;
  bare?: boolean;
}

export class Conversation {
  readonly peer: HandPeer;
  readonly version: VersionNumber;
  readonly key: KeyMaterial;
  server!: KeyMaterial;
  synAck!: Packet;
  readonly flows: Flow[] = [];
  /** Position after the last data sent. */
  next = 1;
  checksum = false;
  readonly listener: Listener;

  constructor(options: Partial<HostOptions> = {}, version: VersionNumber = 1, listen: { multipath?: boolean } = {}) {
    this.peer = new HandPeer(options);
    this.version = version;
    this.key = keyMaterial(0x01234567, 0x89abcdef, versionOf(version));
    this.listener = this.peer.host.listen({ port: 80, ...listen });
    this.flows.push({ port: 1000, destination: 80, seq: 100, ack: 0, ssn: 1, nonce: 0, serverNonce: 0 });
  }

  get connection(): Connection {
    return [...this.peer.host.connections.values()][0] as Connection;
  }

  get counters(): Readonly<Record<string, number>> {
    return this.peer.host.mptcpCounters;
  }

  capable(more: Partial<MpCapable> = {}): MptcpOption {
    return { subtype: 'capable', version: this.version, flags: 1, senderKey: null, receiverKey: null, dataLength: null, checksum: null, ...more };
  }

  raw(flow: number, tcp: Partial<TcpHeader>, options: MptcpOption[], payload?: Uint8Array): Packet[] {
    const one = this.flows[flow]!;
    const list: TcpOption[] = [...(tcp.options ?? []), ...options.map((option): TcpOption => ({ kind: 'mptcp', option }))];
    return this.peer.send({ sourcePort: one.port, destinationPort: one.destination, seq: one.seq >>> 0, ack: one.ack >>> 0, ...tcp, options: list }, payload);
  }

  /** SYN; takes the server's key and numbers from the answer when there is one. */
  syn(options: MptcpOption[] = [this.capable(this.version === 0 ? { senderKey: this.key } : {})], tcp: Partial<TcpHeader> = {}): Packet {
    const flow = this.flows[0]!;
    const [synAck] = this.raw(0, { flags: FLAG.syn, ack: 0, ...tcp }, options);
    flow.seq = 101;
    if (synAck === undefined) return synAck as unknown as Packet;
    this.synAck = synAck;
    flow.ack = (synAck.tcp!.seq + 1) | 0;
    const answer = capableOf(synAck);
    if (answer?.senderKey) {
      this.server = keyMaterial(answer.senderKey.high, answer.senderKey.low, versionOf(this.version));
      this.checksum = (answer.flags & 0x80) !== 0;
    }
    return synAck;
  }

  third(more: Partial<MpCapable> | null = {}): Packet[] {
    const option = more === null ? [] : [this.capable({ senderKey: this.key, receiverKey: this.server, ...more })];
    return this.raw(0, { flags: FLAG.ack }, option);
  }

  /** SYN and third ACK. */
  open(flags = 1): this {
    this.syn([this.capable({ flags, ...(this.version === 0 ? { senderKey: this.key } : {}) })]);
    this.third({ flags });
    return this;
  }

  /** As `open`, and some data: the connection is confirmed. */
  talk(flags = 1): this {
    this.open(flags);
    this.data('a');
    return this;
  }

  dataAck(position = this.connection.dataNxt): { high: number; low: number } {
    const own = this.connection.local!;
    const low = (own.idsnLow >>> 0) + position;
    return { high: (own.idsnHigh + Math.floor(low / 0x100000000)) | 0, low: low | 0 };
  }

  dss(text: Uint8Array, options: DataOptions = {}): MptcpOption {
    const flow = this.flows[options.flow ?? 0]!;
    const key = options.key ?? this.key;
    const position = options.at ?? this.next;
    const low = (key.idsnLow >>> 0) + position;
    const dsn = { high: (key.idsnHigh + Math.floor(low / 0x100000000)) | 0, low: low | 0 };
    const length = options.length ?? text.length + (options.fin === true ? 1 : 0);
    const ssn = options.ssn ?? flow.ssn;
    const ack = options.ack === true && this.connection.local !== null;
    const right = finish(
      dssPseudoHeader(dsn.high, dsn.low, options.fin === true && text.length === 0 ? 0 : ssn, length) + sum(text, 0, Math.min(text.length, length)),
    );
    const checksum = options.checksum === undefined ? (this.checksum ? right : null) : options.checksum;
    return {
      subtype: 'dss',
      flags: 0x04 | (options.short === true ? 0 : 0x08) | (options.fin === true ? 0x10 : 0) | (ack ? 3 : 0),
      dataAck: ack ? this.dataAck() : null,
      dsn,
      ssn: options.fin === true && text.length === 0 ? 0 : ssn,
      dataLength: length,
      checksum,
    };
  }

  /** Data with its mapping. */
  data(text: string, options: DataOptions = {}): Packet[] {
    const flow = this.flows[options.flow ?? 0]!;
    const payload = bytes(text);
    const mapping = options.bare === true ? [] : [this.dss(payload, options)];
    const answers = this.raw(options.flow ?? 0, { flags: FLAG.ack, seq: (flow.seq + (options.seqOffset ?? 0)) >>> 0 }, mapping, payload);
    if (options.keep !== true) {
      flow.seq = (flow.seq + payload.length) | 0;
      flow.ssn += payload.length;
      if (options.at === undefined) this.next += payload.length;
    }
    return answers;
  }

  /** A segment without payload. */
  signal(option: MptcpOption | MptcpOption[], flow = 0, flags: number = FLAG.ack): Packet[] {
    return this.raw(flow, { flags }, Array.isArray(option) ? option : [option]);
  }

  /** Acknowledges everything the server has sent, at both levels. */
  acknowledge(flow = 0, bare = false): Packet[] {
    const subflow = this.connection?.subflows.find((one) => one.tcb.remotePort === this.flows[flow]!.port);
    if (subflow !== undefined) this.flows[flow]!.ack = (subflow.tcb.iss + subflow.tcb.sndNxt) | 0;
    return this.raw(
      flow,
      { flags: FLAG.ack },
      bare ? [] : [{ subtype: 'dss', flags: 3, dataAck: this.dataAck(), dsn: null, ssn: 0, dataLength: 0, checksum: null }],
    );
  }

  /** SYN with MP_JOIN from another port; the number of the new flow is `flows.length - 1`. */
  joinSyn(more: { token?: number; backup?: boolean; destination?: number; addressId?: number } = {}): Packet {
    const flow: Flow = { port: 2000 + this.flows.length, destination: more.destination ?? 80, seq: 900, ack: 0, ssn: 1, nonce: 77, serverNonce: 0 };
    this.flows.push(flow);
    const option: MptcpOption = {
      subtype: 'join-syn',
      flags: more.backup === true ? 1 : 0,
      addressId: more.addressId ?? 3,
      token: (more.token ?? this.server.token) >>> 0,
      nonce: flow.nonce,
    };
    const [answer] = this.raw(this.flows.length - 1, { flags: FLAG.syn, ack: 0 }, [option]);
    flow.seq = 901;
    if (answer === undefined) return answer as unknown as Packet;
    flow.ack = (answer.tcp!.seq + 1) | 0;
    const reply = mptcpOf(answer)[0] as unknown as { subtype: string; nonce: number } | undefined;
    if (reply?.subtype === 'join-synack') flow.serverNonce = reply.nonce;
    return answer;
  }

  joinAck(hmac?: Uint8Array | null, flow = this.flows.length - 1): Packet[] {
    const one = this.flows[flow]!;
    const right = joinHmac(this.key, this.server, one.nonce, one.serverNonce, versionOf(this.version)).slice(0, 20);
    return this.raw(flow, { flags: FLAG.ack }, hmac === null ? [] : [{ subtype: 'join-ack', reserved: 0, hmac: hmac ?? right }]);
  }

  /** A whole join; returns the number of the flow. */
  join(more: { backup?: boolean; addressId?: number } = {}): number {
    this.joinSyn(more);
    this.joinAck();
    return this.flows.length - 1;
  }

  addAddress(id: number, address: Uint8Array, port: number | null = null, hmac?: Uint8Array | null): MptcpOption {
    const right = addAddressHmac(this.key, this.server, id, address, port ?? 0);
    return { subtype: 'add-addr', version: 1, flags: 0, addressId: id, address, port, hmac: hmac === undefined ? right : hmac };
  }

  /** What the application has received so far. */
  read(): string {
    let out = '';
    for (let chunk = this.connection.read(1 << 20, this.peer.agenda.now); chunk !== null; chunk = this.connection.read(1 << 20, this.peer.agenda.now))
      out += new TextDecoder().decode(chunk);
    return out;
  }

  write(text: string): Packet[] {
    this.peer.sent.length = 0;
    this.connection.write(bytes(text), this.peer.agenda.now);
    this.peer.node.pump();
    return this.peer.sent.slice();
  }
}

export function capableOf(packet: Packet | undefined): MpCapable | undefined {
  return mptcpOf(packet).find((option) => option.subtype === 'capable') as MpCapable | undefined;
}

/** The option of a subtype in any of the packets. */
export function find<T = Record<string, never>>(packets: readonly Packet[], subtype: string): T | undefined {
  for (const packet of packets) {
    const option = mptcpOf(packet).find((one) => one.subtype === subtype);
    if (option !== undefined) return option as unknown as T;
  }
  return undefined;
}

/** MP_TCPRST reason of a reset among the packets: null without a reset, -1 without the option. */
export function resetReason(packets: readonly Packet[]): number | null {
  const reset = packets.find((packet) => (packet.tcp!.flags & FLAG.rst) !== 0);
  if (reset === undefined) return null;
  const option = mptcpOf(reset).find((one) => one.subtype === 'tcprst') as unknown as { reason: number } | undefined;
  return option?.reason ?? -1;
}

export const isReset = (packets: readonly Packet[]): boolean => packets.some((packet) => (packet.tcp!.flags & FLAG.rst) !== 0);
