/** Finds in what arrived what was sent: packets of a stage, forged acknowledgements, reflections. */
import { encodeTcpOptions, FLAG, isMalformed, parsePacketValue } from '@subflow/wire';
import type { TcpOption } from '@subflow/wire';
import { seen } from './compare.ts';
import { unhex } from './echo-protocol.ts';
import type { EchoPacket } from './echo-protocol.ts';
import type { Arrival, Flow } from './flow.ts';
import { mark, STAGES, UNMARKED } from './observation.ts';
import type { Observation } from './observation.ts';

/** Packets of a stage among those that arrived: by their marks (identification and window), or by place in the stream. */
export function matched(observation: Observation, arrived: readonly Uint8Array[], flow: Flow, others: ReadonlySet<number>): Uint8Array[] {
  const sent = [...observation.sent, ...observation.walked].map((one) => seen(one)!);
  const marks = new Set(sent.map((one) => one.identification));
  const syn = arrived.map((one) => seen(one)).find((one) => one !== null && (one.flags & FLAG.syn) !== 0);
  const base = sent[0]!;
  const shift = observation.direction === 'backward' || syn === undefined || syn === null ? 0 : (syn.seq - flow.iss) | 0;
  return arrived.filter((bytes) => {
    const one = seen(bytes);
    if (one === null || (one.flags & FLAG.rst) !== 0 || (one.flags & FLAG.syn) !== (base.flags & FLAG.syn)) return false;
    const marked = one.window >>> 8 === sent[0]!.window >>> 8 || (one.version === 4 && marks.has(one.identification) && one.identification !== 0);
    if (observation.direction === 'backward') return marked;
    if ((base.flags & FLAG.syn) !== 0) return (one.flags & FLAG.ack) === (base.flags & FLAG.ack);
    if (base.payloadLength <= 0) return one.payloadLength === 0 && marked;
    // Whatever lies within the range that was sent, cut or joined; a window of another stage says that it is that one's.
    const foreign =
      others.has(one.identification) || (!marked && (one.window >>> 8 === UNMARKED >>> 8 || STAGES.some((other) => mark(other) >>> 8 === one.window >>> 8)));
    return (
      !foreign &&
      sent.some((wanted) => {
        const from = (one.seq - shift - wanted.seq) | 0;
        return one.payloadLength > 0 && from > -wanted.payloadLength && from < wanted.payloadLength;
      })
    );
  });
}

export function sentReset(packets: readonly EchoPacket[]): boolean {
  return packets.some((one) => one.direction === 'out' && ((seen(unhex(one.hex))?.flags ?? 0) & FLAG.rst) !== 0);
}

export function isSynAck(packet: EchoPacket): boolean {
  const one = seen(unhex(packet.hex));
  return one !== null && (one.flags & (FLAG.syn | FLAG.ack)) === (FLAG.syn | FLAG.ack);
}

export function payloadOf(packet: EchoPacket): number {
  return seen(unhex(packet.hex))?.payloadLength ?? 0;
}

/** Options of a packet as bytes, with a Multipath TCP option of a subtype among them: its own, or the one given. */
export function optionsWith(bytes: Uint8Array, option: TcpOption, subtype: string): Uint8Array {
  const packet = parsePacketValue(bytes);
  if (isMalformed(packet) || packet.tcp === null) return new Uint8Array(0);
  const start = packet.ip.headerLength + 20;
  const own = bytes.slice(start, packet.ip.headerLength + packet.tcp.headerLength);
  if (packet.tcp.options.some((one) => one.kind === 'mptcp' && (one.option.subtype === subtype || subtype === 'dss'))) return own;
  const kept = packet.tcp.options.filter((one) => one.kind !== 'end' && one.kind !== 'mptcp');
  return encodeTcpOptions([...kept, option]);
}

/** The peer's SYN+ACK carries what only our SYN had. */
export function reflects(answer: Arrival, sent: readonly TcpOption[]): boolean {
  const unknown = sent.some((one) => one.kind === 'unknown');
  if (unknown && answer.packet.tcp.options.some((one) => one.kind === 'unknown' && one.code === 254)) return true;
  const capable = sent.find((one) => one.kind === 'mptcp' && one.option.subtype === 'capable');
  const own = capable?.kind === 'mptcp' && capable.option.subtype === 'capable' ? capable.option : null;
  return answer.packet.tcp.options.some((one) => {
    if (one.kind !== 'mptcp' || one.option.subtype !== 'capable' || own === null) return false;
    // Version 1's SYN has no key: a server that puts none into its answer has sent the option back.
    if (one.option.senderKey === null) return true;
    return own.senderKey !== null && own.senderKey.high === one.option.senderKey.high && own.senderKey.low === one.option.senderKey.low;
  });
}

/** Whether an acknowledgement of data reached us that the server has not sent: neither its window nor its timestamp is one of the server's. */
export function forged(flow: Flow, packets: readonly EchoPacket[], irs: number): boolean {
  const own = packets.filter((one) => one.direction === 'out').map((one) => seen(unhex(one.hex))!);
  const stamp = (options: readonly TcpOption[] | null): number => options?.find((one) => one.kind === 'timestamps')?.value ?? -1;
  return flow.arrivals.some(({ packet, bytes }) => {
    const { tcp, payload } = packet;
    if ((tcp.flags & (FLAG.syn | FLAG.rst)) !== 0 || (tcp.flags & FLAG.ack) === 0 || payload.length > 0) return false;
    const one = seen(bytes)!;
    const acked = (tcp.ack - flow.iss) | 0;
    return !own.some((sent) => ((sent.ack - irs) | 0) === acked && (sent.window === one.window || stamp(sent.options) === stamp(one.options)));
  });
}
