/** Who has which address on an Ethernet: ARP (RFC 826) and IPv6 neighbour discovery (RFC 4861 §7.2), for hosts of ours. */
import {
  ETHERNET,
  ethernetFrame,
  ETHERTYPE,
  finish,
  ICMP_CHECKSUM,
  ipSource,
  IPV6,
  IPV6_HEADER,
  PROTOCOL,
  pseudoHeader,
  sameAddress,
  sum,
  viewOf,
} from '@subflow/wire';

const ARP_LENGTH = 28;
/** Field offsets of an ARP packet (RFC 826) for Ethernet and IPv4. */
const ARP = { hardware: 0, protocol: 2, operation: 6, senderMac: 8, sender: 14, targetMac: 18, target: 24 } as const;
const ARP_ETHERNET = 1;
const REQUEST = 1;
const REPLY = 2;
/** A solicitation or advertisement: IPv6 header, and 24 octets of ICMPv6; its options follow (RFC 4861 §4.3). */
const NDP_LENGTH = 64;
const NDP_TARGET = 48;
const NDP_OPTIONS = 64;
/** The hop limit that no router lets through (RFC 4861 §7.1). */
const NEIGHBOURS_ONLY = 255;
const IPV6_VERSION = 0x60;
const SOLICITATION = 135;
const ADVERTISEMENT = 136;
const OPTION_SOURCE = 1;
const OPTION_TARGET = 2;
/** An answer is believed for this long, milliseconds. */
const REACHABLE = 60_000;
/** Between questions for one address, and how many without an answer until it counts as unreachable. */
const ASK_INTERVAL = 1000;
const MOST_KNOWN = 4096;
const BROADCAST = Uint8Array.from([255, 255, 255, 255, 255, 255]);

interface Neighbour {
  mac: Uint8Array | null;
  knownUntil: number;
  askedAt: number;
}

export class Neighbours {
  private readonly mac: Uint8Array;
  private readonly own: readonly Uint8Array[];
  private readonly sendFrame: (frame: Uint8Array) => void;
  private readonly onResolved: (address: Uint8Array) => void;
  private readonly table = new Map<string, Neighbour>();

  /** `own`: our addresses, for which we answer. */
  constructor(mac: Uint8Array, own: readonly Uint8Array[], sendFrame: (frame: Uint8Array) => void, onResolved: (address: Uint8Array) => void) {
    this.mac = mac;
    this.own = own;
    this.sendFrame = sendFrame;
    this.onResolved = onResolved;
  }

  /** The link-layer address of a neighbour; null while it is being asked for. `now` in milliseconds. */
  resolve(address: Uint8Array, now: number): Uint8Array | null {
    const key = keyOf(address);
    const found = this.table.get(key) ?? { mac: null, knownUntil: 0, askedAt: Number.NEGATIVE_INFINITY };
    if (found.mac !== null && now < found.knownUntil) return found.mac;
    if (now - found.askedAt >= ASK_INTERVAL) {
      found.askedAt = now;
      if (this.table.size >= MOST_KNOWN) this.table.clear();
      this.table.set(key, found);
      this.ask(address);
    }
    // An old answer is used while the new one is on its way.
    return found.mac;
  }

  /** Takes ARP and neighbour-discovery frames; returns whether it was one. */
  take(frame: Uint8Array, at: number, length: number, now: number): boolean {
    const view = new DataView(frame.buffer, frame.byteOffset);
    const type = view.getUint16(at - ETHERNET.header + ETHERNET.type);
    if (type === ETHERTYPE.arp) {
      if (length >= ARP_LENGTH) this.takeArp(frame, view, at, now);
      return true;
    }
    if (type !== ETHERTYPE.ipv6 || length < NDP_LENGTH) return false;
    if (frame[at + IPV6.nextHeader] !== PROTOCOL.icmpv6 || frame[at + IPV6.hopLimit] !== NEIGHBOURS_ONLY) return false;
    const message = frame[at + IPV6_HEADER];
    if (message !== SOLICITATION && message !== ADVERTISEMENT) return false;
    this.takeNdp(frame, at, message, now);
    return true;
  }

