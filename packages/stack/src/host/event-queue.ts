/** Events waiting for `pollEvent`: bounded, and the end of a connection is never lost. */
import type { StackEvent } from '../events.ts';

/** Taken events are cleared away in runs of this many. */
const COMPACT_AFTER = 4096;

export class EventQueue {
  /** Events dropped because nobody took them. */
  lost = 0;
  private events: StackEvent[] = [];
  private head = 0;
  /** Length at which events are shed next. */
  private threshold: number;
  private readonly limit: number;

  /** `limit`: events kept; then the oldest make room, but for those that end a connection. */
  constructor(limit: number) {
    this.limit = limit;
    this.threshold = limit;
  }

  get length(): number {
    return this.events.length - this.head;
  }

  push(event: StackEvent): void {
    this.events.push(event);
    // Half the limit is given up at once, so that a queue that nobody reads costs a constant per event.
    if (this.length > this.threshold) this.shed();
  }

  /** The oldest event, or null. */
  take(): StackEvent | null {
    if (this.head === this.events.length) {
      if (this.head > 0) {
        this.events.length = 0;
        this.head = 0;
        this.threshold = this.limit;
      }
      return null;
    }
    const event = this.events[this.head++]!;
    if (this.head > COMPACT_AFTER) {
      this.events.splice(0, this.head);
      this.head = 0;
    }
    return event;
  }

  private shed(): void {
    const from = this.events.length - Math.max(1, this.limit >>> 1);
    const kept = this.events.filter((event, i) => i >= this.head && (i >= from || endsConnection(event)));
    this.lost += this.length - kept.length;
    this.events = kept;
    this.head = 0;
    // Twice what is kept: where nothing can be given up, each event still costs a constant.
    this.threshold = Math.max(this.limit, 2 * kept.length);
  }
}

function endsConnection(event: StackEvent): boolean {
  return event.type === 'connection-closed' || event.type === 'connection-end';
}
