/** ICMP (RFC 792, RFC 1191, RFC 4884) and ICMPv6 (RFC 4443): errors with quotes, echo; anything else is kept. */
import { bytesAt } from './ipv4.ts';
import { Malformed } from './malformed.ts';

/** ICMP types (RFC 792). */
export const ICMP = { echoReply: 0, unreachable: 3, sourceQuench: 4, redirect: 5, echo: 8, timeExceeded: 11, parameterProblem: 12 } as const;
/** ICMPv6 types (RFC 4443). */
export const ICMPV6 = { unreachable: 1, packetTooBig: 2, timeExceeded: 3, parameterProblem: 4, echo: 128, echoReply: 129 } as const;

/** Types of ICMPv6 below this are errors (RFC 4443 §2.1). */
export const ICMPV6_FIRST_INFORMATIONAL = 128;

/** An error message with the quoted start of the packet that drew it. */
export interface IcmpError {
  kind: 'error';
  version: 4 | 6;
  type: number;
  code: number;
  checksum: number;
  /** The 32 bits after the checksum: next-hop MTU (RFC 1191 §4, RFC 4443 §3.2), pointer, or unused. */
  rest: number;
  /** The quoted packet, up to the end of the message. */
  quote: Uint8Array;
}

/** Echo request or reply. */
export interface IcmpEcho {
  kind: 'echo';
  version: 4 | 6;
  reply: boolean;
  code: number;
  checksum: number;
  identifier: number;
  sequence: number;
  data: Uint8Array;
}

/** Any other message. */
export interface IcmpOther {
  kind: 'other';
  version: 4 | 6;
  type: number;
  code: number;
  checksum: number;
  body: Uint8Array;
}

export type IcmpMessage = IcmpError | IcmpEcho | IcmpOther;

/** Length of the fixed part of a message, and the offset of its checksum, octets (RFC 792, RFC 4443 §2.1). */
export const ICMP_HEADER = 8;
export const ICMP_CHECKSUM = 2;

/** Parses an ICMP (version 4) or ICMPv6 (version 6) message of `length` bytes. */
export function parseIcmp(view: DataView, offset: number, length: number, version: 4 | 6): IcmpMessage | Malformed {
  if (length < 4) return new Malformed('TRUNCATED', offset, `ICMP header needs 4 bytes, found ${length}`);
  const type = view.getUint8(offset);
  const code = view.getUint8(offset + 1);
  const checksum = view.getUint16(offset + 2);
  const isError = version === 4 ? isError4(type) : type < ICMPV6_FIRST_INFORMATIONAL;
  const echoType = version === 4 ? ICMP.echo : ICMPV6.echo;
  const replyType = version === 4 ? ICMP.echoReply : ICMPV6.echoReply;
  if (!isError && type !== echoType && type !== replyType) {
    return { kind: 'other', version, type, code, checksum, body: bytesAt(view, offset + 4, length - 4) };
  }
  if (length < ICMP_HEADER) return new Malformed('TRUNCATED', offset, `ICMP message of type ${type} needs 8 bytes, found ${length}`);
  if (isError) {
    return { kind: 'error', version, type, code, checksum, rest: view.getUint32(offset + 4), quote: bytesAt(view, offset + ICMP_HEADER, length - ICMP_HEADER) };
  }
  return {
    kind: 'echo',
    version,
    reply: type === replyType,
    code,
    checksum,
    identifier: view.getUint16(offset + 4),
    sequence: view.getUint16(offset + 6),
    data: bytesAt(view, offset + ICMP_HEADER, length - ICMP_HEADER),
  };
}

/** Writes the message as it stands, checksum field included. Returns the bytes written. */
export function emitIcmp(message: IcmpMessage, view: DataView, offset: number): number {
  const bytes = new Uint8Array(view.buffer, view.byteOffset);
  view.setUint8(offset, message.kind === 'echo' ? echoTypeOf(message) : message.type);
  view.setUint8(offset + 1, message.code);
  view.setUint16(offset + 2, message.checksum);
  switch (message.kind) {
    case 'other':
      bytes.set(message.body, offset + 4);
      return 4 + message.body.length;
    case 'error':
      view.setUint32(offset + 4, message.rest);
      bytes.set(message.quote, offset + ICMP_HEADER);
      return ICMP_HEADER + message.quote.length;
    case 'echo':
      view.setUint16(offset + 4, message.identifier);
      view.setUint16(offset + 6, message.sequence);
      bytes.set(message.data, offset + ICMP_HEADER);
      return ICMP_HEADER + message.data.length;
  }
}

function echoTypeOf(message: IcmpEcho): number {
  if (message.version === 4) return message.reply ? ICMP.echoReply : ICMP.echo;
  return message.reply ? ICMPV6.echoReply : ICMPV6.echo;
}

function isError4(type: number): boolean {
  return type === ICMP.unreachable || type === ICMP.sourceQuench || type === ICMP.redirect || type === ICMP.timeExceeded || type === ICMP.parameterProblem;
}
