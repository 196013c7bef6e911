/** What changed between a packet as it was sent and as it was seen later, field by field, as far as it was seen. */
import {
  ECN,
  FLAG,
  ipDestination,
  ipSource,
  ipTrafficClass,
  ipTtl,
  ipVersion,
  IPV4,
  IPV4_FRAGMENT,
  ipv4HeaderLength,
  IPV6,
  IPV6_HEADER,
  isMalformed,
  OPTION,
  optionLengthAt,
  parsePacketValue,
  parseTcpOptions,
  PROTOCOL,
  TCP,
  TCP_MIN_HEADER,
  tcpHeaderLength,
  viewOf,
} from '@subflow/wire';
import type { MptcpOption, TcpOption } from '@subflow/wire';

export type Change = 'changed' | 'added' | 'removed';

export interface Difference {
  /** `ip.dscp`, `tcp.seq`, `tcp.option.mss`, `mptcp.capable`, `payload` … */
  field: string;
  change: Change;
  before: string;
  after: string;
}

/** A packet taken apart as far as it is there. */
export interface SeenPacket {
  version: 4 | 6;
  dscp: number;
  ecn: number;
  /** IPv4 total length or IPv6 payload length, as declared. */
  length: number;
  identification: number;
  dontFragment: boolean;
  ttl: number;
  source: string;
  destination: string;
  flowLabel: number;
  /** Octets of TCP that are there. */
  tcpBytes: number;
  sourcePort: number;
  destinationPort: number;
  seq: number;
  ack: number;
  flags: number;
  reserved: number;
  window: number;
  urgent: number;
  /** Null when the header is cut. */
  options: TcpOption[] | null;
  headerLength: number;
  /** What there is of the payload. */
  payload: Uint8Array;
  /** Octets of payload that the lengths declare. */
  payloadLength: number;
}

const hex = (bytes: Uint8Array): string => Array.from(bytes, (byte) => byte.toString(16).padStart(2, '0')).join('');

/** Takes a packet, or the start of one, apart. Null when there is no IP header with TCP behind it. */
export function seen(bytes: Uint8Array): SeenPacket | null {
  const source = ipSource(bytes);
  const destination = ipDestination(bytes);
  if (source === null || destination === null) return null;
  const view = viewOf(bytes);
  const v4 = ipVersion(bytes) === 4;
  // Fields as they stand, lengths included: a router that quotes them wrong is what is looked for.
  const at = v4 ? ipv4HeaderLength(view, 0) : IPV6_HEADER;
  if (bytes.length < at || bytes[v4 ? IPV4.protocol : IPV6.nextHeader] !== PROTOCOL.tcp) return null;
  const trafficClass = ipTrafficClass(bytes);
  const declared = v4 ? view.getUint16(IPV4.totalLength) : view.getUint16(IPV6.payloadLength) + IPV6_HEADER;
  const tcpBytes = Math.min(bytes.length, declared) - at;
  const headerLength = tcpBytes > TCP.dataOffset ? tcpHeaderLength(view, at) : -1;
  const whole = headerLength >= TCP_MIN_HEADER && tcpBytes >= headerLength;
  const options = whole ? parseTcpOptions(view, at + TCP.options, headerLength - TCP_MIN_HEADER) : null;
  return {
    version: v4 ? 4 : 6,
    dscp: trafficClass >>> 2,
    ecn: trafficClass & ECN.mask,
    length: declared,
    identification: v4 ? view.getUint16(IPV4.identification) : 0,
    dontFragment: v4 ? (view.getUint16(IPV4.fragment) & IPV4_FRAGMENT.dontFragment) !== 0 : true,
    ttl: ipTtl(bytes),
    source: hex(source),
    destination: hex(destination),
    flowLabel: v4 ? 0 : view.getUint32(IPV6.versionClassFlow) & 0xfffff,
    tcpBytes,
    sourcePort: tcpBytes >= TCP.sourcePort + 2 ? view.getUint16(at + TCP.sourcePort) : -1,
    destinationPort: tcpBytes >= TCP.destinationPort + 2 ? view.getUint16(at + TCP.destinationPort) : -1,
    seq: tcpBytes >= TCP.seq + 4 ? view.getUint32(at + TCP.seq) : -1,
    ack: tcpBytes >= TCP.ack + 4 ? view.getUint32(at + TCP.ack) : -1,
    reserved: tcpBytes > TCP.dataOffset ? bytes[at + TCP.dataOffset]! & 15 : -1,
    flags: tcpBytes > TCP.flags ? bytes[at + TCP.flags]! : -1,
    window: tcpBytes >= TCP.window + 2 ? view.getUint16(at + TCP.window) : -1,
    urgent: tcpBytes >= TCP.urgent + 2 ? view.getUint16(at + TCP.urgent) : -1,
    options: options === null || isMalformed(options) ? null : options,
    headerLength,
    payload: whole ? bytes.slice(at + headerLength, Math.min(bytes.length, declared)) : new Uint8Array(0),
    payloadLength: headerLength >= TCP_MIN_HEADER ? declared - at - headerLength : -1,
  };
}

/**
 * Differences between a packet and what was seen of it. TTL and checksums are left out: they change on every way. Fields that
 * were not seen (a short quote) make no difference.
 */
