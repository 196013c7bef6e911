/** Finding Multipath TCP options in a received segment. */
import { CAPABLE_FLAG, isMalformed, parseMptcpOption } from '@subflow/wire';
import type { MpCapable, MpJoinAck, MpJoinSyn, MptcpOption, Segment } from '@subflow/wire';

const NONE: MpCapable[] = [];

/** The parts of a join SYN that the host needs to find its connection. */
export function findJoinSyn(segment: Segment): MpJoinSyn | null {
  return findOption<MpJoinSyn>(segment, 'join-syn');
}

export function findJoinAck(segment: Segment): MpJoinAck | null {
  return findOption<MpJoinAck>(segment, 'join-ack');
}

/** All MP_CAPABLE options of a segment: an initiator may offer several versions. */
export function capableOptions(segment: Segment): MpCapable[] {
  if (segment.otherMptcpCount === 0) return NONE;
  const out: MpCapable[] = [];
  for (let i = 0; i < segment.otherMptcpCount; i++) {
    const option = optionAt(segment, i);
    if (option !== null && option.subtype === 'capable') out.push(option);
  }
  return out;
}

/** Whether MP_CAPABLE announces an extension nobody has defined yet (flag B). */
export function isExtended(segment: Segment): boolean {
  return capableOptions(segment).some((option) => (option.flags & CAPABLE_FLAG.extensibility) !== 0);
}

/** The parsed option of index `i`, null when it is malformed. */
export function optionAt(segment: Segment, i: number): MptcpOption | null {
  const at = segment.otherMptcp[i]!;
  const option = parseMptcpOption(segment.view, at, segment.view.getUint8(at + 1));
  return isMalformed(option) ? null : option;
}

/** The first option of a subtype. */
export function findOption<T extends MptcpOption>(segment: Segment, subtype: T['subtype']): T | null {
  for (let i = 0; i < segment.otherMptcpCount; i++) {
    const option = optionAt(segment, i);
    if (option !== null && option.subtype === subtype) return option as T;
  }
  return null;
}
