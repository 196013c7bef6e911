/** Timestamps and protection against wrapped sequence numbers (RFC 7323 §3 to §5). */
import type { Segment } from '@subflow/wire';
import type { Tcb } from './tcb.ts';
import type { Accepted } from './verdict.ts';

/** A timestamp older than this is not compared (RFC 7323 §5.5: 24 days). */
const TS_RECENT_LIFETIME = 24 * 24 * 3600 * 1_000_000;

/** Our timestamp clock ticks once a millisecond, with a random offset per connection (RFC 7323 §5.4, §7.1). */
export function timestampValue(tcb: { readonly tsOffset: number; readonly tsStamp: number }, now: number): number {
  const value = (Math.floor(now / 1000) + tcb.tsOffset) | 0;
  return tcb.tsStamp === 0 ? value : stampTimestamp(value, tcb.tsStamp) | 0;
}

/**
 * A timestamp whose last octet names its sender: never less than the clock's, so that PAWS never sees it run backwards
 * (RFC 7323 §5). Unsigned.
 */
export function stampTimestamp(clock: number, id: number): number {
  return (((clock + 0xff) & ~0xff) | id) >>> 0;
}

/** RFC 7323 §5.3 R1. */
export function pawsRejects(tcb: Readonly<Tcb>, segment: Segment, now: number): boolean {
  return ((segment.tsVal - tcb.tsRecent) | 0) < 0 && now - tcb.tsRecentAt < TS_RECENT_LIFETIME;
}

/** Remembers the timestamp of an accepted segment that covers the last ACK sent (RFC 7323 §4.3). */
export function rememberTimestamp(tcb: Tcb, { segment, position, end }: Accepted, now: number): void {
  if (((segment.tsVal - tcb.tsRecent) | 0) < 0 || position > tcb.lastAckSent || end < tcb.lastAckSent) return;
  tcb.tsRecent = segment.tsVal;
  tcb.tsRecentAt = now;
}
