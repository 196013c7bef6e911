/** One packet with its fields, each group worked out when first asked for. */
import { keyMaterial, versionOf } from '@subflow/stack';
import {
  ETHERNET,
  FLAG,
  formatAddress,
  FRAME,
  ICMP,
  ICMP_HEADER,
  ICMPV6_FIRST_INFORMATIONAL,
  ipDestination,
  ipSource,
  ipVersion,
  IPV4,
  IPV4_FRAGMENT,
  IPV4_MIN_HEADER,
  ipv4HeaderLength,
  IPV6,
  Layers,
  LINKTYPE,
  OPTION,
  PROTOCOL,
  TCP,
  TCP_MIN_HEADER,
  tcpHeaderLength,
  walkFrame,
  walkPacket,
} from '@subflow/wire';
import type { CaptureReader, Segment } from '@subflow/wire';
import type { Analyzer } from '../analysis/analyzer.ts';
import { POINT } from '../analysis/data-level.ts';
import { PAYLOAD } from '../analysis/half.ts';
import { dissectMptcp } from './mptcp.ts';
import { FIELDS } from './fields.ts';
import { hexOf } from './values.ts';
import type { Field, Value } from './values.ts';

type Group = 'frame' | 'link' | 'ip' | 'tcp' | 'options' | 'connection';

const POINT_NAMES = {
  [POINT.new]: 'new',
  [POINT.retransmission]: 'retransmission',
  [POINT.reinjection]: 'reinjection',
  [POINT.reordered]: 'reordered',
} as const;

export class DissectedPacket {
  readonly number: number;
  private readonly reader: CaptureReader;
  private readonly analyzer: Analyzer;
  private readonly layers: Layers;
  private readonly delta: number;
  private readonly values = new Map<string, Value[]>();
  private readonly done = new Set<Group>();

  /** The frame that the analyzer has taken last and the reader stands at. `delta`: microseconds since the packet before. */
  constructor(analyzer: Analyzer, reader: CaptureReader, number: number, delta: number) {
    this.number = number;
    this.reader = reader;
    this.analyzer = analyzer;
    this.layers = analyzer.layers;
    this.delta = delta;
  }

  /** Values of a field in the order in which they stand in the packet; empty when it is not there. */
  of(name: string): readonly Value[] {
    const group = groupOf(name);
    if (!this.done.has(group)) {
      this.done.add(group);
      this.work(group);
    }
    return this.values.get(name) ?? [];
  }

  /** All fields that are there. */
  all(): Map<string, readonly Value[]> {
    for (const group of ['frame', 'link', 'ip', 'tcp', 'options', 'connection'] as const) {
      if (this.done.has(group)) continue;
      this.done.add(group);
      this.work(group);
    }
    const out = new Map<string, readonly Value[]>();
    for (const name of FIELDS.keys()) {
      const values = this.values.get(name);
      if (values !== undefined) out.set(name, values);
    }
    return out;
  }

  get time(): number {
    return this.analyzer.time;
  }

  private put(name: string, value: Value): void {
    const values = this.values.get(name);
    if (values === undefined) this.values.set(name, [value]);
    else values.push(value);
  }

  private work(group: Group): void {
    switch (group) {
      case 'frame':
        this.frame();
        break;
      case 'link':
        this.link();
        break;
      case 'ip':
        this.ip();
        break;
      case 'tcp':
        this.tcp();
        break;
      case 'options':
        this.options();
        break;
      case 'connection':
        this.connection();
        break;
    }
  }

  private frame(): void {
    const { reader } = this;
    this.put('frame', true);
    this.put('frame.number', this.number);
    this.put('frame.time_epoch', `${reader.seconds}.${String(reader.nanoseconds).padStart(9, '0')}`);
    this.put('frame.time_relative', secondsText(this.analyzer.time));
    this.put('frame.time_delta', secondsText(this.delta));
    this.put('frame.len', reader.originalLength);
    this.put('frame.cap_len', reader.length);
    this.put('frame.interface_id', reader.interface);
    const name = reader.interfaces[reader.interface]?.name;
    if (name !== null && name !== undefined) this.put('frame.interface_name', name);
    if (reader.comment !== null) this.put('frame.comment', reader.comment);
  }

