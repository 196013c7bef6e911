/**
 * The front that all designs share: bytes of a packet in, a server out. Fragments go where their first one went, ICMP errors to
 * the server whose packet they quote, what is not TCP is left alone. IPv4 and IPv6.
 */
import {
  clearTcp,
  FLAG,
  ICMP,
  ICMP_HEADER,
  ICMPV6_FIRST_INFORMATIONAL,
  ipVersion,
  IPV4,
  IPV4_FRAGMENT,
  IPV4_MIN_HEADER,
  ipv4HeaderLength,
  IPV6,
  IPV6_HEADER,
  PARSED,
  parsePacket,
  parseTcpInto,
  PROTOCOL,
  readIpFields,
  Segment,
  swapEnds,
  TCP,
  TCP_MAX_HEADER,
  TCP_MIN_HEADER,
} from '@subflow/wire';
import { DROP, DROP_NAMES } from './core.ts';
import type { DecisionCore } from './core.ts';
import { ENTRY, FlowTable } from './flow-table.ts';
import { hashPair } from './hash.ts';
import type { ServerSet } from './servers.ts';

/** A packet is put together within this time or not at all, seconds (RFC 8200 §4.5). */
const REASSEMBLY = 60;
const FRAGMENTS = 1 << 13;
const FRAGMENT_WORDS = 4;
/** Octets of a quoted TCP header that a decision needs at least: the ports, with what RFC 792 makes every router quote. */
const LEAST_QUOTED = 8;

export class Balancer {
  readonly core: DecisionCore;
  /** Packets by what became of them: `forwarded`, or the name of a reason. */
  readonly counters = new Map<string, number>([['forwarded', 0]]);
  /** The packet last looked at: header fields for whoever forwards it. */
  readonly segment = new Segment();
  /** What became of that packet: a name as in {@link counters}. */
  lastReason = '';
  /** It was a fragment without ports: what its core says of the last decision is about another packet. */
  laterFragment = false;
  private readonly quoted = new Segment();
  private readonly fragments = new FlowTable(FRAGMENT_WORDS, FRAGMENTS, { halfOpen: REASSEMBLY, established: REASSEMBLY, closing: REASSEMBLY });
  private readonly key = new Int32Array(FRAGMENT_WORDS);

  constructor(core: DecisionCore) {
    this.core = core;
  }

  setServers(servers: ServerSet, now: number): void {
    this.core.setServers(servers, now);
  }

  /**
   * Decides about the IP packet of `length` bytes at `offset`: id of a server, or a {@link DROP} reason. Never throws for any
   * bytes, as long as they lie within `view`. Checksums are the receiver's matter.
   */
  handle(view: DataView, bytes: Uint8Array, offset: number, length: number, now: number): number {
    const decision = this.decide(view, bytes, offset, length, now);
    const name = decision > 0 ? 'forwarded' : (DROP_NAMES[decision] ?? 'malformed');
    this.lastReason = name;
    this.counters.set(name, (this.counters.get(name) ?? 0) + 1);
    return decision;
  }

  private decide(view: DataView, bytes: Uint8Array, offset: number, length: number, now: number): number {
    const { segment } = this;
    this.laterFragment = false;
    const result = parsePacket(view, bytes, offset, length, false, segment);
    switch (result) {
      case PARSED.tcp:
        return this.core.decide(segment, now);
      case PARSED.fragment:
        return this.fragment(view, now);
      case PARSED.icmp:
      case PARSED.icmpv6:
        return this.error(view, bytes, result === PARSED.icmp, now);
      case PARSED.otherProtocol:
        return DROP.notOurs;
      default:
        return DROP.malformed;
    }
  }

  private fragment(view: DataView, now: number): number {
    const { segment, key } = this;
    if (segment.protocol !== PROTOCOL.tcp) return DROP.notOurs;
    key[0] = segment.source0 ^ segment.source1 ^ segment.source2 ^ segment.source3;
    key[1] = segment.destination0 ^ segment.destination3;
    key[2] = segment.identification;
    key[3] = segment.source3 ^ segment.ipVersion;
    const hash = hashPair(key[0]! ^ key[1]!, key[2]!);
    const seconds = Math.floor(now / 1e6);
    if (segment.fragmentOffset === 0) {
      const parsed = parseTcpInto(view, segment.tcpOffset, segment.endOffset - segment.tcpOffset, segment);
      if (parsed !== PARSED.tcp) return DROP.malformed;
      const server = this.core.decide(segment, now);
      if (server > 0) this.fragments.put(key, hash, server, ENTRY.halfOpen, seconds);
      return server;
    }
    this.laterFragment = true;
    const place = this.fragments.find(key, hash, seconds);
    return place < 0 ? DROP.unknownFragment : this.fragments.server(place);
  }

  /** An error quotes a packet of the server's: its destination is the client (RFC 792, RFC 4443 §2.4). */
  private error(view: DataView, bytes: Uint8Array, v4: boolean, now: number): number {
    const { segment, quoted } = this;
    const at = segment.tcpOffset;
    if (segment.endOffset - at < ICMP_HEADER) return DROP.malformed;
    const type = view.getUint8(at);
    const isError = v4
      ? type === ICMP.unreachable || type === ICMP.timeExceeded || type === ICMP.parameterProblem || type === ICMP.sourceQuench
      : type < ICMPV6_FIRST_INFORMATIONAL;
    if (!isError) return DROP.notOurs;
    const inner = at + ICMP_HEADER;
    const room = segment.endOffset - inner;
    // As bpf/balancer.c does, lengths are not looked at, and extension headers are not walked: a quote is short and may be changed.
    if (room < (v4 ? IPV4_MIN_HEADER : IPV6_HEADER) + LEAST_QUOTED || ipVersion(bytes, inner) !== segment.ipVersion) return DROP.unknownError;
    const header = v4 ? ipv4HeaderLength(view, inner) : IPV6_HEADER;
    const protocol = view.getUint8(inner + (v4 ? IPV4.protocol : IPV6.nextHeader));
    if (protocol !== PROTOCOL.tcp || header < IPV4_MIN_HEADER || room < header + LEAST_QUOTED) return DROP.unknownError;
    // A later fragment has no ports.
    if (v4 && (view.getUint16(inner + IPV4.fragment) & IPV4_FRAGMENT.offset) !== 0) return DROP.unknownError;
    quoted.view = view;
    quoted.bytes = bytes;
    quoted.ipVersion = segment.ipVersion;
    readIpFields(view, inner, quoted);
    // A quote that has the whole TCP header tells the server's timestamp.
    const tcp = inner + header;
    if (room >= header + TCP_MIN_HEADER) parseTcpInto(view, tcp, Math.max(room - header, TCP_MAX_HEADER), quoted, inner + room);
    else clearTcp(quoted);
    quoted.sourcePort = view.getUint16(tcp + TCP.sourcePort);
    quoted.destinationPort = view.getUint16(tcp + TCP.destinationPort);
    quoted.flags = FLAG.ack;
    // The client received what is quoted, and what it sends is what a core knows.
    swapEnds(quoted);
    return this.core.related(quoted, now);
  }
}
