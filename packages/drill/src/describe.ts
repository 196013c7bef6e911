/** Packets in words, as scripts write them, for messages and traces. */
import { FLAG, formatAddress } from '@subflow/wire';
import type { Packet, TcpOption } from '@subflow/wire';

/** `<` the sequence number of the script's side is counted from, `>` the host's. */
export interface Bases {
  script: number;
  host: number;
}

export function describe(packet: Packet, bases: Bases): string {
  const tcp = packet.tcp!;
  const seq = (tcp.seq - bases.host) | 0;
  const { length } = packet.payload;
  return `${flagLetters(tcp.flags)} ${seq}:${seq + length}(${length}) ack ${(tcp.ack - bases.script) | 0} win ${tcp.window}${describeOptions(tcp.options)}`;
}

export function flagBits(letters: string): number {
  let out = 0;
  for (const letter of letters)
    out |= { S: FLAG.syn, F: FLAG.fin, R: FLAG.rst, P: FLAG.psh, '.': FLAG.ack, U: FLAG.urg, E: FLAG.ece, W: FLAG.cwr }[letter] ?? 0;
  return out;
}

export function flagLetters(flags: number): string {
  return `${flags & FLAG.fin ? 'F' : ''}${flags & FLAG.syn ? 'S' : ''}${flags & FLAG.rst ? 'R' : ''}${flags & FLAG.psh ? 'P' : ''}${flags & FLAG.urg ? 'U' : ''}${flags & FLAG.ece ? 'E' : ''}${flags & FLAG.cwr ? 'W' : ''}${flags & FLAG.ack ? '.' : ''}`;
}

/** PSH says nothing about the protocol: scripts need not know where a stack sets it. */
export function normal(letters: string): string {
  return [...letters.replace('P', '')].sort().join('');
}

export function describeOptions(options: readonly TcpOption[]): string {
  const names = options
    .filter((option) => option.kind !== 'nop')
    .map((option) => (option.kind === 'mptcp' ? describeMptcp(option.option as unknown as Record<string, unknown>) : option.kind));
  return names.length === 0 ? '' : ` <${names.join(', ')}>`;
}

function describeMptcp(option: Record<string, unknown>): string {
  const fields = Object.entries(option).flatMap(([name, value]) => {
    if (name === 'subtype' || value === null || value === 0 || value instanceof Uint8Array)
      return value instanceof Uint8Array && (name === 'address' || name === 'hmac') ? [`${name} ${name === 'address' ? formatAddress(value) : 'given'}`] : [];
    if (typeof value === 'object' && 'low' in (value as object)) return [`${name} …${(((value as { low: number }).low >>> 0) & 0xffff).toString(16)}`];
    return [`${name} ${String(value)}`];
  });
  return [String(option['subtype']), ...fields].join(' ');
}