  private link(): void {
    const { reader, layers } = this;
    if (reader.linkType === LINKTYPE.ethernet && reader.length >= ETHERNET.header) {
      const { bytes, offset } = reader;
      this.put('eth', true);
      const destination = bytes.slice(offset + ETHERNET.destination, offset + ETHERNET.source);
      const source = bytes.slice(offset + ETHERNET.source, offset + ETHERNET.type);
      this.put('eth.dst', destination);
      this.put('eth.addr', destination);
      this.put('eth.src', source);
      this.put('eth.addr', source);
      this.put('eth.type', reader.view.getUint16(offset + ETHERNET.type));
    }
    for (const id of layers.vlans) {
      this.put('vlan', true);
      this.put('vlan.id', id);
    }
  }

  private ip(): void {
    let { layers } = this;
    if (this.analyzer.reassembled) {
      // The headers of the frame itself, not of the packet that it completed.
      const { reader } = this;
      layers = new Layers();
      walkFrame(reader.view, reader.bytes, reader.offset, reader.length, reader.originalLength, reader.linkType, layers);
    }
    const { view, bytes } = layers;
    for (let i = 0; i < layers.ipCount; i++) {
      const at = layers.ipOffsets[i]!;
      if (at + IPV4_MIN_HEADER > layers.captured) break;
      this.header(view, bytes, at, layers.captured);
    }
    const quoted = this.quoted();
    if (quoted !== null) this.header(view, bytes, quoted.ipOffsets[0]!, quoted.captured);
    const { held } = this.analyzer;
    const protocol = layers.segment.protocol;
    if (held === FRAME.icmp) this.put(protocol === PROTOCOL.icmp ? 'icmp' : 'icmpv6', true);
    if (held === FRAME.otherProtocol && protocol === PROTOCOL.udp) this.put('udp', true);
  }

  /** The fields of an IP header, as far as its fixed part is there. */
  private header(view: DataView, bytes: Uint8Array, at: number, end: number): void {
    if (ipSource(bytes, at, end - at) === null) return;
    if (ipVersion(bytes, at) === 4) this.ipv4(view, bytes, at);
    else this.ipv6(view, bytes, at);
  }

  private ipv4(view: DataView, bytes: Uint8Array, at: number): void {
    const fragment = view.getUint16(at + IPV4.fragment);
    const dsfield = view.getUint8(at + IPV4.trafficClass);
    this.put('ip', true);
    this.put('ip.version', 4);
    this.put('ip.hdr_len', ipv4HeaderLength(view, at));
    this.put('ip.dsfield', dsfield);
    this.put('ip.dsfield.dscp', dsfield >>> 2);
    this.put('ip.dsfield.ecn', dsfield & 3);
    this.put('ip.len', view.getUint16(at + IPV4.totalLength));
    this.put('ip.id', view.getUint16(at + IPV4.identification));
    this.put('ip.flags.df', (fragment & IPV4_FRAGMENT.dontFragment) !== 0);
    this.put('ip.flags.mf', (fragment & IPV4_FRAGMENT.moreFragments) !== 0);
    this.put('ip.frag_offset', (fragment & IPV4_FRAGMENT.offset) * 8);
    this.put('ip.ttl', view.getUint8(at + IPV4.ttl));
    this.put('ip.proto', view.getUint8(at + IPV4.protocol));
    this.put('ip.checksum', view.getUint16(at + IPV4.checksum));
    const source = ipSource(bytes, at)!;
    const destination = ipDestination(bytes, at)!;
    this.put('ip.src', source);
    this.put('ip.addr', source);
    this.put('ip.dst', destination);
    this.put('ip.addr', destination);
  }

  private ipv6(view: DataView, bytes: Uint8Array, at: number): void {
    const first = view.getUint32(at);
    this.put('ipv6', true);
    this.put('ipv6.version', 6);
    this.put('ipv6.tclass', (first >>> 20) & 0xff);
    this.put('ipv6.flow', first & 0xfffff);
    this.put('ipv6.plen', view.getUint16(at + IPV6.payloadLength));
    this.put('ipv6.nxt', view.getUint8(at + IPV6.nextHeader));
    this.put('ipv6.hlim', view.getUint8(at + IPV6.hopLimit));
    const source = ipSource(bytes, at)!;
    const destination = ipDestination(bytes, at)!;
    this.put('ipv6.src', source);
    this.put('ipv6.addr', source);
    this.put('ipv6.dst', destination);
    this.put('ipv6.addr', destination);
  }

