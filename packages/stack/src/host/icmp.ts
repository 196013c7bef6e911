/** ICMP: echo replies, and errors about our segments after validation (RFC 5927 §4, RFC 9293 §3.9.2.2, RFC 8201 §4). */
import { buildPacket, fold, ICMP, ICMPV6, ipHeader, isMalformed, parseIcmp, parseIpv4, parseIpv6, pseudoHeader, PROTOCOL, sum } from '@subflow/wire';
import type { IcmpError, Segment } from '@subflow/wire';
import { endsOf } from '../ends.ts';
import type { HostCore } from './core.ts';
import type { Interface } from '../interface.ts';
import { remove } from '../tcp/close.ts';
import { reducePathMtu } from '../tcp/path-mtu.ts';
import { toPosition } from '../tcp/sequence.ts';
import { STATE } from '../tcp/state.ts';
import { Tcb } from '../tcp/tcb.ts';

const MAX_ECHO = 1280;

export function handleIcmp(host: HostCore, through: Interface, packet: Segment, now: number): void {
  const version = packet.ipVersion === 4 ? 4 : 6;
  const length = packet.endOffset - packet.tcpOffset;
  const pseudo = version === 4 ? 0 : pseudoHeader(packet.bytes, packet.ipOffset, PROTOCOL.icmpv6, length);
  if (length < 8 || fold(sum(packet.bytes, packet.tcpOffset, length, pseudo)) !== 0xffff) {
    host.drop(through, 'icmp-checksum', now);
    return;
  }
  const message = parseIcmp(packet.view, packet.tcpOffset, length, version);
  if (isMalformed(message)) {
    host.drop(through, 'icmp-malformed', now);
    return;
  }
  if (message.kind === 'echo' && !message.reply && length <= MAX_ECHO) {
    const { local, remote } = endsOf(packet);
    const protocol = version === 4 ? PROTOCOL.icmp : PROTOCOL.icmpv6;
    host.sendRaw(through, buildPacket(ipHeader(local, remote, protocol), { icmp: { ...message, reply: true } }));
    return;
  }
  if (message.kind === 'error') handleError(host, through, message, now);
  else host.count('icmp-ignored');
}

function handleError(host: HostCore, through: Interface, message: IcmpError, now: number): void {
  const view = new DataView(message.quote.buffer, message.quote.byteOffset, message.quote.byteLength);
  const ip = message.version === 4 ? parseIpv4(view, 0, view.byteLength) : parseIpv6(view, 0, view.byteLength);
  if (isMalformed(ip) || ip.protocol !== PROTOCOL.tcp || ip.headerLength + 8 > view.byteLength) {
    host.drop(through, 'icmp-quote', now);
    return;
  }
  const tcb = host.demux.findEnds({
    local: ip.source,
    localPort: view.getUint16(ip.headerLength),
    remote: ip.destination,
    remotePort: view.getUint16(ip.headerLength + 2),
  });
  if (!(tcb instanceof Tcb)) {
    host.drop(through, 'icmp-no-connection', now);
    return;
  }
  // The quoted sequence number must be in flight, or anyone could forge errors (RFC 5927 §4.1).
  const position = toPosition(tcb.iss, view.getInt32(ip.headerLength + 4), tcb.sndUna);
  if (position < tcb.sndUna || position >= tcb.sndNxt) {
    host.drop(through, 'icmp-out-of-window', now);
    return;
  }
  const tooBig = message.version === 4 ? message.type === ICMP.unreachable && message.code === 4 : message.type === ICMPV6.packetTooBig;
  if (tooBig) {
    const mtu = message.version === 4 ? message.rest & 0xffff : message.rest;
    if (message.version === 6 && mtu < 1280) {
      // No link of IPv6 has less (RFC 8201 §4).
      host.drop(through, 'icmp-mtu-too-small', now);
      return;
    }
    // Old routers say 0 (RFC 1191 §5): take the minimum.
    if (reducePathMtu(tcb, mtu === 0 ? 576 : mtu)) host.count('icmp-path-mtu');
    return;
  }
  const unreachable = message.type === (message.version === 4 ? ICMP.unreachable : ICMPV6.unreachable);
  // Hard errors end a connection that is being opened; later they are only counted (RFC 5927 §5.2, RFC 9293 §3.9.2.2).
  if (unreachable && tcb.state === STATE.synSent) remove(tcb, 'unreachable', now);
  else host.count('icmp-soft-error');
}
