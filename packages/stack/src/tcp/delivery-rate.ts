/**
 * Delivery rate samples (draft-cheng-iccrg-delivery-rate-estimation-00), taken only for controllers that ask for them:
 * how much was delivered between the transmission of a segment and its acknowledgement.
 */
import type { RateSample } from './congestion/types.ts';
import type { RateStamp, SendRecord } from './retransmission-queue.ts';

/** State of one connection; null in the control block while nobody measures. */
export class DeliveryRate {
  delivered = 0;
  deliveredAt = 0;
  firstSentAt = 0;
  /** Delivered bytes up to which samples are limited by the application; 0: not limited. */
  appLimitedUntil = 0;
  // The segment of this ACK that was sent last.
  private newest: SendRecord | null = null;
  readonly sample: RateSample = { delivered: 0, interval: 0, priorDelivered: 0, appLimited: false, acked: 0, rtt: -1, total: 0 };

  /** What is noted with a segment that goes out now; `inFlight`: bytes out before it. */
  stamp(inFlight: number, now: number): RateStamp {
    if (inFlight === 0) {
      this.firstSentAt = now;
      this.deliveredAt = now;
    }
    return { delivered: this.delivered, deliveredAt: this.deliveredAt, firstSentAt: this.firstSentAt, appLimited: this.appLimitedUntil > 0 };
  }

  /** A segment was acknowledged. */
  acknowledged(record: SendRecord, length: number, now: number): void {
    this.delivered += length;
    this.deliveredAt = now;
    const { rate } = record;
    if (rate === null) return;
    if (this.newest === null || rate.delivered >= this.newest.rate!.delivered) this.newest = record;
  }

  /** Finishes the sample of one ACK. */
  finish(acked: number, rtt: number, minRtt: number): RateSample {
    const { sample, newest } = this;
    sample.acked = acked;
    sample.rtt = rtt;
    sample.total = this.delivered;
    sample.delivered = 0;
    sample.interval = 0;
    sample.appLimited = false;
    this.newest = null;
    // Ran out after this segment had gone: what it measures is the application as well.
    const ranOut = this.appLimitedUntil > 0;
    if (ranOut && this.delivered > this.appLimitedUntil) this.appLimitedUntil = 0;
    if (newest === null) return sample;
    const rate = newest.rate!;
    sample.priorDelivered = rate.delivered;
    sample.appLimited = rate.appLimited || ranOut;
    const sendTime = newest.sentAt - rate.firstSentAt;
    const ackTime = this.deliveredAt - rate.deliveredAt;
    this.firstSentAt = newest.sentAt;
    sample.interval = Math.max(sendTime, ackTime);
    // Shorter than the path's minimum RTT cannot be: compressed ACKs (§3.3).
    if (sample.interval >= minRtt && sample.interval > 0) sample.delivered = this.delivered - rate.delivered;
    return sample;
  }

  /** The application has nothing more to send although the window would take it. */
  limitedByApplication(inFlight: number): void {
    this.appLimitedUntil = Math.max(1, this.delivered + inFlight);
  }
}
