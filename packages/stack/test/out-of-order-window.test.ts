/** Data ahead of order of a good peer: whatever window was offered can be held, whatever is lost of it. */
import { describe, expect, it } from 'vitest';
import { byteAt, Client, VARIANTS } from './client.ts';

describe.each(VARIANTS)('a whole window behind one lost segment, over IPv%i, %s', (family, mode) => {
  it.each([
    [20_000, 536],
    [64_000, 1000],
    [100_000, 1000],
    [130_000, 1000],
    [131_072, 1460],
    [262_144, 1460],
    [1_000_000, 1460],
    [4_000_000, 1460],
  ])('with a buffer of %i octets and segments of %i is kept: nothing is refused, and all is there when the hole is filled', (buffer, mss) => {
    const client = new Client(family, mode, { mss, scale: 8, host: { tcp: { receiveBuffer: buffer, maxReceiveBuffer: buffer } } }).open();
    const { tcb, connection } = client;
    const begin = client.next;
    // Every 50th is lost besides.
    const lost: [number, number][] = [];
    let at = begin;
    for (let i = 0; at + mss <= Math.min(tcb.rcvEdge, begin + buffer); i++, at += mss) {
      if (i % 50 === 0) lost.push([at, mss]);
      else client.data(mss, { at });
      client.events.length = 0;
    }
    expect(at - begin).toBeGreaterThan(Math.min(buffer, 65_535) - 2 * mss - 2000);
    expect(tcb.outOfOrderBytes + connection.outOfOrderBytes).toBe(at - begin - lost.length * mss);
    expect([...client.host.counters.keys()].filter((name) => name.includes('full'))).toEqual([]);
    for (const [position, length] of lost) client.data(length, { at: position });
    expect(tcb.rcvNxt).toBe(at);
    const bytes = client.readAll();
    expect(bytes.length).toBe(at - begin);
    expect(bytes.findIndex((byte, i) => byte !== byteAt(begin + i))).toBe(-1);
  });
});
