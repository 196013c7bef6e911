/** Data sequence mappings (RFC 8684 §3.3.1): those we declare, and those the peer has declared. */
import { DSS_FLAG, dssPseudoHeader, finish, sum, addOdd } from '@subflow/wire';
import type { Segment } from '@subflow/wire';
import { dsnHigh, dsnLow, positionOf32, positionOf64 } from './data-sequence.ts';
import type { ConnectionState, ReceivedMapping, SubflowState } from './state.ts';
import { toPosition } from '../tcp/sequence.ts';

/** A mapping we sent: fixed once declared. It is the tag of the send records cut from it. */
export class Mapping {
  /** Position of the first byte in the data stream and in the subflow. */
  readonly dataPosition: number;
  readonly position: number;
  readonly length: number;
  /** DSS checksum, -1 when checksums are off. */
  readonly checksum: number;

  constructor(dataPosition: number, position: number, length: number, checksum: number) {
    this.dataPosition = dataPosition;
    this.position = position;
    this.length = length;
    this.checksum = checksum;
  }
}

/** Data position of a mapping whose bytes are to be dropped. */
export const VOID = -1;

/** More mappings than this ahead of the data are not remembered: the peer repeats them with the data. */
const MAX_MAPPINGS = 4096;

/** DSS checksum of bytes we are about to map. */
export function mappingChecksum(connection: ConnectionState, dataPosition: number, position: number, slices: readonly Uint8Array[], length: number): number {
  const local = connection.local!;
  let total = dssPseudoHeader(dsnHigh(local.idsnHigh, local.idsnLow, dataPosition), dsnLow(local.idsnLow, dataPosition), position | 0, length);
  let odd = false;
  for (const slice of slices) {
    const piece = sum(slice, 0, slice.length);
    total = odd ? addOdd(total, piece) : total + piece;
    if ((slice.length & 1) !== 0) odd = !odd;
  }
  return finish(total);
}

/** Data position of the DSS in a segment; NaN when it makes no sense. */
export function receivedDataPosition(connection: ConnectionState, segment: Segment): number {
  const remote = connection.remote!;
  if ((segment.dssFlags & DSS_FLAG.dsn64) !== 0) {
    connection.peerSends64 = true;
    return positionOf64(remote.idsnHigh, remote.idsnLow, segment.dsnHigh, segment.dsnLow);
  }
  return positionOf32(remote.idsnLow, segment.dsnLow, connection.dataRcvNxt);
}

/** Remembers the mapping of a segment. Repeated ones are recognised; the first declaration counts. */
export function addMapping(subflow: SubflowState, ssn: number, dataPosition: number, length: number, finIncluded: boolean, checksum: number): void {
  const { tcb, connection } = subflow;
  const position = subflowPosition(subflow, ssn);
  const bytes = finIncluded ? length - 1 : length;
  if (bytes <= 0 || position + bytes <= tcb.rcvNxt) return;
  if (position > tcb.rcvEdge) connection.host.mib('DSSNoMatchTCP');
  const remote = connection.remote!;
  subflow.mappings ??= [];
  const mappings = subflow.mappings;
  let i = mappings.length;
  while (i > 0 && mappings[i - 1]!.position > position) i--;
  const before = mappings[i - 1];
  if (before !== undefined && before.end > position) {
    if (before.position !== position || before.dataPosition !== dataPosition) {
      tcb.context.count('mptcp-mapping-overlaps');
      connection.host.mib('DSSNotMatching');
    }
    return;
  }
  const after = mappings[i];
  if (after !== undefined && after.position < position + bytes) {
    tcb.context.count('mptcp-mapping-overlaps');
    connection.host.mib('DSSNotMatching');
    return;
  }
  if (mappings.length >= MAX_MAPPINGS) {
    tcb.context.count('mptcp-mappings-full');
    return;
  }
  mappings.splice(i, 0, {
    position,
    end: position + bytes,
    dataPosition,
    dataLength: length,
    checksum,
    dsnHigh: dsnHigh(remote.idsnHigh, remote.idsnLow, dataPosition),
    dsnLow: dsnLow(remote.idsnLow, dataPosition),
  });
}

/** Position in the subflow's stream of a subflow sequence number, which does not count data on a Fast Open SYN (RFC 8684 appendix B.2). */
export function subflowPosition(subflow: SubflowState, ssn: number): number {
  return toPosition(0, ssn, subflow.tcb.rcvNxt - subflow.receiveOffset) + subflow.receiveOffset;
}

/** The mapping that covers a position, dropping those that lie wholly before it. */
export function mappingAt(subflow: SubflowState, position: number): ReceivedMapping | null {
  const mappings = subflow.mappings;
  if (mappings === null) return null;
  while (mappings.length > 0 && mappings[0]!.end <= position) mappings.shift();
  const first = mappings[0];
  return first !== undefined && first.position <= position ? first : null;
}
