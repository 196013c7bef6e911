/** A Multipath TCP connection made by hand on flows: keys, mappings, DATA_ACKs, joins (RFC 8684 §3; RFC 6824 §3). */
import { CAPABLE_FLAG, DSS_FLAG, dssPseudoHeader, finish, FLAG, sum } from '@subflow/wire';
import type { Dss, IpAddress, MpCapable, TcpOption, U64 } from '@subflow/wire';
import { joinHmac, keyMaterial, versionOf } from '@subflow/stack';
import type { VersionNumber } from '@subflow/stack';
import { Flow, mptcp, mptcpOption } from './flow.ts';
import type { Arrival, AskOptions, SegmentSpec } from './flow.ts';
import type { Hub } from './hub.ts';

export interface SessionTarget {
  address: IpAddress;
  port: number;
  version: VersionNumber;
  /** What the connection is for, in reports. */
  label?: string;
}

export interface OpenOptions {
  source?: IpAddress;
  /** Flag A: we ask for DSS checksums. */
  checksum?: boolean;
  /** Our key; drawn when absent. */
  key?: bigint;
  iss?: number;
  /** Further options on the SYN. */
  synOptions?: readonly TcpOption[];
  /** Instead of MP_CAPABLE. */
  capable?: readonly TcpOption[];
  ask?: AskOptions;
}

export interface MapOptions {
  /** Position in our data stream; where it stands by default. */
  at?: number;
  /** Data-level length; the payload's by default. */
  length?: number;
  ssn?: number;
  /** `right` if negotiated, or always, `wrong`, or none. */
  checksum?: 'negotiated' | 'right' | 'wrong' | 'none';
  /** Eight octets of data sequence number instead of four. */
  wide?: boolean;
  fin?: boolean;
  dataAck?: boolean;
}

const MASK64 = (1n << 64n) - 1n;

/** MSS as hosts on Ethernet announce it, SACK permitted, window scale 7. */
export function synOptions(mss: number): TcpOption[] {
  return [{ kind: 'mss', value: mss }, { kind: 'sack-permitted' }, { kind: 'nop' }, { kind: 'window-scale', shift: 7 }];
}

export class Session {
  readonly hub: Hub;
  readonly target: SessionTarget;
  readonly version: VersionNumber;
  readonly flows: Flow[] = [];
  readonly clientKey: bigint;
  serverKey: bigint | null = null;
  /** MP_CAPABLE of the SYN+ACK, null when the answer was plain. */
  capable: MpCapable | null = null;
  synAck: Arrival | null = null;
  /** DSS checksums are used (RFC 8684 §3.1: if either end asks for them). */
  checksum: boolean;
  /** Octets of our stream that were given a mapping. */
  sent = 0;
  /** Octets of the peer's stream received in order, its DATA_FIN counts one. */
  received = 0;
  /** Highest DATA_ACK of the peer, as octets of our stream; -1 before the first. */
  dataAcked = -1;
  /** The width of the peer's DATA_ACKs as they came, octets. */
  ackWidths: number[] = [];
  /** Payload that came with and without a mapping, octets. */
  mapped = 0;
  unmapped = 0;
  dataFin = false;
  /** Octets that HTTP responses have promised so far. */
  promised = 0;
  /** Send DATA_ACKs. */
  acknowledges = true;
  private readonly pieces: { from: number; to: number }[] = [];

  constructor(hub: Hub, target: SessionTarget, options: OpenOptions = {}) {
    this.hub = hub;
    this.target = target;
    this.version = target.version;
    this.checksum = options.checksum ?? false;
    this.clientKey = options.key ?? random64(hub);
  }

  get first(): Flow {
    return this.flows[0]!;
  }

  /** Data sequence number of an octet of our stream (RFC 8684 §3.1: the first octet is IDSN + 1). */
  dsn(position: number, key: bigint = this.clientKey): bigint {
    return (this.idsn(key) + 1n + BigInt(position)) & MASK64;
  }

  idsn(key: bigint): bigint {
    const material = keyMaterial(high(key), low(key), versionOf(this.version));
    return (BigInt(material.idsnHigh >>> 0) << 32n) | BigInt(material.idsnLow >>> 0);
  }

