/** Packets in one line. */
import { optionName, seen } from './compare.ts';

/** `IP / TCP SYN / MSS, SACK-permitted, MP_CAPABLE`, for a packet of ours. */
export function layersOf(bytes: Uint8Array): string {
  const packet = seen(bytes);
  if (packet === null) return `${bytes.length} octets`;
  const flags = ['FIN', 'SYN', 'RST', 'PSH', 'ACK', 'URG', 'ECE', 'CWR'].filter((_, i) => (packet.flags & (1 << i)) !== 0);
  const options = (packet.options ?? [])
    .filter((one) => one.kind !== 'nop' && one.kind !== 'end')
    .map((one) => optionName(one).replace('tcp.option.', '').replace('mptcp.', 'MP '));
  const data = packet.payloadLength > 0 ? ` / ${packet.payloadLength} octets` : '';
  return `${packet.version === 4 ? 'IP' : 'IPv6'} / TCP ${flags.join(' ')}${options.length > 0 ? ` / ${options.join(', ')}` : ''}${data}`;
}
