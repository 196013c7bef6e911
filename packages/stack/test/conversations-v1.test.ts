/**
 * The kinds of conversation behind the table "How Linux 6.18 answers": each drives our server with hand-made segments
 * and says what RFC 8684 asks for. "Linux:" marks where the kernel answers otherwise.
 */
import { describe, expect, it } from 'vitest';
import { FLAG, parseAddress, RESET_REASON } from '@subflow/wire';
import type { Packet } from '@subflow/wire';
import { eventPathManager, keyMaterial } from '@subflow/stack';
import { bytes, capableOf, Conversation, find, isReset, resetReason } from './conversation.ts';
import { mptcpOf } from './world.ts';

const CHECKSUM = { mptcp: { checksum: true } };
const SECOND = 1_000_000;

function plainSynAck(packet: Packet): void {
  expect(packet.tcp!.flags).toBe(FLAG.syn | FLAG.ack);
  expect(mptcpOf(packet)).toEqual([]);
}

const dssOf = (packets: readonly Packet[]) =>
  find<{ flags: number; dataAck: { high: number; low: number } | null; dsn: unknown; dataLength: number; checksum: number | null }>(packets, 'dss');

/** Position that the last DATA_ACK among the packets acknowledges. */
function acknowledged(c: Conversation, packets: readonly Packet[]): number {
  const ack = dssOf(packets)!.dataAck!;
  return ((ack.low | 0) - c.key.idsnLow) | 0;
}

describe('SYN (RFC 8684 §3.1)', () => {
  it('compliant: SYN+ACK with MP_CAPABLE of length 12, version 1, flags 0x01', () => {
    const answer = capableOf(new Conversation().syn())!;
    expect(answer).toMatchObject({ version: 1, flags: 1, receiverKey: null, dataLength: null });
    expect(answer.senderKey).not.toBeNull();
  });

  it('flag A from the client is confirmed (Linux: keeps 0x01, yet uses checksums both ways)', () => {
    const c = new Conversation();
    expect(capableOf(c.syn([c.capable({ flags: 0x81 })]))!.flags).toBe(0x81);
  });

  it('a server that wants checksums answers 0x81', () => {
    expect(capableOf(new Conversation(CHECKSUM).syn())!.flags).toBe(0x81);
  });

  it('flag C is set when joins to the initial address are not wanted', () => {
    expect(capableOf(new Conversation({ mptcp: { denyJoinInitial: true } }).syn())!.flags).toBe(0x21);
  });

  it.each([
    ['version 1 with a key (length 12)', { senderKey: { high: 1, low: 2 } }],
    ['version 0 without key (length 4)', { version: 0 }],
    ['no algorithm (flags 0x00)', { flags: 0 }],
    ['flag B (flags 0x41)', { flags: 0x41 }],
    ['both keys', { senderKey: { high: 1, low: 2 }, receiverKey: { high: 3, low: 4 } }],
  ])('%s: plain SYN+ACK', (_name, more) => {
    const c = new Conversation();
    plainSynAck(c.syn([c.capable(more)]));
  });

  it('all crypto bits (0x1f): we choose H (Linux: plain SYN+ACK)', () => {
    const c = new Conversation();
    expect(capableOf(c.syn([c.capable({ flags: 0x1f })]))!.flags).toBe(1);
  });

  it('version 2: answered with version 1', () => {
    const c = new Conversation();
    expect(capableOf(c.syn([c.capable({ version: 2 })]))!.version).toBe(1);
  });

  it('version 0 and 1 in one SYN: version 1, whatever the order', () => {
    for (const reverse of [false, true]) {
      const c = new Conversation();
      const options = [c.capable(), c.capable({ version: 0, senderKey: c.key })];
      expect(capableOf(c.syn(reverse ? options.reverse() : options))!.version).toBe(1);
    }
  });

  it('version 0 with a key: answered with version 0 (Linux: plain SYN+ACK)', () => {
    const c = new Conversation();
    expect(capableOf(c.syn([c.capable({ version: 0, senderKey: c.key })]))!.version).toBe(0);
  });

  it('MP_CAPABLE and MP_JOIN in one SYN: plain TCP', () => {
    const c = new Conversation();
    plainSynAck(c.syn([c.capable(), { subtype: 'join-syn', flags: 0, addressId: 1, token: 5, nonce: 6 }]));
  });

  it('an unknown subtype, or MP_CAPABLE of a length nobody defines: plain TCP', () => {
    plainSynAck(new Conversation().syn([{ subtype: 'unknown', data: Uint8Array.of(0xd0, 1, 2) }]));
    plainSynAck(new Conversation().syn([{ subtype: 'unknown', data: Uint8Array.of(0x01, 0x01, 0) }]));
  });

  it('no option at all: plain TCP, no token taken', () => {
    const c = new Conversation();
    plainSynAck(c.syn([]));
    expect(c.peer.host.sizes.tokens).toBe(0);
  });

  it('a repeated SYN gets the same key again', () => {
    const c = new Conversation();
    const first = capableOf(c.syn())!.senderKey;
    c.flows[0]!.seq = 100;
    expect(capableOf(c.syn())!.senderKey).toEqual(first);
  });

  it('a listener without Multipath TCP: plain SYN+ACK', () => {
    plainSynAck(new Conversation({}, 1, { multipath: false }).syn());
  });
});