  private takeArp(frame: Uint8Array, view: DataView, at: number, now: number): void {
    if (view.getUint16(at + ARP.hardware) !== ARP_ETHERNET || view.getUint16(at + ARP.protocol) !== ETHERTYPE.ipv4) return;
    const operation = view.getUint16(at + ARP.operation);
    const senderMac = frame.slice(at + ARP.senderMac, at + ARP.sender);
    const sender = frame.slice(at + ARP.sender, at + ARP.targetMac);
    const target = frame.subarray(at + ARP.target, at + ARP_LENGTH);
    const forUs = this.own.some((one) => one.length === 4 && sameAddress(one, target));
    if (forUs || this.table.has(keyOf(sender))) this.learn(sender, senderMac, now);
    if (operation === REQUEST && forUs) this.sendFrame(this.arp(REPLY, target, senderMac, sender, senderMac));
  }

  private takeNdp(frame: Uint8Array, at: number, message: number, now: number): void {
    const target = frame.slice(at + NDP_TARGET, at + NDP_OPTIONS);
    const source = ipSource(frame, at)!;
    const wanted = message === SOLICITATION ? OPTION_SOURCE : OPTION_TARGET;
    const option = frame[at + NDP_OPTIONS] === wanted ? frame.slice(at + NDP_OPTIONS + 2, at + NDP_OPTIONS + 8) : null;
    const sender = frame.slice(at - ETHERNET.header + ETHERNET.source, at - ETHERNET.header + ETHERNET.type);
    if (message === ADVERTISEMENT) {
      this.learn(target, option ?? sender, now);
      return;
    }
    if (!this.own.some((one) => one.length === 16 && sameAddress(one, target))) return;
    const mac = option ?? sender;
    if (source.some((byte) => byte !== 0)) this.learn(source, mac, now);
    // Solicited, override (RFC 4861 §4.4).
    this.sendFrame(this.ndp(ADVERTISEMENT, 0x60, target, source, mac, target, OPTION_TARGET));
  }

  private learn(address: Uint8Array, mac: Uint8Array, now: number): void {
    if (this.table.size >= MOST_KNOWN) this.table.clear();
    this.table.set(keyOf(address), { mac, knownUntil: now + REACHABLE, askedAt: now });
    this.onResolved(address);
  }

  private ask(address: Uint8Array): void {
    const from = this.own.find((one) => one.length === address.length);
    if (from === undefined) return;
    if (address.length === 4) {
      this.sendFrame(this.arp(REQUEST, from, new Uint8Array(6), address, BROADCAST));
      return;
    }
    // The solicited-node multicast address (RFC 4291 §2.7.1).
    const group = Uint8Array.from([0xff, 2, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1, 0xff, address[13]!, address[14]!, address[15]!]);
    this.sendFrame(this.ndp(SOLICITATION, 0, from, group, Uint8Array.from([0x33, 0x33, ...group.subarray(12)]), address, OPTION_SOURCE));
  }

  private arp(operation: number, sender: Uint8Array, targetMac: Uint8Array, target: Uint8Array, to: Uint8Array): Uint8Array {
    const lengths = [this.mac.length, sender.length];
    const types = [...word(ARP_ETHERNET), ...word(ETHERTYPE.ipv4), ...lengths, ...word(operation)];
    return Uint8Array.from([...to, ...this.mac, ...word(ETHERTYPE.arp), ...types, ...this.mac, ...sender, ...targetMac, ...target]);
  }

  private ndp(type: number, flags: number, from: Uint8Array, to: Uint8Array, toMac: Uint8Array, target: Uint8Array, option: number): Uint8Array {
    const body = Uint8Array.from([type, 0, 0, 0, flags, 0, 0, 0, ...target, option, 1, ...this.mac]);
    const header = [IPV6_VERSION, 0, 0, 0, ...word(body.length), PROTOCOL.icmpv6, NEIGHBOURS_ONLY];
    const packet = Uint8Array.from([...header, ...from, ...to, ...body]);
    const initial = pseudoHeader(packet, 0, PROTOCOL.icmpv6, body.length);
    viewOf(packet).setUint16(IPV6_HEADER + ICMP_CHECKSUM, finish(sum(packet, IPV6_HEADER, body.length, initial)));
    return ethernetFrame(packet, this.mac, toMac);
  }
}

/** A 16-bit number in network order. */
function word(value: number): [number, number] {
  return [value >>> 8, value & 0xff];
}

function keyOf(address: Uint8Array): string {
  return address.join('.');
}
