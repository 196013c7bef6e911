/** SYN cookies (RFC 4987 §3.6): accepted only where and when one was sent, of every guise of client, and not to be guessed. */
import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import type { Host, HostOptions } from '@subflow/stack';
import { FLAG } from '@subflow/wire';
import type { Packet } from '@subflow/wire';
import { makeCookie } from '../src/tcp/syn-cookie.ts';
import { HostSecret } from '../src/tcp/keyed-hash.ts';
import { ADDRESSES, Client, isReset, MODES, pattern, SECOND, VARIANTS } from './client.ts';
import type { ClientOptions, Family } from './client.ts';

/** Modes in which the client ends its handshake with an ACK that may be a cookie's. */
const always: ClientOptions = { host: { mptcp: { synCookies: 'always' } } };

function withCookies(synCookies: 'never' | 'when-full' | 'always', more: Partial<HostOptions> = {}): ClientOptions {
  return { host: { ...more, mptcp: { ...more.mptcp, synCookies } } };
}

/** The cookie that the host would have sent to this client at this time, if it had. */
function forged(client: Client, family: Family, clientIsn: number): number {
  const { secret } = client.host as Host & { secret: HostSecret };
  const { local, remote } = ADDRESSES[family];
  return makeCookie(secret, { local, localPort: 80, remote, remotePort: client.port }, clientIsn, 1460, client.agenda.now);
}

const opened = (client: Client): number => client.host.sizes.connections;

describe.each(VARIANTS)('a cookie, over IPv%i, %s', (family, mode) => {
  it('opens a connection without a trace before, and data flows both ways', () => {
    const client = new Client(family, mode, { ...always, mss: 1220, timestamps: true, sack: true, scale: 5 });
    client.syn();
    expect([opened(client), client.host.sizes.timers]).toEqual([0, 0]);
    client.open();
    expect([client.tcb.sack, client.tcb.sndScale, client.tcb.timestamps]).toEqual([true, 5, true]);
    expect(client.tcb.peerMss).toBeLessThanOrEqual(1220);
    const begin = client.next;
    client.data(700);
    expect(client.readAll()).toEqual(Buffer.from(pattern(begin, 700)));
    expect(client.take(client.write(3000))).toBe(3000);
  });

  it('that was never sent is none: a RST, whatever the setting', () => {
    for (const synCookies of ['never', 'when-full', 'always'] as const) {
      const client = new Client(family, mode, withCookies(synCookies));
      const isn = forged(client, family, client.irs);
      const answers = client.segment({ ack: (isn + 1) >>> 0 });
      expect(answers.map(isReset)).toEqual([true]);
      expect(opened(client)).toBe(0);
    }
  });

  it('is too old after two periods, although others are sent', () => {
    const client = new Client(family, mode, always);
    const synAck = client.syn();
    client.iss = synAck.tcp!.seq;
    for (let i = 0; i < 14; i++) {
      client.wait(10 * SECOND);
      client.segment({ sourcePort: 5000 + i, flags: FLAG.syn, ack: 0 });
    }
    client.segment({ ack: client.ackOf(1) });
    expect(opened(client)).toBe(0);
  });

  it('and none is accepted when none has been sent for as long as one lives', () => {
    const client = new Client(family, mode, always);
    client.syn();
    client.wait(129 * SECOND);
    expect(client.segment({ ack: (forged(client, family, client.irs) + 1) >>> 0 }).map(isReset)).toEqual([true]);
    expect(opened(client)).toBe(0);
  });
});

describe.each([4, 6] as const)('a cookie over IPv%i', (family) => {
  it('is good for its own SYN only: every bit of it, the sequence number and the ports count', () => {
    const client = new Client(family, 'plain TCP', always);
    client.iss = client.syn().tcp!.seq;
    const difference = fc.record({
      bit: fc.nat(31),
      what: fc.constantFrom('ack', 'seq', 'port'),
    });
    fc.assert(
      fc.property(difference, ({ bit, what }) => {
        const mask = 1 << bit;
        client.segment({
          ack: ((what === 'ack' ? client.iss ^ mask : client.iss) + 1) >>> 0,
          seq: ((what === 'seq' ? client.irs ^ mask : client.irs) + 1) >>> 0,
          sourcePort: what === 'port' ? client.port ^ (1 << (bit & 15)) : client.port,
        });
        expect(opened(client)).toBe(0);
      }),
    );
    client.segment({ ack: client.ackOf(1) });
    expect(opened(client)).toBe(1);
  });

  it('is not guessed: 100,000 tries while cookies are out open nothing', () => {
    const client = new Client(family, 'plain TCP', always);
    client.syn();
    let seed = 0x2545f491;
    for (let i = 0; i < 100_000; i++) {
      seed = (Math.imul(seed, 1_664_525) + 1_013_904_223) | 0;
      client.segment({ sourcePort: 6000, ack: seed >>> 0 });
      client.events.length = 0;
    }
    expect(opened(client)).toBe(0);
  });

  it.each([64, 536, 537, 1219, 1220, 1300, 1399, 1440, 1459, 1460, 9000])('names the largest segment size of its table that is not above %i', (mss) => {
    const client = new Client(family, 'plain TCP', { ...always, mss }).open();
    expect(client.tcb.peerMss).toBeLessThanOrEqual(Math.max(536, mss));
    expect(client.tcb.peerMss).toBeGreaterThan(Math.min(mss, 1460) * 0.4);
  });

  it.each(MODES)('when the backlog is full, and not before: a good client still gets in (%s)', (mode) => {
    const client = new Client(family, mode);
    const backlog = client.host.listen({ port: 81, backlog: 8, multipath: mode !== 'plain TCP' });
    const syn = (sourcePort: number): Packet | undefined => client.segment({ sourcePort, destinationPort: 81, flags: FLAG.syn, seq: 7, ack: 0 })[0];
    for (let i = 0; i < 8; i++) syn(2000 + i);
    expect([backlog.pending, client.host.counters.get('tcp-syn-cookie-sent') ?? 0]).toEqual([8, 0]);
    const synAck = syn(3000)!;
    expect(client.host.counters.get('tcp-syn-cookie-sent')).toBe(1);
    const before = opened(client);
    client.segment({ sourcePort: 3000, destinationPort: 81, seq: 8, ack: (synAck.tcp!.seq + 1) >>> 0 });
    expect(opened(client)).toBe(before + 1);
  });

  it('what overtakes the ACK with the cookie is dropped without a RST', () => {
    const client = new Client(family, 'plain TCP', always);
    client.iss = client.syn().tcp!.seq;
    expect(client.segment({ seq: client.seqOf(1001), ack: client.ackOf(1) }, new Uint8Array(100))).toEqual([]);
    client.segment({ ack: client.ackOf(1) });
    expect(opened(client)).toBe(1);
  });
});
