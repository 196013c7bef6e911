/** The path walk: packets whose TTL ends at each hop in turn, and what the routers quote of them (traceroute, tracebox). */
import {
  buildPacket,
  ipHeader,
  ipVersion,
  IPV4,
  IPV6_HEADER,
  isMalformed,
  parsePacketValue,
  PROTOCOL,
  sameAddress,
  setIpTtl,
  setIpv4Word,
  TCP,
  updateChecksum,
  viewOf,
} from '@subflow/wire';
import type { IpAddress, MplsLabel } from '@subflow/wire';
import type { Hub, Receiver } from './hub.ts';
import type { Quote } from './quote.ts';

/** One answer of a hop: an ICMP error with a quote of what we sent. */
export interface HopAnswer {
  from: IpAddress;
  /** Microseconds between sending and answer. */
  rtt: number;
  /** Which packet of the group it is about. */
  sent: Uint8Array;
  quote: Quote;
  labels: readonly MplsLabel[];
  /** The quote was attributed by its mark; otherwise by being alone. */
  marked: boolean;
}

export interface Hop {
  ttl: number;
  /** Empty: the hop stayed silent. */
  answers: HopAnswer[];
  /** Groups sent. */
  tries: number;
}

export interface Walk {
  hops: Hop[];
  /** Quotes that fitted nothing that was sent. */
  rejected: number;
  /** Every packet that went out. */
  sent: Uint8Array[];
}

export interface WalkOptions {
  /** Last hop to try. */
  hops: number;
  tries?: number;
  /** How long a hop may take, microseconds. */
  patience?: number;
  /** Groups sent to each hop at once, where one alone may mislead. */
  repeat?: number;
  /** Ends the walk early: something else has happened (a reset, say). */
  stop?: () => boolean;
}

/** Hops that are tried at the same time. */
const AT_ONCE = 8;
const TRIES = 4;
/** The distance must be right: one hop too many would point at boxes that are not there. */
const ECHO_TRIES = 8;
const PATIENCE = 250_000;
/** Between two groups, so that routers are not flooded. */
const SPACING = 500;
const REPEAT_SPACING = 4_000;

interface Sent {
  ttl: number;
  at: number;
  bytes: Uint8Array;
}

/**
 * Sends `make(ttl)` for every hop, several hops at once, the silent ones again. The packets differ in TTL, IPv4
 * identification (the mark) and, with IPv6, in the last bits of the window: never in what chooses a path (Augustin et
 * al., "Paris traceroute", IMC 2006).
 */
export async function walk(hub: Hub, make: (ttl: number) => readonly Uint8Array[], options: WalkOptions): Promise<Walk> {
  const hops: Hop[] = Array.from({ length: options.hops }, (_, i) => ({ ttl: i + 1, answers: [], tries: 0 }));
  const tries = options.tries ?? TRIES;
  const patience = options.patience ?? PATIENCE;
  const sent = new Map<number, Sent>();
  const alone: { sent: readonly Sent[] } = { sent: [] };
  const all: Uint8Array[] = [];
  let rejected = 0;
  let unattributed = 0;
  const receiver: Receiver = {
    segment: () => undefined,
    quote: (quote, now) => {
      const mark = sent.get(markOf(quote));
      const marked = mark !== undefined && resemblance(quote, mark.bytes) >= 2;
      const one = marked
        ? mark
        : alone.sent
            .filter((candidate) => resemblance(quote, candidate.bytes) >= 4)
            .sort((a, b) => resemblance(quote, b.bytes) - resemblance(quote, a.bytes))[0];
      if (one === undefined) {
        if (mark === undefined) unattributed++;
        rejected++;
        return;
      }
      const hop = hops[one.ttl - 1]!;
      if (hop.answers.length < 16) hop.answers.push({ from: quote.from, rtt: now - one.at, sent: one.bytes, quote, labels: quote.labels, marked });
    },
  };
  const probes = options.hops > 0 ? make(1).map(parts) : [];
  const unclaim = probes.length === 0 ? () => undefined : hub.listen(receiver, probes[0]!);
  const sendHop = (hop: Hop): Sent[] => {
    hop.tries++;
    const now = hub.now();
    const group = make(hop.ttl).map((packet, i) => {
      const bytes = limited(packet, hop.ttl, hub.mark(receiver), i);
      const record = { ttl: hop.ttl, at: now, bytes };
      sent.set(markOfPacket(bytes), record);
      return record;
    });
    for (const one of group) {
      all.push(one.bytes);
      hub.send(one.bytes);
    }
    return group;
  };
  const stopped = (): boolean => options.stop?.() ?? false;
  for (let first = 0; first < hops.length && !stopped(); first += AT_ONCE) {
    const some = hops.slice(first, first + AT_ONCE);
    for (let i = 0; i < tries && !stopped(); i++) {
      const silent = some.filter((hop) => hop.answers.length === 0);
      if (silent.length === 0) break;
      for (let turn = 0; turn < (options.repeat ?? 1); turn++) {
        for (const hop of silent) {
          sendHop(hop);
          await hub.sleep(SPACING);
        }
        if (turn + 1 < (options.repeat ?? 1)) await hub.sleep(REPEAT_SPACING);
      }
      await until(hub, patience * (i === 0 ? 1 : 1.5), () => stopped() || silent.every((hop) => hop.answers.length > 0));
    }
  }
  // Marks that were rewritten: one hop at a time, so that whatever comes is about it.
  if (unattributed > 0) {
    for (const hop of hops.filter((one) => one.answers.length === 0)) {
      for (let i = 0; i < tries && hop.answers.length === 0 && !stopped(); i++) {
        alone.sent = sendHop(hop);
        await until(hub, patience, () => hop.answers.length > 0);
      }
    }
  }
  unclaim();
  return { hops, rejected, sent: all };
}