describe('third ACK (RFC 8684 §3.1)', () => {
  it('with both keys: Multipath TCP; a 64-bit DSN gets a 64-bit DATA_ACK', () => {
    const c = new Conversation().open();
    const answers = c.data('hello');
    expect(c.read()).toBe('hello');
    expect(dssOf(answers)!.flags & 3).toBe(3);
    expect(acknowledged(c, answers)).toBe(6);
  });

  it('MP_CAPABLE(22) with data stands for third ACK and mapping, also twice', () => {
    const c = new Conversation();
    c.syn();
    const option = c.capable({ senderKey: c.key, receiverKey: c.server, dataLength: 3 });
    c.raw(0, { flags: FLAG.ack }, [option], bytes('abc'));
    c.raw(0, { flags: FLAG.ack }, [option], bytes('abc'));
    expect(c.connection.mode).toBe('mptcp');
    expect(c.read()).toBe('abc');
  });

  it('MP_CAPABLE(24) with data carries the checksum', () => {
    const c = new Conversation(CHECKSUM);
    c.syn();
    const { checksum } = c.dss(bytes('abc')) as { checksum: number };
    const option = c.capable({ flags: 0x81, senderKey: c.key, receiverKey: c.server, dataLength: 3, checksum });
    c.raw(0, { flags: FLAG.ack }, [option], bytes('abc'));
    expect(c.connection.mode).toBe('mptcp');
    expect(c.read()).toBe('abc');
  });

  it('a wrong echoed key: the negotiation is compromised, plain TCP (Linux: ignored)', () => {
    const c = new Conversation();
    c.syn();
    c.third({ receiverKey: { high: 9, low: 9 } });
    expect(c.connection.mode).toBe('tcp');
    expect(isReset(c.data('x', { bare: true }))).toBe(false);
    expect(c.read()).toBe('x');
  });

  it('data under another key: acknowledged by TCP, never at the data level, no reset', () => {
    const c = new Conversation().open();
    const answers = c.data('lost', { key: keyMaterial(5, 5) });
    expect(isReset(answers)).toBe(false);
    expect(answers.at(-1)!.tcp!.ack).toBe(105);
    expect(c.read()).toBe('');
    expect(c.connection.mode).toBe('mptcp');
  });

  it.each([
    ['no option', null],
    ['one key only (length 12)', { receiverKey: null }],
    ['version 0', { version: 0 }],
  ])('%s: plain TCP', (_name, more) => {
    const c = new Conversation();
    c.syn();
    c.third(more);
    expect(c.connection).toMatchObject({ mode: 'tcp', fallbackReason: 'third-ack-without-option' });
    expect(c.counters['MPCapableFallbackACK']).toBe(1);
  });

  it('data with DSS that overtakes it is not taken before the keys are known', () => {
    const c = new Conversation();
    c.syn();
    expect(isReset(c.data('abc', { keep: true }))).toBe(false);
    expect(c.peer.host.counters.get('mptcp-data-before-key')).toBe(1);
    c.third();
    c.data('abc');
    expect(c.connection.mode).toBe('mptcp');
    expect(c.read()).toBe('abc');
  });

  it('repeated: nothing changes', () => {
    const c = new Conversation().open();
    c.third();
    c.data('abc');
    expect(c.read()).toBe('abc');
  });
});

