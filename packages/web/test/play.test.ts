/** The playground without a page: its numbers are those of the core, every lesson does what it says, links do it again. */
import { describe, expect, it } from 'vitest';
import { CONGESTION_CONTROLLERS, COUPLED_CONTROLLERS, SCHEDULERS, SERVICE_TYPES } from '@subflow/stack';
import type { StackEvent } from '@subflow/stack';
import { MIDDLEBOXES, parseScenario } from '@subflow/emulator';
import {
  BIN,
  checkSetup,
  CONTROLLER_NAMES,
  COUPLED_NAMES,
  DEFAULT_SETUP,
  LESSONS,
  MIDDLEBOX_NAMES,
  PlayRun,
  SCHEDULER_NAMES,
  SERVICE_NAMES,
  setupFromText,
  setupToText,
  setupToYaml,
} from '@subflow/web/play';
import type { PlaySetup, Progress } from '@subflow/web/play';

const SECOND = 1e6;

function play(setup: PlaySetup, limit = 60 * SECOND): { run: PlayRun; progress: Progress; events: { side: string; event: StackEvent }[] } {
  const run = new PlayRun(setup);
  const events: { side: string; event: StackEvent }[] = [];
  run.onEvent = (side, event) => events.push({ side, event });
  while (!run.finished && run.agenda.now < limit) run.runTo(run.agenda.now + BIN);
  run.runTo(run.agenda.now + SECOND);
  expect(run.ended).toBe(true);
  return { run, progress: run.progress(), events };
}

const lesson = (id: string): PlaySetup => LESSONS.find((one) => one.id === id)!.setup;

describe('a run', () => {
  it('has the numbers of the core, no second truth', () => {
    const { progress, events, run } = play(DEFAULT_SETUP);
    expect(progress).toMatchObject({ done: true, intact: true });
    const received = events
      .filter(({ side, event }) => side === 'client' && event.type === 'data-received')
      .map(({ event }) => event as Extract<StackEvent, { type: 'data-received' }>);
    // Every octet that the client's events tell of is in the plot, between the same bounds.
    const high = new Map<number, number>();
    for (const one of received) high.set(one.subflow, Math.max(high.get(one.subflow) ?? 0, one.position + one.length));
    for (const [subflow, end] of high) expect(Math.max(...progress.sequence.filter((one) => one.subflow === subflow).map((one) => one.high))).toBe(end);
    const acknowledged = events
      .filter(({ side, event }) => side === 'server' && event.type === 'data-acknowledged')
      .map(({ event }) => [event.time, (event as { position: number }).position]);
    expect(progress.acknowledged).toEqual(acknowledged);
    expect(progress.total.received).toBe(20e6);
    expect(progress.snapshots.at(-1)).toMatchObject({ received: 20e6, outOfOrder: 0 });
    // What the columns say left the paths is what the links count.
    const columns = DEFAULT_SETUP.paths.map((_, i) => progress.bins.reduce((sum, bin) => sum + bin[i]!, 0));
    expect(columns).toEqual(run.deliveredBytes('down'));
    expect(progress.total.reinjected).toBe(0);
  });

  it('is the same every time, and again from a link with what was done while it ran', () => {
    const run = new PlayRun(DEFAULT_SETUP);
    run.runTo(2 * SECOND);
    const cut = run.act({ path: 0, up: false });
    run.runTo(4 * SECOND);
    const back = run.act({ path: 0, up: true, rate: 5 });
    while (!run.finished && run.agenda.now < 60 * SECOND) run.runTo(run.agenda.now + BIN);
    run.runTo(60 * SECOND);
    const first = run.progress();
    const text = setupToText({ ...DEFAULT_SETUP, actions: [cut, back] });
    const again = new PlayRun(setupFromText(text));
    while (!again.finished && again.agenda.now < 60 * SECOND) again.runTo(again.agenda.now + BIN);
    again.runTo(60 * SECOND);
    const second = again.progress();
    expect(second.verdict).toBe(first.verdict);
    expect(second.bins).toEqual(first.bins);
    expect(second.sequence).toEqual(first.sequence);
    expect(second.packets).toBe(first.packets);
    expect(first.total.reinjected).toBeGreaterThan(0);
  });

  it('goes step by step, and describes packets with their options', () => {
    const run = new PlayRun(lesson('handshake'));
    while (run.packets.length < 3) run.step();
    const words = run.packets.map((one) => run.describe(one.number)!.lines.join('\n'));
    expect(words[0]).toMatch(/SYN,[\s\S]*MP CAPABLE/);
    expect(words[1]).toMatch(/SYN ACK[\s\S]*senderKey=0x/);
    expect(words[2]).toMatch(/receiverKey=0x/);
    expect(run.describe(99_999)).toBeNull();
  });

  it.each(['download', 'upload', 'chat'] as const)('carries a %s', (traffic) => {
    expect(play({ ...DEFAULT_SETUP, traffic, amount: traffic === 'chat' ? 100 : 3 }).progress).toMatchObject({ done: true, intact: true });
  });

  it('becomes a scenario that `subflow demo` reads', () => {
    const scenario = parseScenario(setupToYaml(lesson('handover')));
    expect(scenario).toMatchObject({ seed: 1, transfer: { direction: 'download', size: 12e6 } });
    expect(scenario.timeline.map((one) => [one.at, one.path, one.up])).toEqual([
      [1.5 * SECOND, 'wifi', null],
      [2 * SECOND, 'wifi', false],
      [5 * SECOND, 'wifi', true],
    ]);
  });
});

