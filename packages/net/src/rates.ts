/** From snapshots to rates: what went over each connection, subflow and interface since the last look. */
import type { SubflowFacts } from './multipath.ts';
import type { ConnectionStatus, InterfaceStatus, StatusSnapshot } from './status.ts';

/** Bits per second. */
export interface Rates {
  received: number;
  sent: number;
}

export interface SubflowRow extends Rates {
  facts: SubflowFacts;
  /** Received and sent together, the latest last. */
  history: number[];
}

export interface ConnectionRow {
  source: string;
  status: ConnectionStatus;
  subflows: SubflowRow[];
}

export interface InterfaceRow extends Rates {
  source: string;
  name: string;
  history: number[];
}

export interface View {
  time: number;
  connections: ConnectionRow[];
  interfaces: InterfaceRow[];
  /** Counters that moved since the last look, with their present values. */
  moved: { source: string; name: string; value: number; by: number }[];
  counters: Record<string, Record<string, number>>;
}

const HISTORY = 120;

interface Seen {
  received: number;
  sent: number;
  history: number[];
  time: number;
}

export class RateMeter {
  private readonly seen = new Map<string, Seen>();
  private counters: Record<string, Record<string, number>> = {};

  /** Takes the latest snapshots of all sources. */
  update(snapshots: readonly StatusSnapshot[]): View {
    const before = this.counters;
    this.counters = Object.fromEntries(snapshots.map((one) => [one.source, one.counters]));
    const alive = new Set<string>();
    const view: View = {
      time: snapshots[0]?.time ?? Date.now(),
      connections: snapshots.flatMap((snapshot) => snapshot.connections.map((one) => this.connection(snapshot, one, alive))),
      interfaces: snapshots.flatMap((snapshot) => snapshot.interfaces.map((one) => this.interface(snapshot, one, alive))),
      moved: snapshots.flatMap(({ source, counters }) =>
        before[source] === undefined
          ? []
          : Object.entries(counters).flatMap(([name, value]) => {
              const by = value - (before[source]![name] ?? 0);
              return by === 0 ? [] : [{ source, name, value, by }];
            }),
      ),
      counters: this.counters,
    };
    for (const key of this.seen.keys()) if (!alive.has(key)) this.seen.delete(key);
    return view;
  }

  private connection(snapshot: StatusSnapshot, status: ConnectionStatus, alive: Set<string>): ConnectionRow {
    return {
      source: snapshot.source,
      status,
      subflows: status.subflows.map((facts) => {
        const key = `${snapshot.source}|${status.key}|${facts.localAddress}:${facts.localPort}>${facts.remoteAddress}:${facts.remotePort}`;
        return { facts, ...this.rate(key, facts.bytesReceived, facts.bytesSent, snapshot.time, alive) };
      }),
    };
  }

  private interface(snapshot: StatusSnapshot, one: InterfaceStatus, alive: Set<string>): InterfaceRow {
    return {
      source: snapshot.source,
      name: one.name,
      ...this.rate(`${snapshot.source}|if|${one.name}`, one.bytesReceived, one.bytesSent, snapshot.time, alive),
    };
  }

  private rate(key: string, received: number, sent: number, time: number, alive: Set<string>): Rates & { history: number[] } {
    alive.add(key);
    const last = this.seen.get(key);
    const history = last?.history ?? [];
    const seconds = last === undefined ? 0 : (time - last.time) / 1000;
    const rates =
      last === undefined || seconds <= 0
        ? { received: 0, sent: 0 }
        : { received: (8 * Math.max(0, received - last.received)) / seconds, sent: (8 * Math.max(0, sent - last.sent)) / seconds };
    if (last !== undefined) history.push(rates.received + rates.sent);
    if (history.length > HISTORY) history.shift();
    this.seen.set(key, { received, sent, history, time });
    return { ...rates, history };
  }
}