describe('checksums (RFC 8684 §3.3, §3.7)', () => {
  it('required and right: DSS of length 28 both ways', () => {
    const c = new Conversation(CHECKSUM).talk();
    c.acknowledge();
    const [answer] = c.write('reply');
    expect(dssOf([answer!])!.checksum).not.toBeNull();
    expect(c.read()).toBe('a');
  });

  it.each([['first'], ['later']])('missing in the %s data although negotiated: reset, reason 1 (Linux: silent fallback)', (when) => {
    const c = new Conversation(CHECKSUM).open();
    if (when === 'later') c.data('ok');
    expect(resetReason(c.data('x', { checksum: null }))).toBe(RESET_REASON.mptcp);
  });

  it('present although not negotiated: reset, reason 1 (Linux: silent fallback)', () => {
    expect(resetReason(new Conversation().open().data('x', { checksum: 0x1234 }))).toBe(RESET_REASON.mptcp);
  });

  it('wrong in the first mapping: MP_FAIL and fallback, data delivered (Linux: no MP_FAIL)', () => {
    const c = new Conversation(CHECKSUM).open();
    const answers = c.data('abc', { checksum: 1 });
    expect(find(answers, 'fail')).toBeDefined();
    expect(c.connection.fallbackReason).toBe('checksum-failure');
    expect(c.read()).toBe('abc');
  });

  it('wrong in MP_CAPABLE(24): the same', () => {
    const c = new Conversation(CHECKSUM);
    c.syn();
    const option = c.capable({ flags: 0x81, senderKey: c.key, receiverKey: c.server, dataLength: 3, checksum: 1 });
    const answers = c.raw(0, { flags: FLAG.ack }, [option], bytes('abc'));
    expect(find(answers, 'fail')).toBeDefined();
    expect(c.read()).toBe('abc');
  });

  it('wrong later, one subflow: MP_FAIL names the start of the mapping, data is delivered', () => {
    const c = new Conversation(CHECKSUM).talk();
    const answers = c.data('bcd', { checksum: 7 });
    const fail = find<{ dsn: { low: number } }>(answers, 'fail')!;
    expect(((fail.dsn.low | 0) - c.key.idsnLow) | 0).toBe(2);
    expect(c.read()).toBe('abcd');
    expect(c.counters['MPFailTx']).toBe(1);
    expect(c.counters['DataCsumErr']).toBe(1);
  });

  it('after MP_FAIL an infinite mapping, or plain data, goes on as TCP', () => {
    for (const mapped of [true, false]) {
      const c = new Conversation(CHECKSUM).talk();
      c.data('b', { checksum: 7 });
      expect(isReset(mapped ? c.data('c', { length: 0, checksum: 0 }) : c.data('c', { bare: true }))).toBe(false);
      c.data('d', { bare: true });
      expect(c.read()).toBe('abcd');
      expect(c.peer.host.pollTimeout()).toBeGreaterThan(0);
      c.peer.wait(200 * SECOND);
      expect(c.connection.closed).toBe(false);
    }
  });

  it('after MP_FAIL the peer goes on mapping: MP_FAIL again', () => {
    const c = new Conversation(CHECKSUM).talk();
    c.data('b', { checksum: 7 });
    expect(find(c.data('c'), 'fail')).toBeDefined();
    expect(c.read()).toBe('abc');
  });

  it('after MP_FAIL silence: reset in the end (Linux: after 121 s)', () => {
    const c = new Conversation(CHECKSUM).talk();
    c.data('b', { checksum: 7 });
    expect(isReset(c.peer.wait(100 * SECOND))).toBe(false);
    expect(isReset(c.peer.wait(30 * SECOND))).toBe(true);
  });

  it('wrong on one of two subflows: RST with MP_FAIL and reason 6 there, the other goes on', () => {
    const c = new Conversation(CHECKSUM).talk();
    const flow = c.join();
    const answers = c.data('b', { flow, checksum: 7 });
    expect(resetReason(answers)).toBe(RESET_REASON.middlebox);
    expect(find(answers, 'fail')).toBeDefined();
    c.data('b', { at: 2 });
    expect(c.connection.mode).toBe('mptcp');
    expect(c.read()).toBe('ab');
  });

  it('more payload than its mapping covers: what is mapped is delivered, the rest breaks the subflow (Linux: MP_FAIL and fallback)', () => {
    const c = new Conversation(CHECKSUM).talk();
    c.read();
    const { connection } = c;
    const first = c.dss(bytes('bcd')) as { checksum: number };
    const answers = c.data('bcdef', { length: 3, checksum: first.checksum, keep: true });
    expect(isReset(answers)).toBe(true);
    expect(connection.dataRcvNxt).toBe(5);
  });

  it('the third ACK may ask for what the SYN did not: A counts from any handshake packet', () => {
    const c = new Conversation();
    c.syn();
    c.third({ flags: 0x81 });
    c.checksum = true;
    c.data('abc');
    expect(c.read()).toBe('abc');
  });
});

