/**
 * IP in IP (RFC 2003, RFC 4213, RFC 2473), with Beamer's option when a packet may belong to the server that had its bucket before
 * (Olteanu et al., NSDI 2018, §4.3): in IPv4 option 0x61 of 16 octets (previous server, seconds, generation), as published; in
 * IPv6 a destination option of an experimental type (RFC 4727 §3) with address and generation. The same as bpf/balancer.c.
 */
import { finish, sum } from '@subflow/wire';

const IP_IN_IP = 4;
const IPV6_IN_IP = 41;
const DESTINATION_OPTIONS = 60;
const BEAMER_OPTION = 0x61;
const BEAMER_OPTION6 = 0x1e;
const IPV4 = 20;
const OPTION = 16;
const IPV6 = 40;
const OPTION6 = 24;

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
  return destination.length === 4 ? IPV4 + OPTION : IPV6 + OPTION6;
}

/** The packet in a tunnel; `packet` is copied. */
export function encapsulate(packet: Uint8Array, tunnel: Tunnel): Uint8Array {
  const { previous } = tunnel;
  const inner = packet[0]! >>> 4 === 4 ? IP_IN_IP : IPV6_IN_IP;
  const v4 = tunnel.destination.length === 4;
  const header = v4 ? IPV4 + (previous === null ? 0 : OPTION) : IPV6 + (previous === null ? 0 : OPTION6);
  const out = new Uint8Array(header + packet.length);
  const view = new DataView(out.buffer);
  out.set(packet, header);
  if (v4) {
    out[0] = 0x40 | (header / 4);
    view.setUint16(2, out.length);
    view.setUint16(6, 0x4000);
    out[8] = 64;
    out[9] = inner;
    out.set(tunnel.source, 12);
    out.set(tunnel.destination, 16);
    if (previous !== null) {
      out[20] = BEAMER_OPTION;
      out[21] = OPTION;
      out.set(previous, 24);
      view.setUint32(28, tunnel.seconds >>> 0);
      view.setUint32(32, tunnel.generation >>> 0);
    }
    view.setUint16(10, finish(sum(out, 0, header)));
    return out;
  }
  out[0] = 0x60;
  view.setUint16(4, out.length - IPV6);
  out[6] = previous === null ? inner : DESTINATION_OPTIONS;
  out[7] = 64;
  out.set(tunnel.source, 8);
  out.set(tunnel.destination, 24);
  if (previous !== null) {
    out[40] = inner;
    out[41] = 2;
    out[42] = BEAMER_OPTION6;
    out[43] = OPTION6 - 4;
    out.set(previous, 44);
    view.setUint32(60, tunnel.generation >>> 0);
  }
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
  if (bytes.length < IPV4) return null;
  const view = new DataView(bytes.buffer, bytes.byteOffset, bytes.length);
  const v4 = bytes[0]! >>> 4 === 4;
  if (v4) {
    const header = (bytes[0]! & 15) * 4;
    const total = view.getUint16(2);
    if ((header !== IPV4 && header !== IPV4 + OPTION) || total > bytes.length || total < header + 1) return null;
    if (bytes[9] !== IP_IN_IP && bytes[9] !== IPV6_IN_IP) return null;
    const told = header > IPV4 && bytes[20] === BEAMER_OPTION && bytes[21] === OPTION;
    return {
      packet: bytes.subarray(header, total),
      source: bytes.slice(12, 16),
      destination: bytes.slice(16, 20),
      previous: told && view.getUint32(24) !== 0 ? bytes.slice(24, 28) : null,
      generation: told ? view.getUint32(32) : 0,
    };
  }
  if (bytes[0]! >>> 4 !== 6 || bytes.length < IPV6 + 1) return null;
  const total = IPV6 + view.getUint16(4);
  if (total > bytes.length || total <= IPV6) return null;
  let protocol = bytes[6];
  let header = IPV6;
  let previous: Uint8Array | null = null;
  let generation = 0;
  if (protocol === DESTINATION_OPTIONS) {
    if (total < IPV6 + OPTION6 + 1 || bytes[41] !== 2 || bytes[42] !== BEAMER_OPTION6 || bytes[43] !== OPTION6 - 4) return null;
    protocol = bytes[40];
    header += OPTION6;
    if (bytes.subarray(44, 60).some((octet) => octet !== 0)) previous = bytes.slice(44, 60);
    generation = view.getUint32(60);
  }
  if (protocol !== IP_IN_IP && protocol !== IPV6_IN_IP) return null;
  return { packet: bytes.subarray(header, total), source: bytes.slice(8, 24), destination: bytes.slice(24, 40), previous, generation };
}
