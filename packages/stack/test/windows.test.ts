/**
 * Windows that close, shrink, open by an update that is lost, or open by little (RFC 9293 §3.8.6): what is written always
 * arrives, nothing is sent beyond what was offered, and a peer that answers is never given up.
 */
import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { FLAG } from '@subflow/wire';
import type { Packet } from '@subflow/wire';
import type { HostOptions } from '@subflow/stack';
import { byteAt, Client, SECOND, TCP_VARIANTS, VARIANTS } from './client.ts';
import type { Family, Mode } from './client.ts';

const MINUTE = 60 * SECOND;
const carriesData = (packet: Packet): boolean => packet.payload.length > 0;

/** A client that has received exactly its window and closes it; the host has more to send. */
function full(family: Family, mode: Mode, window: number, total: number, host: Partial<HostOptions> = {}): Client {
  const client = new Client(family, mode, { window, host }).open();
  const sent = client.write(total);
  let got = client.take(sent);
  // What is left of it may be less than is worth sending at once (RFC 9293 §3.8.6.2.1).
  for (let i = 0; i < 10 && got < window; i++) got += client.take([...client.acknowledge({ window: window - got }), ...client.wait(SECOND)]);
  expect(got).toBe(window);
  client.acknowledge({ window: 0 });
  client.sent.length = 0;
  return client;
}

describe.each(VARIANTS)('a window filled to the last octet, over IPv%i, %s', (family, mode) => {
  it.each([
    ['one segment', 1000, 5000],
    ['two segments', 2000, 5000],
    ['five segments, and one more octet waits', 5000, 5001],
    ['a segment and a half', 1500, 4000],
    ['one octet', 1, 3000],
  ])('%s: it is probed until it opens, and everything arrives', (_name, window, total) => {
    const client = full(family, mode, window, total);
    // The update that opened the window was lost: only an answer to a probe can tell.
    const probes = client.wait(10 * SECOND);
    expect(probes.length).toBeGreaterThanOrEqual(2);
    for (const probe of probes) expect(client.positionOf(probe) + probe.payload.length).toBeLessThanOrEqual(1 + window);
    let answers = client.acknowledge({ window: 60_000 });
    for (let i = 0; i < 20 && client.received < 1 + total; i++) {
      client.take(answers);
      answers = [...client.acknowledge(), ...client.wait(SECOND)];
    }
    expect(client.received).toBe(1 + total);
  });

  it('the time between probes doubles up to a minute, and a peer that answers is never given up (MUST-35, MUST-37)', () => {
    const client = full(family, mode, 2000, 5000);
    const times: number[] = [];
    for (const end = client.agenda.now + 60 * MINUTE; client.agenda.now < end;) {
      if (client.wait(SECOND / 2).length === 0) continue;
      times.push(client.agenda.now);
      client.acknowledge({ window: 0 });
    }
    expect(client.alive).toBe(true);
    const gaps = times.slice(1).map((time, i) => (time - times[i]!) / SECOND);
    // RFC 9293 §3.8.6.1, SHLD-30; some of the first are of the data level besides.
    expect(Math.max(...gaps)).toBeGreaterThan(30);
    expect(gaps.slice(12).every((gap) => gap > 20)).toBe(true);
    expect(times.length).toBeLessThan(90);
    client.acknowledge({ window: 60_000 });
    for (let i = 0; i < 20 && client.received < 5001; i++) client.take([...client.acknowledge(), ...client.wait(SECOND)]);
    expect(client.received).toBe(5001);
  });

  it('a peer that does not answer is given up', () => {
    const client = full(family, mode, 2000, 5000);
    client.wait(60 * MINUTE);
    expect(client.events.find((event) => event.type === 'connection-closed')).toMatchObject({ reason: 'timeout' });
    expect(client.host.sizes).toMatchObject({ connections: 0, timers: 0 });
  });

  it('the user timeout counts while the window is closed (RFC 5482, RFC 9293 §3.9.1)', () => {
    const client = full(family, mode, 2000, 5000, { tcp: { userTimeout: 30 * SECOND } });
    const begin = client.agenda.now;
    while (client.alive && client.agenda.now - begin < 10 * MINUTE) {
      if (client.wait(SECOND / 2).length > 0 && client.alive) client.acknowledge({ window: 0 });
    }
    const closed = client.events.find((event) => event.type === 'connection-closed');
    expect(closed).toMatchObject({ reason: 'user-timeout' });
    expect((closed!.time - begin) / SECOND).toBeLessThan(120);
  });
});

