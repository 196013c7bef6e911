/** Emulated links: rate, delay, jitter, loss, reordering, duplication, corruption, queue limits, cuts. */
import { ECN, ipTrafficClass, setIpTrafficClass } from '@subflow/wire';
import type { Agenda } from './agenda.ts';
import type { Random } from './random.ts';

/** Bernoulli loss is a probability; Gilbert–Elliott has two states with their own loss and the chances to change between them, per packet. */
export type LossModel = number | { goodToBad: number; badToGood: number; lossGood: number; lossBad: number };

/** One direction of a link. Probabilities are per packet. */
export interface LinkConfig {
  /** Bits per second; 0 is unlimited. */
  rate: number;
  /** One-way propagation, microseconds. */
  delay: number;
  /** Largest extra delay, uniformly drawn, microseconds; order is kept. */
  jitter: number;
  loss: LossModel;
  /** Chance that a packet is held back by `reorderDelay` and may be overtaken. */
  reorder: number;
  reorderDelay: number;
  duplicate: number;
  /** Chance that one bit is flipped. */
  corrupt: number;
  /** Queue limits; 0 is none. A packet that finds any of them reached is dropped. */
  queuePackets: number;
  queueBytes: number;
  /** Longest waiting time, microseconds. */
  queueTime: number;
  /** Mark ECN-capable packets that wait longer than this (microseconds) instead of waiting for the queue to overflow; 0 never. */
  markAbove: number;
}

export const PERFECT_LINK: LinkConfig = {
  rate: 0,
  delay: 0,
  jitter: 0,
  loss: 0,
  reorder: 0,
  reorderDelay: 0,
  duplicate: 0,
  corrupt: 0,
  queuePackets: 0,
  queueBytes: 0,
  queueTime: 0,
  markAbove: 0,
};

export type LinkDropReason = 'down' | 'loss' | 'queue-full' | 'filtered';

export interface LinkCounters {
  packets: number;
  bytes: number;
  delivered: number;
  deliveredBytes: number;
  dropped: Record<LinkDropReason, number>;
  duplicated: number;
  corrupted: number;
  reordered: number;
  marked: number;
}

/** Sees (and may change, drop or multiply) packets where they enter a link: the place of a middlebox. */
export type PacketFilter = (packet: Uint8Array, now: number) => Uint8Array | readonly Uint8Array[] | null;

/** Sees every packet that enters a link (before loss and queue), and every one that leaves it. */
export type LinkTap = (packet: Uint8Array, now: number, point: 'enter' | 'leave') => void;

export class LinkDirection {
  config: LinkConfig;
  up = true;
  filter: PacketFilter | null = null;
  tap: LinkTap | null = null;
  readonly counters: LinkCounters = {
    packets: 0,
    bytes: 0,
    delivered: 0,
    deliveredBytes: 0,
    dropped: { down: 0, loss: 0, 'queue-full': 0, filtered: 0 },
    duplicated: 0,
    corrupted: 0,
    reordered: 0,
    marked: 0,
  };
  private readonly agenda: Agenda;
  private readonly random: Random;
  private readonly deliver: (packet: Uint8Array, now: number) => void;
  private busyUntil = 0;
  private lastArrival = 0;
  private bad = false;
  /** Cuts so far: what was under way when a cut came does not arrive. */
  private epoch = 0;
  private readonly departures: number[] = [];
  private departureHead = 0;

  constructor(agenda: Agenda, random: Random, config: LinkConfig, deliver: (packet: Uint8Array, now: number) => void) {
    this.agenda = agenda;
    this.random = random;
    this.config = config;
    this.deliver = deliver;
  }

  /** Cuts the link (packets vanish, also those under way) or restores it. */
  setUp(up: boolean): void {
    if (this.up && !up) {
      this.epoch++;
      this.busyUntil = 0;
      this.departures.length = 0;
      this.departureHead = 0;
    }
    this.up = up;
  }

  /**
   * Takes a packet; the link keeps the array, so the caller must not reuse it. `now` may be later than the agenda's
   * time when that is behind the real clock.
   */
  send(packet: Uint8Array, now: number = this.agenda.now): void {
    if (this.filter === null) {
      this.enter(packet, now);
      return;
    }
    const result = this.filter(packet, now);
    if (result === null) this.counters.dropped.filtered++;
    else if (result instanceof Uint8Array) this.enter(result, now);
    else for (const piece of result) this.enter(piece, now);
  }

