/** What is observed on a path: stages of a connection, packets of each, and what hops and the other end saw of them. */

export const STAGES = ['plain-syn', 'syn', 'ack', 'data', 'plain-data', 'hole', 'pair', 'join', 'add-addr', 'synack', 'answer', 'answer-pair'] as const;
export type Stage = (typeof STAGES)[number];

/** One answer of a hop, ours or the echo server's. */
export interface SeenAnswer {
  from: string;
  sent: Uint8Array;
  quote: Uint8Array;
  rtt: number;
  labels: string;
}

export interface SeenHop {
  ttl: number;
  answers: SeenAnswer[];
}

/** Packets of one stage in one direction, and what became of them. */
export interface Observation {
  stage: Stage;
  direction: 'forward' | 'backward';
  /** Every copy sent at full TTL. */
  sent: Uint8Array[];
  /** Those of the walk: where TTLs are set anew they arrive too. */
  walked: Uint8Array[];
  /** What of it the other end saw; null: nobody there to tell. */
  arrived: Uint8Array[] | null;
  /** Hops, counted from the sender; null: not walked. */
  hops: SeenHop[] | null;
}

/**
 * The window of a stage's packets: it tells stages apart at the other end. The low octet is the walk's with IPv6 ({@link walk}).
 */
export function mark(stage: Stage, index = 0): number {
  return ((0xc0 + STAGES.indexOf(stage)) << 8) | index;
}

/** Packets that belong to no stage. */
export const UNMARKED = 0xdf00;
