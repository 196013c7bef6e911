/** One-shot timers on the real clock, cancelled together. */
import { LongTimer } from './long-timer.ts';

export class RealTimers {
  private readonly timers = new Set<LongTimer>();

  /** Runs `action` at a time of {@link now}, about a millisecond late at most. Returns what cancels it. */
  at(time: number, action: () => void): () => void {
    const timer = new LongTimer(() => {
      this.timers.delete(timer);
      action();
    });
    timer.set(time);
    this.timers.add(timer);
    return () => {
      timer.clear();
      this.timers.delete(timer);
    };
  }

  clear(): void {
    for (const timer of this.timers) timer.clear();
    this.timers.clear();
  }
}
