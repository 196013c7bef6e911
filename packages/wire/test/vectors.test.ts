import { describe, expect, it } from 'vitest';
import {
  buildPacket,
  dssPseudoHeader,
  finish,
  FLAG,
  fold,
  ipHeader,
  OPTION,
  isMalformed,
  parseMptcpOption,
  emitMptcpOption,
  parsePacketValue,
  PROTOCOL,
  sum,
  updateChecksum,
} from '@subflow/wire';
import type { MptcpOption } from '@subflow/wire';

function bytes(hex: string): Uint8Array {
  return new Uint8Array(hex.match(/../g)!.map((byte) => Number.parseInt(byte, 16)));
}

/** Option bytes after kind and length, as published. */
function parseBody(hex: string): MptcpOption {
  const body = bytes(hex);
  const whole = new Uint8Array([OPTION.mptcp, body.length + 2, ...body]);
  const option = parseMptcpOption(new DataView(whole.buffer), 0, whole.length);
  if (isMalformed(option)) throw new Error(option.reason);
  const again = new Uint8Array(whole.length);
  expect(emitMptcpOption(option, new DataView(again.buffer), 0)).toBe(whole.length);
  expect(again).toEqual(whole);
  return option;
}

describe('published bytes of the multipath-tcp.org server (RFC 6824)', () => {
  it('MP_CAPABLE SYN, SYN+ACK and third ACK carry the keys', () => {
    expect(parseBody('00811000000000000000')).toMatchObject({
      subtype: 'capable',
      version: 0,
      flags: 0x81,
      senderKey: { high: 0x10000000, low: 0 },
      receiverKey: null,
    });
    expect(parseBody('00810c4d5dfc94d0a464')).toMatchObject({ subtype: 'capable', senderKey: { high: 0x0c4d5dfc, low: 0x94d0a464 } });
    expect(parseBody('008110000000000000000c4d5dfc94d0a464')).toMatchObject({
      senderKey: { high: 0x10000000, low: 0 },
      receiverKey: { high: 0x0c4d5dfc, low: 0x94d0a464 },
    });
  });

  it('the DSS checksum of the published request is right', () => {
    const request = new TextEncoder().encode('GET / HTTP/1.1\r\nHost: blog.multipath-tcp.org\r\nConnection: keep-alive\r\n\r\n');
    expect(request.length).toBe(72);
    const dss = parseBody('2004fb4e435d0000000100483aca');
    expect(dss).toMatchObject({ subtype: 'dss', dsn: { low: 0xfb4e435d }, ssn: 1, dataLength: 72, checksum: 0x3aca });
    // The pseudo-header has the whole 64-bit number: high half from SHA-1 of the published key 0x1000000000000000.
    // printf '\\x10\\0\\0\\0\\0\\0\\0\\0' | sha1sum ends in 8710f99bfb4e435c.
    const high = 0x8710f99b;
    expect(finish(sum(request, 0, request.length, dssPseudoHeader(high, 0xfb4e435d, 1, 72)))).toBe(0x3aca);
  });

  it('ADD_ADDR of version 0 is told from version 1', () => {
    expect(parseBody('3608200106a8308f000102163efffec5c815')).toMatchObject({
      subtype: 'add-addr',
      version: 0,
      flags: 6,
      addressId: 8,
      port: null,
      hmac: null,
    });
  });

  it('MP_JOIN SYN and SYN+ACK', () => {
    expect(parseBody('10023a03caf210000000')).toMatchObject({ subtype: 'join-syn', addressId: 2, token: 0x3a03caf2, nonce: 0x10000000 });
    expect(parseBody('100256c7a377b2e33fdaa29163c5')).toMatchObject({ subtype: 'join-synack', hmac: bytes('56c7a377b2e33fda'), nonce: 0xa29163c5 });
  });

  it('DATA_ACKs of four bytes', () => {
    expect(parseBody('2001fb4e435d')).toMatchObject({ subtype: 'dss', dataAck: { low: 0xfb4e435d }, dsn: null });
  });
});

describe('checksums', () => {
  it('a received header with its own checksum sums to all ones (RFC 1071)', () => {
    const packet = buildPacket(ipHeader(bytes('c0000201'), bytes('c0000202'), PROTOCOL.tcp), {
      tcp: {
        sourcePort: 1,
        destinationPort: 2,
        seq: 3,
        ack: 4,
        headerLength: 20,
        reserved: 0,
        flags: FLAG.ack,
        window: 5,
        checksum: 0,
        urgent: 0,
        options: [],
      },
      payload: bytes('0102030405'),
    });
    expect(fold(sum(packet, 0, 20))).toBe(0xffff);
    expect(parsePacketValue(packet)).toMatchObject({ tcp: { sourcePort: 1, seq: 3 }, payload: bytes('0102030405') });
  });

  it('the incremental update equals a new computation (RFC 1624)', () => {
    const data = bytes('45000034abcd400040060000c0000201c0000202');
    const before = finish(sum(data, 0, 20));
    data[8] = 0x3f;
    expect(updateChecksum(before, 0x4006, 0x3f06)).toBe(finish(sum(data, 0, 20)));
  });
});
