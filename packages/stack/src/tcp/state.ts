/** Connection states (RFC 9293 §3.3.2). Numbers, because the hot path compares them. */
export const STATE = {
  closed: 0,
  synSent: 1,
  synReceived: 2,
  established: 3,
  finWait1: 4,
  finWait2: 5,
  closeWait: 6,
  closing: 7,
  lastAck: 8,
  timeWait: 9,
} as const;
export type State = (typeof STATE)[keyof typeof STATE];

export const STATE_NAMES = [
  'CLOSED',
  'SYN-SENT',
  'SYN-RECEIVED',
  'ESTABLISHED',
  'FIN-WAIT-1',
  'FIN-WAIT-2',
  'CLOSE-WAIT',
  'CLOSING',
  'LAST-ACK',
  'TIME-WAIT',
] as const;

/** Why a TCP connection ended. */
export const CLOSE_REASON = {
  normal: 'normal',
  reset: 'reset',
  refused: 'refused',
  timeout: 'timeout',
  aborted: 'aborted',
  unreachable: 'unreachable',
  userTimeout: 'user-timeout',
} as const;
export type CloseReason = (typeof CLOSE_REASON)[keyof typeof CLOSE_REASON];

/** Congestion states (RFC 5681, RFC 6675, RFC 6298). */
export const CONGESTION = { open: 0, recovery: 1, loss: 2 } as const;
export type CongestionState = (typeof CONGESTION)[keyof typeof CONGESTION];

/** Our FIN: not wanted yet, behind the data that is queued, under way, lost, acknowledged. */
export type OwnFin = 'none' | 'queued' | 'inFlight' | 'lost' | 'acknowledged';

/** The peer's FIN: not seen, seen ahead of what is still missing (`finPosition` says where), taken. */
export type PeerFin = 'none' | 'ahead' | 'taken';
