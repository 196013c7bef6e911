/** A host of ours and a peer made by hand: the peer's packets are exact unless told otherwise, so that every state can be reached. */
import type { Connection, Host, HostOptions, Interface, KeyMaterial, StackEvent, Tcb, TransmitSlot, VersionNumber } from '@subflow/stack';
import type { MptcpOption, Packet, TcpHeader, TcpOption } from '@subflow/wire';
import type { Instrumented } from '../instrument.ts';

const SECOND = 1_000_000;
export const SERVER_PORT = 80;
const PEER_PORT = 1000;
const PEER_ISN = 5000;
/** Answers to one packet, and packets of a whole scene with all its timers: no host of ours has more to say here. */
const MOST_ANSWERS = 64;
const MOST_PACKETS = 1500;
const MOST_WAKE_UPS = 20_000;
/** The scenes write some kilobytes. */
const MOST_HELD = 1 << 20;
/** Given up by everybody, a host is empty after this. */
const FORGOTTEN = 600 * SECOND;

/** One subflow as the peer sees it. */
export interface Flow {
  hostPort: number;
  peerPort: number;
  peer: Uint8Array;
  tcb: Tcb | null;
  /** Nonces of a join. */
  nonce: number;
  hostNonce: number;
  /** The peer's next subflow sequence number of mappings. */
  ssn: number;
}

export interface Choices {
  version: VersionNumber;
  v6: boolean;
  timestamps?: boolean;
  checksum?: boolean;
  cookies?: boolean;
  fastclose?: 'reset' | 'ack';
}

export class Scene {
  readonly host: Host;
  readonly loaded: Instrumented;
  readonly version: VersionNumber;
  readonly v6: boolean;
  readonly flows: Flow[] = [];
  readonly local: Uint8Array;
  readonly remote: Uint8Array;
  /** Another address of the peer. */
  readonly further: Uint8Array;
  readonly peerKey: KeyMaterial;
  readonly checksum: boolean;
  readonly timestamps: boolean;
  now = SECOND;
  /** Position of the peer's next data byte. */
  dataNext = 1;
  packets = 0;
  private readonly through: Interface;
  private readonly slot: TransmitSlot;
  private readonly bytes = new Uint8Array(70_000);
  private last: Connection | null = null;

  constructor(loaded: Instrumented, choices: Choices) {
    const { stack } = loaded;
    this.loaded = loaded;
    this.version = choices.version;
    this.v6 = choices.v6;
    this.checksum = choices.checksum === true;
    this.timestamps = choices.timestamps === true;
    let entropy = 12_345;
    const options: HostOptions = {
      entropy: () => (entropy = (Math.imul(entropy, 1_664_525) + 1_013_904_223) >>> 0),
      eventLimit: 500,
      tcp: { timeWait: SECOND, maxRetransmits: 4, synRetries: 2, synAckRetries: 2, keepaliveIdle: 20 * SECOND, keepaliveProbes: 2, finWait2: 5 * SECOND },
      mptcp: {
        versions: [choices.version],
        checksum: this.checksum,
        synCookies: choices.cookies === true ? 'always' : 'when-full',
        fastclose: choices.fastclose ?? 'reset',
        closeTimeout: 10 * SECOND,
        failTimeout: 10 * SECOND,
        maxDataRetransmits: 4,
      },
    };
    this.host = new stack.Host(options);
    this.slot = new stack.TransmitSlot();
    this.local = address(choices.v6, 1);
    this.remote = address(choices.v6, 2);
    this.further = address(choices.v6, 77);
    this.through = this.host.addInterface({ name: 'if0', mtu: 1500, addresses: [{ address: this.local, bits: choices.v6 ? 64 : 24 }] });
    this.peerKey = stack.keyMaterial(0x1000_0000, 1, stack.versionOf(choices.version));
    this.host.listen({ port: SERVER_PORT, fastOpen: true, backlog: 16 });
  }

  /** The connection of the scene, also when it has ended. */
  get connection(): Connection {
    this.last ??= this.host.connections.values().next().value ?? null;
    if (this.last === null) throw new Error('the scene has no connection');
    return this.last;
  }

  get hasConnection(): boolean {
    return this.last !== null || this.host.connections.size > 0;
  }

  get flow(): Flow {
    return this.flows.at(-1)!;
  }

  addFlow(peerPort: number, hostPort: number, peer = this.remote): Flow {
    const flow: Flow = { hostPort, peerPort, peer, tcb: null, nonce: 77, hostNonce: 0, ssn: 1 };
    this.flows.push(flow);
    return flow;
  }

