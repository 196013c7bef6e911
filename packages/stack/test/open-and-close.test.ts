/** Opening, a closed window in the middle, and closing: what RFC 9293 §3.10 asks of each step, against a hand-made peer. */
import { describe, expect, it } from 'vitest';
import type { Connection, HostOptions } from '@subflow/stack';
import { FLAG } from '@subflow/wire';
import type { Packet, TcpOption } from '@subflow/wire';
import { HandPeer, REMOTE } from './world.ts';

const SECOND = 1_000_000;
const MSS: TcpOption = { kind: 'mss', value: 1000 };

/** A connection that the peer opened, and the sequence number after our SYN. */
function accepted(options: Partial<HostOptions> = {}, syn: TcpOption[] = [MSS]): { peer: HandPeer; connection: Connection; ack: number } {
  const peer = new HandPeer({ mptcp: { enabled: false }, ...options });
  peer.host.listen({ port: 80 });
  const ack = (peer.send({ flags: FLAG.syn, seq: 100, options: syn })[0]!.tcp!.seq + 1) >>> 0;
  peer.send({ flags: FLAG.ack, seq: 101, ack });
  return { peer, connection: [...peer.host.connections.values()][0]!, ack };
}

const sizes = (packets: readonly Packet[]): number[] => packets.map((one) => one.payload.length).filter((length) => length > 0);

describe('half-open connections', () => {
  it.each([0, 1, -1, 1_000_000, -1_000_000])('an ACK %d beside ours draws RST <SEQ=SEG.ACK>, and the right one still opens (RFC 9293 §3.10.7.4)', (beside) => {
    const peer = new HandPeer({ mptcp: { enabled: false } });
    peer.host.listen({ port: 80 });
    const iss = peer.send({ flags: FLAG.syn, seq: 100, options: [MSS] })[0]!.tcp!.seq;
    const wrong = (iss + (beside === 1 ? 2 : beside)) >>> 0;
    const [answer] = peer.send({ flags: FLAG.ack, seq: 101, ack: wrong });
    expect(answer!.tcp).toMatchObject({ flags: FLAG.rst, seq: wrong });
    expect(peer.host.sizes.connections).toBe(1);
    peer.send({ flags: FLAG.ack, seq: 101, ack: (iss + 1) >>> 0 });
    expect([...peer.host.connections.values()][0]!.open).toBe(true);
  });

  it('a first ACK without timestamps does not lose the connection: it goes on without them (RFC 7323 §3.2)', () => {
    const peer = new HandPeer({ mptcp: { enabled: false } });
    peer.host.listen({ port: 80 });
    const iss = peer.send({ flags: FLAG.syn, seq: 100, options: [MSS, { kind: 'timestamps', value: 5, echo: 0 }] })[0]!.tcp!.seq;
    const ack = (iss + 1) >>> 0;
    peer.send({ flags: FLAG.ack, seq: 101, ack });
    const [answer] = peer.send({ flags: FLAG.ack | FLAG.psh, seq: 101, ack }, new Uint8Array(7));
    expect(answer!.tcp!.ack).toBe(108);
    expect(answer!.tcp!.options.some((one) => one.kind === 'timestamps')).toBe(false);
    expect([...peer.host.connections.values()][0]!.readable).toBe(7);
  });

  it('once they are in use, a segment without timestamps is dropped', () => {
    const peer = new HandPeer({ mptcp: { enabled: false } });
    peer.host.listen({ port: 80 });
    const stamp = (value: number): TcpOption[] => [{ kind: 'timestamps', value, echo: 0 }];
    const ack = (peer.send({ flags: FLAG.syn, seq: 100, options: [MSS, ...stamp(5)] })[0]!.tcp!.seq + 1) >>> 0;
    peer.send({ flags: FLAG.ack, seq: 101, ack, options: stamp(6) });
    expect(peer.send({ flags: FLAG.ack | FLAG.psh, seq: 101, ack }, new Uint8Array(7))).toEqual([]);
    expect([...peer.host.connections.values()][0]!.readable).toBe(0);
  });
});

