/**
 * Cutting a super-segment into packets that fit a path, as TCP segmentation offload does (RFC 9293 semantics; every
 * piece repeats the options, so a DSS mapping is repeated too, which RFC 8684 §3.1 and §3.3.1 allow).
 */
import { finish, sum } from './checksum.ts';
import { ipv4Checksum } from './ipv4.ts';
import { IPV4, IPV6, IPV6_HEADER } from './numbers.ts';
import { PARSED, parsePacket, Segment, tcpPseudoHeader } from './segment.ts';
import { FLAG, TCP } from './tcp.ts';

const scratch = new Segment();

/**
 * Cuts the TCP packet at `offset` so that no piece carries more than `segmentSize` payload bytes, with full checksums,
 * and hands each piece (a fresh array) to `output`. Returns the number of pieces, 0 when it is no TCP packet.
 * FIN and PSH go on the last piece, CWR on the first only (RFC 3168 §6.1.2).
 */
// oxlint-disable-next-line max-params -- a call for every packet: an object for its arguments costs as much as the work
export function segmentize(
  view: DataView,
  bytes: Uint8Array,
  offset: number,
  length: number,
  segmentSize: number,
  output: (packet: Uint8Array) => void,
): number {
  if (parsePacket(view, bytes, offset, length, false, scratch) !== PARSED.tcp) return 0;
  const headerLength = scratch.payloadOffset - offset;
  const tcpAt = scratch.tcpOffset - offset;
  const total = scratch.payloadLength;
  const { seq, flags, ipVersion } = scratch;
  const identification = ipVersion === 4 ? view.getUint16(offset + IPV4.identification) : 0;
  let sent = 0;
  let count = 0;
  do {
    const size = Math.min(segmentSize, total - sent);
    const packet = new Uint8Array(headerLength + size);
    packet.set(bytes.subarray(offset, offset + headerLength));
    packet.set(bytes.subarray(offset + headerLength + sent, offset + headerLength + sent + size), headerLength);
    const out = new DataView(packet.buffer);
    out.setInt32(tcpAt + TCP.seq, (seq + sent) | 0);
    let f = flags;
    if (sent + size < total) f &= ~(FLAG.fin | FLAG.psh);
    if (sent > 0) f &= ~FLAG.cwr;
    packet[tcpAt + TCP.flags] = f;
    if (ipVersion === 4) {
      out.setUint16(IPV4.totalLength, packet.length);
      out.setUint16(IPV4.identification, (identification + count) & 0xffff);
      out.setUint16(IPV4.checksum, ipv4Checksum(packet, 0, tcpAt));
    } else {
      out.setUint16(IPV6.payloadLength, packet.length - IPV6_HEADER);
    }
    fillTcpChecksum(out, packet);
    output(packet);
    sent += size;
    count++;
  } while (sent < total);
  return count;
}

/** Computes and stores the TCP checksum of the whole packet in `packet`. Does nothing when it is no TCP packet. */
export function fillTcpChecksum(view: DataView, packet: Uint8Array): void {
  if (parsePacket(view, packet, 0, packet.length, false, scratch) !== PARSED.tcp) return;
  const length = scratch.endOffset - scratch.tcpOffset;
  view.setUint16(scratch.tcpOffset + TCP.checksum, 0);
  view.setUint16(scratch.tcpOffset + TCP.checksum, finish(sum(packet, scratch.tcpOffset, length, tcpPseudoHeader(scratch, length))));
}
