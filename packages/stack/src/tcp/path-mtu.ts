/** Segment sizes: MSS (RFC 9293 §3.7.1, RFC 6691), path MTU from ICMP (RFC 1191, RFC 8201) and black holes (RFC 4821 §7.7). */
import type { Tcb } from './tcb.ts';

const TCP_HEADER = 20;
const TIMESTAMPS = 12;
/** RFC 9293 §3.7.1: assumed without the option. */
export const DEFAULT_MSS_IPV4 = 536;
export const DEFAULT_MSS_IPV6 = 1220;
/**
 * The smallest MSS that is believed, as in Linux: below it a peer would make us send a packet for every few octets
 * (CVE-2019-11479). Options take at most 40 of it.
 */
export const MIN_MSS = 48;
const MIN_MTU_IPV4 = 576;
const MIN_MTU_IPV6 = 1280;
/** Full-sized timeouts in a row that make a black hole likely. */
const BLACK_HOLE_TIMEOUTS = 3;

export function ipHeaderLength(tcb: Tcb): number {
  return tcb.ipVersion === 4 ? 20 : 40;
}

/** Payload bytes of a full segment after all options, from the peer's MSS and the path MTU. */
export function updateMss(tcb: Tcb): void {
  const path = tcb.pathMtu - ipHeaderLength(tcb) - TCP_HEADER;
  const options = (tcb.timestamps ? TIMESTAMPS : 0) + tcb.user.optionSpace();
  tcb.mss = Math.min(tcb.peerMss, path) - options;
}

/** Takes an ICMP "too big" for a segment of ours in flight. Returns whether it changed anything. */
export function reducePathMtu(tcb: Tcb, mtu: number): boolean {
  const floor = tcb.ipVersion === 4 ? MIN_MTU_IPV4 : MIN_MTU_IPV6;
  const target = Math.max(mtu, floor);
  if (target >= tcb.pathMtu) return false;
  tcb.pathMtu = target;
  updateMss(tcb);
  // Too large segments are gone: send them again in the new size, without a congestion response (RFC 1191 §6.4).
  for (let record = tcb.queue.oldestInFlight; record !== null;) {
    const next = record.newer;
    if (record.end - record.position > tcb.mss || tcb.interface.segmentationLimit > 0) tcb.queue.markLost(record);
    record = next;
  }
  tcb.cwnd = Math.max(tcb.cwnd, 2 * tcb.mss);
  tcb.context.wake(tcb);
  return true;
}

/** After several timeouts of full-sized segments, tries the smallest packet every path must carry (RFC 4821 §7.7, RFC 8899 §4.3). */
export function probeBlackHole(tcb: Tcb): void {
  const { head } = tcb.queue;
  if (head === null || tcb.sndUna >= tcb.sndNxt) return;
  const floor = tcb.ipVersion === 4 ? MIN_MTU_IPV4 : MIN_MTU_IPV6;
  if (tcb.pathMtu <= floor || head.end - head.position < tcb.mss) return;
  if (++tcb.blackHoleTimeouts < BLACK_HOLE_TIMEOUTS) return;
  tcb.blackHoleTimeouts = 0;
  tcb.pathMtu = tcb.pathMtu > MIN_MTU_IPV6 ? MIN_MTU_IPV6 : floor;
  updateMss(tcb);
}
