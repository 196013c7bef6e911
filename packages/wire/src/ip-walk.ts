/**
 * The one walk over IPv4 and IPv6 headers, with two policies. A host is strict: lengths and header checksum must be right and
 * the packet whole ({@link STRICT}). A reader of captures and ICMP quotes is tolerant: the payload may be cut, checksums may be
 * unfinished, a length may be missing because segmentation offload has not filled it in. Everything that reads IP headers stands on it.
 */
import { fold } from './checksum.ts';
import { Malformed } from './malformed.ts';
import { EXTENSION, IPV4, IPV4_FRAGMENT, IPV4_MIN_HEADER, IPV6, IPV6_HEADER } from './numbers.ts';

/** Length of a Fragment header, and its field offsets; `offset` is also the mask for the offset in octets, `more` the M flag (RFC 8200 §4.5). */
const FRAGMENT_HEADER = 8;
const FRAGMENT_WORD = 2;
const FRAGMENT_IDENTIFICATION = 4;
const FRAGMENT_OFFSET_MASK = 0xfff8;
const FRAGMENT_MORE = 1;

/** Results of {@link walkIp}, with the numbers of {@link PARSED}. */
export const WALK = {
  /** The upper-layer header was found. */
  upper: 0,
  /** A fragment: the upper-layer header, if there is one, may lie behind further extension headers ({@link walkExtensions}). */
  fragment: 4,
  /** Less is there than the headers say. */
  cut: 5,
  badVersion: 6,
  /** A header length or total length that cannot be. */
  badHeader: 7,
  /** IPv4 header checksum; strict only. */
  badChecksum: 8,
} as const;

/** For {@link walkIp} in place of an original length: the packet must be whole and right, as a host demands (RFC 1122 §3.2.1). */
export const STRICT = -1;

// The names of `numbers.ts` as this module's own constants: V8 folds those, but reads the fields of an imported object each time.
const { totalLength: TOTAL_LENGTH, identification: IDENTIFICATION, fragment: FRAGMENT_FIELD, protocol: PROTOCOL_FIELD } = IPV4;
const { moreFragments: MORE_FRAGMENTS, offset: OFFSET_MASK } = IPV4_FRAGMENT;
const { payloadLength: PAYLOAD_LENGTH, nextHeader: NEXT_HEADER } = IPV6;
const {
  hopByHop: HOP_BY_HOP,
  routing: ROUTING,
  fragment: FRAGMENT_TYPE,
  authentication: AUTHENTICATION,
  destination: DESTINATION,
  mobility: MOBILITY,
} = EXTENSION;
const { upper: UPPER, fragment: FRAGMENT, cut: CUT, badVersion: BAD_VERSION, badHeader: BAD_HEADER, badChecksum: BAD_CHECKSUM } = WALK;
const HEADER4 = IPV4_MIN_HEADER;
const HEADER6 = IPV6_HEADER;
const WHOLE = STRICT;

/** Where the parts of an IP packet are: filled by {@link walkIp}, and reused from packet to packet. Offsets count from the start of the buffer. */
export class IpLayout {
  ipVersion = 4;
  /** Offset of the IP header. */
  ipOffset = 0;
  /** Offset of the TCP (or other upper-layer) header; of a later fragment, that of its data. */
  tcpOffset = 0;
  /** Upper-layer protocol, {@link PROTOCOL}. */
  protocol = 0;
  /** End of the packet according to the IP header; tolerant, it may lie behind what is there, or before `tcpOffset`. */
  endOffset = 0;
  /** Of a fragment: where its data belongs, octets; 0 for whole packets too. */
  fragmentOffset = 0;
  /** Of a fragment: it is not the last. */
  moreFragments = false;
  /** Of a fragment: which packet it belongs to, unsigned; 0 for whole packets. */
  identification = 0;
}

/**
 * Walks the IP headers of the packet at `offset`, of which `length` octets are there, into `layout`. `original` is the policy:
 * {@link STRICT}, or, tolerant, the octets the packet had before it was cut, which stand in where a length field is 0
 * (segmentation offload; jumbograms, RFC 2675 §3). Returns a {@link WALK} value; after one above `fragment` the layout is empty.
 * Never throws for any bytes, as long as `offset + length` lies within `view`.
 */
