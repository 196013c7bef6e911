/** Version 0 (RFC 6824): the published traces as vectors, and the conversations of the multipath-tcp.org table against our server. */
import { describe, expect, it } from 'vitest';
import { dssPseudoHeader, emitMptcpOption, finish, FLAG, mptcpOptionLength, parseAddress, parseMptcpOption, sum } from '@subflow/wire';
import type { MptcpOption, Packet } from '@subflow/wire';
import { joinHmac, keyMaterial, VERSION_0 } from '@subflow/stack';
import { stripMultipath } from '@subflow/emulator';
import { bytes, capableOf, Conversation, find, isReset, resetReason } from './conversation.ts';
import { establish, mptcpOf, pair, readAll, REMOTE } from './world.ts';

const CHECKSUM = { mptcp: { checksum: true } };
const CLIENT = keyMaterial(0x10000000, 0, VERSION_0);
const SERVER = keyMaterial(0x0c4d5dfc, 0x94d0a464, VERSION_0);

function parsed(hex: string): MptcpOption {
  const body = Uint8Array.from(Buffer.from(hex, 'hex'));
  const option = new Uint8Array(body.length + 2);
  option.set([30, body.length + 2]);
  option.set(body, 2);
  const result = parseMptcpOption(new DataView(option.buffer), 0, option.length) as MptcpOption;
  const again = new Uint8Array(mptcpOptionLength(result));
  emitMptcpOption(result, new DataView(again.buffer), 0);
  expect(Buffer.from(again).toString('hex')).toBe(Buffer.from(option).toString('hex'));
  return result;
}

describe('published bytes', () => {
  it('MP_CAPABLE of SYN, SYN+ACK and third ACK', () => {
    expect(parsed('00811000000000000000')).toMatchObject({ subtype: 'capable', version: 0, flags: 0x81, senderKey: { high: CLIENT.high, low: 0 } });
    expect(parsed('00810c4d5dfc94d0a464')).toMatchObject({ senderKey: { high: 0x0c4d5dfc, low: 0x94d0a464 } });
    expect(parsed('008110000000000000000c4d5dfc94d0a464')).toMatchObject({ receiverKey: { high: 0x0c4d5dfc, low: 0x94d0a464 } });
  });

  it('the first data: DSN is the IDSN of the key plus one, the checksum covers the request', () => {
    const option = parsed('2004fb4e435d0000000100483aca') as unknown as { dsn: { low: number }; ssn: number; dataLength: number; checksum: number };
    expect(option.dsn.low >>> 0).toBe((CLIENT.idsnLow + 1) >>> 0);
    const request = bytes('GET / HTTP/1.1\r\nHost: blog.multipath-tcp.org\r\nConnection: keep-alive\r\n\r\n');
    expect(request.length).toBe(option.dataLength);
    // The pseudo-header takes the 64-bit number although the option carries 32 bits (RFC 6824 §3.3.1).
    expect(finish(dssPseudoHeader(CLIENT.idsnHigh, (CLIENT.idsnLow + 1) | 0, 1, 72) + sum(request, 0, 72))).toBe(option.checksum);
  });

  it('ADD_ADDR with IPv6 and no HMAC, DATA_ACKs', () => {
    expect(parsed('3608200106a8308f000102163efffec5c815')).toMatchObject({ subtype: 'add-addr', version: 0, flags: 6, addressId: 8, hmac: null });
    expect((parsed('2001fb4e43a5') as unknown as { dataAck: { low: number } }).dataAck.low >>> 0).toBe((CLIENT.idsnLow + 73) >>> 0);
  });

  it('MP_JOIN: the token is the start of SHA-1 of the key, the HMAC is HMAC-SHA1', () => {
    const syn = parsed('10023a03caf210000000') as unknown as { token: number; nonce: number };
    expect(syn.token).toBe(SERVER.token >>> 0);
    const answer = parsed('100256c7a377b2e33fdaa29163c5') as unknown as { hmac: Uint8Array; nonce: number };
    expect(joinHmac(SERVER, CLIENT, answer.nonce, syn.nonce, VERSION_0).slice(0, 8)).toEqual(answer.hmac);
  });
});

