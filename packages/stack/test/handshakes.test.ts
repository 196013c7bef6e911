/**
 * Half a handshake from our side (RFC 9293 §3.10.7.3, RFC 8684 §3.1, §3.2): whatever is answered to our SYN, nothing that exists only
 * afterwards is reached, nothing loops, and the right answer still counts.
 */
import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import type { Connection } from '@subflow/stack';
import { buildPacket, FLAG, ipHeader, parseAddress, PROTOCOL } from '@subflow/wire';
import type { MptcpOption, Packet, TcpHeader } from '@subflow/wire';
import { ADDRESSES, Client, isReset, SECOND } from './client.ts';
import type { Family } from './client.ts';
import { Conversation } from './conversation.ts';
import { LOCAL } from './world.ts';

const OFFERS = ['plain TCP', 'version 1', 'version 0', 'version 1, then 0'] as const;
const KEY = { high: 5, low: 6 };

/** Options that belong to some moment of some handshake, and to none. */
const OPTIONS: readonly (readonly MptcpOption[])[] = [
  [],
  [{ subtype: 'capable', version: 1, flags: 1, senderKey: KEY, receiverKey: null, dataLength: null, checksum: null }],
  [{ subtype: 'capable', version: 0, flags: 1, senderKey: KEY, receiverKey: null, dataLength: null, checksum: null }],
  [{ subtype: 'capable', version: 1, flags: 1, senderKey: KEY, receiverKey: KEY, dataLength: 3, checksum: null }],
  [{ subtype: 'capable', version: 1, flags: 1, senderKey: null, receiverKey: null, dataLength: null, checksum: null }],
  [{ subtype: 'join-syn', flags: 0, addressId: 1, token: 5, nonce: 6 }],
  [{ subtype: 'join-synack', flags: 0, addressId: 1, hmac: new Uint8Array(8), nonce: 6 }],
  [{ subtype: 'join-ack', reserved: 0, hmac: new Uint8Array(20) }],
  [{ subtype: 'add-addr', version: 1, flags: 0, addressId: 9, address: parseAddress('192.0.2.77'), port: null, hmac: new Uint8Array(8) }],
  [{ subtype: 'add-addr', version: 1, flags: 1, addressId: 9, address: parseAddress('2001:db8::77'), port: 80, hmac: null }],
  [{ subtype: 'remove-addr', flags: 0, addressIds: [0, 1, 2] }],
  [{ subtype: 'prio', flags: 1, addressId: null }],
  [{ subtype: 'fail', reserved: 0, dsn: KEY }],
  [{ subtype: 'fastclose', reserved: 0, receiverKey: KEY }],
  [{ subtype: 'tcprst', flags: 1, reason: 2 }],
  [{ subtype: 'dss', flags: 0x1f, dataAck: KEY, dsn: KEY, ssn: 1, dataLength: 4, checksum: null }],
  [
    { subtype: 'tcprst', flags: 0, reason: 1 },
    { subtype: 'fastclose', reserved: 0, receiverKey: KEY },
  ],
];

/** Our host as the one that calls. */
function calling(
  family: Family,
  offer: (typeof OFFERS)[number],
): { client: Client; connection: Connection; syn: Packet; answer(tcp: Partial<TcpHeader>, length?: number, options?: readonly MptcpOption[]): Packet[] } {
  const client = new Client(family, 'plain TCP');
  const versions = offer === 'version 1' ? ([1] as const) : offer === 'version 0' ? ([0] as const) : ([1, 0] as const);
  const { remote } = ADDRESSES[family];
  const connection = client.host.connect({ remote, port: 9000, localPort: 40_000, multipath: offer !== 'plain TCP', versions }, client.agenda.now);
  client.sent.length = 0;
  client.node.pump();
  const [syn] = client.sent.slice();
  client.iss = syn!.tcp!.seq;
  return {
    client,
    connection,
    syn: syn!,
    answer: (tcp, length = 0, options = []) => client.segment({ sourcePort: 9000, destinationPort: 40_000, ...tcp }, new Uint8Array(length), options),
  };
}