describe.each(TCP_VARIANTS)('a window that shrinks, over IPv%i, %s', (family, mode) => {
  it.each([0, 1, 500, 999])('to %i octets: nothing goes out at once beyond it, and later an octet that had been offered (MUST-36)', (window) => {
    const client = new Client(family, mode, { window: 5000 }).open();
    client.take(client.write(1000));
    const base = client.received;
    client.acknowledge({ window });
    const atOnce = client.write(1000).filter(carriesData);
    for (const packet of atOnce) expect(client.positionOf(packet) + packet.payload.length - base).toBeLessThanOrEqual(window);
    const [probe] = client.wait(5 * SECOND).filter(carriesData);
    expect(probe).toBeDefined();
    expect(client.positionOf(probe!)).toBe(base);
    expect(probe!.payload.length).toBeLessThanOrEqual(Math.max(1, window));
  });

  it('to nothing, again and again: the connection stays, and the probes are few', () => {
    const client = new Client(family, mode, { window: 5000 }).open();
    client.take(client.write(1000));
    client.acknowledge({ window: 0 });
    client.write(1000);
    let probes = 0;
    for (const end = client.agenda.now + 20 * MINUTE; client.agenda.now < end;) {
      const out = client.wait(SECOND / 4);
      probes += out.length;
      // Its window does not let the octet in: it says what it says.
      if (out.length > 0) client.acknowledge({ window: 0 });
    }
    expect(client.alive).toBe(true);
    expect(probes).toBeGreaterThan(5);
    expect(probes).toBeLessThan(60);
    client.take(client.acknowledge({ window: 5000 }));
    for (let i = 0; i < 10 && client.received < 2001; i++) client.take([...client.acknowledge(), ...client.wait(SECOND)]);
    expect(client.received).toBe(2001);
  });

  it('over what is in flight: what was sent is not acknowledged for it, and goes out again until it is', () => {
    const client = new Client(family, mode, { window: 5000 }).open();
    const sent = client.write(4000);
    expect(sent.filter(carriesData)).toHaveLength(4);
    client.take(sent.slice(0, 1));
    client.acknowledge({ window: 0 });
    expect(client.tcb.sndUna).toBe(client.received);
    let again = 0;
    for (let i = 0; i < 60; i++) {
      const out = client.wait(SECOND);
      again += out.filter(carriesData).length;
      if (out.length > 0) client.acknowledge({ window: 0 });
    }
    expect(again).toBeGreaterThan(0);
    expect(client.alive).toBe(true);
    for (let i = 0; i < 20 && client.received < 4001; i++) client.take([...client.acknowledge({ window: 5000 }), ...client.wait(SECOND)]);
    expect(client.received).toBe(4001);
  });
});

/** A receiver with a buffer, an application that reads when it likes, and a path that loses its ACKs. */
interface Receiver {
  buffer: number;
  reads: number[];
  /** Bits: which ACKs are lost, and whether reading announces itself. */
  losses: number;
  updates: number;
  total: number;
}

const receiver: fc.Arbitrary<Receiver> = fc.record({
  buffer: fc.oneof(fc.constantFrom(1, 999, 1000, 2000, 2920, 5000), fc.integer({ min: 1, max: 9000 })),
  reads: fc.array(fc.integer({ min: 1, max: 4000 }), { minLength: 1, maxLength: 12 }),
  losses: fc.integer(),
  updates: fc.integer(),
  total: fc.integer({ min: 1, max: 15_000 }),
});

describe.each(VARIANTS)('whatever a receiver does with its window, over IPv%i, %s', (family, mode) => {
  it('everything arrives, in order, and nothing beyond what was offered goes out', () => {
    fc.assert(
      fc.property(receiver, ({ buffer, reads, losses, updates, total: most }) => {
        const total = Math.min(most, 40 * buffer);
        const client = new Client(family, mode, { window: buffer }).open();
        client.acknowledge({ window: buffer });
        const base = client.received;
        let held = 0;
        let offered = base + buffer;
        // Before the first window of this receiver the host had another: with nothing to send it was not used.
        let packets = client.write(total);
        let step = 0;
        let i = 0;
        for (const end = client.agenda.now + 60 * MINUTE; client.received < base + total && client.agenda.now < end; step++) {
          for (const packet of packets) {
            const at = client.positionOf(packet);
            expect(at + packet.payload.length).toBeLessThanOrEqual(offered);
            packet.payload.forEach((byte, k) => expect(byte).toBe(byteAt(at + k - base + 1)));
            const fits = Math.min(at + packet.payload.length, client.received + buffer - held);
            if (at > client.received || fits <= client.received) continue;
            held += fits - client.received;
            client.received = fits;
          }
          if (step % 3 === 0) held = Math.max(0, held - reads[i++ % reads.length]!);
          const answered = packets.length > 0 || ((updates >>> (step & 31)) & 1) === 1;
          const lost = ((losses >>> (step & 31)) & 1) === 1 && step < 60;
          if (answered && !lost) {
            const window = buffer - held;
            offered = Math.max(offered, client.received + window);
            packets = client.acknowledge({ window });
          } else packets = [];
          packets.push(...client.wait(SECOND / 20));
        }
        expect(client.received).toBe(base + total);
      }),
      { numRuns: 12 },
    );
  });
});

describe.each(TCP_VARIANTS)('a FIN behind a closed window, over IPv%i, %s', (family, mode) => {
  it('waits for the data before it, and both arrive', () => {
    const client = full(family, mode, 2000, 2500);
    client.connection.shutdown(client.agenda.now);
    client.node.pump();
    expect(client.wait(5 * SECOND).some((packet) => (packet.tcp!.flags & FLAG.fin) !== 0)).toBe(false);
    let fin = false;
    let packets = client.acknowledge({ window: 5000 });
    for (let i = 0; i < 10 && !fin; i++) {
      client.take(packets);
      fin = packets.some((packet) => (packet.tcp!.flags & FLAG.fin) !== 0);
      packets = [...client.acknowledge(), ...client.wait(SECOND)];
    }
    expect([client.received, fin]).toEqual([2501, true]);
  });
});
