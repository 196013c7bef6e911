/**
 * Packets without payload, SYN or FIN answer something: data that arrived, or bytes that the application has read. What
 * a host sends of them in a quarter of a second stays below a small multiple of these, plus a constant for handshakes,
 * keepalives, window probes, announcements and retransmissions: an ACK is never answered by an ACK without end.
 */
import { FLAG } from '@subflow/wire';
import { SECOND } from './settings.ts';
import type { Side } from './side.ts';

const PERIOD = SECOND / 4;
/** Packets that need no reason, for each host and period. The most that 20,000 seeds without a storm have needed is 47. */
const FREE = 60;
/** Of an arriving data packet: its ACK (one for each, when they come out of order). */
const PER_DATA = 1;
/** And the wider window, announced on every subflow; as with every so many bytes read. */
const PER_SUBFLOW = 1;
const READ_STEP = 1000;
/** A segment from off the path: an answer, and perhaps one to that. */
const PER_FORGED = 2;

interface Account {
  period: number;
  sent: number;
  /** What this period and the one before have earned. */
  earned: number;
  earnedBefore: number;
  read: number;
  subflows: number;
}

export class PacketBudget {
  /** The first period in which a host overdrew its account, in words. */
  problem: string | null = null;
  private readonly accounts = new Map<Side, Account>();

  watch(side: Side, direction: 'out' | 'in', packet: Uint8Array, now: number): void {
    const data = carriesData(packet);
    if (direction === 'in') {
      if (data) this.earn(side, PER_DATA, PER_SUBFLOW, now);
    } else if (!data) {
      this.spend(side, now);
    }
  }

  /** A segment from off the path reached a host; its answer may be answered by the other one. */
  forged(sides: readonly Side[], now: number): void {
    for (const side of sides) this.earn(side, PER_FORGED, 0, now);
  }

  private earn(side: Side, fixed: number, perSubflow: number, now: number): void {
    const account = this.account(side, now);
    account.earned += fixed + perSubflow * account.subflows;
  }

  private spend(side: Side, now: number): void {
    const account = this.account(side, now);
    account.earned += ((side.received - account.read) / READ_STEP) * account.subflows;
    account.read = side.received;
    const allowed = FREE + account.earned + account.earnedBefore;
    if (++account.sent <= allowed || this.problem !== null) return;
    this.problem = `${side.name} sent more than ${Math.floor(allowed)} packets without payload, SYN or FIN from ${account.period * (PERIOD / SECOND)} s to ${now / SECOND} s`;
  }

  private account(side: Side, now: number): Account {
    const period = Math.floor(now / PERIOD);
    let account = this.accounts.get(side);
    if (account === undefined) {
      account = { period, sent: 0, earned: 0, earnedBefore: 0, read: 0, subflows: 1 };
      this.accounts.set(side, account);
    }
    if (account.period !== period) {
      account.earnedBefore = account.period === period - 1 ? account.earned : 0;
      account.earned = 0;
      account.sent = 0;
      account.period = period;
    }
    account.subflows = Math.max(1, side.connection?.subflows.length ?? 0);
    return account;
  }
}

/** Whether a packet carries payload, SYN or FIN. */
export function carriesData(packet: Uint8Array): boolean {
  const v6 = packet[0]! >>> 4 === 6;
  const tcp = v6 ? 40 : (packet[0]! & 15) * 4;
  const length = v6 ? 40 + ((packet[4]! << 8) | packet[5]!) : (packet[2]! << 8) | packet[3]!;
  return (packet[tcp + 13]! & (FLAG.syn | FLAG.fin)) !== 0 || length > tcp + (packet[tcp + 12]! >>> 4) * 4;
}