describe('SYN-SENT', () => {
  function calling(): { peer: HandPeer; connection: Connection; syn: Packet } {
    const peer = new HandPeer({ mptcp: { enabled: false } });
    const connection = peer.host.connect({ remote: REMOTE, port: 1000, localPort: 80 }, peer.agenda.now);
    peer.node.pump();
    return { peer, connection, syn: peer.sent[0]! };
  }

  it('an ACK of something that was never sent draws RST <SEQ=SEG.ACK>; a RST with it draws nothing (RFC 9293 §3.10.7.3)', () => {
    const { peer, connection, syn } = calling();
    const wrong = (syn.tcp!.seq + 1000) >>> 0;
    expect(peer.send({ flags: FLAG.ack, seq: 1, ack: wrong })[0]!.tcp).toMatchObject({ flags: FLAG.rst, seq: wrong });
    expect(peer.send({ flags: FLAG.ack | FLAG.rst, seq: 1, ack: wrong })).toEqual([]);
    expect(connection.closed).toBe(false);
    peer.send({ flags: FLAG.syn | FLAG.ack, seq: 500, ack: (syn.tcp!.seq + 1) >>> 0, options: [MSS] });
    expect(connection.open).toBe(true);
  });

  it('close deletes the connection without a word, and what was written with it (RFC 9293 §3.10.4)', () => {
    const { peer, connection } = calling();
    connection.write(new Uint8Array(10), peer.agenda.now);
    connection.close(peer.agenda.now);
    peer.node.pump();
    expect(connection.closed).toBe(true);
    expect(peer.wait(200 * SECOND)).toEqual([]);
    expect(peer.host.idle).toBe(true);
  });

  it('established, close is a FIN behind what was written', () => {
    const { peer, connection, ack } = accepted();
    connection.write(new Uint8Array(10), peer.agenda.now);
    connection.close(peer.agenda.now);
    peer.sent.length = 0;
    peer.node.pump();
    expect(sizes(peer.sent)).toEqual([10]);
    expect(peer.sent.at(-1)!.tcp).toMatchObject({ flags: FLAG.fin | FLAG.ack, seq: (ack + 10) >>> 0 });
  });
});

describe('windows of a few octets', () => {
  it.each([1, 10, 400])('into a window of %d octets nothing goes at once, and what fits within the override time (RFC 9293 §3.8.6.2.1)', (window) => {
    const { peer, connection, ack } = accepted();
    peer.send({ flags: FLAG.ack, seq: 101, ack, window: 0 });
    connection.write(new Uint8Array(5000), peer.agenda.now);
    peer.node.pump();
    expect(sizes(peer.send({ flags: FLAG.ack, seq: 101, ack, window }))).toEqual([]);
    expect(sizes(peer.wait(99_000))).toEqual([]);
    expect(sizes(peer.wait(901_000))[0]).toBe(window);
  });

  it('all that waits goes into a window that holds it, however small', () => {
    const { peer, connection, ack } = accepted();
    peer.send({ flags: FLAG.ack, seq: 101, ack, window: 3 });
    connection.write(new Uint8Array(3), peer.agenda.now);
    peer.sent.length = 0;
    peer.node.pump();
    expect(sizes(peer.sent)).toEqual([3]);
  });
});

describe('the user timeout (RFC 5482)', () => {
  it.each([10, 100_000])('covers a closed window: with %d octets waiting it ends a connection whose peer answers every probe', (waiting) => {
    const { peer, connection, ack } = accepted({ tcp: { userTimeout: 20 * SECOND } });
    peer.send({ flags: FLAG.ack, seq: 101, ack, window: 0 });
    connection.write(new Uint8Array(waiting), peer.agenda.now);
    peer.node.pump();
    const began = peer.agenda.now;
    while (!connection.closed && peer.agenda.now < began + 200 * SECOND) {
      peer.wait(SECOND / 2);
      peer.send({ flags: FLAG.ack, seq: 101, ack, window: 0 });
    }
    expect(connection.closeReason).toBe('user-timeout');
    expect(peer.agenda.now - began).toBeGreaterThanOrEqual(20 * SECOND);
    expect(peer.agenda.now - began).toBeLessThan(45 * SECOND);
  });

  it('without one a peer that answers is probed for as long as it does (RFC 9293 §3.8.6.1)', () => {
    const { peer, connection, ack } = accepted();
    peer.send({ flags: FLAG.ack, seq: 101, ack, window: 0 });
    connection.write(new Uint8Array(10), peer.agenda.now);
    peer.node.pump();
    for (let i = 0; i < 3600; i++) {
      peer.wait(SECOND);
      peer.send({ flags: FLAG.ack, seq: 101, ack, window: 0 });
    }
    expect(connection.open).toBe(true);
  });
});
