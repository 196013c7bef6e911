/**
 * IP in IP (RFC 2003, RFC 4213, RFC 2473), with Beamer's option when a packet may belong to the server that had its bucket before
 * (Olteanu et al., NSDI 2018, §4.3): in IPv4 option 0x61 of 16 octets (previous server, seconds, generation), as published; in
 * IPv6 a destination option of an experimental type (RFC 4727 §3) with address and generation. The same as bpf/balancer.c.
 */
import {
  emitIpv4,
  emitIpv6,
  EXTENSION,
  ipDestination,
  ipHeader,
  ipSource,
  ipVersion,
  IPV4,
  IPV4_MIN_HEADER,
  ipv4Checksum,
  ipv4HeaderLength,
  IPV6,
  IPV6_HEADER,
  PROTOCOL,
  viewOf,
} from '@subflow/wire';

/** The IPv4 option: kind, length, two octets of padding, and where its fields are, from its kind octet on. */
const BEAMER4 = { kind: 0x61, length: 16, previous: 4, seconds: 8, generation: 12 } as const;
/** The Destination Options header with the IPv6 option in it, and where its fields are, from the header's first octet on. */
const BEAMER6 = { kind: 0x1e, length: 24, optionKind: 2, optionLength: 3, previous: 4, generation: 20 } as const;

export interface Tunnel {
  source: Uint8Array;
  destination: Uint8Array;
  /** Where to go on when the destination does not know the connection; null: nowhere. */
  previous: Uint8Array | null;
  generation: number;
  seconds: number;
}

/** Octets that a tunnel to such an address adds at most. */
export function tunnelOverhead(destination: Uint8Array): number {
  return destination.length === 4 ? IPV4_MIN_HEADER + BEAMER4.length : IPV6_HEADER + BEAMER6.length;
}

/** The packet in a tunnel; `packet` is copied. */
export function encapsulate(packet: Uint8Array, tunnel: Tunnel): Uint8Array {
  const inner = ipVersion(packet) === 4 ? PROTOCOL.ipv4 : PROTOCOL.ipv6;
  const ip = ipHeader(tunnel.source, tunnel.destination, inner);
  if (ip.version === 4) ip.options = beamerOption(tunnel);
  else if (tunnel.previous !== null) ip.extensions = [{ type: EXTENSION.destination, bytes: beamerHeader(tunnel, tunnel.previous, inner) }];
  const header = ip.version === 4 ? IPV4_MIN_HEADER + ip.options.length : IPV6_HEADER + ip.extensions.reduce((total, one) => total + one.bytes.length, 0);
  const out = new Uint8Array(header + packet.length);
  const view = viewOf(out);
  out.set(packet, header);
  if (ip.version === 4) {
    emitIpv4({ ...ip, totalLength: out.length }, view, 0);
    view.setUint16(IPV4.checksum, ipv4Checksum(out, 0, header));
  } else {
    emitIpv6({ ...ip, payloadLength: out.length - IPV6_HEADER }, view, 0);
  }
  return out;
}

function beamerOption(tunnel: Tunnel): Uint8Array {
  if (tunnel.previous === null) return new Uint8Array(0);
  const out = new Uint8Array(BEAMER4.length);
  const view = viewOf(out);
  out[0] = BEAMER4.kind;
  out[1] = BEAMER4.length;
  out.set(tunnel.previous, BEAMER4.previous);
  view.setUint32(BEAMER4.seconds, tunnel.seconds >>> 0);
  view.setUint32(BEAMER4.generation, tunnel.generation >>> 0);
  return out;
}

function beamerHeader(tunnel: Tunnel, previous: Uint8Array, inner: number): Uint8Array {
  const out = new Uint8Array(BEAMER6.length);
  out[0] = inner;
  out[1] = BEAMER6.length / 8 - 1;
  out[BEAMER6.optionKind] = BEAMER6.kind;
  out[BEAMER6.optionLength] = BEAMER6.length - BEAMER6.previous;
  out.set(previous, BEAMER6.previous);
  viewOf(out).setUint32(BEAMER6.generation, tunnel.generation >>> 0);
  return out;
}

export interface Decapsulated {
  packet: Uint8Array;
  source: Uint8Array;
  destination: Uint8Array;
  previous: Uint8Array | null;
  generation: number;
}

/** What a tunnel carries; null when it is none, or malformed. Takes any bytes. */
export function decapsulate(bytes: Uint8Array): Decapsulated | null {
  const source = ipSource(bytes);
  const destination = ipDestination(bytes);
  if (source === null || destination === null) return null;
  const inside = ipVersion(bytes) === 4 ? inIpv4(bytes) : inIpv6(bytes);
  return inside === null ? null : { ...inside, source, destination };
}

type Inside = Omit<Decapsulated, 'source' | 'destination'>;

function inIpv4(bytes: Uint8Array): Inside | null {
  const view = viewOf(bytes);
  const header = ipv4HeaderLength(view, 0);
  const total = view.getUint16(IPV4.totalLength);
  if ((header !== IPV4_MIN_HEADER && header !== IPV4_MIN_HEADER + BEAMER4.length) || total > bytes.length || total < header + 1) return null;
  if (!isTunnel(bytes[IPV4.protocol])) return null;
  const at = IPV4.options;
  const told = header > IPV4_MIN_HEADER && bytes[at] === BEAMER4.kind && bytes[at + 1] === BEAMER4.length;
  return {
    packet: bytes.subarray(header, total),
    previous: told && view.getUint32(at + BEAMER4.previous) !== 0 ? bytes.slice(at + BEAMER4.previous, at + BEAMER4.seconds) : null,
    generation: told ? view.getUint32(at + BEAMER4.generation) : 0,
  };
}

function inIpv6(bytes: Uint8Array): Inside | null {
  const view = viewOf(bytes);
  const total = IPV6_HEADER + view.getUint16(IPV6.payloadLength);
  if (total > bytes.length || total <= IPV6_HEADER) return null;
  const protocol = bytes[IPV6.nextHeader];
  if (protocol !== EXTENSION.destination) return isTunnel(protocol) ? { packet: bytes.subarray(IPV6_HEADER, total), previous: null, generation: 0 } : null;
  if (total < IPV6_HEADER + BEAMER6.length + 1) return null;
  const header = bytes.subarray(IPV6_HEADER, IPV6_HEADER + BEAMER6.length);
  if (header[1] !== BEAMER6.length / 8 - 1 || header[BEAMER6.optionKind] !== BEAMER6.kind) return null;
  if (header[BEAMER6.optionLength] !== BEAMER6.length - BEAMER6.previous || !isTunnel(header[0])) return null;
  const previous = header.slice(BEAMER6.previous, BEAMER6.generation);
  return {
    packet: bytes.subarray(IPV6_HEADER + BEAMER6.length, total),
    previous: previous.some((octet) => octet !== 0) ? previous : null,
    generation: viewOf(header).getUint32(BEAMER6.generation),
  };
}

function isTunnel(protocol: number | undefined): boolean {
  return protocol === PROTOCOL.ipv4 || protocol === PROTOCOL.ipv6;
}
