/** Data ahead of order: what SACK reports of it, what it costs, and what a peer can make a connection hold (CVE-2018-5390). */
import { describe, expect, it } from 'vitest';
import { ChunkPool } from '../src/buffers.ts';
import { OutOfOrder } from '../src/tcp/out-of-order.ts';
import { byteAt, Client, pattern, VARIANTS } from './client.ts';

describe('what is held ahead of order', () => {
  it('reports the latest arrivals first, and then the first ones (RFC 2018 §4)', () => {
    const held = new OutOfOrder(new ChunkPool(), 4096);
    for (const at of [100, 200, 300, 400, 500, 600]) held.insert(pattern(at, 10), 0, 10, at);
    const starts = (limit: number): number[] => held.report(limit).map((one) => one.position);
    expect(starts(3)).toEqual([600, 500, 400]);
    expect(starts(6)).toEqual([600, 500, 400, 300, 100, 200]);
    held.insert(pattern(110, 90), 0, 90, 110);
    // One block now, from 100 to 210: it is the latest.
    expect(starts(3)).toEqual([100, 600, 500]);
  });
});

describe.each(VARIANTS)('one-octet holes over IPv%i, %s', (family, mode) => {
  const BUFFER = 20_000;

  /** Every second octet of the window, in some order; returns what is held at most, and where the last octet is. */
  function fill(client: Client, order: (i: number, count: number) => number): number {
    const { tcb } = client;
    const begin = client.next;
    const count = Math.floor((Math.min(tcb.rcvEdge, begin + BUFFER) - begin) / 2) - 1;
    for (let i = 0; i < count; i++) client.data(1, { at: begin + 1 + 2 * order(i, count) });
    return begin;
  }

  it.each([
    ['ascending', (i: number) => i],
    ['descending', (i: number, count: number) => count - 1 - i],
    ['scattered', (i: number, count: number) => (i * 7919) % count],
  ])('hold no more than the buffer and its share, %s, and every octet arrives once the holes are filled', (_name, order) => {
    const client = new Client(family, mode, { scale: 7, host: { tcp: { receiveBuffer: BUFFER, maxReceiveBuffer: BUFFER } } }).open();
    const begin = fill(client, order);
    const { tcb, connection } = client;
    const cost = (tcb.outOfOrder?.cost ?? 0) + (connection.outOfOrder?.cost ?? 0);
    expect(cost).toBeGreaterThan(0);
    expect(cost).toBeLessThanOrEqual(1.25 * BUFFER + 16_384);
    // The peer sends what was not kept again, as any sender does.
    let acked = begin;
    for (let i = 0; i < BUFFER && acked < begin + 2000; i++) {
      client.data(1, { at: acked });
      acked = tcb.rcvNxt;
    }
    const bytes = client.readAll();
    expect(bytes.length).toBe(acked - begin);
    expect(bytes.findIndex((byte, i) => byte !== byteAt(begin + i))).toBe(-1);
  });

  it('one segment that spans all the holes is enough', () => {
    const client = new Client(family, mode, { host: { tcp: { receiveBuffer: 120_000, maxReceiveBuffer: 120_000 } } }).open();
    const begin = client.next;
    for (let i = 1; i < 900; i += 2) client.data(1, { at: begin + i });
    client.data(1000);
    expect(client.tcb.rcvNxt).toBe(begin + 1000);
    expect(client.tcb.outOfOrder).toBeNull();
    expect(client.readAll()).toEqual(Buffer.from(pattern(begin, 1000)));
  });
});
