/** Where balancers agree: small values with revisions. Three kinds: a log on this machine, the same over TCP, NATS JetStream. */

/** `revision` grows by at least one with each write of a key. */
export interface Entry {
  value: Uint8Array;
  revision: number;
}

export interface Store {
  /** Null when there is none. Throws {@link StoreError} `UNAVAILABLE`. */
  read(key: string): Promise<Entry | null>;
  /**
   * Writes if the key still has revision `expected` (0: does not exist). Returns the new revision. Throws {@link StoreError}
   * `CONFLICT` when somebody else was faster, `UNAVAILABLE` when nobody knows.
   */
  write(key: string, value: Uint8Array, expected: number): Promise<number>;
  /** Tells of every revision after `from`, or only of the latest when they come fast; goes on by itself after an interruption. Returns how to stop. */
  watch(key: string, from: number, listener: (entry: Entry) => void): () => void;
  close(): Promise<void>;
}

export class StoreError extends Error {
  readonly code: 'CONFLICT' | 'UNAVAILABLE' | 'BAD_LOG' | 'REFUSED';

  constructor(code: StoreError['code'], message: string, options?: ErrorOptions) {
    super(message, options);
    this.code = code;
  }
}

/**
 * A lease on a name: one holder at a time, who renews it; others take it when it was not renewed for `ttl` milliseconds by
 * their own clock. Nobody's clock is compared with another's.
 */
export class Lease {
  held = false;
  private answeredAt = performance.now();
  private readonly store: Store;
  private readonly key: string;
  private readonly holder: string;
  private readonly ttl: number;
  private readonly timer: NodeJS.Timeout;
  private seen = { revision: 0, at: 0 };
  private renewedAt = 0;
  private busy = false;

  constructor(store: Store, key: string, holder: string, ttl: number) {
    this.store = store;
    this.key = key;
    this.holder = holder;
    this.ttl = ttl;
    this.timer = setInterval(() => void this.turn(), ttl / 4);
    this.timer.unref();
    void this.turn();
  }

  /** Milliseconds since the store last answered. */
  get silence(): number {
    return performance.now() - this.answeredAt;
  }

  /** Lets go, so that another can take it at once. */
  async release(): Promise<void> {
    clearInterval(this.timer);
    if (!this.held) return;
    this.held = false;
    try {
      await this.store.write(this.key, new TextEncoder().encode(''), this.seen.revision);
    } catch {
      // It will run out.
    }
  }

  private async turn(): Promise<void> {
    if (this.busy) return;
    this.busy = true;
    const now = performance.now();
    try {
      const entry = await this.store.read(this.key);
      this.answeredAt = performance.now();
      const holder = entry === null ? '' : new TextDecoder().decode(entry.value);
      const revision = entry?.revision ?? 0;
      if (revision !== this.seen.revision) this.seen = { revision, at: now };
      if (holder === this.holder || holder === '' || now - this.seen.at > this.ttl) {
        this.seen.revision = await this.store.write(this.key, new TextEncoder().encode(this.holder), revision);
        this.seen.at = this.renewedAt = now;
        this.held = true;
      } else {
        this.held = false;
      }
    } catch {
      // A conflict: another was faster. No store: what is held runs out before another can take it.
      if (now - this.renewedAt > this.ttl / 2) this.held = false;
    } finally {
      this.busy = false;
    }
  }
}
