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
  const whole = { position, end, dataPosition, dataLength: length, checksum, dsnHigh: 0, dsnLow: 0 };
  for (let at = position; at < end;) {
    const known = mappings.after(at);
    if (known !== null && known.position <= at) {
      if (!agree(known, whole)) {
        tcb.context.count('mptcp-mapping-overlaps');
        connection.host.mib('DSSNotMatching');
        return true;
      }
      at = known.end;
      continue;
    }
    const stop = known === null ? end : Math.min(end, known.position);
    // A checksum covers the whole mapping: there is no rest of it.
    if (checksum >= 0 && (at !== position || stop !== end)) return true;
    // What is next in line is used at once and given back.
    if (at > tcb.rcvNxt && roomAhead(connection) < MAPPING_COST) {
      tcb.context.count('mptcp-mappings-full');
      return false;
    }
    mappings.insert(piece(whole, connection.remote, at, stop));
    at = stop;
  }
  return true;
}

/** Whether two mappings put the same octets at the same place in the data stream. */
function agree(known: ReceivedMapping, other: ReceivedMapping): boolean {
  if (known.dataPosition === VOID || other.dataPosition === VOID) return known.dataPosition === other.dataPosition;
  return known.dataPosition - known.position === other.dataPosition - other.position;
}

/** The part [at, end) of a declared mapping. */
function piece(whole: ReceivedMapping, remote: KeyMaterial, at: number, end: number): ReceivedMapping {
  const skipped = at - whole.position;
  const dataPosition = whole.dataPosition === VOID ? VOID : whole.dataPosition + skipped;
  return {
    position: at,
    end,
    dataPosition,
    dataLength: end === whole.end ? whole.dataLength - skipped : end - at,
    checksum: whole.checksum,
    dsnHigh: dsnHigh(remote.idsnHigh, remote.idsnLow, dataPosition),
    dsnLow: dsnLow(remote.idsnLow, dataPosition),
  };
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
