/** The queue of events: in order, bounded, and the end of a connection is never lost. */
import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import type { StackEvent } from '@subflow/stack';
import { FLAG } from '@subflow/wire';
import { EventQueue } from '../src/host/event-queue.ts';
import { Client, MODES, SECOND } from './client.ts';

const ends = (event: StackEvent): boolean => event.type === 'connection-closed' || event.type === 'connection-end';

/** An event that bears its number as its time. */
function numbered(i: number, kind: number): StackEvent {
  if (kind === 0) return { type: 'connection-closed', time: i, connection: i, reason: 'normal' };
  if (kind === 1) return { type: 'connection-end', time: i, connection: i };
  return { type: 'connection-readable', time: i, connection: i };
}

describe('the event queue', () => {
  it('gives everything in order, drops the oldest when nobody takes any, and never an end', () => {
    const steps = fc.array(
      fc.oneof(fc.record({ push: fc.integer({ min: 1, max: 40 }), kinds: fc.integer() }), fc.record({ take: fc.integer({ min: 1, max: 60 }) })),
      { maxLength: 80, size: 'max' },
    );
    fc.assert(
      fc.property(fc.integer({ min: 1, max: 60 }), steps, (limit, list) => {
        const queue = new EventQueue(limit);
        const pushed: StackEvent[] = [];
        const taken: StackEvent[] = [];
        const take = (): boolean => {
          const event = queue.take();
          if (event !== null) taken.push(event);
          return event !== null;
        };
        for (const step of list) {
          if ('take' in step) for (let i = 0; i < step.take; i++) take();
          else {
            for (let i = 0; i < step.push; i++) {
              const event = numbered(pushed.length, (step.kinds >>> (i % 28)) & 7);
              pushed.push(event);
              queue.push(event);
              const waiting = pushed.length - taken.length - queue.lost;
              expect(queue.length).toBe(waiting);
            }
          }
          const closings = pushed.filter(ends).length;
          expect(queue.length).toBeLessThanOrEqual(limit + 2 * closings + 1);
        }
        while (take());
        expect(taken.length + queue.lost).toBe(pushed.length);
        for (let i = 1; i < taken.length; i++) expect(taken[i]!.time).toBeGreaterThan(taken[i - 1]!.time);
        expect(taken.filter(ends)).toEqual(pushed.filter(ends));
        if (pushed.length <= limit) expect(taken).toEqual(pushed);
        // What was pushed last is there: the oldest made room.
        if (pushed.length > 0) expect(taken).toContain(pushed.at(-1));
      }),
    );
  });

  it('costs a constant for each event although nobody takes any, and although all of them are ends', () => {
    for (const kind of [0, 7]) {
      const measure = (count: number): number => {
        const queue = new EventQueue(100);
        const begin = performance.now();
        for (let i = 0; i < count; i++) queue.push(numbered(i, kind));
        return (performance.now() - begin) / count;
      };
      measure(20_000);
      const few = measure(20_000);
      const many = measure(160_000);
      // Eight times as many: a queue that is gone through for every event would cost eight times as much for each.
      expect(many).toBeLessThan(5 * few + 0.002);
    }
  }, 60_000);
});

describe.each(MODES)('a host whose events nobody takes, %s', (mode) => {
  it('still tells of every connection that it has ended, and how many events it dropped', () => {
    const client = new Client(4, mode, { host: { eventLimit: 20 } });
    client.node.onEvent = null as unknown as NonNullable<typeof client.node.onEvent>;
    // The node takes events whenever it pumps: the host is driven by hand here.
    const waiting: StackEvent[] = [];
    client.open();
    const { connection } = client;
    for (let i = 0; i < 200; i++) client.host.emit({ type: 'drop', time: client.agenda.now, interface: 'if0', reason: `${i}` });
    connection.abort(client.agenda.now);
    for (let i = 0; i < 200; i++) client.host.emit({ type: 'drop', time: client.agenda.now, interface: 'if0', reason: `${i}` });
    for (let event = client.host.pollEvent(); event !== null; event = client.host.pollEvent()) waiting.push(event);
    expect(waiting.filter((event) => event.type === 'connection-closed')).toMatchObject([{ connection: connection.id, reason: 'aborted' }]);
    expect(waiting.length).toBeLessThan(40);
    expect(client.host.counters.get('events-lost')).toBeGreaterThan(300);
  });

  it('reset by its peer, too', () => {
    const client = new Client(6, mode, { host: { eventLimit: 5 } }).open();
    client.events.length = 0;
    client.segment({ flags: FLAG.rst | FLAG.ack }, new Uint8Array(0), client.multipath ? [client.fastclose()] : []);
    client.wait(SECOND);
    expect(client.events.filter((event) => event.type === 'connection-closed')).toHaveLength(1);
  });
});
