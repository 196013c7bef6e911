/**
 * A running balancer: the state that all agree on, put into the data plane whenever it changes. Commands and health checks write
 * the next state; who watches the store gets it like everybody else. When the store is away, what is in the data plane goes on.
 */
import { randomUUID } from 'node:crypto';
import { hostname } from 'node:os';
import { formatAddress, parseAddress } from '@subflow/wire';
import type { LbConfig } from '../config.ts';
import type { DataPlane, PlaneCounters } from '../plan.ts';
import { Lease, StoreError } from '../store/store.ts';
import type { Store } from '../store/store.ts';
import { HealthChecker } from './health.ts';
import { changed, decodeState, digestOf, encodeState, plansOf, stateOf } from './state.ts';
import type { ServerState, State, StateChange } from './state.ts';

export interface ControllerEvent {
  type: 'applied' | 'apply-failed' | 'health' | 'store-away' | 'store-back' | 'leading' | 'following';
  text: string;
}

export interface ServerReport extends ServerState {
  packets: number;
  problem: string | null;
}

export interface Report {
  name: string;
  dataPlane: string;
  generation: number;
  leading: boolean;
  storeAway: boolean;
  services: { name: string; address: string; port: number; design: string; forwarding: string; servers: ServerReport[]; packets: Record<string, number> }[];
}

const LEASE_TIME = 2000;
const WRITES = 10;
/** Between a plan that could not be applied and the next try. */
const RETRY = 1000;
const REFRESH = 10_000;
/** How long a change waits for a store that is away, and between its tries. */
const CHANGE_TIME = 10_000;
const STORE_RETRY = 500;

export class Controller {
  readonly config: LbConfig;
  readonly plane: DataPlane;
  state: State | null = null;
  storeAway = false;
  /** Of the change last applied: from its time in the state to packets seeing it is the store's delay. */
  appliedAt = 0;
  private readonly store: Store;
  private readonly onEvent: (event: ControllerEvent) => void;
  private readonly checker: HealthChecker;
  private lease: Lease | null = null;
  private leading = false;
  private revision = 0;
  private stopWatch: (() => void) | null = null;
  private applying: Promise<void> = Promise.resolve();
  private readonly timers: NodeJS.Timeout[] = [];
  private closed = false;

  constructor(config: LbConfig, plane: DataPlane, store: Store, onEvent: (event: ControllerEvent) => void) {
    this.config = config;
    this.plane = plane;
    this.store = store;
    this.onEvent = onEvent;
    this.checker = new HealthChecker((key, healthy, why) => void this.healthChanged(key, healthy, why));
  }

  private get key(): string {
    return `${this.config.name}.state`;
  }

  /** Reads or begins the state and applies it. Throws {@link StoreError}, {@link PlaneError}, {@link LinkError}. */
  async start(): Promise<void> {
    for (let i = 0; ; i++) {
      const entry = await this.store.read(this.key);
      const known = entry === null || entry.value.length === 0 ? null : decodeState(entry.value);
      if (known !== null && known.digest === digestOf(this.config)) {
        this.revision = entry!.revision;
        await this.take(known);
        break;
      }
      const next = stateOf(this.config, known, Date.now() * 1000);
      try {
        this.revision = await this.store.write(this.key, encodeState(next), entry?.revision ?? 0);
        await this.take(next);
        break;
      } catch (error) {
        if (!(error instanceof StoreError && error.code === 'CONFLICT') || i >= WRITES) throw error;
      }
    }
    this.stopWatch = this.store.watch(this.key, this.revision, ({ value, revision }) => {
      if (revision <= this.revision) return;
      this.revision = revision;
      void this.take(decodeState(value)).catch(() => {});
    });
    this.lease = new Lease(this.store, `${this.config.name}.leader`, `${hostname()} ${process.pid} ${randomUUID()}`, LEASE_TIME);
    this.timers.push(
      setInterval(() => this.lookAtLease(), LEASE_TIME / 8),
      setInterval(() => this.refresh(), REFRESH),
    );
  }

  /** Writes the state after a change, and waits until this balancer has applied it. Throws {@link ChangeError}, {@link StoreError}. */
  async change(change: StateChange): Promise<State> {
    const patience = performance.now() + CHANGE_TIME;
    let unsure = false;
    for (let conflicts = 0; ;) {
      try {
        const entry = await this.store.read(this.key);
        const before = entry === null ? this.state! : decodeState(entry.value);
        // A write that nobody answered may have been done.
        if (unsure && isDone(before, change)) {
          await this.take(before);
          return before;
        }
        const next = changed(this.config, before, change, Date.now() * 1000);
        if (next === before) return before;
        const revision = await this.store.write(this.key, encodeState(next), entry?.revision ?? 0);
        this.revision = Math.max(this.revision, revision);
        await this.take(next);
        return next;
      } catch (error) {
        if (!(error instanceof StoreError)) throw error;
        if (error.code === 'CONFLICT' && ++conflicts < WRITES) continue;
        if (error.code !== 'UNAVAILABLE' || performance.now() > patience) throw error;
        // A cluster that elects a leader is back in a few seconds.
        unsure = true;
        await new Promise((resolve) => setTimeout(resolve, STORE_RETRY));
      }
    }
  }

