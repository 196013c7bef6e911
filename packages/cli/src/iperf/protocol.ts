/**
 * The throughput test. The client opens a control connection and sends one line of JSON; the server answers with a line.
 * Each data connection begins with the test's id and a newline. Whoever sends, sends until time or bytes are up and ends;
 * the receiver's count comes back on the control connection. All of it works through anything that carries TCP.
 */
export interface TestRequest {
  id: string;
  /** The server sends. */
  reverse: boolean;
  seconds: number;
  /** Bytes in all; 0: until time is up. */
  bytes: number;
  connections: number;
}

export interface TestResult {
  id: string;
  bytes: number;
  seconds: number;
}

export interface Interval {
  /** Seconds from the start. */
  from: number;
  to: number;
  bytes: number;
  bitsPerSecond: number;
  subflows: { name: string; local: string; remote: string; bytes: number; bitsPerSecond: number; srtt: number; cwnd: number; retransmissions: number }[];
}

export const LONGEST_LINE = 4096;
export const LONGEST_TEST = 3600;
export const MOST_CONNECTIONS = 64;

/** A request from a line; null when it is none. */
export function parseRequest(line: string): TestRequest | null {
  let value: Partial<TestRequest>;
  try {
    value = JSON.parse(line) as Partial<TestRequest>;
  } catch {
    return null;
  }
  const { id, reverse, seconds, bytes, connections } = value;
  const good =
    typeof id === 'string' &&
    /^[0-9a-f]{32}$/.test(id) &&
    typeof reverse === 'boolean' &&
    typeof seconds === 'number' &&
    seconds > 0 &&
    seconds <= LONGEST_TEST &&
    typeof bytes === 'number' &&
    bytes >= 0 &&
    typeof connections === 'number' &&
    connections >= 1 &&
    connections <= MOST_CONNECTIONS;
  return good ? { id, reverse, seconds, bytes, connections } : null;
}
