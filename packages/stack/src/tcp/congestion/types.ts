/** The interface of a congestion controller: one object per subflow. */

/** What a controller sees of its connection. Bytes and microseconds. */
export interface CongestionView {
  cwnd: number;
  ssthresh: number;
  readonly mss: number;
  readonly srtt: number;
  readonly minRtt: number;
  readonly lastRtt: number;
  readonly inFlight: number;
  readonly sndUna: number;
  readonly sndNxt: number;
}

export interface CongestionControl {
  readonly name: string;
  /** `acked` bytes were newly acknowledged outside recovery while the window was the limit: grow `cwnd`. */
  onAck(view: CongestionView, acked: number, now: number): void;
  /** Loss or ECN mark: returns the new slow-start threshold in bytes. */
  onLoss(view: CongestionView, now: number): number;
  /** Retransmission timeout: returns the new slow-start threshold. */
  onTimeout(view: CongestionView, now: number): number;
}

/** Makes a controller for a new subflow. */
export type CongestionFactory = () => CongestionControl;
