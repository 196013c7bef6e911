/** Packets sent without a connection: resets (RFC 9293 §3.10.7.1), SYN+ACK with a cookie (RFC 4987 §3.6). */
import { buildPacket, FLAG, ipHeader, PROTOCOL } from '@subflow/wire';
import type { MptcpOption, Segment, TcpOption } from '@subflow/wire';

/** The reset that answers a segment; with MP_TCPRST when `reason` is 0 or more (RFC 8684 §3.6). */
export function bareResponse(segment: Segment, reason: number): Uint8Array {
  const hasAck = (segment.flags & FLAG.ack) !== 0;
  const length = segment.payloadLength + ((segment.flags & FLAG.syn) !== 0 ? 1 : 0) + ((segment.flags & FLAG.fin) !== 0 ? 1 : 0);
  const options: TcpOption[] = reason < 0 ? [] : [{ kind: 'mptcp', option: { subtype: 'tcprst', flags: 0, reason } }];
  return answer(segment, hasAck ? segment.ack : 0, hasAck ? 0 : segment.seq + length, hasAck ? FLAG.rst : FLAG.rst | FLAG.ack, 0, options);
}

/**
 * SYN+ACK whose sequence number is the cookie. Without `timestamp` only the MSS can be remembered; with it the cookie
 * also keeps window scale and SACK in the low bits of the timestamp, which the peer echoes.
 */
export function cookieSynAck(segment: Segment, isn: number, mss: number, scale: number, timestamp: number | null, mptcp: MptcpOption | null): Uint8Array {
  const options: TcpOption[] = [{ kind: 'mss', value: mss }];
  if (timestamp !== null) {
    options.push({ kind: 'nop' }, { kind: 'nop' }, { kind: 'timestamps', value: timestamp >>> 0, echo: segment.tsVal >>> 0 });
    if (segment.sackPermitted) options.push({ kind: 'nop' }, { kind: 'nop' }, { kind: 'sack-permitted' });
    if (segment.windowScale >= 0) options.push({ kind: 'nop' }, { kind: 'window-scale', shift: scale });
  }
  if (mptcp !== null) options.push({ kind: 'mptcp', option: mptcp });
  return answer(segment, isn, segment.seq + 1, FLAG.syn | FLAG.ack, 65535, options);
}

function answer(segment: Segment, seq: number, ack: number, flags: number, window: number, options: TcpOption[]): Uint8Array {
  const v4 = segment.ipVersion === 4;
  const at = segment.ipOffset + (v4 ? 12 : 8);
  const size = v4 ? 4 : 16;
  const source = segment.bytes.slice(at, at + size);
  const destination = segment.bytes.slice(at + size, at + 2 * size);
  return buildPacket(ipHeader(destination, source, PROTOCOL.tcp), {
    tcp: {
      sourcePort: segment.destinationPort,
      destinationPort: segment.sourcePort,
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