  /** The packet that an ICMP error quotes; null where there is none. */
  private quoted(): Layers | null {
    const { analyzer, layers } = this;
    if (analyzer.held !== FRAME.icmp) return null;
    const at = layers.segment.tcpOffset;
    if (at + ICMP_HEADER + IPV4_MIN_HEADER > layers.captured) return null;
    const type = layers.view.getUint8(at);
    if (
      layers.segment.protocol === PROTOCOL.icmpv6
        ? type >= ICMPV6_FIRST_INFORMATIONAL
        : ![ICMP.unreachable, ICMP.redirect, ICMP.timeExceeded, ICMP.parameterProblem].includes(type as 3)
    )
      return null;
    const inner = new Layers();
    walkPacket(layers.view, layers.bytes, at + ICMP_HEADER, layers.captured - at - ICMP_HEADER, inner);
    return inner.ipCount > 0 ? inner : null;
  }

  /** A TCP header that is there in part only: quoted by an ICMP error, or cut by the snap length. Null where there is none. */
  private part(): { at: number; end: number; segment: Segment } | null {
    const { analyzer, layers } = this;
    const inner = this.quoted();
    const from = inner ?? (analyzer.held === FRAME.cut && layers.ipCount > 0 ? layers : null);
    if (from === null || from.segment.protocol !== PROTOCOL.tcp || from.segment.tcpOffset <= from.ipOffsets[from.ipCount - 1]!) return null;
    const end = Math.min(from.captured, from.segment.endOffset);
    return from.segment.tcpOffset + 8 <= end ? { at: from.segment.tcpOffset, end, segment: from.segment } : null;
  }

  private partOfTcp(): void {
    const part = this.part();
    if (part === null) return;
    const { at, end } = part;
    const { view } = this.layers;
    this.put('tcp', true);
    this.put('tcp.srcport', view.getUint16(at + TCP.sourcePort));
    this.put('tcp.port', view.getUint16(at + TCP.sourcePort));
    this.put('tcp.dstport', view.getUint16(at + TCP.destinationPort));
    this.put('tcp.port', view.getUint16(at + TCP.destinationPort));
    // Without its conversation a number is relative to nothing.
    this.put('tcp.seq', view.getUint32(at + TCP.seq));
    if (at + TCP_MIN_HEADER > end) return;
    const stream = this.analyzer.streamOf(part.segment);
    if (stream >= 0) this.put('tcp.stream', stream);
    this.put('tcp.ack', view.getUint32(at + TCP.ack));
    this.put('tcp.ack_raw', view.getUint32(at + TCP.ack));
    this.put('tcp.hdr_len', tcpHeaderLength(view, at));
    this.flags(view.getUint16(at + TCP.dataOffset) & 0xfff);
    this.put('tcp.window_size_value', view.getUint16(at + TCP.window));
    this.put('tcp.window_size', view.getUint16(at + TCP.window));
    this.put('tcp.checksum', view.getUint16(at + TCP.checksum));
    this.put('tcp.urgent_pointer', view.getUint16(at + TCP.urgent));
  }

  private flags(word: number): void {
    this.put('tcp.flags', word);
    this.put('tcp.flags.res', (word & 0xe00) !== 0);
    for (const [name, bit] of FLAG_NAMES) this.put(`tcp.flags.${name}`, (word & bit) !== 0);
  }

