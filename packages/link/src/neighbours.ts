/** Who has which address on an Ethernet: ARP (RFC 826) and IPv6 neighbour discovery (RFC 4861 §7.2), for hosts of ours. */
import { finish, fold, sameAddress, sum } from '@subflow/wire';

const ETHERTYPE = { ipv4: 0x0800, arp: 0x0806, ipv6: 0x86dd } as const;
export const ETHERNET_HEADER = 14;
const ARP_LENGTH = 28;
const ICMPV6 = 58;
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
    const type = view.getUint16(at - 2);
    if (type === ETHERTYPE.arp) {
      if (length >= ARP_LENGTH) this.takeArp(frame, view, at, now);
      return true;
    }
    if (type !== ETHERTYPE.ipv6 || length < 64 || frame[at + 6] !== ICMPV6 || frame[at + 7] !== 255) return false;
    const message = frame[at + 40];
    if (message !== SOLICITATION && message !== ADVERTISEMENT) return false;
    this.takeNdp(frame, at, message, now);
    return true;
  }

  private takeArp(frame: Uint8Array, view: DataView, at: number, now: number): void {
    if (view.getUint16(at) !== 1 || view.getUint16(at + 2) !== ETHERTYPE.ipv4) return;
    const operation = view.getUint16(at + 6);
    const senderMac = frame.slice(at + 8, at + 14);
    const sender = frame.slice(at + 14, at + 18);
    const target = frame.subarray(at + 24, at + 28);
    const forUs = this.own.some((one) => one.length === 4 && sameAddress(one, target));
    if (forUs || this.table.has(keyOf(sender))) this.learn(sender, senderMac, now);
    if (operation === 1 && forUs) this.sendFrame(this.arp(2, target, senderMac, sender, senderMac));
  }

  private takeNdp(frame: Uint8Array, at: number, message: number, now: number): void {
    const target = frame.slice(at + 48, at + 64);
    const source = frame.slice(at + 8, at + 24);
    const option = frame[at + 64] === (message === SOLICITATION ? OPTION_SOURCE : OPTION_TARGET) ? frame.slice(at + 66, at + 72) : null;
    if (message === ADVERTISEMENT) {
      this.learn(target, option ?? frame.slice(at - 8, at - 2), now);
      return;
    }
    if (!this.own.some((one) => one.length === 16 && sameAddress(one, target))) return;
    const mac = option ?? frame.slice(at - 8, at - 2);
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
      this.sendFrame(this.arp(1, from, new Uint8Array(6), address, BROADCAST));
      return;
    }
    // The solicited-node multicast address (RFC 4291 §2.7.1).
    const group = Uint8Array.from([0xff, 2, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1, 0xff, address[13]!, address[14]!, address[15]!]);
    this.sendFrame(this.ndp(SOLICITATION, 0, from, group, Uint8Array.from([0x33, 0x33, ...group.subarray(12)]), address, OPTION_SOURCE));
  }

  private arp(operation: number, sender: Uint8Array, targetMac: Uint8Array, target: Uint8Array, to: Uint8Array): Uint8Array {
    return Uint8Array.from([...to, ...this.mac, 0x08, 0x06, 0, 1, 0x08, 0, 6, 4, 0, operation, ...this.mac, ...sender, ...targetMac, ...target]);
  }

  private ndp(type: number, flags: number, from: Uint8Array, to: Uint8Array, toMac: Uint8Array, target: Uint8Array, option: number): Uint8Array {
    const body = Uint8Array.from([type, 0, 0, 0, flags, 0, 0, 0, ...target, option, 1, ...this.mac]);
    const pseudo = Uint8Array.from([...from, ...to, 0, 0, 0, body.length, 0, 0, 0, ICMPV6]);
    const checksum = finish(fold(sum(body, 0, body.length, sum(pseudo, 0, pseudo.length))));
    new DataView(body.buffer).setUint16(2, checksum);
    const header = [0x60, 0, 0, 0, 0, body.length, ICMPV6, 255];
    return Uint8Array.from([...toMac, ...this.mac, 0x86, 0xdd, ...header, ...from, ...to, ...body]);
  }
}

function keyOf(address: Uint8Array): string {
  return address.join('.');
}
