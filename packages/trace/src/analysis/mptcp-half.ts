/** Multipath TCP on one direction of a subflow. */
import { Mappings } from './mappings.ts';

export class MptcpHalf {
  readonly mappings: Mappings = new Mappings();
  /** New bytes of the data stream, and bytes that another subflow had carried. */
  dataBytes = 0;
  reinjectedBytes = 0;
  dss = 0;
  /** Payload that no mapping covers. */
  unmapped = 0;
  checksums = 0;
  checksumFailures = 0;
  /** DSS checksum under way: the mapping's beginning and end, the next byte expected, the partial sum. */
  sumStart = -1;
  sumEnd = -1;
  sumNext = -1;
  sum = 0;
  sumExpected = -1;
  /** Without the SYN: position of a byte less its subflow sequence number. */
  ssnShift = Number.NaN;
}
