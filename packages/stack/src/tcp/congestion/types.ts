/** The interface of a congestion controller: one object per subflow. */

/** What a controller sees of its connection. Bytes and microseconds. */
export interface CongestionView {
  cwnd: number;
  ssthresh: number;
  /** Bytes per microsecond between transmissions; 0: as fast as the window allows. */
  pacingRate: number;
  readonly mss: number;
  readonly srtt: number;
  readonly minRtt: number;
  readonly lastRtt: number;
  readonly inFlight: number;
  readonly sndUna: number;
  readonly sndNxt: number;
  /** The controller of this connection: coupled ones look at each other. */
  readonly congestion: CongestionControl;
}

/** One measurement of the delivery rate (draft-cheng-iccrg-delivery-rate-estimation-00 §3). */
export interface RateSample {
  /** Bytes delivered over `interval` microseconds; 0 when the measurement is no good. */
  delivered: number;
  interval: number;
  /** Bytes delivered in all when the measured segment was sent: tells rounds apart. */
  priorDelivered: number;
  /** The sender had run out of data: the rate is a lower bound. */
  appLimited: boolean;
  /** Bytes newly acknowledged by this ACK, cumulatively or selectively. */
  acked: number;
  /** RTT of this ACK, -1 when unknown. */
  rtt: number;
  /** Bytes delivered in all. */
  total: number;
}

export interface CongestionControl {
  readonly name: string;
  /** `acked` bytes were newly acknowledged outside recovery while the window was the limit: grow `cwnd`. */
  onAck(view: CongestionView, acked: number, now: number): void;
  /** Loss or ECN mark: returns the new slow-start threshold in bytes. */
  onLoss(view: CongestionView, now: number): number;
  /** Retransmission timeout: returns the new slow-start threshold. */
  onTimeout(view: CongestionView, now: number): number;
  /**
   * When present, delivery rates are measured, this is called for every ACK that delivered something, and the
   * controller alone sets `cwnd` and `pacingRate`, during recovery too.
   */
  onSample?(view: CongestionView, sample: RateSample, now: number): void;
}

/** Makes a controller for a new subflow. */
export type CongestionFactory = () => CongestionControl;
