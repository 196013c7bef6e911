/**
 * The host that is attacked, the attacker's conversation with it, and the slab in which the attack's packets lie ready:
 * what is measured is the stack alone.
 */
import { TransmitSlot } from '@subflow/stack';
import type { CongestionControl, Connection, Host, HostOptions, Interface } from '@subflow/stack';
import { buildPacket, FLAG, ipHeader, ipv4Checksum, isMalformed, parsePacketValue, PROTOCOL } from '@subflow/wire';
import type { Packet, TcpHeader, TcpOption } from '@subflow/wire';
import { HandPeer, LOCAL, REMOTE } from '../packages/stack/test/world.ts';

/** The buffers of every attacked connection: full windows. */
export const BUFFER = 16 << 20;
export const PORT = 80;
export const CLIENT_PORT = 1000;
/** The attacker's first sequence number is one more. */
export const CLIENT_ISN = 100;
const WINDOW_SHIFT = 10;
const IP_LENGTH = 20;
const IP_CHECKSUM = 10;
/** 10.0.0.0, and the ports used of each address. */
const FLOOD_NET = 0x0a00_0000;
const PORTS = 60_000;
/** Where the fields that differ from packet to packet lie. */
export const AT = { source: 12, sourcePort: IP_LENGTH, seq: IP_LENGTH + 4, ack: IP_LENGTH + 8, window: IP_LENGTH + 14, options: IP_LENGTH + 20 } as const;

/** A window that is never the limit: attacks on the sender want much in flight. */
export function wideOpen(): CongestionControl {
  return { name: 'wide-open', onAck: (view) => void (view.cwnd = 2 * BUFFER), onLoss: (view) => view.cwnd, onTimeout: (view) => view.cwnd };
}

export function hostOptions(options: Partial<HostOptions> = {}): Partial<HostOptions> {
  const tcp = {
    receiveBuffer: BUFFER,
    maxReceiveBuffer: BUFFER,
    sendBuffer: BUFFER,
    maxSendBuffer: BUFFER,
    timestamps: false,
    nagle: false,
    congestion: wideOpen,
  };
  return { ...options, tcp: { ...tcp, ...options.tcp } };
}

/** One packet, built in full; its fields may be changed where {@link AT} says. */
export function template(tcp: Partial<TcpHeader>, payload = new Uint8Array(0)): Uint8Array {
  const header: TcpHeader = {
    sourcePort: CLIENT_PORT,
    destinationPort: PORT,
    seq: 0,
    ack: 0,
    headerLength: 20,
    reserved: 0,
    flags: FLAG.ack,
    window: 65_535,
    checksum: 0,
    urgent: 0,
    options: [],
    ...tcp,
  };
  return buildPacket(ipHeader(REMOTE, LOCAL, PROTOCOL.tcp), { tcp: header, payload });
}

/** Packets one after the other in one array. */
export class Slab {
  readonly bytes: Uint8Array;
  readonly view: DataView;
  readonly count: number;
  readonly length: number;

  /** `count` copies of a packet; `change` makes each what it should be, at the offset where it begins. */
  constructor(packet: Uint8Array, count: number, change: (view: DataView, offset: number, i: number) => void) {
    this.count = count;
    this.length = packet.length;
    this.bytes = new Uint8Array(count * packet.length);
    this.view = new DataView(this.bytes.buffer);
    for (let i = 0; i < count; i++) {
      this.bytes.set(packet, i * packet.length);
      change(this.view, i * packet.length, i);
    }
  }
}

/** Another source for the IPv4 packet at `offset`. */
export function setSource(view: DataView, offset: number, address: number, port: number): void {
  view.setUint32(offset + AT.source, address);
  view.setUint16(offset + AT.sourcePort, port);
  view.setUint16(offset + IP_CHECKSUM, 0);
  view.setUint16(offset + IP_CHECKSUM, ipv4Checksum(new Uint8Array(view.buffer), offset, IP_LENGTH));
}

/** The `i`-th source of a flood: each address and port once. */
export function floodSource(view: DataView, offset: number, i: number): void {
  setSource(view, offset, FLOOD_NET + Math.floor(i / PORTS), 1024 + (i % PORTS));
}

