/** The application at one end of a scenario: writes a pattern, reads and compares the other one's, shuts down after its last byte. */
import type { Agenda, EmulatedHost, Random } from '@subflow/emulator';
import type { Connection, StackEvent } from '@subflow/stack';

const WRITE = 8000;

export class Side {
  readonly node: EmulatedHost;
  connection: Connection | null = null;
  /** Bytes this side will send, and has handed to the stack, and has received. */
  size = 0;
  written = 0;
  received = 0;
  wrong = 0;
  closed: string | null = null;
  readonly name: string;
  private readonly agenda: Agenda;
  private readonly seed: number;
  /** 0 is the client, 1 the server. */
  private readonly index: number;
  private readonly readChunk: number;
  private readonly readPause: number;
  private stalledUntil = 0;

  constructor(node: EmulatedHost, agenda: Agenda, seed: number, index: number, draw: Random) {
    this.node = node;
    this.name = node.name;
    this.agenda = agenda;
    this.seed = seed;
    this.index = index;
    this.readChunk = draw.chance(0.2) ? draw.integer(1, 3000) : 1 << 20;
    this.readPause = draw.chance(0.2) ? draw.integer(0, 50_000) : 0;
  }

  /** Follows the events of the host; `events` keeps them. */
  follow(events: StackEvent[] | null): void {
    const { host } = this.node;
    this.node.onEvent = (event, now) => {
      events?.push(event);
      switch (event.type) {
        case 'connection-accepted':
          // A second one can only come from a replayed cookie or a proxy on a further path: nobody wants it.
          if (this.connection !== null && this.connection.id !== event.connection) host.connections.get(event.connection)?.abort(now);
          this.connection ??= host.connections.get(event.connection) ?? null;
          this.act();
          break;
        case 'connection-established':
        case 'connection-writable':
          this.act();
          break;
        case 'connection-readable':
        case 'connection-end':
          this.readSome();
          break;
        case 'connection-closed':
          if (this.connection === null || event.connection === this.connection.id) {
            this.drain(now, Number.MAX_SAFE_INTEGER);
            this.closed = event.reason;
          }
          break;
        default:
          break;
      }
    };
  }

  /** Writes what the buffer takes; shuts down after the last byte. */
  act(): void {
    const { connection, agenda } = this;
    if (connection === null || connection.closed) return;
    while (this.written < this.size) {
      const length = Math.min(this.size - this.written, WRITE);
      const bytes = new Uint8Array(length);
      for (let i = 0; i < length; i++) bytes[i] = patternByte(this.seed, this.index, this.written + i);
      if (!connection.write(bytes, agenda.now)) break;
      this.written += length;
    }
    if (this.written === this.size && !connection.sendClosed) connection.shutdown(agenda.now);
    this.node.pump();
  }

  describe(): string {
    const c = this.connection;
    if (c === null) return 'none';
    const subflows = c.subflows.map(
      ({ id, tcb, established, stale }) =>
        `${id}:${tcb.state}/${established ? 'e' : '-'}${stale ? 's' : ''} una ${tcb.sndUna} nxt ${tcb.sndNxt} rcv ${tcb.rcvNxt} edge ${tcb.rcvEdge} fl ${tcb.inFlight} cwnd ${tcb.cwnd | 0}`,
    );
    return `mode ${c.mode} phase ${c.phase} subflows ${subflows.join(' | ')} data ${c.dataUna}/${c.dataNxt} wnd ${c.dataWndEdge} rcv ${c.dataRcvNxt}`;
  }

  private readSome(): void {
    const { agenda } = this;
    if (this.readPause === 0 && this.readChunk >= 1 << 20) {
      this.drain(agenda.now, Number.MAX_SAFE_INTEGER);
      this.node.pump();
      return;
    }
    if (this.stalledUntil > agenda.now) return;
    this.drain(agenda.now, this.readChunk);
    this.node.pump();
    if ((this.connection?.readable ?? 0) === 0) return;
    this.stalledUntil = agenda.now + Math.max(1, this.readPause / 10);
    agenda.at(this.stalledUntil, () => this.readSome());
  }

  private drain(now: number, limit: number): void {
    const { connection } = this;
    let left = limit;
    while (connection !== null && left > 0) {
      const chunk = connection.peek();
      if (chunk === null) return;
      const take = Math.min(chunk.length, left);
      for (let i = 0; i < take; i++) if (chunk[i] !== patternByte(this.seed, 1 - this.index, this.received + i)) this.wrong++;
      this.received += take;
      left -= take;
      connection.consume(take, now);
    }
  }
}

/** Byte `position` of what a side sends. */
function patternByte(seed: number, side: number, position: number): number {
  return (Math.imul(position, 2654435761) ^ Math.imul(seed + side, 40503) ^ (position >>> 8)) & 0xff;
}
