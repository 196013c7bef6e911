/** Deadlines beyond the 24.8 days of Node's timers: never early, hardly late, and few wake-ups on the way. */
import fc from 'fast-check';
import { afterEach, describe, expect, it, vi } from 'vitest';
import { after, HostDriver, LONGEST_DELAY, LongTimer, now, RealTimeNetwork, RealTimers, systemEntropy } from '@subflow/link';
import type { PacketPort, TimerSource } from '@subflow/link';
import { Host } from '@subflow/stack';
import { parseAddress } from '@subflow/wire';

const DAY = 24 * 3600 * 1_000_000;

/** Node's timers on a clock of the test's: counted from the last whole millisecond, and one millisecond for what is out of range. */
class FakeTimers implements TimerSource {
  time = 0;
  wakes = 0;
  private readonly pending = new Set<{ at: number; action: () => void }>();

  now(): number {
    return this.time;
  }

  start(action: () => void, milliseconds: number): { stop(): void; unref(): void } {
    const inRange = milliseconds >= 1 && milliseconds <= 2 ** 31 - 1;
    const entry = { at: 1000 * (Math.floor(this.time / 1000) + (inRange ? Math.trunc(milliseconds) : 1)), action };
    this.pending.add(entry);
    return { stop: () => void this.pending.delete(entry), unref: () => undefined };
  }

  /** Runs what is due until `end`, at most `wakes` timers. */
  run(end: number, wakes = 10_000): void {
    for (let i = 0; i < wakes; i++) {
      const next = [...this.pending].toSorted((a, b) => a.at - b.at)[0];
      if (next === undefined || next.at > end) break;
      this.pending.delete(next);
      this.time = Math.max(this.time, next.at);
      this.wakes++;
      next.action();
    }
    this.time = Math.max(this.time, end);
  }

  get waiting(): number {
    return this.pending.size;
  }
}

afterEach(() => {
  vi.restoreAllMocks();
});

describe('a long timer', () => {
  it('fires once, never early and within two milliseconds, whatever the deadline, in as many steps as it needs', () => {
    const deadline = fc.oneof(
      fc.double({ min: 0, max: 400 * DAY, noNaN: true }),
      fc.integer({ min: -3, max: 3 }).map((off) => 1000 * (LONGEST_DELAY + off)),
      fc.integer({ min: -3, max: 3 }).map((off) => 2000 * LONGEST_DELAY + off),
    );
    fc.assert(
      fc.property(deadline, fc.nat(1e9), (delay, start) => {
        const clock = new FakeTimers();
        clock.time = start;
        const fired: number[] = [];
        const timer = new LongTimer(() => fired.push(clock.time), clock);
        const due = start + delay;
        timer.set(due);
        expect(timer.at).toBe(due);
        clock.run(due + DAY);
        expect(fired).toHaveLength(1);
        expect(fired[0]!).toBeGreaterThanOrEqual(due);
        expect(fired[0]!).toBeLessThanOrEqual(due + 2000);
        // One for each 24.8 days, one for the rest, one where that was a fraction of a millisecond early.
        expect(clock.wakes).toBeLessThanOrEqual(Math.ceil(delay / (1000 * LONGEST_DELAY)) + 2);
        expect(timer.at).toBe(Number.POSITIVE_INFINITY);
        expect(clock.waiting).toBe(0);
      }),
    );
  });

  it('holds one timer of the system at most, through any sequence of set and clear, and fires for the last deadline only', () => {
    const step = fc.oneof(
      fc.record({ set: fc.oneof(fc.constant(Number.POSITIVE_INFINITY), fc.double({ min: 0, max: 100 * DAY, noNaN: true })) }),
      fc.constant('clear' as const),
      fc.record({ wait: fc.double({ min: 0, max: 60 * DAY, noNaN: true }) }),
    );
    fc.assert(
      fc.property(fc.array(step, { maxLength: 30 }), (steps) => {
        const clock = new FakeTimers();
        const fired: number[] = [];
        const expected: number[] = [];
        let due = Number.POSITIVE_INFINITY;
        const timer = new LongTimer(() => fired.push(clock.time), clock);
        for (const one of steps) {
          if (one === 'clear') {
            timer.clear();
            due = Number.POSITIVE_INFINITY;
          } else if ('set' in one) {
            due = clock.time + one.set;
            timer.set(due);
          } else {
            const end = clock.time + one.wait;
            clock.run(end);
            // Within two milliseconds of its time either is right.
            if (due + 2000 <= end) expected.push(due);
            else if (due <= end && fired.length > expected.length) expected.push(due);
            else continue;
            due = Number.POSITIVE_INFINITY;
          }
          expect(clock.waiting).toBe(due === Number.POSITIVE_INFINITY ? 0 : 1);
        }
        expect(fired).toHaveLength(expected.length);
        fired.forEach((at, i) => expect(at).toBeGreaterThanOrEqual(expected[i]!));
      }),
    );
  });

  it('can be set again by its own action', () => {
    const clock = new FakeTimers();
    const fired: number[] = [];
    const timer: LongTimer = new LongTimer(() => {
      fired.push(clock.time);
      if (fired.length < 3) timer.set(clock.time + 30 * DAY);
    }, clock);
    timer.set(30 * DAY);
    clock.run(365 * DAY);
    expect(fired).toEqual([30 * DAY, 60 * DAY, 90 * DAY]);
  });

  it('Infinity is no deadline, the past is one, and NaN is refused', () => {
    const clock = new FakeTimers();
    let fired = 0;
    const timer = new LongTimer(() => fired++, clock);
    timer.set(Number.POSITIVE_INFINITY);
    expect(clock.waiting).toBe(0);
    clock.time = 5_000_000;
    timer.set(1);
    clock.run(clock.time + 1000);
    expect(fired).toBe(1);
    expect(() => timer.set(Number.NaN)).toThrow(expect.objectContaining({ code: 'BAD_TIME' }));
  });

  it('lets the process end when it is told to, also in the steps to come', () => {
    const refs: boolean[] = [];
    const source: TimerSource = {
      now: () => 0,
      start: (action) => {
        const i = refs.push(true) - 1;
        if (i === 0) queueMicrotask(action);
        return { stop: () => undefined, unref: () => (refs[i] = false) };
      },
    };
    const timer = new LongTimer(() => undefined, source);
    timer.set(60 * DAY);
    timer.unref();
    return Promise.resolve().then(() => expect(refs).toEqual([false, false]));
  });
});

