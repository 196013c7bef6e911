/** The largest of many, in bounded memory: connections to show when there are more than anybody reads. */

export class Largest<T> {
  private readonly most: number;
  private readonly entries: { key: number; value: T }[] = [];
  /** How many were offered. */
  seen = 0;

  constructor(most: number) {
    this.most = most;
  }

  /** `make` is called only when the value is kept. */
  offer(key: number, make: () => T): void {
    this.seen++;
    if (this.most <= 0) return;
    if (this.entries.length >= this.most) {
      if (key <= this.entries.at(-1)!.key) return;
      this.entries.pop();
    }
    let at = this.entries.length;
    while (at > 0 && this.entries[at - 1]!.key < key) at--;
    this.entries.splice(at, 0, { key, value: make() });
  }

  /** Largest first. */
  get values(): T[] {
    return this.entries.map((one) => one.value);
  }
}