export function walkIp(view: DataView, offset: number, length: number, original: number, layout: IpLayout): number {
  layout.ipOffset = offset;
  const result = length < HEADER4 ? CUT : walkVersion(view, offset, length, original, layout);
  if (result > FRAGMENT) clearLayout(layout);
  return result;
}

function walkVersion(view: DataView, offset: number, length: number, original: number, layout: IpLayout): number {
  const version = view.getUint8(offset) >>> 4;
  if (version === 4) return walkIpv4(view, offset, length, original, layout);
  return version === 6 ? walkIpv6(view, offset, length, original, layout) : BAD_VERSION;
}

function walkIpv4(view: DataView, offset: number, length: number, original: number, layout: IpLayout): number {
  const headerLength = ipv4HeaderLength(view, offset);
  let total = view.getUint16(offset + TOTAL_LENGTH);
  if (original === WHOLE) {
    if (headerLength < HEADER4 || total < headerLength) return BAD_HEADER;
    if (total > length) return CUT;
    if (fold(headerSum(view, offset, headerLength)) !== 0xffff) return BAD_CHECKSUM;
  } else {
    if (total === 0) total = original;
    if (headerLength < HEADER4 || total < headerLength) return BAD_HEADER;
    if (headerLength > length) return CUT;
  }
  layout.ipVersion = 4;
  layout.protocol = view.getUint8(offset + PROTOCOL_FIELD);
  layout.tcpOffset = offset + headerLength;
  layout.endOffset = offset + total;
  const word = view.getUint16(offset + FRAGMENT_FIELD);
  const fragment = (word & (MORE_FRAGMENTS | OFFSET_MASK)) !== 0;
  layout.fragmentOffset = (word & OFFSET_MASK) << 3;
  layout.moreFragments = (word & MORE_FRAGMENTS) !== 0;
  layout.identification = fragment ? view.getUint16(offset + IDENTIFICATION) : 0;
  return fragment ? FRAGMENT : UPPER;
}

function walkIpv6(view: DataView, offset: number, length: number, original: number, layout: IpLayout): number {
  if (length < HEADER6) return CUT;
  const payload = view.getUint16(offset + PAYLOAD_LENGTH);
  if (original === WHOLE && HEADER6 + payload > length) return CUT;
  layout.ipVersion = 6;
  layout.protocol = view.getUint8(offset + NEXT_HEADER);
  layout.tcpOffset = offset + HEADER6;
  layout.endOffset = offset + (original !== WHOLE && payload === 0 ? original : HEADER6 + payload);
  layout.fragmentOffset = 0;
  layout.moreFragments = false;
  layout.identification = 0;
  return walkExtensions(view, original === WHOLE ? layout.endOffset : offset + length, layout);
}

/**
 * Walks IPv6 extension headers (RFC 8200 §4) up to `limit`, from the one at `layout.tcpOffset`, whose type is `layout.protocol`,
 * to the upper-layer header or a Fragment header of a real fragment; an atomic one (RFC 6946) is passed. Called again after
 * `WALK.fragment`, it goes on behind the Fragment header: a first fragment has the whole chain (RFC 7112 §5).
 */
export function walkExtensions(view: DataView, limit: number, layout: IpLayout): number {
  let type = layout.protocol;
  let at = layout.tcpOffset;
  while (isExtension(type)) {
    if (at + FRAGMENT_HEADER > limit) return CUT;
    const size = extensionLength(view, at, type);
    if (at + size > limit) return CUT;
    const word = type === FRAGMENT_TYPE ? view.getUint16(at + FRAGMENT_WORD) & (FRAGMENT_OFFSET_MASK | FRAGMENT_MORE) : 0;
    type = view.getUint8(at);
    if (word !== 0) {
      layout.protocol = type;
      layout.tcpOffset = at + size;
      layout.fragmentOffset = word & FRAGMENT_OFFSET_MASK;
      layout.moreFragments = (word & FRAGMENT_MORE) !== 0;
      layout.identification = view.getUint32(at + FRAGMENT_IDENTIFICATION);
      return FRAGMENT;
    }
    at += size;
  }
  layout.protocol = type;
  layout.tcpOffset = at;
  return UPPER;
}