const reply = fc.record({
  seq: fc.oneof(fc.constantFrom(0, 1, -1), fc.integer()),
  ack: fc.oneof(fc.constantFrom(1, 0, 2, -1), fc.integer()),
  flags: fc.oneof(fc.nat(255), fc.constantFrom<number>(FLAG.syn, FLAG.syn | FLAG.fin, FLAG.syn | FLAG.rst, FLAG.ack, FLAG.rst, FLAG.rst | FLAG.ack)),
  length: fc.constantFrom(0, 0, 4),
  options: fc.constantFrom(...OPTIONS),
});

describe.each([4, 6] as const)('SYN-SENT over IPv%i', (family) => {
  it.each(OFFERS)('any answers in a row: no exception, no storm, and no RST for a RST (%s)', (offer) => {
    fc.assert(
      fc.property(fc.array(reply, { minLength: 1, maxLength: 4 }), (replies) => {
        const { client, answer } = calling(family, offer);
        for (const { seq, ack, flags, length, options } of replies) {
          const answers = answer({ seq: (client.irs + seq) >>> 0, ack: client.ackOf(ack), flags }, length, options);
          expect(answers.length).toBeLessThanOrEqual(2);
          if ((flags & FLAG.rst) !== 0) expect(answers.filter(isReset)).toEqual([]);
          client.agenda.runUntil(client.agenda.now + 1000);
        }
        expect(client.wait(5 * SECOND).length).toBeLessThan(12);
      }),
      { numRuns: 80 },
    );
  });

  it.each(OFFERS)('what does not acknowledge our SYN changes nothing: the right SYN+ACK opens the connection afterwards (%s)', (offer) => {
    const harmless = reply.filter(({ ack, flags }) => {
      const [syn, rst, hasAck] = [FLAG.syn, FLAG.rst, FLAG.ack].map((flag) => (flags & flag) !== 0);
      // An ACK of our SYN counts; so does a SYN without ACK, which is a simultaneous open.
      return !(hasAck === true && ack === 1) && !(syn === true && hasAck === false && rst === false);
    });
    fc.assert(
      fc.property(fc.array(harmless, { minLength: 1, maxLength: 4 }), (replies) => {
        const { client, connection, answer } = calling(family, offer);
        for (const { seq, ack, flags, length, options } of replies) answer({ seq: (client.irs + seq) >>> 0, ack: client.ackOf(ack), flags }, length, options);
        expect(connection.open).toBe(false);
        expect(client.host.sizes.connections).toBe(1);
        answer({ seq: client.irs, ack: client.ackOf(1), flags: FLAG.syn | FLAG.ack, options: [{ kind: 'mss', value: 1000 }] });
        // A SYN+ACK without the option refuses the version, and the next one is offered on a new subflow.
        const next = offer === 'version 1, then 0' ? 'version-retry' : 'connection-established';
        expect(client.events.map((event) => event.type)).toContain(next);
      }),
      { numRuns: 60 },
    );
  });

  it.each(OFFERS)('an ACK that is not ours draws RST <SEQ=SEG.ACK>, and the SYN is repeated as before (%s)', (offer) => {
    const { client, answer } = calling(family, offer);
    for (const beside of [0, 2, 100, -100]) {
      const [reset] = answer({ seq: 1, ack: client.ackOf(beside), flags: FLAG.ack });
      expect(reset!.tcp).toMatchObject({ flags: FLAG.rst, seq: client.ackOf(beside) });
    }
    const again = client.wait(1.5 * SECOND);
    expect(again.map((packet) => packet.tcp!.flags)).toEqual([FLAG.syn]);
  });
});