  /** Takes a packet past the filter: a middlebox's own. */
  inject(packet: Uint8Array, now: number = this.agenda.now): void {
    this.enter(packet, now);
  }

  private enter(packet: Uint8Array, now: number): void {
    const { config, counters, random } = this;
    counters.packets++;
    counters.bytes += packet.length;
    this.tap?.(packet, now, 'enter');
    if (!this.up) {
      counters.dropped.down++;
      return;
    }
    const start = Math.max(now, this.busyUntil);
    const wait = start - now;
    if (this.queueFull(packet.length, wait, now)) {
      counters.dropped['queue-full']++;
      return;
    }
    let bytes = packet;
    if (config.markAbove > 0 && wait > config.markAbove) bytes = this.mark(bytes);
    const sending = config.rate > 0 ? (bytes.length * 8e6) / config.rate : 0;
    this.busyUntil = start + sending;
    if (config.queuePackets > 0) this.departures.push(this.busyUntil);
    // Loss happens on the wire: a lost packet has used its share of the rate.
    if (this.loses()) {
      counters.dropped.loss++;
      return;
    }
    if (random.chance(config.corrupt)) bytes = this.flip(bytes);
    this.arrive(bytes, this.busyUntil);
    if (random.chance(config.duplicate)) {
      counters.duplicated++;
      this.arrive(bytes.slice(), this.busyUntil);
    }
  }

  private arrive(packet: Uint8Array, sent: number): void {
    const { config, random, counters } = this;
    let at = sent + config.delay + (config.jitter > 0 ? random.float() * config.jitter : 0);
    if (random.chance(config.reorder)) {
      counters.reordered++;
      at += config.reorderDelay;
    } else {
      at = Math.max(at, this.lastArrival);
      this.lastArrival = at;
    }
    const { epoch } = this;
    this.agenda.at(Math.ceil(at), (now) => {
      if (epoch !== this.epoch) {
        counters.dropped.down++;
        return;
      }
      counters.delivered++;
      counters.deliveredBytes += packet.length;
      this.tap?.(packet, now, 'leave');
      this.deliver(packet, now);
    });
  }

  private queueFull(length: number, wait: number, now: number): boolean {
    const { config } = this;
    if (wait === 0) return false;
    if (config.queueTime > 0 && wait > config.queueTime) return true;
    if (config.queueBytes > 0 && (wait * config.rate) / 8e6 + length > config.queueBytes) return true;
    if (config.queuePackets === 0) return false;
    while (this.departureHead < this.departures.length && this.departures[this.departureHead]! <= now) this.departureHead++;
    if (this.departureHead > 1024) {
      this.departures.splice(0, this.departureHead);
      this.departureHead = 0;
    }
    return this.departures.length - this.departureHead >= config.queuePackets;
  }

  private loses(): boolean {
    const { loss } = this.config;
    const { random } = this;
    if (typeof loss === 'number') return random.chance(loss);
    if (this.bad ? random.chance(loss.badToGood) : random.chance(loss.goodToBad)) this.bad = !this.bad;
    return random.chance(this.bad ? loss.lossBad : loss.lossGood);
  }

  private flip(packet: Uint8Array): Uint8Array {
    const copy = packet.slice();
    const at = this.random.integer(0, copy.length * 8 - 1);
    copy[at >>> 3] = copy[at >>> 3]! ^ (1 << (at & 7));
    this.counters.corrupted++;
    return copy;
  }

  /** Sets CE on an ECN-capable packet (RFC 3168 §5); the IPv4 header checksum is updated. */
  private mark(packet: Uint8Array): Uint8Array {
    const trafficClass = ipTrafficClass(packet);
    const ecn = trafficClass & ECN.mask;
    if (trafficClass < 0 || ecn === ECN.notCapable || ecn === ECN.congestion) return packet;
    const copy = packet.slice();
    setIpTrafficClass(copy, trafficClass | ECN.congestion);
    this.counters.marked++;
    return copy;
  }
}

/** Both directions. `a` to `b` is `forward`. */
export class Link {
  readonly name: string;
  readonly forward: LinkDirection;
  readonly backward: LinkDirection;

  constructor(name: string, forward: LinkDirection, backward: LinkDirection) {
    this.name = name;
    this.forward = forward;
    this.backward = backward;
  }

  setUp(up: boolean): void {
    this.forward.setUp(up);
    this.backward.setUp(up);
  }
}
