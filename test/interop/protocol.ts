/** The small protocol of the interop tests: one header line, then payload one way or both, each side reporting what it got. */

/** Direction of the payload, seen from the client. */
export type Direction = 'up' | 'down' | 'both';

export interface Header {
  direction: Direction;
  size: number;
  /** Further subflows to wait for before the payload. */
  extraSubflows: number;
}

/** What one side reports about a transfer. */
export interface Report {
  received: number;
  hash: string;
  sent: number;
  error: string | null;
  /** Kernel side only: MPTCP_INFO before the end. */
  info: { subflows: number; fallback: boolean; checksum: boolean } | null;
}

/** Commands to the kernel peer, one JSON line each on its standard input. `mapped`: an IPv6 socket to the IPv4-mapped address, because only such a socket of Linux mixes the families. */
export type PeerCommand =
  | { op: 'listen'; address: string; port: number }
  | { op: 'connect'; address: string; port: number; header: Header; mapped: boolean; fastOpen?: boolean }
  /** Resets the connection: MP_FASTCLOSE. */
  | { op: 'reset' }
  | { op: 'close' };

export type PeerAnswer = { op: 'ready' } | { op: 'listening' } | { op: 'done'; report: Report } | { op: 'error'; message: string };

const PATTERN = 1 << 20;

/** A megabyte of pseudo-random bytes that both processes can make; byte i of a payload is byte i modulo its length. */
export function pattern(seed: number): Uint8Array {
  const out = new Uint8Array(PATTERN);
  const words = new Uint32Array(out.buffer);
  let state = (seed ^ 0x9e3779b9) >>> 0;
  for (let i = 0; i < words.length; i++) {
    state = (Math.imul(state ^ (state >>> 15), 0x85ebca6b) + 0x6d2b79f5) >>> 0;
    words[i] = state;
  }
  return out;
}

export const CLIENT_SEED = 1;
export const SERVER_SEED = 2;
export const READY = 'ready\n';
