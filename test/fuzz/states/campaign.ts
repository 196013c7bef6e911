/** Every state, every pair of hand-made packets, and triples drawn by chance: nothing throws, answers without end, or is left behind. */
import type { Instrumented } from '../instrument.ts';
import { FuzzRandom } from '../random.ts';
import { catalogue } from './catalogue.ts';
import type { HandMade } from './catalogue.ts';
import { allStates, reach } from './states.ts';
import type { State } from './states.ts';

/** Shares no factor with any number of pairs (it is prime and larger): walks through all of them in an order that mixes states and packets. */
const STRIDE = 1_000_000_007n;
const PROGRESS = 10_000;
/** Up to which share of a campaign there are singles, and up to which pairs. */
const SHARES = { singles: 0.4, pairs: 0.8 } as const;
/** Different failures that are kept; see `kindOf`. */
const MOST_FINDINGS = 40;

export interface StateFinding {
  /** `STATE:PACKET,PACKET…`, which `--input` takes. */
  input: string;
  /** The same in words. */
  steps: string[];
  error: string;
  /** How many inputs have ended in the same way. */
  times: number;
}

export interface StateResult {
  executions: number;
  singles: number;
  pairs: number;
  allPairs: number;
  triples: number;
  seconds: number;
  findings: StateFinding[];
}

export class StateCampaign {
  readonly states: readonly State[] = allStates();
  readonly packets: readonly HandMade[] = catalogue();
  private readonly loaded: Instrumented;
  /** Packets of the present input that the host has been given. */
  private fed = 0;
  private readonly findings = new Map<string, StateFinding>();

  constructor(loaded: Instrumented) {
    this.loaded = loaded;
  }

  /**
   * Singles, pairs, triples. Without a time limit all singles, pairs for most of the executions (all of them when these
   * suffice), and triples for the rest; with one, each has its share of it.
   */
  run(options: { executions: number; milliseconds?: number; seed: number; onProgress?: (done: number, findings: number) => void }): StateResult {
    const { states, packets } = this;
    const started = performance.now();
    const random = new FuzzRandom(options.seed);
    const result: StateResult = { executions: 0, singles: 0, pairs: 0, allPairs: states.length * packets.length ** 2, triples: 0, seconds: 0, findings: [] };
    // Until this share of the executions, or of the time, is used.
    const goesOn = (share: number): boolean => {
      if (result.executions % PROGRESS === 0) options.onProgress?.(result.executions, this.findings.size);
      const late = options.milliseconds !== undefined && performance.now() - started > share * options.milliseconds;
      return !late && result.executions < share * options.executions;
    };
    const execute = (state: number, chosen: readonly number[]): void => {
      result.executions++;
      this.execute(state, chosen);
    };
    const all = states.length * packets.length;
    for (; result.singles < all && goesOn(SHARES.singles); result.singles++) {
      const place = mixed(result.singles, all, options.seed);
      execute(place % states.length, [Math.floor(place / states.length)]);
    }
    for (; result.pairs < result.allPairs && goesOn(SHARES.pairs); result.pairs++) {
      const place = mixed(result.pairs, result.allPairs, options.seed);
      const pair = Math.floor(place / states.length);
      execute(place % states.length, [pair % packets.length, Math.floor(pair / packets.length)]);
    }
    for (; goesOn(1); result.triples++)
      execute(
        random.below(states.length),
        [0, 1, 2].map(() => random.below(packets.length)),
      );
    result.seconds = (performance.now() - started) / 1000;
    result.findings = [...this.findings.values()].sort((a, b) => b.times - a.times);
    return result;
  }

  /** Runs one input; throws what it throws. */
  repeat(input: string): void {
    this.feed(...parse(input));
  }

  /** An input in words. */
  stepsOf(input: string): string[] {
    return this.describe(...parse(input));
  }

  private describe(state: number, chosen: readonly number[]): string[] {
    return [this.states[state]!.name, ...chosen.map((i) => this.packets[i]!.name)];
  }

  private execute(state: number, chosen: readonly number[]): void {
    try {
      this.feed(state, chosen);
    } catch (error) {
      // What would have come later has no part in it.
      this.keep(state, chosen.slice(0, this.fed), error as Error);
    }
  }

  private feed(state: number, chosen: readonly number[]): void {
    this.fed = 0;
    const scene = reach(this.loaded, this.states[state]!);
    for (const i of chosen) {
      this.fed++;
      this.packets[i]!.send(scene);
      scene.checkHeld();
    }
    scene.end();
  }

  /** The shortest input of each failure is kept. */
  private keep(state: number, chosen: readonly number[], error: Error): void {
    const key = this.kindOf(chosen, error);
    const known = this.findings.get(key);
    if (known === undefined && this.findings.size >= MOST_FINDINGS) return;
    const times = (known?.times ?? 0) + 1;
    if (known !== undefined && known.steps.length <= 1 + chosen.length) {
      known.times = times;
      return;
    }
    this.findings.set(key, { input: `${state}:${chosen.join(',')}`, steps: this.describe(state, chosen), error: error.stack ?? String(error), times });
  }

  /** One fault has many inputs: it is told by its message and place, or, when a check of the scene failed, by the last packet. */
  private kindOf(chosen: readonly number[], error: Error): string {
    const [message, ...places] = (error.stack ?? String(error)).split('\n');
    const place = places.find((line) => !line.includes('/fuzz/states/'));
    const last = this.packets[chosen.at(-1) ?? -1]?.name.split(', SEQ')[0];
    return `${message!.replaceAll(/\d+/g, 'N')} ${error.name === 'Error' ? last : place}`;
  }
}

/** The `i`-th of `count` places in an order in which neighbours have nothing in common. */
function mixed(i: number, count: number, seed: number): number {
  return Number((BigInt(i) * STRIDE + BigInt(seed)) % BigInt(count));
}

function parse(input: string): [number, number[]] {
  const [state, list = ''] = input.split(':');
  return [Number(state), list.split(',').filter(Boolean).map(Number)];
}