describe('our server and a client of version 0', () => {
  it('compliant: key in the SYN+ACK, data with DSS acknowledged, MP_JOIN with HMAC-SHA1', () => {
    const c = new Conversation(CHECKSUM, 0);
    expect(capableOf(c.syn())).toMatchObject({ version: 0, flags: 0x81 });
    c.third({ flags: 0x81 });
    c.data('GET /');
    expect(c.read()).toBe('GET /');
    const synAck = find<{ hmac: Uint8Array; nonce: number }>([c.joinSyn()], 'join-synack')!;
    expect(synAck.hmac).toEqual(joinHmac(c.server, c.key, synAck.nonce, 77, VERSION_0).slice(0, 8));
    expect(isReset(c.joinAck())).toBe(false);
    expect(c.connection.subflows).toHaveLength(2);
  });

  it('data with DSS that overtakes the third ACK proves the options: accepted', () => {
    const c = new Conversation({}, 0);
    c.syn();
    c.data('abc');
    expect(c.connection.mode).toBe('mptcp');
    expect(c.read()).toBe('abc');
  });

  it('flag B: the whole SYN is ignored by a host that speaks version 0 only (RFC 6824 §3.1)', () => {
    const c = new Conversation({ mptcp: { acceptVersions: [0] } }, 0);
    expect(c.syn([c.capable({ flags: 0x41, senderKey: c.key })])).toBeUndefined();
  });

  it('no crypto algorithm: plain TCP', () => {
    const c = new Conversation({}, 0);
    expect(mptcpOf(c.syn([c.capable({ flags: 0, senderKey: c.key })]))).toEqual([]);
  });

  it('a host that accepts version 1 only answers with plain TCP', () => {
    expect(mptcpOf(new Conversation({ mptcp: { acceptVersions: [1] } }, 0).syn())).toEqual([]);
  });

  it('MP_JOIN before the handshake is done: RST', () => {
    const c = new Conversation({}, 0);
    c.syn();
    expect(isReset([c.joinSyn()])).toBe(true);
  });

  it('a wrong echoed key: plain TCP (the kernel of multipath-tcp.org ignored it)', () => {
    const c = new Conversation({}, 0);
    c.syn();
    c.third({ receiverKey: { high: 1, low: 1 } });
    expect(c.connection.mode).toBe('tcp');
  });

  it('another client key in the third ACK than in the SYN: plain TCP', () => {
    const c = new Conversation({}, 0);
    c.syn();
    c.third({ senderKey: { high: 1, low: 1 } });
    expect(c.connection.mode).toBe('tcp');
  });

  it('no checksum although required: RST of that subflow, without MP_TCPRST', () => {
    const c = new Conversation(CHECKSUM, 0).talk(0x81);
    const flow = c.join();
    expect(resetReason(c.data('x', { flow, checksum: null }))).toBe(-1);
    expect(c.connection.open).toBe(true);
  });

  it('a checksum that was not negotiated is ignored (RFC 6824 §3.3)', () => {
    const c = new Conversation({}, 0).open();
    expect(isReset(c.data('abc', { checksum: 0x1234 }))).toBe(false);
    expect(c.read()).toBe('abc');
  });

  it('a wrong checksum: MP_FAIL, data delivered; a later MP_JOIN is refused', () => {
    const c = new Conversation(CHECKSUM, 0).talk(0x81);
    expect(find(c.data('b', { checksum: 1 }), 'fail')).toBeDefined();
    expect(c.read()).toBe('ab');
    expect(isReset([c.joinSyn()])).toBe(true);
  });

  it('a wrong checksum on one of two subflows: RST with MP_FAIL', () => {
    const c = new Conversation(CHECKSUM, 0).talk(0x81);
    const answers = c.data('b', { flow: c.join(), checksum: 1 });
    expect(isReset(answers)).toBe(true);
    expect(find(answers, 'fail')).toBeDefined();
  });

  it('data-level length 0: delivered as plain TCP, no MP_FAIL; a later MP_JOIN is refused', () => {
    const c = new Conversation({}, 0).talk();
    const answers = c.data('b', { length: 0 });
    expect(find(answers, 'fail')).toBeUndefined();
    expect(c.read()).toBe('ab');
    expect(isReset([c.joinSyn()])).toBe(true);
  });

  it('a wrong token: RST', () => {
    expect(isReset([new Conversation({}, 0).talk().joinSyn({ token: 1 })])).toBe(true);
  });

  it('a mapping longer than the payload: TCP ACK, no data-level ACK before the rest and its checksum', () => {
    const c = new Conversation(CHECKSUM, 0).talk(0x81);
    const whole = c.dss(bytes('bcde')) as { checksum: number };
    const answers = c.data('bc', { length: 4, checksum: whole.checksum });
    expect(((find<{ dataAck: { low: number } }>(answers, 'dss')!.dataAck.low | 0) - c.key.idsnLow) | 0).toBe(2);
    expect(c.read()).toBe('a');
    c.data('de', { bare: true });
    expect(c.read()).toBe('bcde');
  });

  it('ADD_ADDR needs no HMAC and gets no echo', () => {
    const c = new Conversation({}, 0).talk();
    const answers = c.signal({ subtype: 'add-addr', version: 0, flags: 4, addressId: 5, address: parseAddress('203.0.113.5'), port: null, hmac: null });
    expect(find(answers, 'add-addr')).toBeUndefined();
    expect(c.connection.remoteAddresses).toHaveLength(1);
  });

  it('ours has the IP version where version 1 has flags', () => {
    const c = new Conversation({}, 0).talk();
    c.peer.sent.length = 0;
    c.connection.announce(5, parseAddress('2001:db8::5'), null, c.peer.agenda.now);
    c.peer.node.pump();
    expect(find(c.peer.sent, 'add-addr')).toMatchObject({ version: 0, flags: 6, addressId: 5, hmac: null });
  });

  it('MP_PRIO may name another subflow by its address id', () => {
    const c = new Conversation({}, 0).talk();
    c.join({ addressId: 9 });
    c.signal({ subtype: 'prio', flags: 1, addressId: 9 }, 0);
    expect(c.connection.subflows.map((one) => one.backup)).toEqual([false, true]);
  });

  it('we name a subflow that is dead through one that is not', () => {
    const c = new Conversation({}, 0).talk();
    c.join({ addressId: 9 });
    const dead = c.connection.subflows[1]!;
    dead.stale = true;
    c.peer.sent.length = 0;
    c.connection.setBackup(dead, true, c.peer.agenda.now);
    c.peer.node.pump();
    const packet = c.peer.sent.find((one) => find([one], 'prio') !== undefined)!;
    expect(packet.tcp!.destinationPort).toBe(1000);
    expect(find([packet], 'prio')).toMatchObject({ flags: 1, addressId: dead.localId });
  });

  it('our abort is option A: MP_FASTCLOSE on an ACK, plain RST on the other subflows', () => {
    const c = new Conversation({}, 0).talk();
    c.join();
    c.peer.sent.length = 0;
    c.connection.abort(c.peer.agenda.now);
    c.peer.node.pump();
    const byPort = (port: number): Packet => c.peer.sent.find((packet) => packet.tcp!.destinationPort === port)!;
    expect(byPort(1000).tcp!.flags).toBe(FLAG.ack);
    expect(find([byPort(1000)], 'fastclose')).toBeDefined();
    expect(byPort(c.flows[1]!.port).tcp!.flags & FLAG.rst).toBe(FLAG.rst);
    expect(mptcpOf(byPort(c.flows[1]!.port))).toEqual([]);
  });

  it('MP_FASTCLOSE with our key resets everything', () => {
    const c = new Conversation({}, 0).talk();
    expect(isReset(c.signal({ subtype: 'fastclose', reserved: 0, receiverKey: c.server }))).toBe(true);
  });
});

