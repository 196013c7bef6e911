/**
 * The Internet checksum (RFC 1071) with partial sums and incremental update (RFC 1624), the TCP pseudo-headers
 * (RFC 9293 §3.1, RFC 8200 §8.1) and the DSS checksum (RFC 8684 §3.3.1).
 *
 * A partial sum is an unfolded, non-inverted sum of big-endian 16-bit words: a number below 2^53. Sums of adjacent
 * pieces are added as long as every piece but the last has an even length.
 */
import { IPV4, IPV6 } from './numbers.ts';

const littleEndian = new Uint8Array(new Uint16Array([1]).buffer)[0] === 1;

/** Folds a partial sum to 16 bits (ones' complement addition). */
export function fold(sum: number): number {
  if (sum > 0xffffffff) sum = (sum >>> 0) + Math.floor(sum / 0x100000000);
  if (sum > 0xffffffff) sum = (sum >>> 0) + 1;
  let s = (sum & 0xffff) + (sum >>> 16);
  s = (s & 0xffff) + (s >>> 16);
  return (s & 0xffff) + (s >>> 16);
}

/** The value for a checksum field: the inverted fold of a partial sum. */
export function finish(sum: number): number {
  return ~fold(sum) & 0xffff;
}

/** Adds a piece that starts at an odd offset of the summed data: its bytes are swapped (RFC 1071 §2 B). */
export function addOdd(sum: number, piece: number): number {
  const folded = fold(piece);
  return sum + (((folded & 0xff) << 8) | (folded >>> 8));
}

/** Adds the partial sum `piece` of bytes that start `position` octets into the summed data, odd positions included. */
export function addPiece(total: number, piece: number, position: number): number {
  return (position & 1) === 0 ? total + piece : addOdd(total, piece);
}

/**
 * Partial sum over the first `count` slices, as if they were one array, added to `initial`. Slices may have odd lengths. What
 * `initial` covers must have an even length, as pseudo-headers have.
 *
 * @example finish(sumSlices([header, payload], 2, pseudoHeader4(source, destination, PROTOCOL.tcp, length)))
 */
export function sumSlices(slices: ArrayLike<Uint8Array>, count: number = slices.length, initial = 0): number {
  let total = initial;
  let position = 0;
  for (let i = 0; i < count; i++) {
    const slice = slices[i]!;
    total = addPiece(total, sum(slice, 0, slice.length), position);
    position += slice.length;
  }
  return total;
}

/**
 * Partial sum of `length` bytes of `bytes` from `offset`, added to `initial`. An odd last byte is padded with zero.
 *
 * Fast path: the sum is taken in native-endian words, two 16-bit halves of a Uint32 at once, and byte-swapped at the
 * end, which RFC 1071 §2 B allows; V8 keeps the four accumulators in registers, so 64 KB take about 16 µs.
 */
export function sum(bytes: Uint8Array, offset: number, length: number, initial = 0): number {
  if (length < 64 || !littleEndian) return sumShort(bytes, offset, length, initial);
  let start = offset;
  const end = offset + length;
  let swappedHead = 0;
  let native = 0;
  const misaligned = (bytes.byteOffset + start) & 3;
  if ((misaligned & 1) !== 0) {
    // An odd address: sum the first byte alone and the rest as a piece at an odd offset.
    const rest = sum(bytes, start + 1, length - 1);
    return addOdd(initial + (bytes[start]! << 8), rest);
  }
  if (misaligned === 2) {
    swappedHead = (bytes[start]! << 8) | bytes[start + 1]!;
    start += 2;
  }
  const words = (end - start) >>> 2;
  const u32 = new Uint32Array(bytes.buffer, bytes.byteOffset + start, words);
  let low = 0;
  let high = 0;
  let i = 0;
  const stop = words - 3;
  // 16-bit halves accumulate in int32 range for at most 2^15 words; 64 KB has 2^14.
  for (; i < stop; i += 4) {
    const a = u32[i]!;
    const b = u32[i + 1]!;
    const c = u32[i + 2]!;
    const d = u32[i + 3]!;
    low += (a & 0xffff) + (b & 0xffff) + (c & 0xffff) + (d & 0xffff);
    high += (a >>> 16) + (b >>> 16) + (c >>> 16) + (d >>> 16);
  }
  for (; i < words; i++) {
    const a = u32[i]!;
    low += a & 0xffff;
    high += a >>> 16;
  }
  native = fold(low + high);
  const swapped = ((native & 0xff) << 8) | (native >>> 8);
  const tailStart = start + words * 4;
  return sumShort(bytes, tailStart, end - tailStart, initial + swappedHead + swapped);
}

function sumShort(bytes: Uint8Array, offset: number, length: number, initial: number): number {
  let s = initial;
  const even = offset + (length & ~1);
  let i = offset;
  for (; i < even; i += 2) s += (bytes[i]! << 8) | bytes[i + 1]!;
  if ((length & 1) !== 0) s += bytes[i]! << 8;
  return s;
}

/** Partial sum of the IPv4 pseudo-header; addresses are 32-bit words (RFC 9293 §3.1). */
export function pseudoHeader4(source: number, destination: number, protocol: number, length: number): number {
  return (source >>> 16) + (source & 0xffff) + (destination >>> 16) + (destination & 0xffff) + protocol + length;
}

/** Partial sum of the IPv6 pseudo-header from the 32 address bytes at `offset` of the IPv6 header's source field (RFC 8200 §8.1). */
export function pseudoHeader6(bytes: Uint8Array, addressesOffset: number, protocol: number, length: number): number {
  return sumShort(bytes, addressesOffset, 32, (length >>> 16) + (length & 0xffff) + protocol);
}

/**
 * Partial sum of the pseudo-header of the IP packet at `offset`, of either version, whose fixed header must be there; `length`
 * is that of the upper-layer header and its data (RFC 9293 §3.1, RFC 8200 §8.1).
 */
export function pseudoHeader(bytes: Uint8Array, offset: number, protocol: number, length: number): number {
  if (bytes[offset]! >>> 4 === 6) return pseudoHeader6(bytes, offset + IPV6.source, protocol, length);
  return sumShort(bytes, offset + IPV4.source, 8, length + protocol);
}

/** New checksum field after one 16-bit word changed from `before` to `after` (RFC 1624, equation 3). */
export function updateChecksum(checksum: number, before: number, after: number): number {
  return finish((~checksum & 0xffff) + (~before & 0xffff) + after);
}

/**
 * The DSS checksum's partial sum over its pseudo-header (RFC 8684 §3.3.1, Figure 10): 64-bit data sequence number as
 * two 32-bit words, relative subflow sequence number, data-level length. Add the payload's partial sum and finish.
 */
export function dssPseudoHeader(dsnHigh: number, dsnLow: number, ssn: number, length: number): number {
  return (dsnHigh >>> 16) + (dsnHigh & 0xffff) + (dsnLow >>> 16) + (dsnLow & 0xffff) + (ssn >>> 16) + (ssn & 0xffff) + length;
}