describe('infinite mappings and plain data (RFC 8684 §3.7)', () => {
  it('length 0 on the only subflow: plain TCP from there on, no MP_FAIL', () => {
    const c = new Conversation().talk();
    const answers = c.data('b', { length: 0 });
    c.data('c', { bare: true });
    expect(find(answers, 'fail')).toBeUndefined();
    expect(c.connection.fallbackReason).toBe('infinite-mapping');
    expect(c.read()).toBe('abc');
    expect(c.counters['InfiniteMapRx']).toBe(1);
  });

  it('a path manager hears of a fallback as the end', () => {
    const seen: string[] = [];
    const c = new Conversation({ mptcp: { pathManager: eventPathManager((event) => void seen.push(event.type)) } }).talk();
    c.data('b', { length: 0 });
    expect(seen).toEqual(['created', 'established', 'closed']);
  });

  it('length 0 on one of two subflows: reset there, reason 1', () => {
    const c = new Conversation().talk();
    expect(resetReason(c.data('b', { flow: c.join(), length: 0 }))).toBe(RESET_REASON.mptcp);
    expect(c.connection.mode).toBe('mptcp');
  });

  it('first data without DSS: fallback', () => {
    const c = new Conversation().open();
    c.data('abc', { bare: true });
    expect(c.connection.fallbackReason).toBe('no-dss-in-first-data');
    expect(c.read()).toBe('abc');
  });

  it('later data without DSS, nothing of ours under way: the subflow is broken, reset (Linux: silent fallback)', () => {
    const c = new Conversation().talk();
    expect(isReset(c.data('b', { bare: true }))).toBe(true);
    expect(c.counters['DSSCorruptionReset']).toBe(1);
  });

  it('later data without DSS while our data tells the peer: fallback, delivered', () => {
    const c = new Conversation().talk();
    c.acknowledge();
    c.write('ours');
    expect(isReset(c.data('b', { bare: true }))).toBe(false);
    expect(c.read()).toBe('ab');
    expect(c.connection.fallbackReason).toBe('dss-stripped');
  });

  it('without DSS on a second subflow: reset there, reason 6', () => {
    const c = new Conversation().talk();
    expect(resetReason(c.data('b', { flow: c.join(), bare: true }))).toBe(RESET_REASON.middlebox);
    expect(c.connection.mode).toBe('mptcp');
  });

  it('our data acknowledged without DATA_ACK, first data: infinite mapping on the next data', () => {
    const c = new Conversation().open();
    c.write('one');
    c.acknowledge(0, true);
    const answers = c.write('two');
    expect(c.connection.fallbackReason).toBe('no-data-ack');
    expect(dssOf(answers)).toMatchObject({ dataLength: 0 });
    expect(c.counters['InfiniteMapTx']).toBe(1);
  });
});

describe('MP_JOIN (RFC 8684 §3.2)', () => {
  it('right: SYN+ACK with 16 bytes, third ACK with 24, the fourth packet at once', () => {
    const c = new Conversation().talk();
    expect(find([c.joinSyn()], 'join-synack')).toBeDefined();
    const [fourth] = c.joinAck();
    expect(fourth!.tcp!.flags).toBe(FLAG.ack);
    expect(c.connection.subflows).toHaveLength(2);
  });

  it('after the third ACK, before any data: accepted', () => {
    const c = new Conversation().open();
    expect(c.joinSyn().tcp!.flags).toBe(FLAG.syn | FLAG.ack);
    expect(isReset(c.joinAck())).toBe(false);
    expect(c.connection.subflows).toHaveLength(2);
  });

  it('before the third ACK: refused', () => {
    const c = new Conversation();
    c.syn();
    expect(resetReason([c.joinSyn()])).toBe(RESET_REASON.mptcp);
  });

  it('unknown token: RST, reason 1', () => {
    const c = new Conversation().talk();
    expect(resetReason([c.joinSyn({ token: 12345 })])).toBe(RESET_REASON.mptcp);
    expect(c.counters['MPJoinNoTokenFound']).toBe(1);
  });

  it.each([
    ['a wrong HMAC', new Uint8Array(20)],
    ['no option', null],
  ])('%s in the third ACK: RST, reason 1', (_name, hmac) => {
    const c = new Conversation().talk();
    c.joinSyn();
    expect(resetReason(c.joinAck(hmac))).toBe(RESET_REASON.mptcp);
    expect(c.connection.subflows).toHaveLength(1);
  });

  it('beyond the subflow limit: refused, reason 3 (Linux: at the third ACK)', () => {
    const c = new Conversation({ mptcp: { maxSubflows: 1 } }).talk();
    c.join();
    expect(resetReason([c.joinSyn()])).toBe(RESET_REASON.prohibited);
    expect(c.counters['MPJoinRejected']).toBe(1);
  });

  it('after a fallback: refused, the token is gone (Linux: SYN+ACK, then RST at the third ACK)', () => {
    const c = new Conversation().talk();
    c.data('b', { length: 0 });
    expect(resetReason([c.joinSyn()])).toBe(RESET_REASON.mptcp);
  });

  it('to a port without listener: RST without option', () => {
    const c = new Conversation().talk();
    expect(resetReason([c.joinSyn({ destination: 81 })])).toBe(-1);
    expect(c.counters['MismatchPortSynRx']).toBe(1);
  });

  it('to a plain TCP listener: plain SYN+ACK', () => {
    const c = new Conversation().talk();
    c.peer.host.listen({ port: 81, multipath: false });
    plainSynAck(c.joinSyn({ destination: 81 }));
  });

  it('to an announced port: accepted', () => {
    const c = new Conversation().talk();
    c.connection.announce(5, parseAddress('192.0.2.1'), 8443, c.peer.agenda.now);
    c.peer.node.pump();
    c.joinSyn({ destination: 8443 });
    c.joinAck();
    expect(c.connection.subflows).toHaveLength(2);
    expect(c.counters['MPJoinPortSynRx']).toBe(1);
    expect(c.counters['MPJoinPortAckRx']).toBe(1);
  });

  it('to the initial address although flag C was set: accepted all the same', () => {
    const c = new Conversation({ mptcp: { denyJoinInitial: true } }).talk();
    c.join();
    expect(c.connection.subflows).toHaveLength(2);
  });

  it('with flag B: data avoids the new subflow', () => {
    const c = new Conversation().talk();
    c.join({ backup: true });
    expect(c.connection.subflows[1]!.backup).toBe(true);
    c.acknowledge();
    expect(c.write('x')[0]!.tcp!.destinationPort).toBe(1000);
    expect(c.counters['MPJoinSynBackupRx']).toBe(1);
  });

  it('a repeated SYN gets the same nonce again', () => {
    const c = new Conversation().talk();
    const first = find<{ nonce: number }>([c.joinSyn()], 'join-synack')!.nonce;
    const [again] = c.raw(1, { flags: FLAG.syn, seq: 900, ack: 0 }, [{ subtype: 'join-syn', flags: 0, addressId: 3, token: c.server.token >>> 0, nonce: 77 }]);
    expect(find<{ nonce: number }>([again!], 'join-synack')!.nonce).toBe(first);
  });

  it('a repeated third ACK is acknowledged again', () => {
    const c = new Conversation().talk();
    c.join();
    expect(isReset(c.joinAck())).toBe(false);
    expect(c.connection.subflows).toHaveLength(2);
  });
});