  token(key: bigint): number {
    return keyMaterial(high(key), low(key), versionOf(this.version)).token >>> 0;
  }

  /** MP_CAPABLE for a SYN (RFC 8684 §3.1 Figure 4: no key; RFC 6824 §3.1: with our key). */
  capableSyn(): MpCapable {
    const flags = CAPABLE_FLAG.sha256 | (this.checksum ? CAPABLE_FLAG.checksum : 0);
    const senderKey = versionOf(this.version).keyInSyn ? u64(this.clientKey) : null;
    return { subtype: 'capable', version: this.version, flags, senderKey, receiverKey: null, dataLength: null, checksum: null };
  }

  /** MP_CAPABLE of the third ACK, with both keys. */
  capableAck(changes: Partial<MpCapable> = {}): MpCapable {
    return { ...this.capableSyn(), receiverKey: u64(this.serverKey ?? 0n), senderKey: u64(this.clientKey), ...changes };
  }

  /** SYN and SYN+ACK. Returns whether the server speaks Multipath TCP; `synAck` is null when it did not answer. */
  async open(options: OpenOptions = {}): Promise<boolean> {
    const flow = new Flow(this.hub, this.target.address, this.target.port, options);
    this.adopt(flow);
    const first = options.capable ?? [mptcp(this.capableSyn())];
    this.synAck = await flow.open([...synOptions(mssFor(this.target.address)), ...(options.synOptions ?? []), ...first], options.ask);
    return this.synAck !== null && this.accept(this.synAck);
  }

  /** Reads a SYN+ACK. Returns whether it speaks our version. */
  accept(synAck: Arrival): boolean {
    this.synAck = synAck;
    this.capable = mptcpOption(this.synAck.packet, 'capable') ?? null;
    const key = this.capable?.senderKey ?? null;
    if (this.capable === null || key === null || this.capable.version !== this.version) return false;
    this.serverKey = (BigInt(key.high) << 32n) | BigInt(key.low);
    if ((this.capable.flags & CAPABLE_FLAG.checksum) !== 0) this.checksum = true;
    this.first.ackOptions = () => this.ackOptions();
    return true;
  }

  /** The third ACK. */
  confirm(options: readonly TcpOption[] = [mptcp(this.capableAck())]): void {
    const { first } = this;
    first.acknowledge(options);
    // Until data is acknowledged nobody knows whether the third ACK has arrived.
    first.onRetry = () => {
      if (((first.sndUna - first.iss) | 0) <= 1) first.acknowledge(options);
    };
  }

  /** A DSS option for payload on a flow (RFC 8684 §3.3). */
  mapping(flow: Flow, payload: Uint8Array, options: MapOptions = {}, seq: number = flow.sndNxt): TcpOption {
    const at = options.at ?? this.sent;
    const length = options.length ?? payload.length + (options.fin === true ? 1 : 0);
    const wide = options.wide ?? false;
    const ack = options.dataAck ?? true;
    const dsn = this.dsn(at);
    // A DATA_FIN without data is mapped to subflow sequence number 0 (RFC 8684 §3.3.3).
    const ssn = options.ssn ?? (payload.length === 0 && options.fin === true ? 0 : (seq - flow.iss) >>> 0);
    const flags = DSS_FLAG.mapping | (wide ? DSS_FLAG.dsn64 : 0) | (ack ? DSS_FLAG.dataAck : 0) | (options.fin === true ? DSS_FLAG.dataFin : 0);
    const kind = options.checksum ?? 'negotiated';
    let checksum: number | null = null;
    if (kind === 'right' || kind === 'wrong' || (kind === 'negotiated' && this.checksum)) {
      checksum = finish(dssPseudoHeader(high(dsn), low(dsn), ssn, length) + sum(payload, 0, payload.length));
      if (kind === 'wrong') checksum ^= 0x5555;
    }
    const dss: Dss = { subtype: 'dss', flags, dataAck: ack ? { high: 0, low: low(this.dataAck()) } : null, dsn: u64(dsn), ssn, dataLength: length, checksum };
    return mptcp(dss);
  }