  /** With timestamps, every segment carries them unless it brings its own. */
  private stamped(options: readonly TcpOption[]): readonly TcpOption[] {
    if (!this.timestamps || options.some((option) => option.kind === 'timestamps')) return options;
    return [{ kind: 'nop' }, { kind: 'nop' }, { kind: 'timestamps', value: Math.floor(this.now / 1000), echo: 0 }, ...options];
  }

  /** Hands a segment of a flow over, with the numbers it should have unless `tcp` says otherwise; what the host answers is not taken. */
  deliver(flow: Flow, flags: number, options: readonly TcpOption[] = [], payload = new Uint8Array(0), tcp: Partial<TcpHeader> = {}): void {
    const { wire } = this.loaded;
    let room = 40;
    const header: TcpHeader = {
      sourcePort: flow.peerPort,
      destinationPort: flow.hostPort,
      ...this.numbers(flow),
      headerLength: 20,
      reserved: 0,
      flags,
      window: 60_000,
      checksum: 0,
      urgent: 0,
      ...tcp,
      options: this.stamped(options).filter((option) => (room -= wire.tcpOptionLength(option)) >= 0),
    };
    const packet = wire.buildPacket(wire.ipHeader(flow.peer, this.local, wire.PROTOCOL.tcp), { tcp: header, payload });
    this.host.handlePacket(this.through, new DataView(packet.buffer), packet, 0, packet.length, true, this.now);
  }

  /** As {@link deliver}; returns the answers. */
  send(flow: Flow, flags: number, options: readonly TcpOption[] = [], payload = new Uint8Array(0), tcp: Partial<TcpHeader> = {}): Packet[] {
    const { FLAG } = this.loaded.wire;
    this.deliver(flow, flags, options, payload, tcp);
    const answers = this.drain();
    this.find(flow);
    // Not even with MP_FASTCLOSE in it (RFC 9293 §3.10.7.1, RFC 8684 §3.5). Other subflows may be reset.
    const same = ({ tcp: answer }: Packet): boolean => answer?.destinationPort === flow.peerPort && answer.sourcePort === flow.hostPort;
    if ((flags & FLAG.rst) !== 0 && answers.some((one) => (one.tcp!.flags & FLAG.rst) !== 0 && same(one))) throw new Error('a reset was answered by a reset');
    return answers;
  }

  /** The numbers of an exact segment. */
  numbers(flow: Flow): { seq: number; ack: number } {
    const { tcb } = flow;
    if (tcb === null) return { seq: PEER_ISN, ack: 0 };
    // Before the host has seen our SYN it expects nothing.
    const seq = tcb.rcvNxt === 0 ? PEER_ISN : tcb.irs + tcb.rcvNxt;
    return { seq: seq >>> 0, ack: (tcb.iss + tcb.sndNxt) >>> 0 };
  }

  mptcp(option: MptcpOption): TcpOption {
    return { kind: 'mptcp', option };
  }

  /** What the host sends until it has nothing more to say. */
  drain(): Packet[] {
    const { host, slot, bytes, loaded } = this;
    const out: Packet[] = [];
    while (host.pollTransmit(slot, this.now)) {
      const length = slot.copyTo(bytes, 0);
      slot.clear();
      if (out.length === MOST_ANSWERS) throw new Error(`more than ${MOST_ANSWERS} packets at once`);
      if (++this.packets > MOST_PACKETS) throw new Error(`more than ${MOST_PACKETS} packets`);
      const packet = loaded.wire.parsePacketValue(bytes.slice(0, length));
      if (loaded.wire.isMalformed(packet)) throw new Error(`the host sent ${packet.reason}`);
      out.push(packet);
    }
    for (let event: StackEvent | null = host.pollEvent(); event !== null; event = host.pollEvent());
    return out;
  }

  /** Lets time pass. */
  advance(microseconds: number): Packet[] {
    const until = this.now + microseconds;
    const out: Packet[] = [];
    for (let i = 0; this.host.pollTimeout() <= until; i++) {
      if (i > MOST_WAKE_UPS) throw new Error('timers fire without end');
      this.now = Math.max(this.now, this.host.pollTimeout());
      this.host.handleTimeout(this.now);
      out.push(...this.drain());
    }
    this.now = until;
    return out;
  }

  checkHeld(): void {
    let held = 0;
    for (const one of this.host.connections.values()) held += one.readable + one.outOfOrderBytes;
    if (held > MOST_HELD) throw new Error(`${held} bytes held`);
  }

  /** The application gives everything up; nothing may be left. */
  end(): void {
    for (const one of [...this.host.connections.values()]) one.abort(this.now);
    this.drain();
    this.advance(FORGOTTEN);
    if (!this.host.idle) throw new Error(`left behind: ${JSON.stringify(this.host.sizes)}`);
  }