describe('addresses (RFC 8684 §3.4)', () => {
  it.each([
    ['IPv4', '203.0.113.5', null],
    ['IPv4 with a port', '203.0.113.5', 8443],
    ['IPv6', '2001:db8::5', null],
    ['IPv6 with a port', '2001:db8::5', 8443],
  ])('ADD_ADDR, %s, right HMAC: echo with E=1', (_name, address, port) => {
    const c = new Conversation().talk();
    const answers = c.signal(c.addAddress(5, parseAddress(address), port));
    expect(find<{ flags: number; addressId: number; port: number | null; hmac: unknown }>(answers, 'add-addr')).toMatchObject({
      flags: 1,
      addressId: 5,
      port,
      hmac: null,
    });
    expect(c.counters['AddAddr']).toBe(1);
    expect(c.counters['EchoAddTx']).toBe(1);
  });

  it('ADD_ADDR makes us join the address', () => {
    const c = new Conversation().talk();
    c.peer.host.addRoute(parseAddress('203.0.113.0'), 24, c.peer.through);
    const answers = c.signal(c.addAddress(5, parseAddress('203.0.113.5'), 8443));
    const syn = answers.find((packet) => packet.tcp!.flags === FLAG.syn)!;
    expect(mptcpOf(syn)[0]).toMatchObject({ subtype: 'join-syn', token: keyMaterial(c.key.high, c.key.low).token >>> 0 });
    expect(syn.tcp!.destinationPort).toBe(8443);
  });

  it.each([
    ['a wrong HMAC', new Uint8Array(8)],
    ['no HMAC', null],
  ])('ADD_ADDR with %s: silence', (_name, hmac) => {
    const c = new Conversation().talk();
    expect(c.signal(c.addAddress(5, parseAddress('203.0.113.5'), null, hmac))).toEqual([]);
    expect(c.counters['AddAddrDrop']).toBe(1);
  });

  it('ADD_ADDR in the form of version 0: silence', () => {
    const c = new Conversation().talk();
    expect(c.signal({ subtype: 'add-addr', version: 0, flags: 4, addressId: 5, address: parseAddress('203.0.113.5'), port: null, hmac: null })).toEqual([]);
  });

  it('an id may not change its address without a removal', () => {
    const c = new Conversation().talk();
    c.signal(c.addAddress(5, parseAddress('203.0.113.5')));
    c.signal(c.addAddress(5, parseAddress('203.0.113.6')));
    expect(c.connection.remoteAddresses).toHaveLength(1);
    expect(c.peer.host.counters.get('mptcp-add-addr-id-in-use')).toBe(1);
  });

  it('more addresses than the limit are echoed but not kept', () => {
    const c = new Conversation({ mptcp: { maxAddressesAccepted: 1 } }).talk();
    c.signal(c.addAddress(5, parseAddress('203.0.113.5')));
    expect(find(c.signal(c.addAddress(6, parseAddress('203.0.113.6'))), 'add-addr')).toBeDefined();
    expect(c.connection.remoteAddresses).toHaveLength(1);
  });

  it('our own ADD_ADDR: repeated with growing intervals, until the echo', () => {
    const c = new Conversation().talk();
    c.acknowledge();
    c.peer.sent.length = 0;
    c.connection.announce(5, parseAddress('192.0.2.7'), null, c.peer.agenda.now);
    c.peer.node.pump();
    const count = (packets: readonly Packet[]): number => packets.filter((packet) => find([packet], 'add-addr') !== undefined).length;
    expect(count(c.peer.sent)).toBe(1);
    expect(count(c.peer.wait(250_000))).toBe(1);
    expect(count(c.peer.wait(300_000))).toBe(0);
    expect(count(c.peer.wait(200_000))).toBe(1);
    c.signal({ subtype: 'add-addr', version: 1, flags: 1, addressId: 5, address: parseAddress('192.0.2.7'), port: null, hmac: null });
    expect(count(c.peer.wait(5 * SECOND))).toBe(0);
    expect(c.counters['EchoAdd']).toBe(1);
  });

  it('REMOVE_ADDR of a subflow in use: keepalive first, closed when nobody answers', () => {
    const c = new Conversation().talk();
    const flow = c.join({ addressId: 9 });
    const answers = c.signal({ subtype: 'remove-addr', flags: 0, addressIds: [9] });
    expect(answers.some((packet) => packet.tcp!.destinationPort === c.flows[flow]!.port)).toBe(true);
    expect(c.connection.subflows).toHaveLength(2);
    c.peer.wait(5 * SECOND);
    expect(c.connection.subflows).toHaveLength(1);
    expect(c.counters['RmSubflow']).toBe(1);
  });

  it('REMOVE_ADDR of a subflow that answers the keepalive: it stays', () => {
    const c = new Conversation().talk();
    const flow = c.join({ addressId: 9 });
    c.signal({ subtype: 'remove-addr', flags: 0, addressIds: [9] });
    c.acknowledge(flow);
    c.peer.wait(5 * SECOND);
    expect(c.connection.subflows).toHaveLength(2);
  });

  it('REMOVE_ADDR with a list, id 0 among them, and unknown ids', () => {
    const c = new Conversation().talk();
    c.join({ addressId: 9 });
    c.signal({ subtype: 'remove-addr', flags: 0, addressIds: [44, 0, 9] });
    expect(c.counters['RmAddr']).toBe(2);
    expect(c.counters['RmAddrDrop']).toBe(1);
  });

  it('we withdraw several ids with one option', () => {
    const c = new Conversation().talk();
    c.peer.sent.length = 0;
    c.connection.withdraw([4, 5, 6], c.peer.agenda.now);
    c.peer.node.pump();
    expect(find<{ addressIds: number[] }>(c.peer.sent, 'remove-addr')!.addressIds).toEqual([4, 5, 6]);
  });
});