  /** What an acknowledgement carries: a DATA_ACK of four octets. */
  ackOptions(): TcpOption[] {
    if (!this.acknowledges || this.serverKey === null) return [];
    return [
      mptcp({ subtype: 'dss', flags: DSS_FLAG.dataAck, dataAck: { high: 0, low: low(this.dataAck()) }, dsn: null, ssn: 0, dataLength: 0, checksum: null }),
    ];
  }

  /** Sends payload with a mapping and waits for the subflow's acknowledgement. */
  async send(payload: Uint8Array, map: MapOptions = {}, flow: Flow = this.first, spec: Partial<SegmentSpec> & AskOptions = {}): Promise<Arrival | null> {
    const option = this.mapping(flow, payload, map);
    if (map.at === undefined) this.sent += payload.length + (map.fin === true ? 1 : 0);
    return flow.deliver(payload, [option], spec);
  }

  /** A second subflow: SYN and SYN+ACK with MP_JOIN (RFC 8684 §3.2). `confirmJoin` sends the third ACK. */
  async join(
    options: { source?: IpAddress; token?: number; backup?: boolean; addressId?: number; port?: number; nonce?: number; ask?: AskOptions } = {},
  ): Promise<Join> {
    const flow = new Flow(this.hub, this.target.address, options.port ?? this.target.port, options);
    this.adopt(flow);
    const nonce = options.nonce ?? this.hub.port.entropy();
    const addressId = options.addressId ?? this.flows.length - 1;
    const token = options.token ?? this.token(this.serverKey ?? 0n);
    const syn = mptcp({ subtype: 'join-syn', flags: options.backup === true ? 1 : 0, addressId, token, nonce });
    const synAck = await flow.open([...synOptions(mssFor(this.target.address)), syn], options.ask);
    const answer = synAck === null ? undefined : mptcpOption(synAck.packet, 'join-synack');
    let verified = false;
    let hmac: Uint8Array | null = null;
    if (answer !== undefined && this.serverKey !== null) {
      const version = versionOf(this.version);
      const expected = joinHmac(u64(this.serverKey), u64(this.clientKey), answer.nonce, nonce, version).subarray(0, 8);
      verified = expected.every((byte, i) => byte === answer.hmac[i]);
      hmac = joinHmac(u64(this.clientKey), u64(this.serverKey), nonce, answer.nonce, version).slice(0, 20);
      flow.ackOptions = () => this.ackOptions();
    }
    return { flow, synAck, isJoin: answer !== undefined, verified, hmac, nonce };
  }

  /** The third ACK of a join, again and again until the server answers (RFC 8684 §3.2: it must). Null: no answer. */
  async confirmJoin(join: Join, options: readonly TcpOption[] | null = null): Promise<Arrival | null> {
    const list = options ?? [mptcp({ subtype: 'join-ack', reserved: 0, hmac: join.hmac ?? new Uint8Array(20) })];
    return join.flow.ask(
      () => join.flow.build({ flags: FLAG.ack, options: list }),
      ({ packet }) => (packet.tcp.flags & FLAG.syn) === 0,
    );
  }

  /** Ends everything that is open. */
  close(): void {
    for (const flow of this.flows) flow.close();
  }

  dataAck(): bigint {
    return this.serverKey === null ? 0n : this.dsn(this.received, this.serverKey);
  }

  /** Position in our stream that a DATA_ACK stands for; it may have four octets. */
  ackedPosition(dss: Dss): number | null {
    if (dss.dataAck === null) return null;
    const wide = (dss.flags & DSS_FLAG.dataAck64) !== 0;
    const value = wide ? (BigInt(dss.dataAck.high >>> 0) << 32n) | BigInt(dss.dataAck.low >>> 0) : BigInt(dss.dataAck.low >>> 0);
    return relative(value, this.dsn(0), wide);
  }

