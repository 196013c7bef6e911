/**
 * What a peer reports by SACK: believed until a timeout at the latest (RFC 2018 §8), never more than was sent, and cheap however it
 * lies (CVE-2019-11478).
 */
import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import type { Packet } from '@subflow/wire';
import { byteAt, Client, SECOND, VARIANTS } from './client.ts';

const carriesData = (packet: Packet): boolean => packet.payload.length > 0;

/** Lets time pass and acknowledges whatever comes, until everything is there and acknowledged; returns the seconds it took. */
function finish(client: Client, end: number, limit = 600): number {
  for (let second = 0; second < limit; second++) {
    for (let packets = client.wait(SECOND); packets.length > 0; packets = client.acknowledge()) client.take(packets);
    if (client.received >= end) return second;
  }
  return limit;
}

describe.each(VARIANTS)('a receiver that throws away what it has reported, over IPv%i, %s', (family, mode) => {
  it.each([
    ['everything', 0, 0],
    ['everything but the first segment', 1, 0],
    ['everything but the last segment', 0, -1],
    ['the middle', 2, -1],
    ['one segment', 3, 4],
  ])('gets it again after a timeout (it had reported %s)', (_name, first, last) => {
    const client = new Client(family, mode, { sack: true }).open();
    const sent = client.write(5000).filter(carriesData);
    expect(sent.length).toBeGreaterThanOrEqual(5);
    // Beside a DSS there is less room: the segments are cut where they are.
    const edges = [...sent.map((packet) => client.positionOf(packet)), 5001];
    const block: [number, number] = [edges[first]!, edges.at(last <= 0 ? last - 1 : last)!];
    client.acknowledge({ upTo: 1, sack: [block] });
    expect(client.tcb.sackedBytes).toBe(block[1] - block[0]);
    // From here on it has nothing, and never reports anything again but what is in order.
    expect(finish(client, 5001)).toBeLessThan(60);
    expect(client.received).toBe(5001);
    expect([client.tcb.inFlight, client.tcb.lostBytes, client.tcb.sackedBytes]).toEqual([0, 0, 0]);
  });

  it('whatever it reports, true or not, and however often: all arrives, and the sums are right', () => {
    const edge = fc.oneof(fc.integer({ min: -3000, max: 15_000 }), fc.constantFrom(0, 1, 1001, 5001, 10_001, 10_002, 2 ** 31, -(2 ** 31)));
    const blocks = fc.array(fc.tuple(edge, edge), { minLength: 1, maxLength: 4 });
    const report = fc.record({ blocks, upTo: fc.nat(3000), pause: fc.integer({ min: 0, max: 400 }) });
    fc.assert(
      fc.property(fc.array(report, { minLength: 1, maxLength: 12 }), (reports) => {
        const client = new Client(family, mode, { sack: true }).open();
        client.write(10_000);
        const { tcb } = client;
        for (const one of reports) {
          const upTo = Math.min(client.received + one.upTo, tcb.sndNxt);
          // A lie in the text of SACK as well: the cumulative part is true.
          client.take(client.acknowledge({ upTo, sack: one.blocks }));
          client.received = upTo;
          client.wait(one.pause * 1000);
          const outstanding = tcb.sndNxt - tcb.sndUna;
          expect(tcb.inFlight + tcb.lostBytes + tcb.sackedBytes).toBe(outstanding);
          expect(Math.min(tcb.inFlight, tcb.lostBytes, tcb.sackedBytes)).toBeGreaterThanOrEqual(0);
        }
        finish(client, 10_001);
        expect(client.received).toBe(10_001);
      }),
      { numRuns: 25 },
    );
  });

  it('what goes out again is what was written', () => {
    const client = new Client(family, mode, { sack: true }).open();
    client.write(8000);
    client.acknowledge({
      upTo: 1,
      sack: [
        [1001, 2001],
        [3500, 4100],
        [5001, 5002],
      ],
    });
    for (let i = 0; i < 40; i++) {
      for (const packet of client.wait(SECOND)) {
        const at = client.positionOf(packet);
        expect(packet.payload.findIndex((byte, k) => byte !== byteAt(at + k))).toBe(-1);
      }
    }
  });
});

/** A client that has `flight` octets outstanding, in records of up to 64 kB where the interface cuts segments itself. */
function loaded(client: Client, flight: number): void {
  const block = 60_000;
  for (let round = 0; round < 60 && client.tcb.inFlight < flight; round++) {
    client.received = client.tcb.sndNxt;
    client.acknowledge();
    while (client.connection.sendBuffer.length < flight + block && client.connection.write(new Uint8Array(block), client.agenda.now));
    client.node.pump();
    // Sooner than a tail loss probe.
    client.wait(1000);
    client.events.length = client.sent.length = 0;
  }
}

const buffers = { host: { tcp: { sendBuffer: 2 ** 24, maxSendBuffer: 2 ** 24 } } };

describe.each(VARIANTS)('SACKs of single octets, over IPv%i, %s', (family, mode) => {
  it.each([
    [60_000, false],
    [600_000, false],
    [60_000, true],
    [600_000, true],
  ])('of %i octets in flight (super-segments %s) make no more pieces than segments, and the last costs what the first did', (flight, offload) => {
    const client = new Client(family, mode, { mss: 1460, sack: true, scale: 10, offload, ...buffers }).open();
    loaded(client, flight);
    const { tcb } = client;
    const [una, end] = [tcb.sndUna, tcb.sndNxt];
    expect(end - una).toBeGreaterThan(flight / 2);
    const segments = Math.ceil((end - una) / 1000);
    client.received = una;
    let at = una + 1;
    const round = (count: number): number => {
      const begin = process.cpuUsage();
      for (let i = 0; i < count; i++) {
        const blocks = Array.from({ length: 3 }, (): [number, number] => [at, (at += 2) - 1]);
        if (at > end - 10) at = una + 1;
        client.acknowledge({ sack: blocks });
        client.events.length = 0;
      }
      const { user, system } = process.cpuUsage(begin);
      return (user + system) / count;
    };
    round(500);
    const first = round(1500);
    round(4000);
    const last = round(1500);
    expect([...tcb.queue].length).toBeLessThanOrEqual(segments + 2);
    // Microseconds; generous, for a machine that does something else besides.
    expect(last).toBeLessThan(5 * first + 100);
    // And a timeout afterwards does not send single octets.
    const again = client.wait(20 * SECOND).filter(carriesData);
    expect(again.length).toBeGreaterThan(0);
    expect(again.filter((packet) => packet.payload.length < 100).length).toBeLessThanOrEqual(1);
  });
});