/** Counts timers that Node starts while `work` goes on. */
async function timersIn(milliseconds: number, work: () => void): Promise<number> {
  const real = setTimeout;
  const started = vi.spyOn(globalThis, 'setTimeout');
  work();
  await new Promise((resolve) => real(resolve, milliseconds));
  const count = started.mock.calls.length;
  started.mockRestore();
  return count;
}

describe('what waits for more than 24.8 days does not turn the event loop', () => {
  it('a host with a keepalive of 30 days', async () => {
    const host = new Host({ entropy: systemEntropy, tcp: { keepaliveIdle: 30 * DAY } });
    const driver = new HostDriver(host);
    const through = host.addInterface({ name: 'lo', mtu: 65535, addresses: [{ address: parseAddress('127.0.0.1'), bits: 8 }] });
    let packets = 0;
    const back: { handler: Parameters<PacketPort['onPackets']>[0] | null } = { handler: null };
    const deliver = (packet: Uint8Array): void => {
      packets++;
      setImmediate(() => {
        back.handler?.packet(new DataView(packet.buffer), packet, 0, packet.length, true, 0);
        back.handler?.batchEnd();
      });
    };
    driver.attach(through, {
      name: 'lo',
      onPackets: (handler) => (back.handler = handler),
      transmit: (slot) => {
        const packet = new Uint8Array(slot.length);
        slot.copyTo(packet, 0);
        deliver(packet);
      },
      send: deliver,
      close: () => undefined,
    });
    host.listen({ port: 80 });
    const established = new Promise<void>((resolve) => (driver.onEvent = (event) => event.type === 'connection-established' && resolve()));
    host.connect({ remote: parseAddress('127.0.0.1'), port: 80 }, driver.now());
    driver.pump();
    await established;
    // Retransmission timers are filed early: only when they have been looked at is the keepalive the next thing to come.
    const far = (): boolean => host.pollTimeout() - driver.now() > 25 * DAY;
    for (const started = now(); !far() && now() - started < 5e6;) await new Promise((resolve) => setTimeout(resolve, 20));
    expect(far()).toBe(true);
    const ticks = vi.spyOn(host, 'handleTimeout');
    const before = packets;
    const timers = await timersIn(200, () => driver.pump());
    expect(ticks.mock.calls.length).toBeLessThanOrEqual(3);
    expect(timers).toBeLessThanOrEqual(3);
    expect(packets - before).toBe(0);
    driver.stop();
  });

  it('a step of an emulated network, a timer of the prober, and a wait of the race between addresses', async () => {
    const network = new RealTimeNetwork(1);
    const timers = new RealTimers();
    const fired: string[] = [];
    const late: LongTimer[] = [];
    const count = await timersIn(200, () => {
      network.agenda.at(now() + 30 * DAY, () => fired.push('network'));
      network.run();
      timers.at(now() + 30 * DAY, () => fired.push('timer'));
      late.push(after(30 * 24 * 3600 * 1000, () => fired.push('after')));
      late.push(after(Number.POSITIVE_INFINITY, () => fired.push('never')));
    });
    expect(count).toBeLessThanOrEqual(6);
    expect(fired).toEqual([]);
    network.stop();
    timers.clear();
    for (const one of late) one.clear();
  });

  it('keeps short waits as they are', async () => {
    const started = now();
    await new Promise<void>((resolve) => void after(20, resolve));
    expect(now() - started).toBeGreaterThanOrEqual(20_000);
    const timers = new RealTimers();
    const order: number[] = [];
    await new Promise<void>((resolve) => {
      timers.at(now() + 12_000, () => resolve(void order.push(2)));
      timers.at(now() + 4_000, () => order.push(1));
      timers.at(now() + 8_000, () => order.push(9))();
    });
    expect(order).toEqual([1, 2]);
  });
});