describe('MP_PRIO, MP_FASTCLOSE, MP_FAIL, MP_TCPRST (RFC 8684 §3.3.8, §3.5 to §3.7)', () => {
  it('MP_PRIO changes the subflow it comes on, back and forth', () => {
    const c = new Conversation().talk();
    const flow = c.join();
    c.signal({ subtype: 'prio', flags: 1, addressId: null }, flow);
    expect(c.connection.subflows.map((one) => one.backup)).toEqual([false, true]);
    c.signal({ subtype: 'prio', flags: 0, addressId: null }, flow);
    expect(c.connection.subflows.map((one) => one.backup)).toEqual([false, false]);
    expect(c.counters['MPPrioRx']).toBe(2);
  });

  it('we send MP_PRIO of three bytes on the subflow concerned', () => {
    const c = new Conversation().talk();
    c.join();
    c.peer.sent.length = 0;
    c.connection.setBackup(c.connection.subflows[1]!, true, c.peer.agenda.now);
    c.peer.node.pump();
    expect(c.peer.sent[0]!.tcp!.destinationPort).toBe(c.flows[1]!.port);
    expect(find(c.peer.sent, 'prio')).toMatchObject({ flags: 1, addressId: null });
  });

  it('MP_FASTCLOSE on an ACK with our key: RST on every subflow, the application learns', () => {
    const c = new Conversation().talk();
    c.join();
    const { connection } = c;
    const answers = c.signal({ subtype: 'fastclose', reserved: 0, receiverKey: c.server });
    expect(answers.filter((packet) => (packet.tcp!.flags & FLAG.rst) !== 0)).toHaveLength(2);
    expect(connection.closeReason).toBe('reset');
  });

  it('MP_FASTCLOSE on a RST: the other subflows are reset too', () => {
    const c = new Conversation().talk();
    c.join();
    const answers = c.signal({ subtype: 'fastclose', reserved: 0, receiverKey: c.server }, 0, FLAG.rst);
    expect(answers.some((packet) => packet.tcp!.destinationPort === c.flows[1]!.port && (packet.tcp!.flags & FLAG.rst) !== 0)).toBe(true);
    expect(c.connection).toBeUndefined();
  });

  it('MP_FASTCLOSE with a wrong key: ignored', () => {
    const c = new Conversation().talk();
    c.signal({ subtype: 'fastclose', reserved: 0, receiverKey: { high: 1, low: 1 } });
    expect(c.connection.open).toBe(true);
  });

  it('our abort: RST with MP_FASTCLOSE and MP_TCPRST on every subflow', () => {
    const c = new Conversation().talk();
    c.join();
    c.peer.sent.length = 0;
    c.connection.abort(c.peer.agenda.now);
    c.peer.node.pump();
    expect(c.peer.sent).toHaveLength(2);
    for (const packet of c.peer.sent) {
      expect(packet.tcp!.flags & FLAG.rst).toBe(FLAG.rst);
      expect(mptcpOf(packet).map((option) => option.subtype)).toEqual(['fastclose', 'tcprst']);
    }
  });

  it('our abort by option A: MP_FASTCLOSE on an ACK, repeated three times, then a RST', () => {
    const c = new Conversation({ mptcp: { fastclose: 'ack' } }).talk();
    const { connection } = c;
    c.peer.sent.length = 0;
    connection.abort(c.peer.agenda.now);
    c.peer.node.pump();
    const packets = [...c.peer.sent, ...c.peer.wait(60 * SECOND)];
    expect(packets.filter((packet) => packet.tcp!.flags === FLAG.ack && find([packet], 'fastclose') !== undefined)).toHaveLength(4);
    expect(isReset(packets)).toBe(true);
    expect(c.peer.host.idle).toBe(true);
  });

  it('our abort by option A ends with the RST of the peer', () => {
    const c = new Conversation({ mptcp: { fastclose: 'ack' } }).talk();
    c.connection.abort(c.peer.agenda.now);
    c.peer.node.pump();
    c.signal([], 0, FLAG.rst);
    expect(c.peer.host.idle).toBe(true);
  });

  it('MP_FAIL from the peer: MP_FAIL back, then data with length 0', () => {
    const c = new Conversation().talk();
    c.acknowledge();
    c.write('bad');
    const answers = c.signal({ subtype: 'fail', reserved: 0, dsn: c.dataAck(1) });
    expect(find(answers, 'fail')).toBeDefined();
    expect(c.connection.fallbackReason).toBe('mp-fail');
    c.acknowledge(0, true);
    expect(dssOf(c.write('more'))).toMatchObject({ dataLength: 0 });
    expect(c.counters['MPFailRx']).toBe(1);
  });

  it.each([
    [RESET_REASON.unspecified, false],
    [RESET_REASON.mptcp, false],
    [RESET_REASON.resources, true],
    [RESET_REASON.prohibited, false],
    [RESET_REASON.outstanding, true],
    [RESET_REASON.performance, true],
    [RESET_REASON.middlebox, false],
  ])('MP_TCPRST reason %i, T=%s is reported with the end of the subflow', (reason, transient) => {
    const c = new Conversation().talk();
    const flow = c.join();
    c.signal({ subtype: 'tcprst', flags: transient ? 1 : 0, reason }, flow, FLAG.rst);
    expect(c.peer.events.find((event) => event.type === 'subflow-closed')).toMatchObject({ subflow: 1, reason: 'reset', resetReason: reason, transient });
    expect(c.connection.open).toBe(true);
  });
});

