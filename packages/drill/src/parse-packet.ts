/** `< FLAGS SEQ:END(LENGTH) ack N win N urg N <options>`, with the ends before the flags when it is not the first pair. */
import { parseExpression } from './expression.ts';
import { parseOptions } from './parse-option.ts';
import type { Scanner } from './scanner.ts';
import { ScriptError } from './script.ts';
import type { EndSpec, PacketSpec } from './script.ts';

const END = /addr\s*\[|[\w.:]+:\d+\s+>/y;
/** Parts of the language that name what TCP is wrapped in or what is not TCP. */
const OTHER = /\[[^\]\n]*\]|icmp\b|udp\b|ipv4\b|ipv6\b|gre\b|mpls\b/y;

export function parsePacket(scanner: Scanner): PacketSpec {
  const direction = scanner.expect(/[<>]/y, '< or >')[0] === '<' ? 'in' : 'out';
  const ends = scanner.peek(END) === null ? null : parseEnds(scanner);
  const other = scanner.peek(OTHER);
  if (other !== null)
    throw new ScriptError('SCRIPT_UNSUPPORTED', scanner.place(), `"${other[0]}" in a packet; expected the flags of a TCP segment, such as S, P. or FR`);
  const flags = scanner.expect(/(?:[SFRPWEU.]+|-)(?=\s)/y, 'flags (S F R P W E U and . for ACK, or - for none) and a blank')[0];
  const numbers = scanner.skip().place();
  const [, seq, end, length] = scanner.expect(/(\d+):(\d+)\s*\((\d+)\)/y, 'sequence numbers such as 1:101(100)');
  if (Number(seq) + Number(length) !== Number(end))
    throw new ScriptError('SCRIPT_SYNTAX', numbers, `${seq}:${end}(${length}): the end must be start plus length`);
  const number = (word: string, high: number): number | null => numberAfter(scanner, word, high);
  const packet = {
    direction,
    ends,
    flags: flags === '-' ? '' : flags,
    seq: Number(seq),
    length: Number(length),
    ack: number('ack', 2 ** 32 - 1),
    window: number('win', 0xffff),
    urgent: number('urg', 0xffff),
    options: scanner.peek(/</y) === null ? [] : parseOptions(scanner),
  } as const;
  // The next event begins with its time: what else stands here belongs to nobody.
  if (!scanner.ended && scanner.peek(/[+*`.\d]|--/y) === null) scanner.fail('ack, win, urg, <options>, in this order, or the next event');
  if (packet.length > MOST_PAYLOAD) throw new ScriptError('SCRIPT_SYNTAX', numbers, `${packet.length} bytes of payload; expected at most ${MOST_PAYLOAD}`);
  return packet;
}

/** What fits into an IP packet with its headers. */
const MOST_PAYLOAD = 65_495;

function numberAfter(scanner: Scanner, word: string, high: number): number | null {
  if (scanner.match(new RegExp(`${word}\\b`, 'y')) === null) return null;
  const place = scanner.skip().place();
  const value = Number(scanner.expect(/\d+/y, `a number after ${word}`)[0]);
  if (value > high) throw new ScriptError('SCRIPT_SYNTAX', place, `${word} ${value}; expected 0 to ${high}`);
  return value;
}

function parseEnds(scanner: Scanner): { from: EndSpec; to: EndSpec } {
  const from = parseEnd(scanner);
  scanner.expect(/>/y, '> and the other end');
  return { from, to: parseEnd(scanner) };
}

function parseEnd(scanner: Scanner): EndSpec {
  const place = scanner.skip().place();
  if (scanner.match(/addr\s*\[/y) !== null) {
    const address = parseExpression(scanner, 'address') as EndSpec['address'];
    scanner.expect(/\]/y, ']');
    const port = scanner.match(/:(\d+)/y);
    return { address, port: port === null ? null : portOf(port[1]!, place) };
  }
  const [, text, port] = scanner.expect(/([\w.:]+):(\d+)/y, 'an end: addr[caddr0], or an address with a port');
  return { address: { kind: 'address', text: text!, place }, port: portOf(port!, place) };
}

function portOf(text: string, place: EndSpec['address']['place']): number {
  const port = Number(text);
  if (port < 1 || port > 65_535) throw new ScriptError('SCRIPT_SYNTAX', place, `port ${text}; expected 1 to 65535`);
  return port;
}
