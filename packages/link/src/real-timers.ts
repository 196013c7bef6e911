/** One-shot timers on the real clock, cancelled together. */
import { now } from './clock.ts';

export class RealTimers {
  private readonly timers = new Set<NodeJS.Timeout>();

  /** Runs `action` at a time of {@link now}, about a millisecond late at most. Returns what cancels it. */
  at(time: number, action: () => void): () => void {
    const timer = setTimeout(
      () => {
        this.timers.delete(timer);
        action();
      },
      Math.max(0, Math.ceil((time - now()) / 1000)),
    );
    this.timers.add(timer);
    return () => {
      clearTimeout(timer);
      this.timers.delete(timer);
    };
  }

  clear(): void {
    for (const timer of this.timers) clearTimeout(timer);
    this.timers.clear();
  }
}