describe('lessons', () => {
  it.each(LESSONS.map((one) => one.id))('%s ends with every octet right, or says why not', (id) => {
    const { progress } = play(lesson(id));
    expect(progress.done).toBe(true);
    if (id !== 'probe-6') expect(progress.intact).toBe(true);
  });

  it('show what they say', () => {
    expect(play(lesson('join')).progress.subflowPaths).toEqual([
      [0, 0],
      [1, 1],
    ]);
    const handover = play(lesson('handover')).progress;
    expect(handover.total.reinjected).toBeGreaterThan(0);
    expect(handover.total.version).toBe(1);
    const buffer = play(lesson('buffer')).progress;
    expect(Math.max(...buffer.snapshots.map((one) => one.outOfOrder))).toBeGreaterThan(40_000);
    expect(play(lesson('middlebox')).progress.total.fallback).not.toBeNull();
    expect(play(lesson('probe-1')).progress.total.fallback).not.toBeNull();
    expect(play(lesson('probe-3')).progress.total.fallback).not.toBeNull();
    expect(play(lesson('probe-4')).progress.total).toMatchObject({ version: 1, fallback: null });
  });
});

describe('names', () => {
  it('are the engine’s', () => {
    expect(MIDDLEBOX_NAMES).toEqual(Object.fromEntries(Object.entries(MIDDLEBOXES).map(([name, row]) => [name, row.description])));
    expect(SCHEDULER_NAMES).toEqual(Object.keys(SCHEDULERS));
    expect(SERVICE_NAMES).toEqual(SERVICE_TYPES);
    expect(CONTROLLER_NAMES).toEqual(Object.keys(CONGESTION_CONTROLLERS));
    expect(COUPLED_NAMES).toEqual(Object.keys(COUPLED_CONTROLLERS));
  });
});

describe('links', () => {
  it.each([
    ['nothing', '', 'no scenario'],
    ['no JSON', 'hello', 'no scenario'],
    ['a broken escape', '%E0%A4%A', 'no scenario'],
    ['a list', '[]', 'the scenario is []; expected fields'],
    ['a hundred thousand characters', 'x'.repeat(100_000), 'expected at most 20000'],
    [
      'a rate of nothing',
      encodeURIComponent(JSON.stringify({ ...DEFAULT_SETUP, paths: [{ ...DEFAULT_SETUP.paths[0], rate: 0 }] })),
      'paths[0].rate 0; expected 0.01 to 1000',
    ],
    ['a thousand paths', encodeURIComponent(JSON.stringify({ ...DEFAULT_SETUP, paths: [] })), 'paths has 0 entries; expected 1 to 8'],
    [
      'a box from elsewhere',
      encodeURIComponent(JSON.stringify({ ...DEFAULT_SETUP, paths: [{ ...DEFAULT_SETUP.paths[0], box: '__proto__' }] })),
      'expected a box of the catalogue',
    ],
    [
      'markup in a name',
      encodeURIComponent(JSON.stringify({ ...DEFAULT_SETUP, paths: [{ ...DEFAULT_SETUP.paths[0], name: '<img src=x>' }] })),
      'expected a short name',
    ],
    ['an endless download', encodeURIComponent(JSON.stringify({ ...DEFAULT_SETUP, amount: 1e12 })), 'amount 1000000000000; expected'],
    [
      'the same path twice',
      encodeURIComponent(JSON.stringify({ ...DEFAULT_SETUP, paths: [DEFAULT_SETUP.paths[0], DEFAULT_SETUP.paths[0]] })),
      'two paths have the same name',
    ],
  ])('refuse %s', (_, text, message) => {
    expect(() => setupFromText(text)).toThrow(expect.objectContaining({ code: 'BAD_SETUP', message: expect.stringContaining(message) as string }) as Error);
  });

  it('take what they made', () => {
    for (const one of LESSONS) expect(setupFromText(setupToText(one.setup))).toEqual(one.setup);
    expect(checkSetup(structuredClone(DEFAULT_SETUP))).toEqual(DEFAULT_SETUP);
  });
});
