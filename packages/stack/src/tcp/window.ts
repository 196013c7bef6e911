/** The window field: scaling (RFC 7323 §2). Its size is the user's business (`mptcp/window`), because Multipath TCP shares it between subflows. */
import type { Tcb } from './tcb.ts';

const MAX_WINDOW_FIELD = 65535;

/** Shift that lets a buffer of `size` bytes be advertised (RFC 7323 §2.3: at most 14). */
export function windowShift(size: number): number {
  let shift = 0;
  while (shift < 14 && size > MAX_WINDOW_FIELD << shift) shift++;
  return shift;
}

/** Value of the window field for the next segment; widens what is acceptable. `syn` segments are not scaled. */
export function advertiseWindow(tcb: Tcb, syn: boolean, now: number): number {
  const shift = syn ? 0 : tcb.rcvScale;
  // Rounded up: rounding down would shrink the offered window by up to a unit at every step (RFC 7323 §2.4). Shifts and
  // not powers: `2 ** n` is a call, and this is done for every segment.
  const field = Math.min(MAX_WINDOW_FIELD, (tcb.user.receiveWindow(now) + (1 << shift) - 1) >>> shift);
  const edge = tcb.rcvNxt + (field << shift);
  if (edge > tcb.rcvEdge) tcb.rcvEdge = edge;
  return field;
}