  /** Fills in the control block of a flow as soon as the host has one. */
  find(flow: Flow): void {
    for (const connection of this.host.connections.values()) {
      this.last ??= connection;
      for (const { tcb } of connection.subflows) if (tcb.remotePort === flow.peerPort && tcb.localPort === flow.hostPort) flow.tcb = tcb;
    }
  }

  // What the peer knows how to say

  capable(more: Partial<Extract<MptcpOption, { subtype: 'capable' }>> = {}): TcpOption {
    const flags = 1 | (this.checksum ? 0x80 : 0);
    return this.mptcp({ subtype: 'capable', version: this.version, flags, senderKey: null, receiverKey: null, dataLength: null, checksum: null, ...more });
  }

  /** The host's key, of which a peer learns in the handshake. */
  get hostKey(): KeyMaterial {
    const known = this.hasConnection ? this.connection.local : null;
    return known ?? this.loaded.stack.keyMaterial(3, 4, this.loaded.stack.versionOf(this.version));
  }

  dss(
    payload: Uint8Array,
    more: { at?: number; length?: number; fin?: boolean; ack?: number | null; mapping?: boolean; checksum?: number | null } = {},
  ): TcpOption {
    const { wire } = this.loaded;
    const fin = more.fin === true;
    const bare = payload.length === 0;
    const mapping = more.mapping ?? (!bare || fin);
    const dsn = shifted(this.peerKey, more.at ?? this.dataNext);
    const length = more.length ?? payload.length + (fin ? 1 : 0);
    const ssn = bare && fin ? 0 : this.flow.ssn;
    const right = wire.finish(wire.dssPseudoHeader(dsn.high, dsn.low, ssn, length) + wire.sum(payload, 0, Math.min(length, payload.length)));
    const acked = more.ack === undefined ? (this.hasConnection ? this.connection.dataNxt : 1) : more.ack;
    return this.mptcp({
      subtype: 'dss',
      flags: (acked === null ? 0 : 3) | (mapping ? 0x0c : 0) | (fin ? 0x10 : 0),
      dataAck: acked === null ? null : shifted(this.hostKey, acked),
      dsn: mapping ? dsn : null,
      ssn,
      dataLength: length,
      checksum: mapping ? (more.checksum === undefined ? (this.checksum ? right : null) : more.checksum) : null,
    });
  }

  /** Data in order, with its mapping; `plain`: without. */
  data(flow: Flow, size: number, plain = false): Packet[] {
    const payload = new Uint8Array(size).map((_, i) => i * 7);
    const answers = this.send(flow, this.loaded.wire.FLAG.ack, plain ? [] : [this.dss(payload)], payload);
    flow.ssn += size;
    this.dataNext += size;
    return answers;
  }

  addAddress(id: number, where: Uint8Array): TcpOption {
    const hmac = this.version === 0 ? null : this.loaded.stack.addAddressHmac(this.peerKey, this.hostKey, id, where, 0);
    return this.mptcp({
      subtype: 'add-addr',
      version: this.version,
      flags: this.version === 0 ? (this.v6 ? 6 : 4) : 0,
      addressId: id,
      address: where,
      port: null,
      hmac,
    });
  }

  joinSyn(flow: Flow, token = this.hostKey.token): TcpOption {
    return this.mptcp({ subtype: 'join-syn', flags: 0, addressId: 3, token: token >>> 0, nonce: flow.nonce });
  }

  /** The HMAC by which the peer proves that it knows both keys. */
  hmac(flow: Flow, length: number): Uint8Array {
    const { stack } = this.loaded;
    return stack.joinHmac(this.peerKey, this.hostKey, flow.nonce, flow.hostNonce, stack.versionOf(this.version)).slice(0, length);
  }

  joinAck(flow: Flow): TcpOption {
    return this.mptcp({ subtype: 'join-ack', reserved: 0, hmac: this.hmac(flow, 20) });
  }

  joinSynAck(flow: Flow): TcpOption {
    return this.mptcp({ subtype: 'join-synack', flags: 0, addressId: 9, hmac: this.hmac(flow, 8), nonce: flow.nonce });
  }
}

export function newPassiveFlow(scene: Scene): Flow {
  return scene.addFlow(PEER_PORT + scene.flows.length, SERVER_PORT);
}

function address(v6: boolean, last: number): Uint8Array {
  return v6 ? Uint8Array.of(0x20, 1, 0xd, 0xb8, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, last) : Uint8Array.of(192, 0, 2, last);
}

/** The 64-bit number of a data position under a key. */
function shifted(key: KeyMaterial, position: number): { high: number; low: number } {
  const low = (key.idsnLow >>> 0) + position;
  return { high: (key.idsnHigh + Math.floor(low / 0x1_0000_0000)) | 0, low: low | 0 };
}