describe('mappings (RFC 8684 §3.3.1)', () => {
  it('one mapping over two segments, the option on both', () => {
    const c = new Conversation().talk();
    c.data('bc', { at: 2, ssn: 2, length: 4 });
    c.data('de', { at: 2, ssn: 2, length: 4 });
    expect(c.read()).toBe('abcde');
  });

  it('one mapping over two segments, the option on the first only', () => {
    const c = new Conversation().talk();
    c.data('bc', { at: 2, ssn: 2, length: 4 });
    c.data('de', { bare: true });
    expect(c.read()).toBe('abcde');
    expect(c.connection.mode).toBe('mptcp');
  });

  it('the mapping before its data, on a bare ACK', () => {
    const c = new Conversation().talk();
    c.signal(c.dss(bytes('bc')));
    c.data('bc', { bare: true });
    expect(c.read()).toBe('abc');
  });

  it('two mappings coalesced, one option kept: broken, reset, unless our data tells the peer of a fallback', () => {
    const c = new Conversation().talk();
    expect(isReset(c.data('bcde', { length: 2 }))).toBe(true);
    expect(c.connection).toBeUndefined();
  });

  it('a wrong subflow sequence number leaves the data unmapped: reset', () => {
    const c = new Conversation().talk();
    expect(isReset(c.data('b', { ssn: 50 }))).toBe(true);
  });

  it('a 32-bit DSN is understood', () => {
    const c = new Conversation().talk();
    c.data('bc', { short: true });
    expect(c.read()).toBe('abc');
  });

  it('a hole at the data level waits; the DATA_ACK stays', () => {
    const c = new Conversation().talk();
    const answers = c.data('d', { at: 4 });
    expect(acknowledged(c, answers)).toBe(2);
    c.data('bc', { at: 2 });
    expect(c.read()).toBe('abcd');
    expect(c.counters['OFOQueueTail']).toBe(1);
  });

  it('far outside the window: acknowledged below, dropped above', () => {
    const c = new Conversation().talk();
    const answers = c.data('x', { at: 1_000_000_000 });
    expect(isReset(answers)).toBe(false);
    expect(acknowledged(c, answers)).toBe(2);
    expect(c.counters['NoDSSInWindow']).toBe(1);
  });

  it('a duplicate is ignored', () => {
    const c = new Conversation().talk();
    c.data('a', { at: 1 });
    c.data('b', { at: 2 });
    expect(c.read()).toBe('ab');
    expect(c.counters['DuplicateData']).toBe(1);
  });

  it('partly duplicate: only what is new counts', () => {
    const c = new Conversation().talk();
    c.data('abcd', { at: 1 });
    expect(c.read()).toBe('abcd');
  });

  it('a second mapping for bytes that have one: the first declaration counts', () => {
    const c = new Conversation().talk();
    c.signal(c.dss(bytes('bc')));
    c.data('bc', { at: 900 });
    expect(c.read()).toBe('abc');
    expect(c.counters['DSSNotMatching']).toBe(1);
  });

  it('a DATA_ACK for what was never sent is ignored', () => {
    const c = new Conversation().talk();
    c.acknowledge();
    c.write('xy');
    c.signal({ subtype: 'dss', flags: 3, dataAck: c.dataAck(500), dsn: null, ssn: 0, dataLength: 0, checksum: null });
    expect(c.connection.dataUna).toBe(1);
    expect(c.peer.host.counters.get('mptcp-data-ack-out-of-range')).toBe(1);
  });
});

