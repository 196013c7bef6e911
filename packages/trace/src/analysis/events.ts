/**
 * What a capture shows, one event after the other. Where the stack has an event of the same meaning the name is the same
 * (docs/events.md); here each carries the packet that proves it. Times are microseconds from the capture's first packet,
 * positions count bytes from 1, packets are numbered as Wireshark numbers frames.
 */
import type { FallbackReason } from '@subflow/stack';
import type { Blocked, Burst, Pause } from './data.ts';

export type Severity = 'note' | 'warning' | 'error';
/** 0 is the side that opened the connection. */
export type Side = 0 | 1;

interface Common {
  time: number;
  packet: number;
  /** Number of the connection, as Wireshark's mptcp.stream counts where all begin in the capture. */
  connection: number;
  /** Number of the subflow within the connection, from 1; 0 for the connection itself. */
  subflow: number;
  /** Who did it. */
  by: Side;
}

type Kinds =
  | { type: 'subflow-created'; join: boolean; backup: boolean; addressId: number; version: number | null; source: string; destination: string }
  | { type: 'subflow-established'; rtt: number }
  | { type: 'connection-established'; version: number; checksum: boolean }
  | { type: 'connection-fallback'; reason: FallbackReason }
  | { type: 'subflow-priority'; backup: boolean; addressId: number | null }
  | { type: 'address-announced'; addressId: number; address: string; port: number | null; authentic: boolean | null }
  | { type: 'address-echoed'; addressId: number }
  | { type: 'address-removed'; addressIds: number[] }
  | { type: 'mp-fail'; position: number | null }
  | { type: 'fast-close' }
  | { type: 'data-fin'; position: number }
  | { type: 'subflow-end' }
  | { type: 'subflow-reset'; reason: number | null; transient: boolean; zeroWindow: boolean; explained: boolean }
  | { type: 'zero-window' }
  | { type: 'window-opened'; after: number }
  | { type: 'traffic-moved'; from: number; to: number }
  | ({ type: 'gap' } & Omit<Pause, 'firstPacket'>)
  | ({ type: 'reinjection' } & Omit<Burst, 'firstPacket'>)
  | ({ type: 'blocked' } & Omit<Blocked, 'firstPacket'>)
  | { type: 'hmac-wrong'; option: 'MP_JOIN SYN+ACK' | 'MP_JOIN ACK' | 'ADD_ADDR' }
  | { type: 'key-wrong'; found: string; expected: string }
  | { type: 'token-unknown'; token: number }
  | { type: 'checksum-failure'; position: number }
  | { type: 'mapping-missing'; position: number; length: number }
  | { type: 'translated'; source: string; destination: string }
  | { type: 'syn-retransmitted'; count: number }
  | { type: 'connection-closed' };

/** Something that happened. */
export type TraceEvent = Common & { severity: Severity } & Kinds;
export type TraceEventOf<T extends TraceEvent['type']> = Extract<TraceEvent, { type: T }>;
/** What {@link TraceEvent} is made of, before it is known whom it concerns. */
export type EventBody = Kinds;
