/** tshark's opinion of a capture. */
import { command } from '@subflow/link';

// The payload is noise: left to its heuristics tshark takes some of it for a protocol and loops for minutes.
const OPTIONS = ['-d', 'tcp.port==8080,data', '-o', 'tcp.check_checksum:TRUE', '-o', 'ip.check_checksum:TRUE', '-o', 'mptcp.analyze_mappings:TRUE'];
/**
 * Malformed packets, wrong checksums, Multipath TCP expert errors. Linux writes 0xffff where the sum is zero
 * (CSUM_MANGLED_0), which is the same number in ones' complement; tshark would have 0x0000.
 */
const BAD =
  '_ws.malformed || (tcp.checksum.status == 0 && tcp.checksum != 0xffff) || ip.checksum.status == 0 || mptcp.connection.echoed_key_mismatch || mptcp.connection.missing_algorithm || mptcp.connection.unsupported_algorithm || mptcp.dss.infinite_mapping';

export interface CaptureOpinion {
  /** One line per bad packet, at most ten. */
  bad: string[];
  connections: number;
  subflows: number;
}

export function tsharkOpinion(file: string): CaptureOpinion {
  const bad = command('tshark', ['-r', file, ...OPTIONS, '-Y', BAD]);
  const streams = command('tshark', ['-r', file, ...OPTIONS, '-Y', 'mptcp && tcp.flags.syn == 0', '-T', 'fields', '-e', 'mptcp.stream', '-e', 'tcp.stream']);
  const connections = new Set<string>();
  const subflows = new Set<string>();
  for (const line of streams.split('\n')) {
    const [connection, subflow] = line.split('\t');
    if (!connection || !subflow) continue;
    connections.add(connection);
    subflows.add(subflow);
  }
  return {
    bad: bad
      .split('\n')
      .filter((line) => line !== '')
      .slice(0, 10),
    connections: connections.size,
    subflows: subflows.size,
  };
}
