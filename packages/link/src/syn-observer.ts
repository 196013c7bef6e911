/** What was in the SYNs that came to a port: a packet socket looks on, because accepted sockets do not tell. */
import { FLAG, formatAddress, IPV4, IPV6, IPV6_HEADER, isMalformed, OPTION, parsePacketValue, PROTOCOL, TCP } from '@subflow/wire';
import { BPF } from './classic-bpf.ts';
import type { BpfInstruction } from './classic-bpf.ts';
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

/** Where an option stands behind timestamps and two NOPs. */
const BEHIND_TIMESTAMPS = TCP.options + 12;
const SYN_AND_ACK = FLAG.syn | FLAG.ack;

/** An instruction, and labels to jump to when it compares; `null` falls through. */
type Line = string | [code: number, k: number, yes?: string | null, no?: string | null];

/**
 * To a port: SYNs without ACK, and ACKs that carry a Multipath TCP option where it stands after the SYN (first, or after
 * timestamps and two NOPs). IPv4 and IPv6, from the IP header on.
 */
function synFilter(port: number): BpfInstruction[] {
  return assemble([
    [BPF.loadByte, IPV4.versionIhl],
    [BPF.and, 0xf0],
    [BPF.equals, 0x40, null, 'six'],
    [BPF.loadByte, IPV4.protocol],
    [BPF.equals, PROTOCOL.tcp, null, 'reject'],
    // X is the length of the IP header.
    [BPF.headerLength, IPV4.versionIhl],
    [BPF.loadHalfX, TCP.destinationPort],
    [BPF.equals, port, null, 'reject'],
    [BPF.loadByteX, TCP.flags],
    [BPF.and, SYN_AND_ACK],
    [BPF.equals, FLAG.syn, 'accept', null],
    [BPF.equals, FLAG.ack, null, 'reject'],
    [BPF.loadByteX, TCP.options],
    [BPF.equals, OPTION.mptcp, 'accept', null],
    [BPF.loadByteX, BEHIND_TIMESTAMPS],
    [BPF.equals, OPTION.mptcp, 'accept', 'reject'],
    'six',
    [BPF.loadByte, IPV6.nextHeader],
    [BPF.equals, PROTOCOL.tcp, null, 'reject'],
    [BPF.loadHalf, IPV6_HEADER + TCP.destinationPort],
    [BPF.equals, port, null, 'reject'],
    [BPF.loadByte, IPV6_HEADER + TCP.flags],
    [BPF.and, SYN_AND_ACK],
    [BPF.equals, FLAG.syn, 'accept', null],
    [BPF.equals, FLAG.ack, null, 'reject'],
    [BPF.loadByte, IPV6_HEADER + TCP.options],
    [BPF.equals, OPTION.mptcp, 'accept', null],
    [BPF.loadByte, IPV6_HEADER + BEHIND_TIMESTAMPS],
    [BPF.equals, OPTION.mptcp, 'accept', 'reject'],
    'accept',
    [BPF.return, 0xffffffff],
    'reject',
    [BPF.return, 0],
  ]);
}

function assemble(lines: readonly Line[]): BpfInstruction[] {
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
