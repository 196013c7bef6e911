/**
 * Happy Eyeballs version 2 (RFC 8305): both families are looked up at once, their addresses tried in turn with a short
 * delay between starts, the first connection wins. No I/O of its own: looking up, trying and waiting are passed in.
 */
import { isIP } from 'node:net';
import { after } from '@subflow/link';
import type { LongTimer } from '@subflow/link';

export interface Candidate {
  address: string;
  family: 4 | 6;
}

/** One attempt under way. */
export interface Attempt {
  cancel(): void;
}

export interface RaceOptions {
  /** Resolves one family; rejects with the resolver's error. */
  resolve(family: 4 | 6): Promise<Candidate[]>;
  /** Starts an attempt; `done` hears null or an error, once. */
  attempt(candidate: Candidate, done: (error: Error | null) => void): Attempt;
  /** Families to look up; default both. */
  families?: readonly (4 | 6)[];
  /** How long the answer for IPv6 is waited for when IPv4 has one (RFC 8305 §3), milliseconds. */
  resolutionDelay?: number;
  /** Between the starts of two attempts (RFC 8305 §5), milliseconds. */
  attemptDelay?: number;
}

export interface RaceResult {
  winner: Candidate;
  /** The other addresses, in the order in which they would have been tried, however they fared. */
  others: Candidate[];
}

export const RESOLUTION_DELAY = 50;
export const ATTEMPT_DELAY = 250;
/** RFC 8305 §8: not below 10 ms. */
const SHORTEST_DELAY = 10;

/** All attempts failed: the code is that of the first, the causes are in `errors`. */
export class AllAttemptsFailed extends AggregateError {
  readonly code: string | undefined;

  constructor(errors: readonly Error[]) {
    super(errors, errors.map((error) => error.message).join('; '));
    this.code = (errors[0] as NodeJS.ErrnoException | undefined)?.code;
  }
}

export interface Race {
  readonly result: Promise<RaceResult>;
  /** Stops everything; the result never comes. */
  cancel(): void;
}

/** How a resolver says that there is no address of a family. */
const NOT_FOUND: ReadonlySet<string> = new Set(['ENOTFOUND', 'ENODATA']);

/** Runs a race. The result rejects with the resolver's error when nothing was found, or with {@link AllAttemptsFailed}. */
export function race(options: RaceOptions): Race {
  const families = options.families ?? [6, 4];
  const attemptDelay = Math.max(SHORTEST_DELAY, options.attemptDelay ?? ATTEMPT_DELAY);
  const queue: Candidate[] = [];
  const tried: Candidate[] = [];
  const running = new Map<Candidate, Attempt>();
  const errors: Error[] = [];
  const resolveErrors: Error[] = [];
  let unresolved = families.length;
  let started = false;
  let over = false;
  let timer: LongTimer | null = null;
  let win!: (result: RaceResult) => void;
  let lose!: (error: Error) => void;
  const result = new Promise<RaceResult>((resolve, reject) => {
    win = resolve;
    lose = reject;
  });

  const stop = (): void => {
    over = true;
    timer?.clear();
    for (const attempt of running.values()) attempt.cancel();
    running.clear();
  };

  const next = (): void => {
    if (over) return;
    timer?.clear();
    timer = null;
    const candidate = queue.shift();
    if (candidate === undefined) {
      if (running.size === 0 && unresolved === 0) {
        stop();
        // A name without addresses in one family is found all the same: what was wrong with the other family tells more, whichever came first.
        const telling = resolveErrors.find((error) => !NOT_FOUND.has((error as NodeJS.ErrnoException).code ?? '')) ?? resolveErrors[0];
        const first = errors[0] ?? telling;
        lose(errors.length > 1 ? new AllAttemptsFailed(errors) : (first ?? new Error('no address')));
      }
      return;
    }
    tried.push(candidate);
    let settled = false;
    const attempt = options.attempt(candidate, (error) => {
      if (settled || over) return;
      settled = true;
      running.delete(candidate);
      if (error === null) {
        const others = [...tried, ...queue].filter((one) => one !== candidate);
        stop();
        win({ winner: candidate, others });
        return;
      }
      errors.push(error);
      // RFC 8305 §5: a failure starts the next attempt at once.
      next();
    });
    if (over || settled) return;
    running.set(candidate, attempt);
    timer = after(attemptDelay, next);
  };

  const found = (candidates: readonly Candidate[]): void => {
    const known = new Set([...tried, ...queue].map((one) => one.address));
    const fresh = candidates.filter((one) => isIP(one.address) === one.family && !known.has(one.address));
    const merged = interleave([...queue, ...fresh], started ? (tried.at(-1)?.family ?? 4) : families[0] === 6 ? 4 : 6);
    queue.splice(0, queue.length, ...merged);
  };

  const start = (): void => {
    if (over || started) return;
    started = true;
    timer?.clear();
    next();
  };

  for (const family of families) {
    options.resolve(family).then(
      (candidates) => {
        if (over) return;
        unresolved--;
        found(candidates);
        if (started) {
          if (running.size === 0 || timer === null) next();
        } else if (unresolved === 0 || (family === families[0] && queue.length > 0)) start();
        // RFC 8305 §3: the other family's answer came first; the preferred one gets a moment.
        else if (queue.length > 0) timer ??= after(options.resolutionDelay ?? RESOLUTION_DELAY, start);
      },
      (error: Error) => {
        if (over) return;
        unresolved--;
        resolveErrors.push(error);
        if (started) {
          if (running.size === 0) next();
        } else if (unresolved === 0) start();
      },
    );
  }
  return { result, cancel: stop };
}

/** Families alternate, beginning with the one that was not tried last (RFC 8305 §4, First Address Family Count 1). */
function interleave(candidates: readonly Candidate[], last: 4 | 6): Candidate[] {
  const v6 = candidates.filter((one) => one.family === 6);
  const v4 = candidates.filter((one) => one.family === 4);
  const out: Candidate[] = [];
  let family: 4 | 6 = last === 6 ? 4 : 6;
  while (v6.length > 0 || v4.length > 0) {
    const next = family === 6 ? (v6.shift() ?? v4.shift()) : (v4.shift() ?? v6.shift());
    out.push(next!);
    family = next!.family === 6 ? 4 : 6;
  }
  return out;
}
