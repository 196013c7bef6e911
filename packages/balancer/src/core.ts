/** What a design is: from a packet of a client to the server it must reach. */
import { findMptcp, SUBTYPE } from '@subflow/wire';
import type { Segment } from '@subflow/wire';
import type { ServerSet } from './servers.ts';

/** Decisions below zero: why a packet goes nowhere. 1 to 255 are ids of servers. */
export const DROP = {
  /** There is no server that takes new connections. */
  noServer: -1,
  /** Neither TCP nor an error about it: leave it to the system. */
  notOurs: -2,
  malformed: -3,
  /** A fragment whose first one was not seen. */
  unknownFragment: -4,
  /** Two servers have given out this token. */
  ambiguousToken: -5,
  /** A join whose token nobody has learnt. */
  unknownToken: -6,
  /** A port that belongs to no server. */
  unknownPort: -7,
  /** An ICMP error about a connection that nobody knows. */
  unknownError: -8,
} as const;

export const DROP_NAMES: Readonly<Record<number, string>> = Object.fromEntries(Object.entries(DROP).map(([name, value]) => [value, name]));

export interface DecisionCore {
  readonly design: string;
  /** Server for a segment of a client: its id, or a {@link DROP} reason. `now` in microseconds. */
  decide(segment: Segment, now: number): number;
  /** Server for an error about a segment that a server has sent; `segment` has the client as its source. Changes nothing. */
  related(segment: Segment, now: number): number;
  /** A new list of servers. */
  setServers(servers: ServerSet, now: number): void;
  /** Entries of state, and the bytes they take. */
  readonly entries: number;
  readonly bytes: number;
}

/** Token of an MP_JOIN SYN (RFC 8684 §3.2, Figure 5), or -1: signed values are made unsigned. */
export function joinToken(segment: Segment): number {
  const at = findMptcp(segment, SUBTYPE.join);
  return at < 0 || segment.view.getUint8(at + 1) !== 12 ? -1 : segment.view.getUint32(at + 4);
}