  report(): Report {
    const { config, state } = this;
    const counters = new Map<string, PlaneCounters>(this.plane.counters().map((one) => [one.service, one]));
    return {
      name: config.name,
      dataPlane: this.plane.name,
      generation: state?.generation ?? 0,
      leading: this.leading,
      storeAway: this.storeAway,
      services: config.services.map((service) => {
        const found = state?.services.find((one) => one.name === service.name);
        const seen = counters.get(service.name);
        return {
          name: service.name,
          address: formatAddress(service.address),
          port: service.port,
          design: service.design,
          forwarding: service.forwarding,
          packets: seen?.packets ?? {},
          servers: (found?.servers ?? []).map((one) => ({
            ...one,
            packets: seen?.servers.get(one.id) ?? 0,
            problem: this.checker.last(`${service.name}/${one.name}`),
          })),
        };
      }),
    };
  }

  async close(keep = false): Promise<void> {
    this.closed = true;
    for (const timer of this.timers) clearInterval(timer);
    this.stopWatch?.();
    this.checker.stop();
    await this.lease?.release();
    await this.applying.catch(() => {});
    this.plane.close(keep);
  }

  /** One state after the other; an older one than what is there is not looked at. */
  private take(state: State): Promise<void> {
    const turn = this.applying
      .catch(() => {})
      .then(async () => {
        if (this.closed || (this.state !== null && state.generation <= this.state.generation)) return;
        try {
          await this.plane.apply(plansOf(this.config, state));
        } catch (error) {
          this.onEvent({ type: 'apply-failed', text: `generation ${state.generation}: ${(error as Error).message}` });
          // What was there goes on; a neighbour that did not answer may do so soon.
          if (this.state !== null) setTimeout(() => void this.take(state).catch(() => {}), RETRY).unref();
          throw error;
        }
        this.state = state;
        this.appliedAt = Date.now();
        this.onEvent({ type: 'applied', text: `generation ${state.generation}` });
        if (this.leading) this.checkServers();
      });
    this.applying = turn;
    return turn;
  }

  /** Link-layer addresses change: the same plan again. */
  private refresh(): void {
    const { state } = this;
    if (state === null || this.plane.name === 'userspace') return;
    this.applying = this.applying.catch(() => {}).then(() => (this.closed || state !== this.state ? undefined : this.plane.apply(plansOf(this.config, state))));
    this.applying.catch((error: Error) => this.onEvent({ type: 'apply-failed', text: error.message }));
  }

  private lookAtLease(): void {
    const leading = this.lease?.held === true;
    if (leading !== this.leading) {
      this.leading = leading;
      this.onEvent({ type: leading ? 'leading' : 'following', text: leading ? 'this balancer checks the servers' : 'another balancer checks the servers' });
      if (leading) this.checkServers();
      else this.checker.stop();
    }
    const away = this.lease !== null && this.lease.silence > LEASE_TIME;
    if (away !== this.storeAway) {
      this.storeAway = away;
      this.onEvent({
        type: away ? 'store-away' : 'store-back',
        text: away ? 'the store does not answer: packets go on as they do now' : 'the store answers again',
      });
      if (!away) void this.catchUp();
    }
  }

  /** After an interruption: what the watch may have missed. */
  private async catchUp(): Promise<void> {
    try {
      const entry = await this.store.read(this.key);
      if (entry === null || entry.revision <= this.revision) return;
      this.revision = entry.revision;
      await this.take(decodeState(entry.value));
    } catch {
      // The next time it is back.
    }
  }

  private checkServers(): void {
    const { state, config } = this;
    if (state === null) return;
    const servers = config.services.flatMap((service) =>
      (state.services.find((one) => one.name === service.name)?.servers ?? []).map(
        (one) => [`${service.name}/${one.name}`, { config: service.health, address: parseAddress(one.address), port: one.port, healthy: one.healthy }] as const,
      ),
    );
    this.checker.set(new Map(servers));
  }

  private async healthChanged(key: string, healthy: boolean, why: string | null): Promise<void> {
    const at = key.indexOf('/');
    const [service, server] = [key.slice(0, at), key.slice(at + 1)];
    this.onEvent({ type: 'health', text: `${server} of ${service} is ${healthy ? 'up' : `down: ${why}`}` });
    try {
      await this.change({ do: 'health', service, server, healthy });
    } catch (error) {
      this.onEvent({ type: 'apply-failed', text: `health of ${server}: ${(error as Error).message}` });
    }
  }
}

/** Whether a state has what a change that adds or removes a server wants. */
function isDone(state: State, change: StateChange): boolean {
  const servers = state.services.find((one) => one.name === change.service)?.servers ?? [];
  if (change.do === 'add') return servers.some((one) => one.name === change.server.name && one.address === formatAddress(parseAddress(change.server.address)));
  return change.do === 'remove' && !servers.some((one) => one.name === change.server);
}
