/** What was in the SYNs that came to a port: a packet socket looks on, because accepted sockets do not tell. */
import { FLAG, formatAddress, isMalformed, parsePacketValue } from '@subflow/wire';
import { PacketTap } from './packet-tap.ts';

const MOST = 20_000;

export interface SynFacts {
  /** Version of the MP_CAPABLE option; null when there was none. */
  capableVersion: number | null;
  /** The end of the handshake (third ACK, or first data) brought MP_CAPABLE with both keys. */
  confirmed: boolean;
  /** A join (MP_JOIN). */
  join: boolean;
  /** Most NOPs in a row: a box that blanks options leaves them. */
  nops: number;
  /** All options, in order. */
  options: string[];
}

/** Remembers the SYNs of the latest connections. Throws {@link LinkError} `NO_PRIVILEGE` without CAP_NET_RAW. */
export class SynObserver {
  private readonly tap: PacketTap;
  private readonly seen = new Map<string, SynFacts>();

  constructor(port: number) {
    this.tap = new PacketTap({ ignoreOutgoing: true, filter: synFilter(port) }, (bytes, length) => this.note(bytes.slice(0, length)));
    this.tap.unref();
  }

  /** The SYN of a connection from this end; null when none was seen. */
  synOf(address: string, port: number): SynFacts | null {
    // The packet may still lie in the queue: the connection was quicker than the event loop.
    this.tap.drain();
    return this.seen.get(keyOf(address, port)) ?? null;
  }

  close(): void {
    this.tap.close();
  }

  private note(bytes: Uint8Array): void {
    const packet = parsePacketValue(bytes);
    if (isMalformed(packet) || packet.tcp === null) return;
    const key = keyOf(formatAddress(packet.ip.source), packet.tcp.sourcePort);
    if ((packet.tcp.flags & FLAG.syn) === 0) {
      const known = this.seen.get(key);
      if (known !== undefined) known.confirmed ||= packet.tcp.options.some((one) => one.kind === 'mptcp' && one.option.subtype === 'capable');
      return;
    }
    const facts: SynFacts = { capableVersion: null, confirmed: false, join: false, nops: 0, options: [] };
    let run = 0;
    for (const one of packet.tcp.options) {
      facts.options.push(one.kind);
      run = one.kind === 'nop' ? run + 1 : 0;
      facts.nops = Math.max(facts.nops, run);
      if (one.kind !== 'mptcp') continue;
      if (one.option.subtype === 'capable') facts.capableVersion ??= one.option.version;
      if (one.option.subtype === 'join-syn') facts.join = true;
    }
    if (this.seen.size >= MOST) this.seen.delete(this.seen.keys().next().value!);
    this.seen.delete(key);
    this.seen.set(key, facts);
  }
}

function keyOf(address: string, port: number): string {
  return `${address.replace(/^::ffff:(?=\d+\.)/i, '')}|${port}`;
}

const BPF = { loadHalfX: 0x48, loadByteX: 0x50, loadByte: 0x30, loadHalf: 0x28, headerLength: 0xb1, and: 0x54, equals: 0x15, return: 0x06 } as const;
const TCP = 6;
const MPTCP = 30;

/** An instruction, and labels to jump to when it compares; `null` falls through. */
type Line = string | [code: number, k: number, yes?: string | null, no?: string | null];

/**
 * To a port: SYNs without ACK, and ACKs that carry a Multipath TCP option where it stands after the SYN (first, or after
 * timestamps and two NOPs). IPv4 and IPv6, from the IP header on.
 */
function synFilter(port: number): [number, number, number, number][] {
  return assemble([
    [BPF.loadByte, 0],
    [BPF.and, 0xf0],
    [BPF.equals, 0x40, null, 'six'],
    [BPF.loadByte, 9],
    [BPF.equals, TCP, null, 'reject'],
    // X is the length of the IP header.
    [BPF.headerLength, 0],
    [BPF.loadHalfX, 2],
    [BPF.equals, port, null, 'reject'],
    [BPF.loadByteX, 13],
    [BPF.and, 0x12],
    [BPF.equals, 0x02, 'accept', null],
    [BPF.equals, 0x10, null, 'reject'],
    [BPF.loadByteX, 20],
    [BPF.equals, MPTCP, 'accept', null],
    [BPF.loadByteX, 32],
    [BPF.equals, MPTCP, 'accept', 'reject'],
    'six',
    [BPF.loadByte, 6],
    [BPF.equals, TCP, null, 'reject'],
    [BPF.loadHalf, 42],
    [BPF.equals, port, null, 'reject'],
    [BPF.loadByte, 53],
    [BPF.and, 0x12],
    [BPF.equals, 0x02, 'accept', null],
    [BPF.equals, 0x10, null, 'reject'],
    [BPF.loadByte, 60],
    [BPF.equals, MPTCP, 'accept', null],
    [BPF.loadByte, 72],
    [BPF.equals, MPTCP, 'accept', 'reject'],
    'accept',
    [BPF.return, 0xffffffff],
    'reject',
    [BPF.return, 0],
  ]);
}

function assemble(lines: readonly Line[]): [number, number, number, number][] {
  const labels = new Map<string, number>();
  let at = 0;
  for (const line of lines) {
    if (typeof line === 'string') labels.set(line, at);
    else at++;
  }
  return lines
    .filter((line) => typeof line !== 'string')
    .map(([code, k, yes, no], i) => {
      const jump = (label: string | null | undefined): number => (typeof label === 'string' ? labels.get(label)! - i - 1 : 0);
      return [code, jump(yes), jump(no), k];
    });
}
