/**
 * 64-bit data sequence numbers as two int32 halves, and the positions we count with inside: position 0 is the IDSN
 * (the octet that MP_CAPABLE occupies), 1 the first byte of data (RFC 8684 §3.1, §3.3.1).
 */

/** High half of `initial + position`. */
export function dsnHigh(initialHigh: number, initialLow: number, position: number): number {
  const low = (initialLow >>> 0) + position;
  return (initialHigh + Math.floor(low / 0x100000000)) | 0;
}

/** Low half of `initial + position`. */
export function dsnLow(initialLow: number, position: number): number {
  return ((initialLow >>> 0) + position) | 0;
}

/** Position of a 64-bit number; NaN when it lies too far from `initial` to be one of ours. */
export function positionOf64(initialHigh: number, initialLow: number, high: number, low: number): number {
  const lowDifference = (low >>> 0) - (initialLow >>> 0);
  const highDifference = (high - initialHigh) | 0;
  if (highDifference < -1 || highDifference > 0x1fffff) return Number.NaN;
  return highDifference * 0x100000000 + lowDifference;
}

/** Position of a 32-bit number, promoted to the one nearest to `reference` (RFC 8684 §3.3.1). */
export function positionOf32(initialLow: number, low: number, reference: number): number {
  return reference + ((low - dsnLow(initialLow, reference)) | 0);
}
