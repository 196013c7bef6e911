/** The retransmission queue: a list of records, each a run of bytes sent (or to be sent) as one segment. */

export const RECORD = { unsent: 0, inFlight: 1, lost: 2, sacked: 3 } as const;

/** What was delivered when a record was sent (`delivery-rate.ts`). */
export interface RateStamp {
  delivered: number;
  deliveredAt: number;
  firstSentAt: number;
  appLimited: boolean;
}

/** What an extension maps a record's bytes to; TCP only carries it along (RFC 8684 §3.3.1 in our case). */
export type RecordTag = object | null;

/**
 * Bytes [position, end) of the stream. The payload stays where the application put it: `slices` hold references, and
 * `skip` says how far into them this record begins, so that splitting copies nothing.
 */
export class SendRecord {
  position: number;
  end: number;
  state: number = RECORD.unsent;
  /** Time of the last transmission, microseconds. */
  sentAt = 0;
  retransmitted = false;
  /** State of the delivery-rate measurement at transmission; null unless the controller wants it. */
  rate: RateStamp | null = null;
  next: SendRecord | null = null;
  slices: Uint8Array[];
  skip: number;
  tag: RecordTag;

  constructor(position: number, end: number, slices: Uint8Array[], skip: number, tag: RecordTag) {
    this.position = position;
    this.end = end;
    this.slices = slices;
    this.skip = skip;
    this.tag = tag;
  }
}

/** Splits a record at a position inside it; the second half follows the first in the list. */
export function splitRecord(record: SendRecord, at: number): SendRecord {
  const rest = new SendRecord(at, record.end, record.slices, record.skip + (at - record.position), record.tag);
  rest.state = record.state;
  rest.sentAt = record.sentAt;
  rest.retransmitted = record.retransmitted;
  rest.rate = record.rate;
  rest.next = record.next;
  record.next = rest;
  record.end = at;
  return rest;
}
