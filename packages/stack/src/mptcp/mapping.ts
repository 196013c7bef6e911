/** Data sequence mappings (RFC 8684 §3.3.1): those we declare, and those the peer has declared. */
import { DSS_FLAG, dssPseudoHeader, finish, sumSlices } from '@subflow/wire';
import type { Segment } from '@subflow/wire';
import { IntervalList } from '../intervals.ts';
import { dsnHigh, dsnLow, positionOf32, positionOf64 } from './data-sequence.ts';
import type { KeyMaterial } from './keys.ts';
import type { KeyedConnection, ReceivedMapping, SubflowState } from './state.ts';
import { MAPPING_COST, roomAhead } from './window.ts';
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

/** A mapping as a segment declares it. */
export interface DeclaredMapping {
  readonly ssn: number;
  readonly dataPosition: number;
  /** Data-level length, DATA_FIN included. */
  readonly length: number;
  readonly fin: boolean;
  /** -1 without one. */
  readonly checksum: number;
}

/** DSS checksum of bytes we are about to map. */
export function mappingChecksum(local: KeyMaterial, dataPosition: number, position: number, slices: readonly Uint8Array[], length: number): number {
  const header = dssPseudoHeader(dsnHigh(local.idsnHigh, local.idsnLow, dataPosition), dsnLow(local.idsnLow, dataPosition), position | 0, length);
  return finish(sumSlices(slices, slices.length, header));
}

/** Data position of the DSS in a segment; NaN when it makes no sense. */
export function receivedDataPosition(connection: KeyedConnection, segment: Segment): number {
  const { remote } = connection;
  if ((segment.dssFlags & DSS_FLAG.dsn64) !== 0) {
    connection.peerSends64 = true;
    return positionOf64(remote.idsnHigh, remote.idsnLow, segment.dsnHigh, segment.dsnLow);
  }
  return positionOf32(remote.idsnLow, segment.dsnLow, connection.dataRcvNxt);
}

/**
 * Remembers the mapping of a segment, as far as it says something new: one that repeats or overlaps what was declared must
 * agree with it, else the first declaration counts (RFC 8684 §3.3.1). Returns false when there is no memory to keep it:
 * its bytes must not be acknowledged then, for nobody would know where they belong.
 */
export function addMapping(subflow: SubflowState, connection: KeyedConnection, declared: DeclaredMapping): boolean {
  const { tcb } = subflow;
  const { dataPosition, length, fin, checksum } = declared;
  const position = subflowPosition(subflow, declared.ssn);
  const end = position + (fin ? length - 1 : length);
  if (end <= position || end <= tcb.rcvNxt) return true;
  if (position > tcb.rcvEdge) {
    connection.host.mib('DSSNoMatchTCP');
    return true;
  }
  const mappings = (subflow.mappings ??= new IntervalList<ReceivedMapping>());
  const { remote } = connection;
  const whole = { position, end, dataPosition, dataLength: length, checksum, dsnHigh: 0, dsnLow: 0 };
  whole.dsnHigh = dsnHigh(remote.idsnHigh, remote.idsnLow, dataPosition);
  whole.dsnLow = dsnLow(remote.idsnLow, dataPosition);
  let next = mappings.after(position);
  if (next !== null && next.position < end) {
    // A checksum covers its mapping as a whole: a repetition says nothing new, and there is no rest of it.
    if (!agree(next, whole) || checksum >= 0 || next.checksum >= 0) {
      if (!agree(next, whole)) {
        tcb.context.count('mptcp-mapping-overlaps');
        connection.host.mib('DSSNotMatching');
      }
      return true;
    }
  } else if (position > tcb.rcvNxt && roomAhead(connection) < MAPPING_COST) {
    // What is next in line is used at once and given back; this would have to be kept.
    tcb.context.count('mptcp-mappings-full');
    return false;
  }
  // Without checksums what agrees becomes one: each piece is looked at once, however small a peer cuts them.
  if (checksum < 0) {
    for (
      next = mappings.after(position - 1);
      next !== null && next.position <= whole.end && next.checksum < 0 && agree(next, whole);
      next = mappings.after(position - 1)
    ) {
      mappings.remove(next);
      whole.end = Math.max(whole.end, next.end);
      if (next.position >= whole.position) continue;
      whole.position = next.position;
      whole.dataPosition = next.dataPosition;
    }
    const behind = mappings.after(whole.position);
    if (behind !== null) whole.end = Math.min(whole.end, behind.position);
  }
  mappings.insert(whole);
  return true;
}

/** Whether two mappings put the same octets at the same place in the data stream. */
function agree(known: ReceivedMapping, other: ReceivedMapping): boolean {
  if (known.dataPosition === VOID || other.dataPosition === VOID) return known.dataPosition === other.dataPosition;
  return known.dataPosition - known.position === other.dataPosition - other.position;
}

/** Position in the subflow's stream of a subflow sequence number, which does not count data on a Fast Open SYN (RFC 8684 appendix B.2). */
export function subflowPosition(subflow: SubflowState, ssn: number): number {
  return toPosition(0, ssn, subflow.tcb.rcvNxt - subflow.receiveOffset) + subflow.receiveOffset;
}

/** The mapping that covers a position, dropping those that lie wholly before it. */
export function mappingAt(subflow: SubflowState, position: number): ReceivedMapping | null {
  const { mappings } = subflow;
  if (mappings === null) return null;
  let first = mappings.first;
  while (first !== null && first.end <= position) {
    mappings.shift();
    first = mappings.first;
  }
  return first !== null && first.position <= position ? first : null;
}
