/** Our fields beside tshark's, packet by packet. */
import { spawnSync } from 'node:child_process';
import { Analyzer, DissectedPacket, FIELDS, valueText } from '@subflow/trace';
import { readCaptures } from '@subflow/trace/node';

export const MPTCP_FIELDS = [...FIELDS.keys()].filter((name) => name.startsWith('tcp.options.mptcp.') || name === 'mptcp.rm_addr.count');
export const OTHER_FIELDS = [
  'frame.len',
  'frame.cap_len',
  'vlan.id',
  'ip.src',
  'ip.dst',
  'ip.ttl',
  'ip.id',
  'ip.len',
  'ip.proto',
  'ip.dsfield',
  'ip.flags.df',
  'ip.flags.mf',
  'ipv6.src',
  'ipv6.dst',
  'ipv6.hlim',
  'ipv6.plen',
  'ipv6.flow',
  'tcp.srcport',
  'tcp.dstport',
  'tcp.stream',
  'tcp.len',
  'tcp.seq',
  'tcp.seq_raw',
  'tcp.ack',
  'tcp.ack_raw',
  'tcp.hdr_len',
  'tcp.flags',
  'tcp.flags.syn',
  'tcp.window_size_value',
  'tcp.window_size',
  'tcp.checksum',
  'tcp.option_kind',
  'tcp.option_len',
  'tcp.options.mss_val',
  'tcp.options.wscale.shift',
  'tcp.options.wscale.multiplier',
  'tcp.options.sack_le',
  'tcp.options.sack_re',
  'tcp.options.timestamp.tsval',
  'tcp.options.timestamp.tsecr',
];

export interface Difference {
  packet: number;
  field: string;
  ours: string;
  tshark: string;
}

export interface Comparison {
  packets: number;
  values: number;
  differences: Difference[];
}

export async function compareWithTshark(file: string, fields: readonly string[]): Promise<Comparison> {
  const result = spawnSync(
    'tshark',
    ['-r', file, '-n', '-d', 'tcp.port==80,data', '-T', 'fields', '-E', 'occurrence=a', '-E', 'aggregator=,', ...fields.flatMap((field) => ['-e', field])],
    {
      encoding: 'utf8',
      maxBuffer: 1 << 30,
    },
  );
  if (result.status !== 0) throw new Error(`tshark: ${result.stderr}`);
  const theirs = result.stdout.split('\n');
  const comparison: Comparison = { packets: 0, values: 0, differences: [] };
  const analyzer = new Analyzer();
  await readCaptures([file], (reader) => {
    analyzer.read(reader);
    const packet = new DissectedPacket(analyzer, reader, ++comparison.packets, 0);
    const columns = theirs[comparison.packets - 1]!.split('\t');
    fields.forEach((field, i) => {
      const ours = packet
        .of(field)
        .map((value) => valueText(FIELDS.get(field)!, value))
        .join(',');
      if (ours !== '') comparison.values++;
      if (ours !== (columns[i] ?? '')) comparison.differences.push({ packet: comparison.packets, field, ours, tshark: columns[i] ?? '' });
    });
  });
  return comparison;
}

interface KnownDifference {
  field: string;
  why: string;
  explains: (difference: Difference) => boolean;
}

/** What tshark 4.0.17 shows differently, and why we keep ours. */
export const KNOWN_DIFFERENCES: readonly KnownDifference[] = [
  {
    field: 'tcp.options.mptcp.checksum',
    why: 'RFC 8684 §3.3, Figure 9: the checksum is the last two octets of a DSS with a mapping. tshark asks for four octets where two are left, and never shows it.',
    explains: ({ ours, tshark }) => ours !== '' && tshark === '',
  },
  {
    field: 'tcp.option_kind',
    why: 'RFC 9293 §3.1: kind 0 ends the option list. tshark takes further padding octets for options.',
    explains: ({ ours, tshark }) => ours.endsWith(',0') && /^(,0)+$/.test(tshark.slice(ours.length)) && tshark.startsWith(ours),
  },
  {
    field: 'vlan.id',
    why: 'IEEE 802.1ad: the outer tag has a VLAN identifier as the inner one has. tshark calls it ieee8021ad.id.',
    explains: ({ ours, tshark }) => ours.split(',').at(-1) === tshark,
  },
];

export function unexplained(differences: readonly Difference[]): Difference[] {
  return differences.filter((one) => !KNOWN_DIFFERENCES.some((known) => known.field === one.field && known.explains(one))).slice(0, 20);
}