describe('two hosts of ours', () => {
  it('a client of version 0 and a server that accepts both: two subflows, data both ways', () => {
    const world = pair({ paths: 2, client: { mptcp: { versions: [0] } } });
    const { client, server } = establish(world);
    client.write(bytes('up'), world.agenda.now);
    server.write(bytes('down'), world.agenda.now);
    world.client.pump();
    world.server.pump();
    world.agenda.runUntil(world.agenda.now + 1_000_000);
    expect(client.version.number).toBe(0);
    expect(client.subflows).toHaveLength(2);
    expect(readAll(server, world.agenda.now)).toEqual([...bytes('up')]);
    expect(readAll(client, world.agenda.now)).toEqual([...bytes('down')]);
  });

  it('"version 1, then 0 when refused": a server of version 0 is reached on a second try, and at once the next time', () => {
    const world = pair({ client: { mptcp: { versions: [1, 0] } }, server: { mptcp: { acceptVersions: [0] } } });
    const { client } = establish(world);
    expect(client.mode).toBe('mptcp');
    expect(client.version.number).toBe(0);
    expect(world.clientEvents.filter((event) => event.type === 'version-retry')).toHaveLength(1);
    const second = world.client.host.connect({ remote: REMOTE, port: 80 }, world.agenda.now);
    world.client.pump();
    world.agenda.runUntil(world.agenda.now + 100_000);
    expect(second.version.number).toBe(0);
    expect(world.clientEvents.filter((event) => event.type === 'version-retry')).toHaveLength(1);
  });

  it('when both are refused the second try becomes plain TCP', () => {
    const world = pair({ client: { mptcp: { versions: [1, 0] } } });
    world.links[0]!.up.filter = stripMultipath('all');
    const { client, server } = establish(world);
    expect(client.mode).toBe('tcp');
    client.write(bytes('plain'), world.agenda.now);
    world.client.pump();
    world.agenda.runUntil(world.agenda.now + 1_000_000);
    expect(readAll(server, world.agenda.now)).toEqual([...bytes('plain')]);
  });

  it('version 0 against a server of version 1 only is plain TCP', () => {
    const world = pair({ client: { mptcp: { versions: [0] } }, server: { mptcp: { acceptVersions: [1] } } });
    expect(establish(world).client.mode).toBe('tcp');
  });
});