export class Victim {
  readonly host: Host;
  readonly through: Interface;
  now: number;
  /** When not null, what the host sends is kept here. */
  kept: Uint8Array[] | null = null;
  private readonly slot = new TransmitSlot();
  private readonly sent = new Uint8Array(70_000);

  constructor(peer: HandPeer) {
    this.host = peer.host;
    this.through = peer.through;
    this.now = peer.agenda.now;
  }

  get connection(): Connection {
    return [...this.host.connections.values()][0]!;
  }

  /** Takes the packet at `offset` as a driver would hand it over, `step` microseconds after the last, and sends what is owed. */
  take(slab: Slab, i: number, step: number): void {
    this.now += step;
    this.host.handlePacket(this.through, slab.view, slab.bytes, i * slab.length, slab.length, true, this.now);
    if (this.host.pollTimeout() <= this.now) this.host.handleTimeout(this.now);
    this.drain();
  }

  /** Lets time pass with whatever the timers do. */
  sleep(microseconds: number): void {
    const until = this.now + microseconds;
    for (let at = this.host.pollTimeout(); at <= until; at = this.host.pollTimeout()) {
      this.now = Math.max(this.now, at);
      this.host.handleTimeout(this.now);
      this.drain();
    }
    this.now = until;
  }

  drain(): void {
    const { host, slot } = this;
    while (host.pollTransmit(slot, this.now)) {
      this.kept?.push(this.sent.slice(0, slot.copyTo(this.sent, 0)));
      slot.clear();
    }
    while (host.pollEvent() !== null);
  }

  /** One packet outside of the measurement; returns the answers. */
  ask(packet: Uint8Array): Packet[] {
    this.host.handlePacket(this.through, new DataView(packet.buffer), packet, 0, packet.length, true, this.now);
    this.kept = [];
    this.drain();
    const answers = this.takeKept();
    this.kept = null;
    return answers;
  }

  /** What was kept, parsed. */
  takeKept(): Packet[] {
    const out: Packet[] = [];
    for (const bytes of this.kept ?? []) {
      const parsed = parsePacketValue(bytes);
      if (!isMalformed(parsed)) out.push(parsed);
    }
    this.kept = [];
    return out;
  }
}

export interface Opened {
  victim: Victim;
  /** What the victim's first byte after its SYN is numbered. */
  ack: number;
}

/** A plain TCP connection with SACK and a window of {@link BUFFER} in both directions. */
export function openPlain(options: Partial<HostOptions> = {}): Opened {
  const victim = new Victim(new HandPeer(hostOptions(options)));
  victim.host.listen({ port: PORT });
  const offers: TcpOption[] = [{ kind: 'mss', value: 1460 }, { kind: 'sack-permitted' }, { kind: 'nop' }, { kind: 'window-scale', shift: WINDOW_SHIFT }];
  const [answer] = victim.ask(template({ flags: FLAG.syn, seq: CLIENT_ISN, options: offers }));
  const ack = (answer!.tcp!.seq + 1) >>> 0;
  victim.ask(template({ seq: CLIENT_ISN + 1, ack }));
  return { victim, ack };
}

/** As {@link openPlain}, with `bytes` in flight: written, sent, not acknowledged. `ack` is the number of the first. */
export function openWithFlight(bytes: number): Opened {
  const { victim, ack } = openPlain();
  const { connection } = victim;
  const block = new Uint8Array(65_536);
  const { tcb } = connection.subflows[0]!;
  // Sending is limited by the congestion window once; the ACK of that opens it for all the rest.
  connection.write(block, victim.now);
  victim.drain();
  for (let acked = 0; acked < block.length; acked = tcb.sndUna - 1) victim.ask(template({ seq: CLIENT_ISN + 1, ack: (ack + tcb.sndNxt - 1) >>> 0 }));
  for (let left = bytes; left > 0; left -= block.length) connection.write(block.subarray(0, Math.min(left, block.length)), victim.now);
  victim.drain();
  if (tcb.sndNxt - tcb.sndUna !== bytes) throw new Error(`${tcb.sndNxt - tcb.sndUna} bytes in flight; expected ${bytes}`);
  return { victim, ack: (ack + block.length) >>> 0 };
}
