/** Middleboxes as packet filters: what a path may do to Multipath TCP (RFC 8684 §6). The catalogue grows with issue 3. */
import { fillTcpChecksum, FLAG, isMalformed, MPTCP_KIND, parsePacketValue } from '@subflow/wire';
import type { PacketFilter } from './link.ts';

/** Which segments a filter touches. */
export type Where = 'syn' | 'synack' | 'after-handshake' | 'all';

/** Replaces Multipath TCP options by NOPs, as firewalls do, on the chosen segments. `active` may switch it on later. */
export function stripMultipath(where: Where, active: () => boolean = () => true): PacketFilter {
  return (packet) => {
    if (!active()) return packet;
    const parsed = parsePacketValue(packet);
    if (isMalformed(parsed) || parsed.tcp === null) return packet;
    const { tcp, ip } = parsed;
    const syn = (tcp.flags & FLAG.syn) !== 0;
    const ack = (tcp.flags & FLAG.ack) !== 0;
    const hit = where === 'all' || (where === 'syn' && syn && !ack) || (where === 'synack' && syn && ack) || (where === 'after-handshake' && !syn);
    if (!hit || !tcp.options.some((option) => option.kind === 'mptcp')) return packet;
    const copy = packet.slice();
    const view = new DataView(copy.buffer);
    // In place: every byte of the option becomes a NOP, the header keeps its length.
    let at = ip.headerLength + 20;
    const end = ip.headerLength + tcp.headerLength;
    while (at < end) {
      const kind = copy[at]!;
      if (kind === 0) break;
      if (kind === 1) {
        at++;
        continue;
      }
      const size = copy[at + 1]!;
      if (kind === MPTCP_KIND) copy.fill(1, at, at + size);
      at += size;
    }
    fillTcpChecksum(view, copy);
    return copy;
  };
}
