/** Many servers: who speaks Multipath TCP, in which version, and who only sends options back. */
import { CAPABLE_FLAG, FLAG, formatEndpoint } from '@subflow/wire';
import type { IpAddress, MpCapable, TcpOption } from '@subflow/wire';
import { Flow, mptcp, mptcpOption } from '../flow.ts';
import type { Hub } from '../hub.ts';
import type { ReservedPort } from '../port.ts';
import { mssFor, random64, synOptions, u64 } from '../session.ts';

/** What a SYN with an option drew. */
export type ScanAnswer = 'yes' | 'no' | 'reflected' | 'refused' | 'silent' | 'not asked';

export interface ScanResult {
  target: string;
  address: string;
  v1: ScanAnswer;
  v0: ScanAnswer;
  /** Unknown options come back too. */
  mirror: boolean;
  /** The server asks for DSS checksums (flag A); sets flag C. */
  checksum: boolean;
  noJoin: boolean;
  /** Milliseconds between SYN and SYN+ACK; null without one. */
  rtt: number | null;
  /** Why it was not asked: blocked, no address. */
  skipped: string | null;
}

export interface ScanOptions {
  /** SYNs a second, all targets together. */
  rate?: number;
  /** Targets that are asked at the same time. */
  atOnce?: number;
  tries?: number;
  /** First wait for an answer, microseconds. */
  wait?: number;
}

/** A default that nobody notices. */
export const DEFAULT_RATE = 100;
const AT_ONCE = 500;
const TRIES = 3;
const WAIT = 1_000_000;
/** How long a target's packets are still ours, microseconds: answers that come late are reset. */
const LINGER = 1_000_000;

/** Allows so many SYNs a second, bursts of a tenth of a second. */
class Pace {
  private readonly hub: Hub;
  private readonly interval: number;
  private next = Number.NEGATIVE_INFINITY;

  constructor(hub: Hub, rate: number) {
    this.hub = hub;
    this.interval = 1e6 / rate;
  }

  async turn(): Promise<void> {
    const now = this.hub.now();
    this.next = Math.max(this.next, now - 100_000) + this.interval;
    if (this.next > now) await this.hub.sleep(this.next - now);
  }
}

export class Scanner {
  private readonly hub: Hub;
  private readonly options: Required<ScanOptions>;
  private readonly pace: Pace;
  private readonly ports = new Map<string, ReservedPort>();

  constructor(hub: Hub, options: ScanOptions = {}) {
    this.hub = hub;
    this.options = { rate: DEFAULT_RATE, atOnce: AT_ONCE, tries: TRIES, wait: WAIT, ...options };
    this.pace = new Pace(hub, this.options.rate);
  }

  /** Asks every target; results come as they are known, not in order. */
  async scan(targets: AsyncIterator<{ name: string; address: IpAddress; port: number }>, onResult: (result: ScanResult) => void): Promise<void> {
    const worker = async (): Promise<void> => {
      for (let next = await targets.next(); next.done !== true; next = await targets.next()) onResult(await this.one(next.value));
    };
    await Promise.all(Array.from({ length: this.options.atOnce }, worker));
    for (const port of this.ports.values()) port.release();
    this.ports.clear();
  }

  /** One target: version 1 first, version 0 when that is not spoken. */
  async one({ name, address, port }: { name: string; address: IpAddress; port: number }): Promise<ScanResult> {
    const result: ScanResult = {
      target: name,
      address: formatEndpoint(address, port),
      v1: 'not asked',
      v0: 'not asked',
      mirror: false,
      checksum: false,
      noJoin: false,
      rtt: null,
      skipped: null,
    };
    result.v1 = await this.ask(address, port, 1, result);
    if (result.v1 === 'no' || result.v1 === 'reflected') result.v0 = await this.ask(address, port, 0, result);
    return result;
  }

  private async ask(address: IpAddress, port: number, version: 0 | 1, result: ScanResult): Promise<ScanAnswer> {
    const { hub } = this;
    const source = hub.port.source(address);
    if (source === null) {
      result.skipped = 'no route';
      return 'not asked';
    }
    const key = random64(hub);
    const capable: MpCapable = {
      subtype: 'capable',
      version,
      flags: CAPABLE_FLAG.sha256,
      senderKey: version === 0 ? u64(key) : null,
      receiverKey: null,
      dataLength: null,
      checksum: null,
    };
    const unknown: TcpOption = { kind: 'unknown', code: 254, data: Uint8Array.of(0x5b, 0xf1, 0x0a, 0x0e) };
    // One port serves all targets: they differ in address.
    const flow = new Flow(hub, address, port, { source, reserved: this.portFor(source) });
    const list = [...synOptions(mssFor(address)), mptcp(capable), unknown];
    let wait = this.options.wait;
    let answer = null;
    for (let i = 0; i < this.options.tries && answer === null && flow.reset === null; i++) {
      await this.pace.turn();
      answer = await flow.ask(
        () => flow.build({ flags: FLAG.syn, seq: flow.iss, options: list }),
        ({ packet }) => (packet.tcp.flags & FLAG.syn) !== 0,
        { tries: 1, wait },
      );
      wait *= 2;
    }
    const refused = flow.reset !== null;
    if (answer !== null && flow.rtt > 0) result.rtt ??= flow.rtt / 1000;
    flow.close([], LINGER);
    if (answer === null) return refused ? 'refused' : 'silent';
    const { packet } = answer;
    if (packet.tcp.options.some((one) => one.kind === 'unknown' && one.code === 254)) result.mirror = true;
    const own = mptcpOption(packet, 'capable');
    if (own === undefined) return 'no';
    const reflected = own.senderKey === null || (version === 0 && own.senderKey.high === u64(key).high && own.senderKey.low === u64(key).low);
    if (reflected) {
      result.mirror = true;
      return 'reflected';
    }
    if (own.version !== version) return 'no';
    result.checksum = (own.flags & CAPABLE_FLAG.checksum) !== 0;
    result.noJoin = version === 1 && (own.flags & CAPABLE_FLAG.noJoin) !== 0;
    return 'yes';
  }

  private portFor(source: IpAddress): ReservedPort {
    const key = source.join();
    let reserved = this.ports.get(key);
    if (reserved === undefined) {
      const real = this.hub.port.reserve(source);
      reserved = { port: real.port, release: () => undefined };
      this.ports.set(key, reserved);
      this.hub.onClose(() => real.release());
    }
    return reserved;
  }
}

/** Counts for a summary. */
export class ScanSummary {
  readonly counts = new Map<string, number>();
  targets = 0;

  add(result: ScanResult): void {
    this.targets++;
    const kind = kindOf(result);
    this.counts.set(kind, (this.counts.get(kind) ?? 0) + 1);
  }
}

/** One word for a target. */
export function kindOf(result: ScanResult): string {
  if (result.skipped !== null) return 'skipped';
  if (result.v1 === 'yes') return 'version 1';
  if (result.v0 === 'yes') return 'version 0';
  if (result.mirror) return 'mirror';
  if (result.v1 === 'silent' || result.v1 === 'refused') return result.v1;
  return 'no Multipath TCP';
}
