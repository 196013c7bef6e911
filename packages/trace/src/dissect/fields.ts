/** The fields of frames, IP, TCP and Multipath TCP, by the names that Wireshark has for them. */
import type { Field, FieldType } from './values.ts';

type Row = readonly [name: string, type: FieldType, title: string, digits?: number];

const ROWS: readonly Row[] = [
  ['frame', 'protocol', 'Frame'],
  ['frame.number', 'uint', 'Number of the packet'],
  ['frame.time_epoch', 'time', 'Time since 1970, seconds'],
  ['frame.time_relative', 'time', 'Time since the first packet, seconds'],
  ['frame.time_delta', 'time', 'Time since the packet before, seconds'],
  ['frame.len', 'uint', 'Length on the wire'],
  ['frame.cap_len', 'uint', 'Length captured'],
  ['frame.interface_id', 'uint', 'Interface'],
  ['frame.interface_name', 'string', 'Name of the interface'],
  ['frame.comment', 'string', 'Comment'],
  ['eth', 'protocol', 'Ethernet'],
  ['eth.src', 'ether', 'Source'],
  ['eth.dst', 'ether', 'Destination'],
  ['eth.addr', 'ether', 'Source or destination'],
  ['eth.type', 'hex', 'Type', 4],
  ['vlan', 'protocol', 'VLAN tag'],
  ['vlan.id', 'uint', 'VLAN identifier'],
  ['ip', 'protocol', 'IPv4'],
  ['ip.version', 'uint', 'Version'],
  ['ip.hdr_len', 'uint', 'Header length'],
  ['ip.dsfield', 'hex', 'Differentiated services', 2],
  ['ip.dsfield.dscp', 'uint', 'DSCP'],
  ['ip.dsfield.ecn', 'uint', 'ECN'],
  ['ip.len', 'uint', 'Total length'],
  ['ip.id', 'hex', 'Identification', 4],
  ['ip.flags.df', 'boolean', "Don't fragment"],
  ['ip.flags.mf', 'boolean', 'More fragments'],
  ['ip.frag_offset', 'uint', 'Fragment offset'],
  ['ip.ttl', 'uint', 'Time to live'],
  ['ip.proto', 'uint', 'Protocol'],
  ['ip.checksum', 'hex', 'Header checksum', 4],
  ['ip.src', 'ipv4', 'Source'],
  ['ip.dst', 'ipv4', 'Destination'],
  ['ip.addr', 'ipv4', 'Source or destination'],
  ['ipv6', 'protocol', 'IPv6'],
  ['ipv6.version', 'uint', 'Version'],
  ['ipv6.tclass', 'hex', 'Traffic class', 8],
  ['ipv6.flow', 'hex', 'Flow label', 6],
  ['ipv6.plen', 'uint', 'Payload length'],
  ['ipv6.nxt', 'uint', 'Next header'],
  ['ipv6.hlim', 'uint', 'Hop limit'],
  ['ipv6.src', 'ipv6', 'Source'],
  ['ipv6.dst', 'ipv6', 'Destination'],
  ['ipv6.addr', 'ipv6', 'Source or destination'],
  ['udp', 'protocol', 'UDP'],
  ['icmp', 'protocol', 'ICMP'],
  ['icmpv6', 'protocol', 'ICMPv6'],
  ['tcp', 'protocol', 'TCP'],
  ['tcp.srcport', 'uint', 'Source port'],
  ['tcp.dstport', 'uint', 'Destination port'],
  ['tcp.port', 'uint', 'Source or destination port'],
  ['tcp.stream', 'uint', 'Number of the TCP connection'],
  ['tcp.len', 'uint', 'Payload length'],
  ['tcp.seq', 'uint', 'Sequence number, relative'],
  ['tcp.seq_raw', 'uint', 'Sequence number'],
  ['tcp.nxtseq', 'uint', 'Next sequence number, relative'],
  ['tcp.ack', 'uint', 'Acknowledgement number, relative'],
  ['tcp.ack_raw', 'uint', 'Acknowledgement number'],
  ['tcp.hdr_len', 'uint', 'Header length'],
  ['tcp.flags', 'hex', 'Flags', 4],
  ['tcp.flags.res', 'boolean', 'Reserved'],
  ['tcp.flags.cwr', 'boolean', 'CWR'],
  ['tcp.flags.ece', 'boolean', 'ECE'],
  ['tcp.flags.urg', 'boolean', 'URG'],
  ['tcp.flags.ack', 'boolean', 'ACK'],
  ['tcp.flags.push', 'boolean', 'PSH'],
  ['tcp.flags.reset', 'boolean', 'RST'],
  ['tcp.flags.syn', 'boolean', 'SYN'],
  ['tcp.flags.fin', 'boolean', 'FIN'],
  ['tcp.window_size_value', 'uint', 'Window'],
  ['tcp.window_size', 'uint', 'Window, scaled'],
  ['tcp.checksum', 'hex', 'Checksum', 4],
  ['tcp.urgent_pointer', 'uint', 'Urgent pointer'],
  ['tcp.payload', 'bytes', 'Payload'],
  ['tcp.options', 'bytes', 'Options'],
  ['tcp.option_kind', 'uint', 'Option kind'],
  ['tcp.option_len', 'uint', 'Option length'],
  ['tcp.options.mss_val', 'uint', 'Maximum segment size'],
  ['tcp.options.wscale.shift', 'uint', 'Window scale'],
  ['tcp.options.wscale.multiplier', 'uint', 'Window multiplier'],
  ['tcp.options.sack_perm', 'none', 'SACK permitted'],
  ['tcp.options.sack.count', 'uint', 'SACK blocks'],
  ['tcp.options.sack_le', 'uint', 'SACK left edge, relative'],
  ['tcp.options.sack_re', 'uint', 'SACK right edge, relative'],
  ['tcp.options.timestamp.tsval', 'uint', 'Timestamp value'],
  ['tcp.options.timestamp.tsecr', 'uint', 'Timestamp echo'],
  ['tcp.options.mptcp', 'none', 'Multipath TCP option'],
  ['tcp.options.mptcp.subtype', 'uint', 'Subtype'],
  ['tcp.options.mptcp.version', 'uint', 'Version'],
  ['tcp.options.mptcp.reserved', 'hex', 'Reserved', 4],
  ['tcp.options.mptcp.flags', 'hex', 'Flags', 2],
  ['tcp.options.mptcp.backup.flag', 'uint', 'Backup (B)'],
  ['tcp.options.mptcp.checksumreq.flags', 'uint', 'Checksum required (A)'],
  ['tcp.options.mptcp.extensibility.flag', 'uint', 'Extensibility (B)'],
  ['tcp.options.mptcp.nomoresubflows.flag', 'uint', 'No joins to this address (C)'],
  ['tcp.options.mptcp.sha1.flag', 'uint', 'HMAC-SHA1 (H)'],
  ['tcp.options.mptcp.sha256.flag', 'uint', 'HMAC-SHA256 (H)'],
  ['tcp.options.mptcp.datafin.flag', 'uint', 'DATA_FIN (F)'],
  ['tcp.options.mptcp.dseqn8.flag', 'uint', 'Data sequence number of 8 octets (m)'],
  ['tcp.options.mptcp.dseqnpresent.flag', 'uint', 'Mapping present (M)'],
  ['tcp.options.mptcp.dataack8.flag', 'uint', 'Data ACK of 8 octets (a)'],
  ['tcp.options.mptcp.dataackpresent.flag', 'uint', 'Data ACK present (A)'],
  ['tcp.options.mptcp.reserved.flag', 'hex', 'Reserved flags', 2],
  ['tcp.options.mptcp.flag_U.flag', 'boolean', 'U'],
  ['tcp.options.mptcp.flag_V.flag', 'boolean', 'V'],
  ['tcp.options.mptcp.flag_W.flag', 'boolean', 'W'],
  ['tcp.options.mptcp.flag_T.flag', 'boolean', 'Transient (T)'],
  ['tcp.options.mptcp.rst_reason', 'hex', 'Reason of the reset', 2],
  ['tcp.options.mptcp.addrid', 'uint', 'Address identifier'],
  ['tcp.options.mptcp.sendkey', 'uint64', "Sender's key"],
  ['tcp.options.mptcp.recvkey', 'uint64', "Receiver's key"],
  ['tcp.options.mptcp.recvtok', 'uint', "Receiver's token"],
  ['tcp.options.mptcp.sendrand', 'uint', "Sender's random number"],
  ['tcp.options.mptcp.sendtrunchmac', 'uint64', "Sender's truncated HMAC"],
  ['tcp.options.mptcp.sendhmac', 'bytes', "Sender's HMAC"],
  ['tcp.options.mptcp.addaddrtrunchmac', 'uint64', 'Truncated HMAC of ADD_ADDR'],
  ['tcp.options.mptcp.rawdataack', 'uint64', 'Data ACK, as it stands there'],
  ['tcp.options.mptcp.rawdataseqno', 'uint64', 'Data sequence number, as it stands there'],
  ['tcp.options.mptcp.subflowseqno', 'uint', 'Subflow sequence number'],
  ['tcp.options.mptcp.datalvllen', 'uint', 'Data-level length'],
  ['tcp.options.mptcp.checksum', 'hex', 'DSS checksum', 4],
  ['tcp.options.mptcp.ipver', 'uint', 'IP version (version 0)'],
  ['tcp.options.mptcp.echo', 'uint', 'Echo (E)'],
  ['tcp.options.mptcp.ipv4', 'ipv4', 'Announced IPv4 address'],
  ['tcp.options.mptcp.ipv6', 'ipv6', 'Announced IPv6 address'],
  ['tcp.options.mptcp.port', 'uint', 'Announced port'],
  ['mptcp', 'protocol', 'Multipath TCP'],
  ['mptcp.stream', 'uint', 'Number of the Multipath TCP connection'],
  ['mptcp.rm_addr.count', 'uint', 'Number of removed addresses'],
  ['mptcp.master', 'boolean', 'First subflow of its connection'],
  ['mptcp.expected_token', 'uint', 'Token of the key in this packet'],
  ['mptcp.expected_idsn', 'uint64', 'Initial data sequence number of the key in this packet'],
  ['subflow.number', 'uint', 'Number of the subflow within its connection'],
  ['subflow.dsn', 'uint', 'Position of the payload in the data stream, from 1'],
  ['subflow.payload', 'string', 'new, retransmission, reinjection, reordered or keep-alive'],
  ['subflow.fallback', 'boolean', 'The connection has fallen back to TCP'],
  ['tcp.analysis.retransmission', 'none', 'Sent again on the same subflow'],
  ['tcp.analysis.out_of_order', 'none', 'Reordered by the network'],
  ['tcp.analysis.keep_alive', 'none', 'Keep-alive'],
  ['tcp.analysis.zero_window', 'none', 'The window is zero'],
];

export const FIELDS: ReadonlyMap<string, Field> = new Map(
  ROWS.map(([name, type, title, digits]) => [name, { name, type, title, ...(digits === undefined ? {} : { digits }) }]),
);

/** The known name nearest to one that is not known; null when none is near. */
export function nearestField(name: string): string | null {
  let best: string | null = null;
  let least = Math.max(3, Math.floor(name.length / 4)) + 1;
  for (const known of FIELDS.keys()) {
    const distance = editDistance(name, known, least);
    if (distance < least) {
      least = distance;
      best = known;
    }
  }
  return best;
}

function editDistance(a: string, b: string, most: number): number {
  if (Math.abs(a.length - b.length) >= most) return most;
  let row = Array.from({ length: b.length + 1 }, (_, i) => i);
  for (let i = 1; i <= a.length; i++) {
    const next = [i];
    for (let j = 1; j <= b.length; j++) next.push(Math.min(row[j]! + 1, next[j - 1]! + 1, row[j - 1]! + (a[i - 1] === b[j - 1] ? 0 : 1)));
    row = next;
  }
  return row[b.length]!;
}
