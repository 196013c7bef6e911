/**
 * The server's half of Beamer: whether a packet that the balancer sent here stays, or goes on to the server that had its bucket
 * before (Olteanu et al., NSDI 2018, §4.2). State is bounded: connections that came by chaining are the other server's.
 */
import { FLAG } from '@subflow/wire';
import type { Segment } from '@subflow/wire';

/** What the shim asks its host. */
export interface LocalConnections {
  /** Whether the host has a connection (or a half-open one) for the segment's tuple. */
  knows(segment: Segment): boolean;
}

/** `here`, or the id of the server that must get the packet. */
export type ShimDecision = 'here' | number;

/** `previous`: the server the bucket belonged to, 0 when it has not changed lately. */
export function daisyChain(segment: Segment, previous: number, host: LocalConnections): ShimDecision {
  // New connections are for whoever has the bucket now.
  if ((segment.flags & (FLAG.syn | FLAG.ack)) === FLAG.syn) return 'here';
  if (previous === 0 || host.knows(segment)) return 'here';
  return previous;
}