describe('closing (RFC 8684 §3.3.3)', () => {
  it('DATA_FIN alone: acknowledged at the data level, the other direction goes on', () => {
    const c = new Conversation().talk();
    const answers = c.signal(c.dss(new Uint8Array(0), { fin: true }));
    expect(acknowledged(c, answers)).toBe(3);
    expect(c.connection.receiveEnded).toBe(true);
    expect(c.write('still')).not.toEqual([]);
  });

  it('DATA_FIN with data', () => {
    const c = new Conversation().talk();
    const answers = c.data('bc', { fin: true });
    expect(acknowledged(c, answers)).toBe(5);
    expect(c.read()).toBe('abc');
    expect(c.connection.receiveEnded).toBe(true);
  });

  it('DATA_FIN over a hole waits for the data', () => {
    const c = new Conversation().talk();
    c.signal(c.dss(new Uint8Array(0), { fin: true, at: 3 }));
    expect(c.connection.receiveEnded).toBe(false);
    c.data('b');
    expect(c.connection.receiveEnded).toBe(true);
  });

  it('a repeated DATA_FIN is acknowledged again', () => {
    const c = new Conversation().talk();
    c.signal(c.dss(new Uint8Array(0), { fin: true }));
    expect(acknowledged(c, c.signal(c.dss(new Uint8Array(0), { fin: true })))).toBe(3);
  });

  it('ours is repeated until acknowledged', () => {
    const c = new Conversation().talk();
    c.connection.shutdown(c.peer.agenda.now);
    c.peer.node.pump();
    const fins = c.peer.wait(5 * SECOND).filter((packet) => (dssOf([packet])?.flags ?? 0) & 0x10);
    expect(fins.length).toBeGreaterThan(2);
  });

  it('both directions done: FIN on every subflow', () => {
    const c = new Conversation().talk();
    c.join();
    c.connection.shutdown(c.peer.agenda.now);
    c.peer.node.pump();
    c.signal([c.dss(new Uint8Array(0), { fin: true })]);
    const { sendBuffer } = c.connection;
    const answers = c.signal({ subtype: 'dss', flags: 3, dataAck: c.dataAck(sendBuffer.end + 1), dsn: null, ssn: 0, dataLength: 0, checksum: null });
    expect(answers.filter((packet) => (packet.tcp!.flags & FLAG.fin) !== 0)).toHaveLength(2);
  });

  it('FIN on one subflow ends only that one', () => {
    const c = new Conversation().talk();
    const flow = c.join();
    c.signal([], flow, FLAG.fin | FLAG.ack);
    expect(c.connection.open).toBe(true);
    c.data('b');
    expect(c.read()).toBe('ab');
  });

  it('when the last subflow is reset the connection waits for a new one, then ends', () => {
    const c = new Conversation().talk();
    const { connection } = c;
    c.signal([], 0, FLAG.rst);
    expect(connection.closed).toBe(false);
    c.peer.wait(70 * SECOND);
    expect(connection.closed).toBe(true);
    expect(c.peer.host.idle).toBe(true);
  });
});
