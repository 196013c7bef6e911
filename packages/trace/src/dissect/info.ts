/** One line about a packet, in the manner of Wireshark's list. */
import { FRAME, FRAME_NAME } from '@subflow/wire';
import type { Analyzer } from '../analysis/analyzer.ts';
import type { DissectedPacket } from './packet.ts';
import { valueText } from './packet.ts';
import { FIELDS } from './fields.ts';

const SUBTYPES = ['MP_CAPABLE', 'MP_JOIN', 'DSS', 'ADD_ADDR', 'REMOVE_ADDR', 'MP_PRIO', 'MP_FAIL', 'MP_FASTCLOSE', 'MP_TCPRST'] as const;

/** Name of an option's subtype. */
export function subtypeName(subtype: number): string {
  return SUBTYPES[subtype] ?? `MPTCP ${subtype}`;
}

export interface PacketLine {
  number: number;
  /** Seconds from the first packet. */
  time: string;
  source: string;
  destination: string;
  protocol: string;
  length: number;
  info: string;
}

export function packetLine(packet: DissectedPacket, analyzer: Analyzer): PacketLine {
  const text = (name: string, index = -1): string => {
    const values = packet.of(name);
    const value = values.at(index);
    return value === undefined ? '' : valueText(FIELDS.get(name)!, value);
  };
  const v6 = analyzer.layers.segment.ipVersion === 6;
  const tcp = analyzer.held === FRAME.tcp;
  const hasIp = packet.of('ip').length > 0 || packet.of('ipv6').length > 0;
  return {
    number: packet.number,
    time: (packet.time / 1e6).toFixed(6),
    source: hasIp ? text(v6 ? 'ipv6.src' : 'ip.src') : text('eth.src'),
    destination: hasIp ? text(v6 ? 'ipv6.dst' : 'ip.dst') : text('eth.dst'),
    protocol: tcp ? (packet.of('tcp.options.mptcp').length > 0 ? 'MPTCP' : 'TCP') : analyzer.held === FRAME.icmp ? 'ICMP' : FRAME_NAME[analyzer.held]!,
    length: Number(packet.of('frame.len')[0] ?? 0),
    info: tcp ? tcpInfo(packet, text) : '',
  };
}

function tcpInfo(packet: DissectedPacket, text: (name: string, index?: number) => string): string {
  const flags = (
    [
      ['SYN', 'syn'],
      ['FIN', 'fin'],
      ['RST', 'reset'],
      ['PSH', 'push'],
      ['ACK', 'ack'],
      ['URG', 'urg'],
      ['ECE', 'ece'],
      ['CWR', 'cwr'],
    ] as const
  )
    .filter(([, name]) => packet.of(`tcp.flags.${name}`)[0] === true)
    .map(([name]) => name);
  const parts = [`${text('tcp.srcport')} → ${text('tcp.dstport')}`, `[${flags.join(', ')}]`, `Seq=${text('tcp.seq')}`];
  if (flags.includes('ACK')) parts.push(`Ack=${text('tcp.ack')}`);
  parts.push(`Win=${text('tcp.window_size')}`, `Len=${text('tcp.len')}`);
  if (packet.of('tcp.options.mss_val').length > 0) parts.push(`MSS=${text('tcp.options.mss_val')}`);
  if (packet.of('tcp.options.sack_le').length > 0) parts.push(`SLE=${text('tcp.options.sack_le', 0)} SRE=${text('tcp.options.sack_re', 0)}`);
  const subtypes = packet.of('tcp.options.mptcp.subtype');
  for (const subtype of subtypes) parts.push(optionInfo(Number(subtype), text));
  const kind = packet.of('subflow.payload')[0];
  if (kind !== undefined && kind !== 'new') parts.push(`[${String(kind)}]`);
  return parts.join(' ');
}

function optionInfo(subtype: number, text: (name: string, index?: number) => string): string {
  const P = 'tcp.options.mptcp';
  switch (subtype) {
    case 0:
      return `MP_CAPABLE v${text(`${P}.version`)}`;
    case 1:
      return `MP_JOIN${text(`${P}.addrid`) === '' ? '' : ` id=${text(`${P}.addrid`)}`}${text(`${P}.backup.flag`) === '1' ? ' backup' : ''}`;
    case 2: {
      const parts = ['DSS'];
      if (text(`${P}.rawdataseqno`) !== '') parts.push(`dsn=${text(`${P}.rawdataseqno`)} ssn=${text(`${P}.subflowseqno`)} len=${text(`${P}.datalvllen`)}`);
      if (text(`${P}.rawdataack`) !== '') parts.push(`ack=${text(`${P}.rawdataack`)}`);
      if (text(`${P}.datafin.flag`) === '1') parts.push('DATA_FIN');
      return parts.join(' ');
    }
    case 3:
      return `ADD_ADDR id=${text(`${P}.addrid`)} ${text(`${P}.ipv4`) || text(`${P}.ipv6`)}${text(`${P}.echo`) === '1' ? ' echo' : ''}`;
    case 4:
      return `REMOVE_ADDR id=${text(`${P}.addrid`)}`;
    case 5:
      return `MP_PRIO ${text(`${P}.backup.flag`) === '1' ? 'backup' : 'regular'}`;
    case 8:
      return `MP_TCPRST reason=${text(`${P}.rst_reason`)}`;
    default:
      return subtypeName(subtype);
  }
}
