/** TIME-WAIT (RFC 9293 §3.6.1, RFC 1337, RFC 6191): what it keeps, what ends it, what is answered, and that it is bounded. */
import { describe, expect, it } from 'vitest';
import { FLAG } from '@subflow/wire';
import type { Packet, TcpHeader } from '@subflow/wire';
import { Client, isReset, SECOND, VARIANTS } from './client.ts';
import type { ClientOptions, Family, Mode } from './client.ts';

const LENGTH = 10 * SECOND;
const settings: ClientOptions = { host: { tcp: { timeWait: LENGTH } } };

/** Our host closes first, the client after it: the connection is in TIME-WAIT. */
function waiting(family: Family, mode: Mode, more: ClientOptions = {}): Client {
  const client = new Client(family, mode, { ...settings, ...more, host: { ...settings.host, ...more.host } }).open();
  client.data(100);
  client.readAll();
  client.connection.shutdown(client.agenda.now);
  client.node.pump();
  const { tcb } = client;
  if (client.multipath) {
    // The data level first; then the FINs of the subflow (RFC 8684 §3.3.3).
    client.segment({}, new Uint8Array(0), [client.bothFins()]);
  }
  client.received = tcb.sndNxt;
  client.segment({ flags: FLAG.ack | FLAG.fin });
  client.next++;
  expect(client.host.sizes).toMatchObject({ connections: 0, subflows: 1 });
  return client;
}

/** The client's FIN again. */
const finAgain = (client: Client): Packet[] => client.segment({ seq: client.seqOf(client.next - 1), flags: FLAG.ack | FLAG.fin });

const over = (client: Client): boolean => client.host.sizes.subflows === 0;

describe.each(VARIANTS)('TIME-WAIT, over IPv%i, %s', (family, mode) => {
  it('lasts its time, answers what comes late, and then the tuple belongs to nobody', () => {
    const client = waiting(family, mode);
    client.wait(LENGTH - SECOND);
    expect(over(client)).toBe(false);
    const [late] = client.segment({ seq: client.seqOf(50) }, new Uint8Array(10));
    expect(late!.tcp).toMatchObject({ flags: FLAG.ack, seq: client.ackOf(client.received), ack: client.seqOf(client.next) });
    client.wait(2 * SECOND);
    expect([over(client), client.host.idle]).toEqual([true, true]);
    expect(client.segment({}).map(isReset)).toEqual([true]);
  });

  it("starts anew with the peer's own FIN again, which is acknowledged, and with no other segment", () => {
    const client = waiting(family, mode);
    client.wait(LENGTH - SECOND);
    expect(finAgain(client).map((packet) => packet.tcp!.flags)).toEqual([FLAG.ack]);
    client.wait(LENGTH - SECOND);
    expect(over(client)).toBe(false);
    client.wait(2 * SECOND);
    expect(over(client)).toBe(true);
    const others: readonly [string, Partial<TcpHeader>, number][] = [
      ['a FIN elsewhere', { seq: client.seqOf(client.next + 5), flags: FLAG.ack | FLAG.fin }, 0],
      ['a FIN before it', { seq: client.seqOf(client.next - 2), flags: FLAG.ack | FLAG.fin }, 0],
      ['a FIN with text behind the end', { seq: client.seqOf(client.next - 1), flags: FLAG.ack | FLAG.fin }, 10],
      ['a FIN without ACK', { seq: client.seqOf(client.next - 1), flags: FLAG.fin }, 0],
      ['a FIN with another ACK', { seq: client.seqOf(client.next - 1), ack: client.ackOf(1), flags: FLAG.ack | FLAG.fin }, 0],
      ['an old SYN', { seq: client.irs, flags: FLAG.syn, ack: 0 }, 0],
      ['a SYN+ACK', { seq: client.seqOf(client.next + 100), flags: FLAG.syn | FLAG.ack }, 0],
      ['old text', { seq: client.seqOf(1) }, 10],
    ];
    for (const [name, header, length] of others) {
      const other = waiting(family, mode);
      other.wait(LENGTH - SECOND);
      other.segment(header, new Uint8Array(length));
      other.wait(2 * SECOND);
      expect([name, over(other)]).toEqual([name, true]);
    }
  });

  it.each([
    ['the exact number', 0, 0],
    ['a number in the window', 100, 0],
    ['a SYN beside it', 100_000, FLAG.syn],
    ['a FIN beside it', -1, FLAG.fin],
  ])('is not ended by a RST (RFC 1337 §3): %s', (_name, ahead, more) => {
    const client = waiting(family, mode);
    for (const ack of [0, FLAG.ack]) expect(client.segment({ seq: client.seqOf(client.next + ahead), flags: FLAG.rst | ack | more })).toEqual([]);
    expect(over(client)).toBe(false);
    client.wait(LENGTH + SECOND);
    expect(over(client)).toBe(true);
  });

  it('makes way for a SYN beyond the old numbers, and for no other (RFC 9293 §3.10.7.4)', () => {
    const client = waiting(family, mode);
    expect(client.segment({ seq: client.seqOf(client.next - 50), flags: FLAG.syn, ack: 0 }).map((packet) => packet.tcp!.flags)).toEqual([FLAG.ack]);
    const [synAck] = client.segment({ seq: client.seqOf(client.next + 1000), flags: FLAG.syn, ack: 0 });
    expect(synAck!.tcp!.flags & (FLAG.syn | FLAG.ack)).toBe(FLAG.syn | FLAG.ack);
    expect(client.host.sizes.connections).toBe(1);
  });

  it('answers few of many: a segment that comes again and again is not answered for ever', () => {
    const client = waiting(family, mode);
    let answers = 0;
    for (let i = 0; i < 1000; i++) answers += client.segment({ seq: client.seqOf(50) }, new Uint8Array(10)).length;
    expect(answers).toBeGreaterThan(0);
    expect(answers).toBeLessThan(50);
  });

  it('goes on with timestamps where they were in use', () => {
    const client = waiting(family, mode, { timestamps: true });
    client.wait(3 * SECOND);
    const [answer] = finAgain(client);
    const option = answer!.tcp!.options.find((one) => one.kind === 'timestamps');
    expect(option).toBeDefined();
  });
});