  private tcp(): void {
    const { analyzer, layers } = this;
    if (analyzer.held !== FRAME.tcp) {
      this.partOfTcp();
      return;
    }
    const s = layers.segment;
    const { view, bytes } = layers;
    const at = s.tcpOffset;
    this.put('tcp', true);
    this.put('tcp.srcport', s.sourcePort);
    this.put('tcp.port', s.sourcePort);
    this.put('tcp.dstport', s.destinationPort);
    this.put('tcp.port', s.destinationPort);
    this.put('tcp.len', s.payloadLength);
    this.put('tcp.seq_raw', s.seq >>> 0);
    this.put('tcp.ack_raw', s.ack >>> 0);
    this.put('tcp.hdr_len', s.payloadOffset - at);
    this.flags(view.getUint16(at + TCP.dataOffset) & 0xfff);
    this.put('tcp.window_size_value', s.window);
    this.put('tcp.checksum', view.getUint16(at + TCP.checksum));
    this.put('tcp.urgent_pointer', s.urgent);
    const end = Math.min(layers.captured, s.endOffset);
    if (end > s.payloadOffset) this.put('tcp.payload', bytes.slice(s.payloadOffset, end));
    if (s.payloadOffset > at + TCP.options) this.put('tcp.options', bytes.slice(at + TCP.options, Math.min(s.payloadOffset, layers.captured)));
    const { subflow, side } = analyzer;
    if (subflow === null) return;
    const me = subflow.halves[side];
    const syn = (s.flags & FLAG.syn) !== 0;
    const seq = analyzer.position - (syn ? 1 : 0);
    this.put('tcp.stream', subflow.stream);
    this.put('tcp.seq', seq);
    if (s.payloadLength > 0 || (s.flags & (FLAG.syn | FLAG.fin)) !== 0)
      this.put('tcp.nxtseq', seq + s.payloadLength + (syn || (s.flags & FLAG.fin) !== 0 ? 1 : 0));
    this.put('tcp.ack', (s.flags & FLAG.ack) !== 0 ? analyzer.ackPosition : 0);
    const scaled = !syn && me.windowScale >= 0 && subflow.halves[1 - side]!.windowScale >= 0;
    this.put('tcp.window_size', scaled ? s.window * 2 ** me.windowScale : s.window);
    if (s.window === 0 && (s.flags & (FLAG.syn | FLAG.fin | FLAG.rst)) === 0) this.put('tcp.analysis.zero_window', true);
    if (analyzer.payload === PAYLOAD.retransmission) this.put('tcp.analysis.retransmission', true);
    if (analyzer.payload === PAYLOAD.reordered) this.put('tcp.analysis.out_of_order', true);
    if (analyzer.payload === PAYLOAD.keepAlive) this.put('tcp.analysis.keep_alive', true);
  }

  private options(): void {
    const { analyzer, layers } = this;
    const s = layers.segment;
    const { view } = layers;
    if (analyzer.held === FRAME.tcp) {
      this.optionList(s.tcpOffset + TCP.options, Math.min(s.payloadOffset, layers.captured));
      return;
    }
    const part = this.part();
    if (part === null || part.at + TCP_MIN_HEADER > part.end) return;
    this.optionList(part.at + TCP.options, Math.min(part.end, part.at + tcpHeaderLength(view, part.at)));
  }

  private optionList(from: number, end: number): void {
    const { analyzer, layers } = this;
    const { view } = layers;
    const put = (name: string, value: Value): void => this.put(name, value);
    const opposite = analyzer.subflow?.halves[1 - analyzer.side];
    for (let at = from; at < end;) {
      const kind = view.getUint8(at);
      put('tcp.option_kind', kind);
      if (kind === OPTION.end) break;
      if (kind === OPTION.nop) {
        at++;
        continue;
      }
      if (at + 1 >= end) break;
      const size = view.getUint8(at + 1);
      put('tcp.option_len', size);
      if (at + size > end) {
        if (kind === OPTION.mptcp && at + 3 <= end) cutMptcp(layers.bytes, view, at, size, end, put);
        break;
      }
      if (size < 2) break;
      if (kind === OPTION.mss && size === 4) put('tcp.options.mss_val', view.getUint16(at + 2));
      if (kind === OPTION.windowScale && size === 3) {
        put('tcp.options.wscale.shift', view.getUint8(at + 2));
        put('tcp.options.wscale.multiplier', 2 ** Math.min(14, view.getUint8(at + 2)));
      }
      if (kind === OPTION.sackPermitted) put('tcp.options.sack_perm', true);
      if (kind === OPTION.timestamps && size === 10) {
        put('tcp.options.timestamp.tsval', view.getUint32(at + 2));
        put('tcp.options.timestamp.tsecr', view.getUint32(at + 6));
      }
      if (kind === OPTION.sack) {
        for (let i = at + 2; i + 8 <= at + size; i += 8) {
          put('tcp.options.sack_le', opposite === undefined ? view.getUint32(i) : opposite.position(view.getInt32(i)));
          put('tcp.options.sack_re', opposite === undefined ? view.getUint32(i + 4) : opposite.position(view.getInt32(i + 4)));
        }
        put('tcp.options.sack.count', (size - 2) >>> 3);
      }
      if (kind === OPTION.mptcp && size >= 3) dissectMptcp(layers.bytes, view, at, size, put);
      at += size;
    }
  }