/** Walks on from a first fragment to its upper-layer header. Takes and returns a {@link WALK} value: `upper`, a later `fragment`, or a fault. */
export function walkFirstFragment(view: DataView, limit: number, result: number, layout: IpLayout): number {
  while (result === FRAGMENT && layout.fragmentOffset === 0) {
    if (layout.ipVersion === 4) return UPPER;
    result = walkExtensions(view, limit, layout);
  }
  if (result > FRAGMENT) clearLayout(layout);
  return result;
}

/** The IPv4 header length that the header at `offset` declares, octets: 0 to 60; below 20 it is wrong (RFC 791 §3.1). */
export function ipv4HeaderLength(view: DataView, offset: number): number {
  return (view.getUint8(offset) & 15) << 2;
}

/** Length of the extension header at `offset`, octets; 0 when `type` is not an extension header. Two octets of it must be there. */
export function extensionLength(view: DataView, offset: number, type: number): number {
  switch (type) {
    case HOP_BY_HOP:
    case ROUTING:
    case DESTINATION:
    case MOBILITY:
      return (view.getUint8(offset + 1) + 1) * 8;
    case FRAGMENT_TYPE:
      return FRAGMENT_HEADER;
    case AUTHENTICATION:
      return (view.getUint8(offset + 1) + 2) * 4;
    default:
      return 0;
  }
}

/** Whether a next-header value names an extension header that can be walked. */
export function isExtension(type: number): boolean {
  return type === HOP_BY_HOP || type === ROUTING || type === DESTINATION || type === MOBILITY || type === FRAGMENT_TYPE || type === AUTHENTICATION;
}

/** The typed error for a header at `offset` that is not one of version `expected`, or for which {@link walkIp} returned a fault. */
export function walkFault(result: number, view: DataView, offset: number, length: number, expected: 4 | 6): Malformed {
  const least = expected === 4 ? HEADER4 : HEADER6;
  if (length < least) return new Malformed('TRUNCATED', offset, `IPv${expected} header needs ${least} bytes, found ${length}`);
  const version = view.getUint8(offset) >>> 4;
  if (version !== expected) return new Malformed('BAD_VERSION', offset, `IP version ${version}, expected ${expected}`);
  if (result === BAD_CHECKSUM) return new Malformed('BAD_CHECKSUM', offset + IPV4.checksum, 'IPv4 header checksum is wrong');
  if (expected === 6) return new Malformed('TRUNCATED', offset + HEADER6, `IPv6 extension headers are cut at ${length} bytes`);
  const headerLength = ipv4HeaderLength(view, offset);
  if (headerLength < HEADER4) return new Malformed('BAD_LENGTH', offset, `IPv4 header length ${headerLength} is below 20`);
  if (result === CUT) return new Malformed('TRUNCATED', offset, `IPv4 header of ${headerLength} bytes, found ${length}`);
  const total = view.getUint16(offset + TOTAL_LENGTH);
  return new Malformed('BAD_LENGTH', offset + TOTAL_LENGTH, `IPv4 total length ${total} is below the header's ${headerLength}`);
}

/** Empties the layout: what a new one holds. */
export function clearLayout(layout: IpLayout): void {
  layout.ipVersion = 4;
  layout.ipOffset = 0;
  layout.tcpOffset = 0;
  layout.protocol = 0;
  layout.endOffset = 0;
  layout.fragmentOffset = 0;
  layout.moreFragments = false;
  layout.identification = 0;
}

/** Sum of the IPv4 header's 16-bit words: at most 30, so that it needs no folding in between. */
function headerSum(view: DataView, offset: number, headerLength: number): number {
  let sum = 0;
  for (let at = offset; at < offset + headerLength; at += 2) sum += view.getUint16(at);
  return sum;
}
