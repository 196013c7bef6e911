/** The two ends of a TCP connection, as one value: addresses are never without their ports. */
import { IPV4, IPV6 } from '@subflow/wire';
import type { Segment } from '@subflow/wire';

/** Seen from this host. Addresses are 4 or 16 bytes, both of one family. */
export interface Ends {
  readonly local: Uint8Array;
  readonly localPort: number;
  readonly remote: Uint8Array;
  readonly remotePort: number;
}

/** The ends of a received segment, addresses copied. */
export function endsOf(segment: Segment): Ends {
  const fields = segment.ipVersion === 4 ? IPV4 : IPV6;
  const size = fields.destination - fields.source;
  const source = segment.ipOffset + fields.source;
  const destination = segment.ipOffset + fields.destination;
  return {
    local: segment.bytes.slice(destination, destination + size),
    localPort: segment.destinationPort,
    remote: segment.bytes.slice(source, source + size),
    remotePort: segment.sourcePort,
  };
}

/** Whether an address can be that of one host: neither unspecified, multicast, nor the limited broadcast (RFC 9293 §3.9.2.3, MUST-46, MUST-63). */
export function isUnicast(address: Uint8Array): boolean {
  const first = address[0]!;
  if (address.length === 4) return first < 224 && address.some((byte) => byte !== 0);
  return first !== 0xff && address.some((byte) => byte !== 0);
}

/** What a received segment may belong to: a connection, or what TIME-WAIT keeps of one. */
export interface Demultiplexed {
  readonly kind: 'tcb' | 'time-wait';
  readonly ipVersion: number;
  readonly local: Uint8Array;
  readonly remote: Uint8Array;
  readonly localPort: number;
  readonly remotePort: number;
  /** Hash and chain of the table. */
  hash: number;
  chain: Demultiplexed | null;
}
