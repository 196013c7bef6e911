/**
 * One deadline on the real clock, however far away. A timer of Node's holds at most 2^31-1 ms (24.8 days); beyond, it fires
 * after one millisecond, again and again. This one is set in steps of that length, and never fires before its time.
 */
import { now } from './clock.ts';
import { LinkError } from './errors.ts';

/** Longest delay of Node's timers, milliseconds. */
export const LONGEST_DELAY = 2 ** 31 - 1;

/** The clock (microseconds) and the timers (milliseconds) below: the system's, or a test's. */
export interface TimerSource {
  now(): number;
  start(action: () => void, milliseconds: number): StartedTimer;
}

export interface StartedTimer {
  stop(): void;
  unref(): void;
}

const SYSTEM: TimerSource = {
  now,
  start: (action, milliseconds) => {
    const timer = setTimeout(action, milliseconds);
    return { stop: () => clearTimeout(timer), unref: () => timer.unref() };
  },
};

export class LongTimer {
  private readonly action: () => void;
  private readonly source: TimerSource;
  private step: StartedTimer | null = null;
  private deadline = Number.POSITIVE_INFINITY;
  private background = false;

  constructor(action: () => void, source: TimerSource = SYSTEM) {
    this.action = action;
    this.source = source;
  }

  /** When the action is due, microseconds; Infinity: never. */
  get at(): number {
    return this.deadline;
  }

  /** Sets the deadline in place of the one before. Infinity: none. Throws {@link LinkError} `BAD_TIME`. */
  set(at: number): void {
    if (Number.isNaN(at)) throw new LinkError('BAD_TIME', 'a timer was set to NaN; expected a time in microseconds, or Infinity');
    this.clear();
    this.deadline = at;
    if (at !== Number.POSITIVE_INFINITY) this.arm();
  }

  clear(): void {
    this.step?.stop();
    this.step = null;
    this.deadline = Number.POSITIVE_INFINITY;
  }

  /** Lets the process end although the deadline is still to come. */
  unref(): void {
    this.background = true;
    this.step?.unref();
  }

  private arm(): void {
    const wait = Math.ceil((this.deadline - this.source.now()) / 1000);
    this.step = this.source.start(() => this.wake(), Math.min(LONGEST_DELAY, Math.max(0, wait)));
    if (this.background) this.step.unref();
  }

  private wake(): void {
    this.step = null;
    // The end of a step; or Node's timer, which counts whole milliseconds, was a fraction of one early.
    if (this.source.now() < this.deadline) {
      this.arm();
      return;
    }
    this.deadline = Number.POSITIVE_INFINITY;
    this.action();
  }
}

/** `setTimeout` for any number of milliseconds, Infinity included. Throws {@link LinkError} `BAD_TIME`. */
export function after(milliseconds: number, action: () => void): LongTimer {
  const timer = new LongTimer(action);
  timer.set(now() + 1000 * milliseconds);
  return timer;
}