export function differences(sent: Uint8Array, arrived: Uint8Array): Difference[] {
  const a = seen(sent);
  const b = seen(arrived);
  if (a === null || b === null) return [];
  const out: Difference[] = [];
  const compare = (field: string, before: number | string | boolean, after: number | string | boolean, there = true): void => {
    if (there && before !== after) out.push({ field, change: 'changed', before: String(before), after: String(after) });
  };
  compare('ip.dscp', a.dscp, b.dscp);
  compare('ip.ecn', a.ecn, b.ecn);
  compare('ip.length', a.length, b.length);
  compare('ip.id', a.identification, b.identification);
  compare('ip.df', a.dontFragment, b.dontFragment);
  compare('ip.flow-label', a.flowLabel, b.flowLabel);
  compare('ip.source', a.source, b.source);
  compare('ip.destination', a.destination, b.destination);
  compare('tcp.source-port', a.sourcePort, b.sourcePort, b.sourcePort >= 0);
  compare('tcp.destination-port', a.destinationPort, b.destinationPort, b.destinationPort >= 0);
  compare('tcp.seq', a.seq, b.seq, b.seq >= 0);
  compare('tcp.ack', a.ack, b.ack, b.ack >= 0);
  compare('tcp.reserved', a.reserved, b.reserved, b.reserved >= 0);
  if (b.flags >= 0) for (const [name, bit] of Object.entries(FLAG)) compare(`tcp.flags.${name}`, (a.flags & bit) !== 0, (b.flags & bit) !== 0);
  compare('tcp.window', a.window, b.window, b.window >= 0);
  compare('tcp.urgent', a.urgent, b.urgent, b.urgent >= 0);
  if (a.options !== null && b.options !== null) out.push(...optionDifferences(a.options, b.options));
  if (b.payloadLength >= 0) {
    compare('payload.length', a.payloadLength, b.payloadLength);
    const common = Math.min(a.payload.length, b.payload.length);
    for (let i = 0; i < common; i++) {
      if (a.payload[i] === b.payload[i]) continue;
      out.push({ field: 'payload', change: 'changed', before: hex(a.payload.subarray(i, i + 8)), after: hex(b.payload.subarray(i, i + 8)) });
      break;
    }
  }
  return out;
}

function optionDifferences(before: readonly TcpOption[], after: readonly TcpOption[]): Difference[] {
  const out: Difference[] = [];
  const named = (options: readonly TcpOption[]): { name: string; text: string }[] =>
    options.filter((one) => one.kind !== 'nop' && one.kind !== 'end').map((one) => ({ name: optionName(one), text: optionText(one) }));
  const a = named(before);
  const b = named(after);
  const left = [...b];
  const missing: typeof a = [];
  for (const one of a) {
    const i = left.findIndex((other) => other.name === one.name);
    if (i < 0) {
      missing.push(one);
      continue;
    }
    const [other] = left.splice(i, 1);
    if (other!.text !== one.text) out.push({ field: one.name, change: 'changed', before: one.text, after: other!.text });
  }
  for (const one of missing) {
    // An option emptied of its content is no longer what it was, but its kind is still there.
    const i = one.name.startsWith('mptcp.') ? left.findIndex((other) => other.name.startsWith('mptcp.')) : -1;
    if (i < 0) out.push({ field: one.name, change: 'removed', before: one.text, after: '' });
    else out.push({ field: one.name, change: 'changed', before: one.text, after: left.splice(i, 1)[0]!.text });
  }
  for (const one of left) out.push({ field: one.name, change: 'added', before: '', after: one.text });
  const common = (list: { name: string }[], others: { name: string }[]): string =>
    list
      .filter((one) => others.some((other) => other.name === one.name))
      .map((one) => one.name)
      .join(' ');
  if (common(a, b) !== common(b, a)) out.push({ field: 'tcp.options.order', change: 'changed', before: common(a, b), after: common(b, a) });
  return out;
}

/** Name of an option's field: `tcp.option.mss`, `mptcp.capable`, `tcp.option.253`. */
export function optionName(option: TcpOption): string {
  if (option.kind === 'mptcp') return `mptcp.${option.option.subtype}`;
  return `tcp.option.${option.kind === 'unknown' ? (option.code === OPTION.mptcp ? 'mptcp' : option.code) : option.kind}`.replace(
    'tcp.option.mptcp',
    'mptcp.unknown',
  );
}

/** Content of an option, for people. */
export function optionText(option: TcpOption): string {
  switch (option.kind) {
    case 'mptcp':
      return mptcpText(option.option);
    case 'mss':
      return String(option.value);
    case 'window-scale':
      return String(option.shift);
    case 'timestamps':
      return `${option.value} ${option.echo}`;
    case 'unknown':
      return hex(option.data);
    case 'fast-open':
      return hex(option.cookie);
    case 'sack':
      return option.blocks.map(([left, right]) => `${left}-${right}`).join(' ');
    default:
      return option.kind;
  }
}

function mptcpText(option: MptcpOption): string {
  return Object.entries(option)
    .filter(([key, value]) => key !== 'subtype' && value !== null)
    .map(
      ([key, value]) =>
        `${key}=${value instanceof Uint8Array ? hex(value) : typeof value === 'object' && 'high' in value ? key64(value as { high: number; low: number }) : value}`,
    )
    .join(' ');
}

function key64({ high, low }: { high: number; low: number }): string {
  return (high >>> 0).toString(16).padStart(8, '0') + (low >>> 0).toString(16).padStart(8, '0');
}

/** Octets of a whole packet's Multipath TCP option behind kind and length, in hexadecimal, as the published tool shows them; null without one. */
export function mptcpHex(bytes: Uint8Array): string[] {
  const packet = parsePacketValue(bytes);
  if (isMalformed(packet) || packet.tcp === null) return [];
  const view = viewOf(bytes);
  const out: string[] = [];
  const end = packet.ip.headerLength + packet.tcp.headerLength;
  let size: number;
  for (let at = packet.ip.headerLength + TCP.options; (size = optionLengthAt(view, at, end)) > 0; at += size) {
    if (view.getUint8(at) === OPTION.mptcp) out.push(hex(bytes.subarray(at + 2, at + size)));
  }
  return out;
}

export { hex };
