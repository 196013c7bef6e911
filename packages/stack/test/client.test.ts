/** The hand-made client itself: every guise opens, sends and receives. */
import { describe, expect, it } from 'vitest';
import { Client, pattern, VARIANTS } from './client.ts';

describe.each(VARIANTS)('the hand-made client over IPv%i, %s', (family, mode) => {
  it.each([{}, { timestamps: true, sack: true, scale: 7 }])('sends and receives (options %j)', (options) => {
    const client = new Client(family, mode, options).open();
    const begin = client.next;
    client.data(300);
    client.data(700);
    expect(client.readAll()).toEqual(Buffer.from(pattern(begin, 1000)));
    const out = client.write(2500);
    expect(Buffer.concat(out.map((packet) => packet.payload))).toEqual(Buffer.from(pattern(1, 2500)));
    expect(client.take(out)).toBe(2500);
    client.acknowledge();
    expect(client.tcb.inFlight).toBe(0);
    expect(client.connection.sendBuffer.end - client.connection.dataUna).toBe(0);
  });
});
