/** What a host is made of. */
import type { TcpConfig } from '../tcp/config.ts';
import type { MptcpConfig } from '../mptcp/config.ts';

/** Returns a fresh random number, 0 to 2^32 - 1. The only source of chance in the stack. */
export type Entropy = () => number;

export interface HostOptions {
  entropy: Entropy;
  tcp?: Partial<TcpConfig>;
  mptcp?: Partial<MptcpConfig>;
  /** Emit `data-scheduled`, `data-received` and `data-acknowledged` events: one or more per segment. */
  traceData?: boolean;
  /** Largest number of events kept for `pollEvent`; older ones are dropped and counted. */
  eventLimit?: number;
}

/** A mistake in a call: a stable code, the offending value and what was expected. */
export class StackError extends Error {
  readonly code: 'NO_ROUTE' | 'ADDRESS_IN_USE' | 'NO_PORTS' | 'BAD_ADDRESS_ID' | 'BAD_ENDPOINT' | 'UNKNOWN_CONGESTION';

  constructor(code: StackError['code'], message: string) {
    super(message);
    this.code = code;
  }
}