/** Sleeps in small steps until a condition holds or the time is over. */
export async function until(hub: Hub, microseconds: number, condition: () => boolean): Promise<void> {
  const end = hub.now() + microseconds;
  while (!condition() && hub.now() < end) await hub.sleep(Math.min(2_000, end - hub.now()));
}

/** Echo requests for each hop: how far the target is, whatever boxes do to TCP. */
export async function echoWalk(
  hub: Hub,
  source: IpAddress,
  target: IpAddress,
  maxHops: number,
  tries = ECHO_TRIES,
): Promise<{ distance: number | null; hops: (IpAddress | null)[] }> {
  const identifier = hub.port.entropy() & 0xffff;
  const hops: (IpAddress | null)[] = Array.from({ length: maxHops }, () => null);
  let distance: number | null = null;
  const v4 = target.length === 4;
  const release = hub.claimEcho(
    identifier,
    (from, icmp) => {
      const ttl = icmp.sequence;
      // Whoever answers in the target's place says nothing about how far it is.
      if (ttl < 1 || ttl > maxHops || !sameAddress(from, target)) return;
      hops[ttl - 1] ??= from;
      if (distance === null || ttl < distance) distance = ttl;
    },
    (quote) => {
      const at = quote.bytes.length - quote.quoted;
      const ttl = quote.quoted >= 8 ? (quote.bytes[at + 6]! << 8) | quote.bytes[at + 7]! : 0;
      if (ttl >= 1 && ttl <= maxHops) hops[ttl - 1] ??= quote.from;
    },
  );
  for (let i = 0; i < tries; i++) {
    const end = distance ?? maxHops;
    const silent = Array.from({ length: end }, (_, j) => j + 1).filter((ttl) => hops[ttl - 1] === null);
    if (silent.length === 0) break;
    // A distance that is known can only become smaller: a lost answer of a nearer hop would make it too long.
    for (const ttl of silent) {
      const ip = ipHeader(source, target, v4 ? PROTOCOL.icmp : PROTOCOL.icmpv6, ttl);
      const icmp = { kind: 'echo', version: v4 ? 4 : 6, reply: false, code: 0, checksum: 0, identifier, sequence: ttl, data: new Uint8Array(16) } as const;
      hub.send(buildPacket(ip, { icmp }));
    }
    await until(hub, PATIENCE, () => distance !== null && hops.slice(0, distance).every((one) => one !== null));
  }
  release();
  return { distance, hops: distance === null ? hops : hops.slice(0, distance) };
}

function parts(bytes: Uint8Array): { localPort: number; remote: IpAddress; remotePort: number } {
  const packet = parsePacketValue(bytes);
  if (isMalformed(packet) || packet.tcp === null) return { localPort: 0, remote: new Uint8Array(4), remotePort: 0 };
  return { localPort: packet.tcp.sourcePort, remote: packet.ip.destination, remotePort: packet.tcp.destinationPort };
}

/** The packet with another TTL and mark; the IPv4 header checksum is right again. */
export function limited(packet: Uint8Array, ttl: number, mark: number, index: number): Uint8Array {
  const out = packet.slice();
  setIpTtl(out, ttl);
  if (ipVersion(out) === 4) {
    setIpv4Word(out, IPV4.identification, mark);
    return out;
  }
  const view = viewOf(out);
  const before = view.getUint16(WINDOW6);
  const after = (before & ~0xff) | (ttl << 2) | (index & 3);
  view.setUint16(WINDOW6, after);
  view.setUint16(CHECKSUM6, updateChecksum(view.getUint16(CHECKSUM6), before, after));
  return out;
}

/** Where IPv6 packets, which have no identification, carry their mark: the low octet of the TCP window. We send no extension headers. */
const WINDOW6 = IPV6_HEADER + TCP.window;
const CHECKSUM6 = IPV6_HEADER + TCP.checksum;
/** Tells marks in the window from identifications. */
const IPV6_MARK = 0x10000;

function markOfPacket(bytes: Uint8Array): number {
  const view = viewOf(bytes);
  return ipVersion(bytes) === 4 ? view.getUint16(IPV4.identification) : IPV6_MARK | (view.getUint16(WINDOW6) & 0xff);
}

function markOf(quote: Quote): number {
  return quote.version === 4 ? quote.identification : IPV6_MARK | (quote.window & 0xff);
}

/** How many of addresses, ports and sequence number are as they were sent: 0 to 5. */
function resemblance(quote: Quote, bytes: Uint8Array): number {
  const packet = parsePacketValue(bytes);
  if (isMalformed(packet) || packet.tcp === null) return 0;
  return [
    sameAddress(quote.source, packet.ip.source),
    sameAddress(quote.destination, packet.ip.destination),
    quote.sourcePort === packet.tcp.sourcePort,
    quote.destinationPort === packet.tcp.destinationPort,
    quote.seq === packet.tcp.seq,
  ].filter(Boolean).length;
}