describe.each([1, 0] as const)('our join, version %i', (version) => {
  const target = parseAddress('192.0.2.77');

  /** A connection of two that has joined to an announced address: the SYN is out. */
  function joining(): { conversation: Conversation; answer(tcp: Partial<TcpHeader>, length: number, options: readonly MptcpOption[]): Packet[] } {
    const conversation = new Conversation({}, version).talk();
    const announced = version === 1 ? conversation.addAddress(9, target) : { ...conversation.addAddress(9, target, null, null), version: 0, flags: 4 };
    conversation.signal(announced as MptcpOption);
    const syn = conversation.peer.sent.find((packet) => (packet.tcp!.flags & FLAG.syn) !== 0);
    expect(syn).toBeDefined();
    const { sourcePort, destinationPort, seq } = syn!.tcp!;
    return {
      conversation,
      answer: (tcp, length, options) => {
        const { peer } = conversation;
        peer.sent.length = 0;
        const header = {
          headerLength: 20,
          reserved: 0,
          window: 1000,
          checksum: 0,
          urgent: 0,
          sourcePort: destinationPort,
          destinationPort: sourcePort,
          ...tcp,
        } as TcpHeader;
        header.ack = (seq + header.ack) >>> 0;
        header.options = options.map((option) => ({ kind: 'mptcp', option }));
        peer.node.receive(peer.through, buildPacket(ipHeader(target, LOCAL, PROTOCOL.tcp), { tcp: header, payload: new Uint8Array(length) }), peer.agenda.now);
        return peer.sent.slice();
      },
    };
  }

  it('answered by anything, a plain SYN too: no exception, a RST at most, and the connection goes on', () => {
    fc.assert(
      fc.property(fc.array(reply, { minLength: 1, maxLength: 3 }), (replies) => {
        const { conversation, answer } = joining();
        for (const { seq, ack, flags, length, options } of replies) {
          const out = answer({ seq: seq >>> 0, ack, flags }, length, options);
          if ((flags & FLAG.rst) !== 0) expect(out.filter(isReset)).toEqual([]);
        }
        conversation.data('b');
        expect(conversation.read()).toContain('b');
        expect(conversation.connection.mode).toBe('mptcp');
        expect(conversation.peer.wait(10 * SECOND).length).toBeLessThan(40);
      }),
      { numRuns: 80 },
    );
  });
});

describe('an announcement that has no room', () => {
  it.each([
    [true, 8443],
    [true, undefined],
    [false, 8443],
  ])('an IPv6 address (timestamps %s, port %s): said or refused, and nothing loops (RFC 8684 §3.4.1)', (timestamps, port) => {
    const conversation = new Conversation();
    conversation.syn(undefined, timestamps ? { options: [{ kind: 'timestamps', value: 5, echo: 0 }] } : {});
    const stamp = { options: timestamps ? [{ kind: 'timestamps', value: 6, echo: 0 } as const] : [] };
    const key = {
      subtype: 'capable',
      version: 1,
      flags: 1,
      senderKey: conversation.key,
      receiverKey: conversation.server,
      dataLength: null,
      checksum: null,
    } as const;
    conversation.raw(0, { flags: FLAG.ack, ...stamp }, [key]);
    conversation.raw(0, { flags: FLAG.ack, ...stamp }, [conversation.dss(new Uint8Array(1))], new Uint8Array(1));
    conversation.flows[0]!.seq++;
    expect(conversation.connection.mode).toBe('mptcp');
    const { peer } = conversation;
    peer.sent.length = 0;
    conversation.connection.announce(20, parseAddress('2001:db8:1::2'), port ?? null, peer.agenda.now);
    peer.node.pump();
    const said = [...peer.sent, ...peer.wait(60 * SECOND)];
    expect(said.length).toBeLessThan(40);
    const announced = said.some((packet) => packet.tcp!.options.some((one) => one.kind === 'mptcp' && one.option.subtype === 'add-addr'));
    expect(announced).toBe(!(timestamps && port !== undefined));
    if (!announced) expect(peer.host.counters.get('mptcp-announcement-too-long')).toBe(1);
  });
});