  private connection(): void {
    const { subflow, payload, point } = this.analyzer;
    if (subflow === null) return;
    const { connection } = subflow;
    if (connection !== null) {
      this.put('mptcp', true);
      this.put('mptcp.stream', connection.index);
      this.put('mptcp.master', subflow.kind === 'initial');
      this.put('subflow.number', subflow.number);
      if (connection.fallback !== null) this.put('subflow.fallback', true);
      const version = connection.version ?? (connection.offeredVersion === 0 ? 0 : 1);
      for (const key of this.of('tcp.options.mptcp.sendkey')) {
        const material = keyMaterial(Number((key as bigint) >> 32n), Number((key as bigint) & 0xffffffffn), versionOf(version));
        this.put('mptcp.expected_token', material.token >>> 0);
        this.put('mptcp.expected_idsn', (BigInt(material.idsnHigh >>> 0) << 32n) | BigInt(material.idsnLow >>> 0));
      }
    }
    if (payload === PAYLOAD.none) return;
    if (payload === PAYLOAD.keepAlive) this.put('subflow.payload', 'keep-alive');
    else this.put('subflow.payload', connection === null ? PLAIN_NAMES[payload]! : POINT_NAMES[point as keyof typeof POINT_NAMES]);
    const { dataPosition } = this.analyzer;
    if (connection !== null && !Number.isNaN(dataPosition)) this.put('subflow.dsn', dataPosition);
  }
}

const PLAIN_NAMES: Record<number, string> = { [PAYLOAD.new]: 'new', [PAYLOAD.retransmission]: 'retransmission', [PAYLOAD.reordered]: 'reordered' };
const FLAG_NAMES = [
  ['cwr', FLAG.cwr],
  ['ece', FLAG.ece],
  ['urg', FLAG.urg],
  ['ack', FLAG.ack],
  ['push', FLAG.psh],
  ['reset', FLAG.rst],
  ['syn', FLAG.syn],
  ['fin', FLAG.fin],
] as const;

function groupOf(name: string): Group {
  const dot = name.indexOf('.');
  switch (dot < 0 ? name : name.slice(0, dot)) {
    case 'frame':
      return 'frame';
    case 'eth':
    case 'vlan':
      return 'link';
    case 'tcp':
      return name.startsWith('tcp.option') && name !== 'tcp.options' ? 'options' : 'tcp';
    case 'mptcp':
      return name === 'mptcp.rm_addr.count' ? 'options' : 'connection';
    case 'subflow':
      return 'connection';
    default:
      return 'ip';
  }
}

function secondsText(micros: number): string {
  return (micros / 1e6).toFixed(9);
}

/** A value as Wireshark's `-T fields` writes it. */
export function valueText(field: Field, value: Value): string {
  if (value instanceof Uint8Array) return field.type === 'ether' ? hexOf(value, ':') : field.type === 'bytes' ? hexOf(value) : formatAddress(value);
  switch (field.type) {
    case 'hex':
      return `0x${(value as number).toString(16).padStart(field.digits ?? 0, '0')}`;
    case 'boolean':
    case 'none':
    case 'protocol':
      return value === true ? '1' : '0';
    default:
      return String(value);
  }
}

/** An option that the capture cut, or that claims more than the header has: the fields that are there. */
function cutMptcp(bytes: Uint8Array, view: DataView, at: number, size: number, end: number, put: (name: string, value: Value) => void): void {
  try {
    dissectMptcp(bytes.subarray(0, end), new DataView(view.buffer, view.byteOffset, end), at, size, put);
  } catch (error) {
    // The view ends where the capture does.
    if (!(error instanceof RangeError)) throw error;
  }
}
