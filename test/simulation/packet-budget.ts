/**
 * Packets without payload, SYN or FIN answer something: data that arrived, or bytes that the application has read. What
 * a host sends of them in a quarter of a second stays below a small multiple of these, plus a constant for handshakes,
 * keepalives, window probes, announcements and retransmissions: an ACK is never answered by an ACK without end. A reset
 * may answer an ACK, but never a reset.
 */
import { FLAG } from '@subflow/wire';
import { SECOND } from './settings.ts';

const PERIOD = SECOND / 4;
/** Packets that need no reason, for each host and period: five times the 6 that 12,000 seeds have needed on an engine that answers an ACK by an ACK once. */
const FREE = 30;
/** Of an arriving data packet: its ACK (one for each, when they come out of order). */
const PER_DATA = 1;
/** And the wider window, announced on every subflow; as with every so many bytes read. */
const PER_SUBFLOW = 1;
const READ_STEP = 1000;
/** A segment from off the path: an answer, and perhaps one to that. */
const PER_FORGED = 2;

/** What the budget looks at of a host. */
export interface Watched {
  name: string;
  /** Bytes that the application has read. */
  received: number;
  connection: { subflows: readonly unknown[] } | null;
}

/** What a host has sent in a period and what the packets of this period and the one before allow. */
class Account {
  sent = 0;
  private earned = 0;
  private earnedBefore = 0;
  private period = -1;

  turn(period: number): this {
    if (period !== this.period) {
      this.earnedBefore = period === this.period + 1 ? this.earned : 0;
      this.earned = 0;
      this.sent = 0;
      this.period = period;
    }
    return this;
  }

  earn(packets: number): void {
    this.earned += packets;
  }

  get allowed(): number {
    return FREE + this.earned + this.earnedBefore;
  }
}

interface Ledger {
  answers: Account;
  /** Resets answer whatever came, but a reset. */
  resets: Account;
  /** Bytes read that have been credited. */
  read: number;
}

export class PacketBudget {
  /** The first time a host overdrew an account, in words. */
  problem: string | null = null;
  private readonly ledgers = new Map<Watched, Ledger>();

  watch(side: Watched, direction: 'out' | 'in', packet: Uint8Array, now: number): void {
    const ledger = this.ledger(side, now);
    const data = carriesData(packet);
    const reset = (flagsOf(packet) & FLAG.rst) !== 0;
    if (direction === 'in') {
      if (data) ledger.answers.earn(PER_DATA + PER_SUBFLOW * subflows(side));
      if (!reset) ledger.resets.earn(1);
    } else if (reset) {
      this.spend(side, ledger.resets, 'resets', now);
    } else if (!data) {
      ledger.answers.earn(((side.received - ledger.read) / READ_STEP) * subflows(side));
      ledger.read = side.received;
      this.spend(side, ledger.answers, 'packets without payload, SYN or FIN', now);
    }
  }

  /** A segment from off the path reached a host; its answer may be answered by the other one. */
  forged(sides: readonly Watched[], now: number): void {
    for (const side of sides) {
      const { answers, resets } = this.ledger(side, now);
      answers.earn(PER_FORGED);
      resets.earn(PER_FORGED);
    }
  }

  private spend(side: Watched, account: Account, what: string, now: number): void {
    if (++account.sent <= account.allowed || this.problem !== null) return;
    const begin = Math.floor(now / PERIOD) * PERIOD;
    this.problem = `${side.name} sent more than ${Math.floor(account.allowed)} ${what} from ${begin / SECOND} s to ${now / SECOND} s`;
  }

  private ledger(side: Watched, now: number): Ledger {
    let ledger = this.ledgers.get(side);
    if (ledger === undefined) {
      ledger = { answers: new Account(), resets: new Account(), read: 0 };
      this.ledgers.set(side, ledger);
    }
    const period = Math.floor(now / PERIOD);
    ledger.answers.turn(period);
    ledger.resets.turn(period);
    return ledger;
  }
}

function subflows(side: Watched): number {
  return Math.max(1, side.connection?.subflows.length ?? 0);
}

function tcpOffset(packet: Uint8Array): number {
  return packet[0]! >>> 4 === 6 ? 40 : (packet[0]! & 15) * 4;
}

export function flagsOf(packet: Uint8Array): number {
  return packet[tcpOffset(packet) + 13]!;
}

/** Whether a packet carries payload, SYN or FIN. */
export function carriesData(packet: Uint8Array): boolean {
  const tcp = tcpOffset(packet);
  const length = packet[0]! >>> 4 === 6 ? 40 + ((packet[4]! << 8) | packet[5]!) : (packet[2]! << 8) | packet[3]!;
  return (packet[tcp + 13]! & (FLAG.syn | FLAG.fin)) !== 0 || length > tcp + (packet[tcp + 12]! >>> 4) * 4;
}
