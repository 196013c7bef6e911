/** Every point of chosen connections, in columns: what graphs are drawn from and tables are written from. */
import type { PointSink } from './data-level.ts';
import type { Connection, Subflow } from './connection.ts';
import type { Side } from './events.ts';

/** Points of one kind per connection: what comes after is counted. */
const MOST_POINTS = 4_000_000;
const FIRST = 1024;

/** Numbers in rows, columns by name. */
export class Columns<K extends string> {
  length = 0;
  /** Rows that found no room. */
  beyond = 0;
  private readonly names: readonly K[];
  private columns: Record<K, Float64Array>;

  constructor(names: readonly K[]) {
    this.names = names;
    this.columns = Object.fromEntries(names.map((name) => [name, new Float64Array(FIRST)])) as Record<K, Float64Array>;
  }

  add(...values: number[]): void {
    if (this.length >= MOST_POINTS) {
      this.beyond++;
      return;
    }
    const first = this.columns[this.names[0]!];
    if (this.length === first.length) {
      for (const name of this.names) {
        const larger = new Float64Array(first.length * 2);
        larger.set(this.columns[name]);
        this.columns[name] = larger;
      }
    }
    for (let i = 0; i < this.names.length; i++) this.columns[this.names[i]!][this.length] = values[i]!;
    this.length++;
  }

  /** The column, as long as there are rows. */
  get(name: K): Float64Array {
    return this.columns[name].subarray(0, this.length);
  }
}

/** What was recorded of one connection. `side` is who sent, of payload; who acknowledged, of DATA_ACKs. */
export class Recording {
  readonly payload = new Columns(['time', 'side', 'subflow', 'position', 'length', 'kind', 'packet'] as const);
  readonly acks = new Columns(['time', 'side', 'subflow', 'position', 'window', 'packet'] as const);
  /** After each acknowledgement of a subflow: bytes in flight, and the round-trip time measured (NaN without). `side` is who sent. */
  readonly flight = new Columns(['time', 'side', 'subflow', 'flight', 'rtt'] as const);
  readonly queue = new Columns(['time', 'side', 'bytes'] as const);
}

export class Recorder implements PointSink {
  readonly recordings: Map<number, Recording> = new Map();
  private readonly wanted: ((connection: Connection) => boolean) | null;
  private readonly most: number;

  /** `wanted` chooses connections; without it the first `most` are recorded. */
  constructor(wanted: ((connection: Connection) => boolean) | null, most = 16) {
    this.wanted = wanted;
    this.most = most;
  }

  payload(connection: Connection, subflow: Subflow, side: Side, time: number, position: number, length: number, kind: number, packet: number): void {
    this.of(connection)?.payload.add(time, side, subflow.number, position, length, kind, packet);
  }

  dataAck(connection: Connection, subflow: Subflow, side: Side, time: number, position: number, window: number, packet: number): void {
    this.of(connection)?.acks.add(time, side, subflow.number, position, window, packet);
  }

  subflowAck(connection: Connection, subflow: Subflow, side: Side, time: number, flight: number, rtt: number): void {
    this.of(connection)?.flight.add(time, subflow.sideOf(side), subflow.number, flight, rtt);
  }

  queue(connection: Connection, side: Side, time: number, bytes: number): void {
    this.of(connection)?.queue.add(time, side, bytes);
  }

  private of(connection: Connection): Recording | null {
    const known = this.recordings.get(connection.index);
    if (known !== undefined) return known;
    if (this.wanted === null ? this.recordings.size >= this.most : !this.wanted(connection)) return null;
    const made = new Recording();
    this.recordings.set(connection.index, made);
    return made;
  }
}