  /** Takes a flow into the connection: reads the mappings and DATA_ACKs that come on it. */
  adopt(flow: Flow): void {
    this.flows.push(flow);
    if (this.target.label !== undefined) this.hub.labels.set(flow.localPort, this.target.label);
    let map: { ssn: number; position: number; length: number } | null = null;
    flow.onSegment = (arrival) => {
      const dss = mptcpOption(arrival.packet, 'dss');
      if (dss === undefined) return;
      const position = this.ackedPosition(dss);
      // What was never sent cannot be acknowledged: such a number belongs to another key's sequence space.
      if (position !== null && position >= 0 && position <= this.sent + 1) {
        this.dataAcked = Math.max(this.dataAcked, position);
        this.ackWidths.push((dss.flags & DSS_FLAG.dataAck64) !== 0 ? 8 : 4);
      }
      if ((dss.flags & DSS_FLAG.dataFin) !== 0 && dss.dsn !== null && this.serverKey !== null) {
        const from = this.positionOf(dss);
        if (!this.dataFin) this.take(from, from + dss.dataLength);
        this.dataFin = true;
      }
    };
    flow.onData = (payload, seq, arrival) => {
      this.promised += promise(payload);
      const dss = mptcpOption(arrival.packet, 'dss');
      if (dss !== undefined && dss.dsn !== null) map = { ssn: (flow.irs + dss.ssn) >>> 0, position: this.positionOf(dss), length: dss.dataLength };
      const offset = map === null ? -1 : (seq - map.ssn) | 0;
      if (map === null || offset < 0 || offset >= map.length) {
        this.unmapped += payload.length;
        return;
      }
      this.mapped += payload.length;
      this.take(map.position + offset, map.position + Math.min(map.length, offset + payload.length));
    };
  }

  private positionOf(dss: Dss): number {
    const wide = (dss.flags & DSS_FLAG.dsn64) !== 0;
    const value = wide ? (BigInt(dss.dsn!.high >>> 0) << 32n) | BigInt(dss.dsn!.low >>> 0) : BigInt(dss.dsn!.low >>> 0);
    return relative(value, this.dsn(0, this.serverKey ?? 0n), wide);
  }

  private take(from: number, to: number): void {
    this.pieces.push({ from, to });
    for (let moved = true; moved;) {
      moved = false;
      for (const piece of this.pieces) {
        if (piece.from > this.received || piece.to <= this.received) continue;
        this.received = piece.to;
        moved = true;
      }
    }
    if (this.pieces.length > 64) this.pieces.splice(0, this.pieces.length, ...this.pieces.filter((piece) => piece.to > this.received));
  }
}

/** Length of an HTTP response that begins in a segment, by its own account; 0 when none does. */
function promise(payload: Uint8Array): number {
  if (payload[0] !== 0x48 || payload[1] !== 0x54) return 0;
  const text = String.fromCharCode(...payload.subarray(0, 2048));
  const end = text.indexOf('\r\n\r\n');
  const length = /^HTTP\/1\.[01] [\s\S]*?\r\ncontent-length: *(\d{1,7})\r\n/i.exec(text);
  return end < 0 || length === null ? 0 : end + 4 + Number(length[1]);
}

/** A join as far as its SYN+ACK. */
export interface Join {
  flow: Flow;
  synAck: Arrival | null;
  /** The SYN+ACK carried MP_JOIN. */
  isJoin: boolean;
  /** The server's HMAC is right. */
  verified: boolean;
  hmac: Uint8Array | null;
  nonce: number;
}

export function high(value: bigint): number {
  return Number((value >> 32n) & 0xffffffffn);
}

export function low(value: bigint): number {
  return Number(value & 0xffffffffn);
}

export function u64(value: bigint): U64 {
  return { high: high(value), low: low(value) };
}

export function random64(hub: Hub): bigint {
  return (BigInt(hub.port.entropy()) << 32n) | BigInt(hub.port.entropy());
}

/** Largest segment for Ethernet, by family (RFC 9293 §3.7.1). */
export function mssFor(address: IpAddress): number {
  return address.length === 4 ? 1460 : 1440;
}

/** Distance from `base`, signed; only 32 bits are compared when the number had no more. */
function relative(value: bigint, base: bigint, wide: boolean): number {
  return wide ? Number(BigInt.asIntN(64, value - base)) : (Number(value & 0xffffffffn) - Number(base & 0xffffffffn)) | 0;
}
