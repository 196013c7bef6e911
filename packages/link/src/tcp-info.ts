/** struct tcp_info (linux/tcp.h): fields by fixed offset; older kernels give fewer. Times in microseconds. */
import { IPPROTO_TCP, socketOption } from './system.ts';

const TCP_INFO = 11;

export interface KernelTcpInfo {
  state: string;
  rto: number;
  mss: number;
  srtt: number;
  rttvar: number;
  minRtt: number;
  cwnd: number;
  ssthresh: number;
  /** Segments in flight, lost, and retransmitted in all. */
  unacked: number;
  lost: number;
  retransmissions: number;
  bytesSent: number;
  bytesAcknowledged: number;
  bytesReceived: number;
  bytesRetransmitted: number;
  /** Bytes per second. */
  pacingRate: number;
  deliveryRate: number;
}

const STATES = [
  '',
  'ESTABLISHED',
  'SYN-SENT',
  'SYN-RECEIVED',
  'FIN-WAIT-1',
  'FIN-WAIT-2',
  'TIME-WAIT',
  'CLOSED',
  'CLOSE-WAIT',
  'LAST-ACK',
  'LISTEN',
  'CLOSING',
  'SYN-RECEIVED',
];

const AT = {
  state: 0,
  rto: 8,
  mss: 16,
  unacked: 24,
  lost: 32,
  srtt: 68,
  rttvar: 72,
  ssthresh: 76,
  cwnd: 80,
  retransmissions: 100,
  pacingRate: 104,
  bytesAcknowledged: 120,
  bytesReceived: 128,
  minRtt: 148,
  deliveryRate: 160,
  bytesSent: 200,
  bytesRetransmitted: 208,
} as const;

/** TCP_INFO of a socket; null on error. */
export function readTcpInfo(fd: number): KernelTcpInfo | null {
  const bytes = fd < 0 ? null : socketOption(fd, IPPROTO_TCP, TCP_INFO, 256);
  return bytes === null ? null : parseTcpInfo(bytes);
}

export function tcpStateName(state: number): string {
  return STATES[state] ?? 'CLOSED';
}

export function parseTcpInfo(bytes: Uint8Array): KernelTcpInfo {
  const view = new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength);
  const u32 = (at: number): number => (at + 4 <= bytes.length ? view.getUint32(at, true) : 0);
  const u64 = (at: number): number => (at + 8 <= bytes.length ? Number(view.getBigUint64(at, true)) : 0);
  const mss = u32(AT.mss);
  const ssthresh = u32(AT.ssthresh);
  return {
    state: tcpStateName(bytes[AT.state] ?? 7),
    rto: u32(AT.rto),
    mss,
    srtt: u32(AT.srtt),
    rttvar: u32(AT.rttvar),
    minRtt: u32(AT.minRtt) === 0xffffffff ? 0 : u32(AT.minRtt),
    cwnd: u32(AT.cwnd) * mss,
    ssthresh: ssthresh >= 0x7fffffff ? Number.MAX_SAFE_INTEGER : ssthresh * mss,
    unacked: u32(AT.unacked),
    lost: u32(AT.lost),
    retransmissions: u32(AT.retransmissions),
    bytesSent: u64(AT.bytesSent),
    bytesAcknowledged: u64(AT.bytesAcknowledged),
    bytesReceived: u64(AT.bytesReceived),
    bytesRetransmitted: u64(AT.bytesRetransmitted),
    pacingRate: u64(AT.pacingRate),
    deliveryRate: u64(AT.deliveryRate),
  };
}
