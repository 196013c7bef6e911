/** The catalogue by name: each row a behaviour seen on real paths, ready to be put on a link. */
import { FLAG } from '@subflow/wire';
import type { Random } from '../random.ts';
import { acknowledgeProactively, resetMultipath, transparentProxy } from './active.ts';
import type { MiddleboxFactory } from './box.ts';
import {
  clampMss,
  clampWindow,
  clearDontFragment,
  clearFlags,
  removeFromSyn,
  rewriteDscp,
  rewriteEcn,
  rewriteIdentification,
  rewriteKeys,
  rewriteTtl,
  shiftTimestamps,
  stripKinds,
  stripSubtypes,
} from './headers.ts';
import { translateAddresses } from './nat.ts';
import { clearOptions, dropUnknownOptions, reflectOptions, stripOptions, swapOptions } from './options.ts';
import { coalesceSegments, dropHoles, splitSegments } from './segments.ts';
import { resizePayload, rewritePayload, rewriteSequence } from './translate.ts';

export interface CatalogueRow {
  /** What the box does, one line. */
  description: string;
  make(place: BoxPlace): MiddleboxFactory;
}

/** Where a box stands, and its luck. */
export interface BoxPlace {
  random: Random;
  /** Address that translated clients have behind the box. */
  outside: Uint8Array;
}

const row = (description: string, make: (place: BoxPlace) => MiddleboxFactory): CatalogueRow => ({ description, make });
/** A shift of sequence numbers as firewalls draw it. */
const SHIFT = 0x2345_6789;
const NAT_TIMEOUT = 600_000_000;

export const MIDDLEBOXES: Readonly<Record<string, CatalogueRow>> = {
  'strip-syn': row('replaces Multipath TCP options of SYNs by NOPs', () => stripOptions('syn', 'forward')),
  'remove-syn': row('takes Multipath TCP options out of SYNs, the header gets shorter', () => removeFromSyn('forward')),
  'strip-synack': row('replaces Multipath TCP options of SYN+ACKs by NOPs', () => stripOptions('synack', 'backward')),
  'strip-data': row('replaces Multipath TCP options after the handshake, towards the server', () => stripOptions('after-handshake', 'forward')),
  'strip-data-back': row('replaces Multipath TCP options after the handshake, towards the client', () => stripOptions('after-handshake', 'backward')),
  'strip-all': row('replaces every Multipath TCP option by NOPs', () => stripOptions('all', 'both')),
  'strip-join': row('replaces MP_JOIN only', () => stripSubtypes(['join-syn', 'join-synack', 'join-ack'], 'forward')),
  'strip-add-addr': row('replaces ADD_ADDR only', () => stripSubtypes(['add-addr'], 'forward')),
  'drop-syn': row('drops SYNs with options it does not know', () => dropUnknownOptions('syn')),
  'drop-data': row('drops segments after the handshake that carry options it does not know', () => dropUnknownOptions('after-handshake')),
  'clear-syn': row('overwrites the content of unknown options in SYNs with zeros', () => clearOptions('syn')),
  'rewrite-key': row("changes the sender's key in MP_CAPABLE", () => rewriteKeys(0x5a5a_5a5a, 'forward')),
  'swap-options': row('changes the order of options', () => swapOptions()),
  'reflect-options': row("sends the SYN's options back, and hides them from the server", () => reflectOptions()),
  'strip-timestamps': row('takes the timestamp option out', () => stripKinds(['timestamps'], 'forward')),
  'shift-timestamps': row('shifts timestamps', () => shiftTimestamps(123_456_789)),
  'strip-sack': row('takes SACK-permitted out of SYNs', () => stripKinds(['sack-permitted'], 'forward')),
  'strip-window-scale': row('takes window scaling out of SYNs', () => stripKinds(['window-scale'], 'forward')),
  'clamp-mss': row('lowers the MSS option', () => clampMss(536, 'forward')),
  'clamp-mss-back': row("lowers the server's MSS option", () => clampMss(536, 'backward')),
  'clamp-window': row('lowers the advertised window', () => clampWindow(1000, 'forward')),
  'clear-ecn-setup': row('clears the flags by which TCP negotiates ECN', () => clearFlags(FLAG.ece | FLAG.cwr, 'forward')),
  'rewrite-dscp': row('sets the DSCP to zero', () => rewriteDscp(0, 'forward')),
  'rewrite-ecn': row('takes the ECN mark away', () => rewriteEcn(0, 'forward')),
  'mark-ecn': row('marks every packet with congestion experienced', () => rewriteEcn(3, 'forward')),
  'rewrite-ttl': row('sets the TTL anew', () => rewriteTtl(64, 'forward')),
  'rewrite-ip-id': row('numbers IPv4 packets anew', () => rewriteIdentification('forward')),
  'clear-df': row("clears don't fragment", () => clearDontFragment('forward')),
  nat: row('translates addresses and ports', ({ outside }) => translateAddresses(outside, NAT_TIMEOUT)),
  'rewrite-sequence': row("shifts the client's sequence numbers", () => rewriteSequence(SHIFT)),
  'split-all': row('splits segments, options on every piece', () => splitSegments(256, 'all')),
  'split-first': row('splits segments, options on the first piece', () => splitSegments(256, 'first')),
  coalesce: row('joins segments that follow each other', () => coalesceSegments(1400)),
  'drop-holes': row('drops segments that leave a hole', () => dropHoles()),
  'rewrite-payload': row('changes a byte of the payload, its length kept', () => rewritePayload(1)),
  'insert-payload': row('inserts bytes into the payload', () => resizePayload(5, 100)),
  'remove-payload': row('removes bytes of the payload', () => resizePayload(-5, 100)),
  'reset-syn': row('resets connections whose SYN carries Multipath TCP', () => resetMultipath('syn')),
  'reset-data': row('resets connections whose data carries Multipath TCP', () => resetMultipath('after-handshake')),
  'proactive-ack': row('acknowledges data for the server', () => acknowledgeProactively()),
  proxy: row('ends the connection and opens one of its own', ({ random }) => transparentProxy(random)),
};