/** A connection from a port, closed by our host first: into TIME-WAIT. */
function openAndClose(client: Client, sourcePort: number): void {
  const [synAck] = client.segment({ sourcePort, flags: FLAG.syn, seq: 1000, ack: 0 });
  const ack = (synAck!.tcp!.seq + 1) >>> 0;
  client.segment({ sourcePort, seq: 1001, ack });
  const [connection] = client.host.connections.values();
  connection!.shutdown(client.agenda.now);
  client.node.pump();
  client.segment({ sourcePort, seq: 1001, ack: (ack + 1) >>> 0, flags: FLAG.ack | FLAG.fin });
  client.events.length = client.sent.length = 0;
}

/** Held for each: an IPv6 address is an array of its own. */
const BYTES = { 4: 300, 6: 500 } as const;

describe.each([4, 6] as const)('many in TIME-WAIT over IPv%i', (family) => {
  it('50,000 of them hold a few hundred bytes each', () => {
    const collect = (globalThis as { gc?: () => void }).gc;
    const client = new Client(family, 'plain TCP', { host: { tcp: { timeWait: 3600 * SECOND } } });
    const held = (): number => {
      collect?.();
      collect?.();
      const { heapUsed, arrayBuffers } = process.memoryUsage();
      return heapUsed + arrayBuffers;
    };
    for (let i = 0; i < 1000; i++) openAndClose(client, 1 + i);
    const before = held();
    const count = 50_000;
    for (let i = 0; i < count; i++) openAndClose(client, 2000 + i);
    expect(client.host.sizes).toMatchObject({ connections: 0, subflows: count + 1000 });
    if (collect !== undefined) expect((held() - before) / count).toBeLessThan(BYTES[family]);
    client.wait(3601 * SECOND);
    expect(client.host.idle).toBe(true);
  }, 120_000);

  it('beyond the limit the oldest makes room, and is nobody any more', () => {
    const client = new Client(family, 'plain TCP', { host: { tcp: { timeWait: 3600 * SECOND, timeWaitLimit: 10 } } });
    for (let i = 0; i < 25; i++) openAndClose(client, 1 + i);
    expect(client.host.sizes.subflows).toBe(10);
    expect(client.host.counters.get('tcp-time-wait-full')).toBe(15);
    const answerTo = (sourcePort: number): Packet => client.segment({ sourcePort, seq: 1000 })[0]!;
    expect([1, 15].map((port) => isReset(answerTo(port)))).toEqual([true, true]);
    expect([16, 25].map((port) => isReset(answerTo(port)))).toEqual([false, false]);
  });

  it('their time is each their own: those that began later end later', () => {
    const client = new Client(family, 'plain TCP', settings);
    for (let i = 0; i < 5; i++) {
      openAndClose(client, 1 + i);
      client.wait(SECOND);
    }
    const left: number[] = [];
    client.wait(LENGTH - 5 * SECOND);
    for (let i = 0; i < 6; i++) {
      left.push(client.host.sizes.subflows);
      client.wait(SECOND);
    }
    expect(left).toEqual([4, 3, 2, 1, 0, 0]);
  });
});
