/** Packets sent without a connection: resets (RFC 9293 §3.10.7.1), SYN+ACK with a cookie (RFC 4987 §3.6). */
import { buildPacket, FLAG, ipHeader, PROTOCOL } from '@subflow/wire';
import type { MptcpOption, Segment, TcpOption } from '@subflow/wire';
import { endsOf } from '../ends.ts';

/** The reset that answers a segment; with MP_TCPRST when a reason is given (RFC 8684 §3.6). */
export function bareResponse(segment: Segment, reason: number | null): Uint8Array {
  const hasAck = (segment.flags & FLAG.ack) !== 0;
  const length = segment.payloadLength + ((segment.flags & FLAG.syn) !== 0 ? 1 : 0) + ((segment.flags & FLAG.fin) !== 0 ? 1 : 0);
  const options: TcpOption[] = reason === null ? [] : [{ kind: 'mptcp', option: { subtype: 'tcprst', flags: 0, reason } }];
  const header = hasAck ? { seq: segment.ack, ack: 0, flags: FLAG.rst } : { seq: 0, ack: segment.seq + length, flags: FLAG.rst | FLAG.ack };
  return answer(segment, { ...header, window: 0, options });
}

/** What a SYN+ACK with a cookie says. */
export interface CookieAnswer {
  /** The cookie. */
  readonly isn: number;
  readonly mss: number;
  readonly scale: number;
  readonly timestamp: number | null;
  readonly mptcp: MptcpOption | null;
}

/**
 * SYN+ACK whose sequence number is the cookie. Without `timestamp` only the MSS can be remembered; with it the cookie
 * also keeps window scale and SACK in the low bits of the timestamp, which the peer echoes.
 */
export function cookieSynAck(segment: Segment, { isn, mss, scale, timestamp, mptcp }: CookieAnswer): Uint8Array {
  const options: TcpOption[] = [{ kind: 'mss', value: mss }];
  if (timestamp !== null) {
    options.push({ kind: 'nop' }, { kind: 'nop' }, { kind: 'timestamps', value: timestamp >>> 0, echo: segment.tsVal >>> 0 });
    if (segment.sackPermitted) options.push({ kind: 'nop' }, { kind: 'nop' }, { kind: 'sack-permitted' });
    if (segment.windowScale >= 0) options.push({ kind: 'nop' }, { kind: 'window-scale', shift: scale });
  }
  if (mptcp !== null) options.push({ kind: 'mptcp', option: mptcp });
  return answer(segment, { seq: isn, ack: segment.seq + 1, flags: FLAG.syn | FLAG.ack, window: 65535, options });
}

/** A segment in answer to another one, without a connection. */
function answer(segment: Segment, header: { seq: number; ack: number; flags: number; window: number; options: TcpOption[] }): Uint8Array {
  const { local, localPort, remote, remotePort } = endsOf(segment);
  const { seq, ack, flags, window, options } = header;
  return buildPacket(ipHeader(local, remote, PROTOCOL.tcp), {
    tcp: {
      sourcePort: localPort,
      destinationPort: remotePort,
      seq: seq >>> 0,
      ack: ack >>> 0,
      headerLength: 20,
      reserved: 0,
      flags,
      window,
      checksum: 0,
      urgent: 0,
      options,
    },
  });
}
