/**
 * Positions and sequence numbers. A position is a plain number counted from the initial sequence number (position 0 is
 * the SYN, 1 the first byte of data) and never wraps; the wire carries it modulo 2^32.
 */

/** The sequence number of a position, as a signed int32. */
export function toSeq(initial: number, position: number): number {
  return (initial + position) | 0;
}

/** The position of a sequence number, nearest to `reference`. */
export function toPosition(initial: number, seq: number, reference: number): number {
  return reference + ((seq - ((initial + reference) | 0)) | 0);
}
