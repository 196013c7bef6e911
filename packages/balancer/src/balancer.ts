/**
 * The front that all designs share: bytes of a packet in, a server out. Fragments go where their first one went, ICMP errors to
 * the server whose packet they quote, what is not TCP is left alone. IPv4 and IPv6.
 */
import { FLAG, ICMP, PARSED, parsePacket, parseTcpInto, PROTOCOL, Segment } from '@subflow/wire';
import { DROP, DROP_NAMES } from './core.ts';
import type { DecisionCore } from './core.ts';
import { ENTRY, FlowTable } from './flow-table.ts';
import { hashPair } from './hash.ts';
import type { ServerSet } from './servers.ts';

/** A packet is put together within this time or not at all, seconds (RFC 8200 §4.5). */
const REASSEMBLY = 60;
const FRAGMENTS = 1 << 13;
const FRAGMENT_WORDS = 4;
const EXTENSION_FRAGMENT = 44;

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
        return this.fragment(view, offset, now);
      case PARSED.icmp:
      case PARSED.icmpv6:
        return this.error(view, bytes, result === PARSED.icmp, now);
      case PARSED.otherProtocol:
        return DROP.notOurs;
      default:
        return DROP.malformed;
    }
  }

  private fragment(view: DataView, offset: number, now: number): number {
    const { segment, key } = this;
    if (segment.protocol !== PROTOCOL.tcp) return DROP.notOurs;
    const v4 = segment.ipVersion === 4;
    const first = v4 ? (view.getUint16(offset + 6) & 0x1fff) === 0 : (view.getUint16(segment.tcpOffset - 6) & 0xfff8) === 0;
    key[0] = segment.source0 ^ segment.source1 ^ segment.source2 ^ segment.source3;
    key[1] = segment.destination0 ^ segment.destination3;
    key[2] = v4 ? view.getUint16(offset + 4) : view.getInt32(segment.tcpOffset - 4);
    key[3] = segment.source3 ^ (v4 ? 4 : EXTENSION_FRAGMENT);
    const hash = hashPair(key[0]! ^ key[1]!, key[2]!);
    const seconds = Math.floor(now / 1e6);
    if (first) {
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
    if (segment.endOffset - at < 8) return DROP.malformed;
    const type = view.getUint8(at);
    const isError = v4 ? type === ICMP.unreachable || type === ICMP.timeExceeded || type === ICMP.parameterProblem || type === 4 : type < 128;
    if (!isError) return DROP.notOurs;
    const inner = at + 8;
    const room = segment.endOffset - inner;
    if (room < (v4 ? 28 : 48) || view.getUint8(inner) >>> 4 !== (v4 ? 4 : 6)) return DROP.unknownError;
    const header = v4 ? (view.getUint8(inner) & 15) * 4 : 40;
    if (view.getUint8(inner + (v4 ? 9 : 6)) !== PROTOCOL.tcp || header < 20 || room < header + 8) return DROP.unknownError;
    // A later fragment has no ports.
    if (v4 && (view.getUint16(inner + 6) & 0x1fff) !== 0) return DROP.unknownError;
    quoted.view = view;
    quoted.bytes = bytes;
    quoted.ipVersion = v4 ? 4 : 6;
    quoted.hasTimestamps = false;
    quoted.otherMptcpCount = 0;
    // A quote that has the whole TCP header tells the server's timestamp.
    const tcp = inner + header;
    if (room >= header + 20) parseTcpInto(view, tcp, Math.max(room - header, 60), quoted, inner + room);
    const ports = view.getInt32(tcp);
    quoted.sourcePort = ports & 0xffff;
    quoted.destinationPort = ports >>> 16;
    quoted.flags = FLAG.ack;
    const client = inner + (v4 ? 16 : 24);
    const service = inner + (v4 ? 12 : 8);
    quoted.source0 = view.getInt32(client);
    quoted.destination0 = view.getInt32(service);
    if (v4) {
      quoted.source1 = quoted.source2 = quoted.source3 = 0;
      quoted.destination1 = quoted.destination2 = quoted.destination3 = 0;
    } else {
      quoted.source1 = view.getInt32(client + 4);
      quoted.source2 = view.getInt32(client + 8);
      quoted.source3 = view.getInt32(client + 12);
      quoted.destination1 = view.getInt32(service + 4);
      quoted.destination2 = view.getInt32(service + 8);
      quoted.destination3 = view.getInt32(service + 12);
    }
    return this.core.related(quoted, now);
  }
}
