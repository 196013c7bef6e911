/**
 * What one packet of 1,448 bytes costs without offload: both ends in one process, its share of the ACKs and both checksums
 * included, with 1, 100 and 10,000 connections that send in turn. The peer is the same bytes copied and summed twice.
 */
import type { Connection } from '@subflow/stack';
import { sum } from '@subflow/wire';
import { median, row } from './rows.ts';
import type { Row } from './rows.ts';
import { NO_OFFLOAD, SERVER, Wire } from './wire.ts';

const RUNS = 5;
const AIM = 1.2;
const COUNTS = [1, 100, 10_000];
const PACKETS = 300_000;
/** Written, moved and read at a time. */
const TURN = 10;
/** A full segment with timestamps: 1,500 - 20 - 20 - 12; with a mapping 28 less. */
const PAYLOAD = { TCP: 1448, 'Multipath TCP': 1420 } as const;
type Kind = keyof typeof PAYLOAD;
const FIRST_PORT = 1024;
const PORTS = 50_000;

export function packets(): Row[] {
  const kinds = Object.keys(PAYLOAD) as Kind[];
  const runs = new Map<string, number[]>();
  const copies: number[] = [];
  // Interleaved, so that a slow minute of the machine is everybody's.
  for (let round = 0; round < RUNS; round++) {
    for (const kind of kinds) {
      for (const count of COUNTS) {
        const key = `${kind} ${count}`;
        const cost = new Ends(kind, count).measure();
        runs.set(key, [...(runs.get(key) ?? []), cost]);
      }
    }
    copies.push(copyTwice());
  }
  return kinds.flatMap((kind) =>
    COUNTS.flatMap((count) => {
      const name = `packet of ${PAYLOAD[kind]} B, ${kind}, ${count.toLocaleString('en')} connections`;
      const cost = runs.get(`${kind} ${count}`)!;
      const against = row(name, 'µs', cost, 'two copies, two sums', median(copies), true);
      return kind === 'TCP' ? [row(name, 'µs', cost, 'aim', AIM, true), against] : [against];
    }),
  );
}

class Ends {
  private readonly wire = new Wire({ mptcp: { maxTokens: 1_000_000 } }, NO_OFFLOAD);
  private readonly pairs: { client: Connection; server: Connection }[] = [];
  private readonly data: Uint8Array;

  constructor(kind: Kind, count: number) {
    const { wire } = this;
    this.data = new Uint8Array(TURN * PAYLOAD[kind]).map((_, i) => i * 7);
    wire.server.listen({ port: 80, backlog: count });
    for (let i = 0; i < count; i++) {
      const localPort = FIRST_PORT + (i % PORTS);
      const client = wire.client.connect({ remote: SERVER, port: 80, localPort, multipath: kind !== 'TCP' }, wire.now);
      client.write(this.data.subarray(0, 1), wire.now);
      wire.run();
      const server = wire.accepted()!;
      server.consume(1, wire.now);
      this.pairs.push({ client, server });
      while (wire.client.pollEvent() !== null);
    }
    // Warm, and past the quick acknowledgements of a young connection.
    for (let i = 0; i < 3; i++) this.turn();
  }

  /** Microseconds for each data packet. */
  measure(): number {
    const before = this.received();
    const turns = Math.max(1, Math.round(PACKETS / (TURN * this.pairs.length)));
    const started = process.hrtime.bigint();
    for (let i = 0; i < turns; i++) this.turn();
    const nanoseconds = Number(process.hrtime.bigint() - started);
    const sent = turns * this.pairs.length * this.data.length;
    if (this.received() - before !== sent) throw new Error(`${this.received() - before} bytes arrived; expected ${sent}`);
    return nanoseconds / 1000 / (turns * this.pairs.length * TURN);
  }

  private turn(): void {
    const { wire, data } = this;
    for (const { client, server } of this.pairs) {
      if (!client.write(data, wire.now)) throw new Error('the send buffer is full');
      wire.run();
      for (let chunk = server.peek(); chunk !== null; chunk = server.peek()) server.consume(chunk.length, wire.now);
      while (wire.client.pollEvent() !== null);
      while (wire.server.pollEvent() !== null);
    }
    wire.tick();
    wire.run();
  }

  private received(): number {
    return this.pairs.reduce((total, { server }) => total + server.bytesRead, 0);
  }
}

/** The least a stack can do: into a packet, out of it, and a checksum at either end. */
function copyTwice(): number {
  const source = new Uint8Array(PAYLOAD.TCP * 64).map((_, i) => i * 7);
  const packet = new Uint8Array(1500);
  const target = new Uint8Array(PAYLOAD.TCP * 64);
  let total = 0;
  const started = process.hrtime.bigint();
  for (let i = 0; i < PACKETS; i++) {
    const at = (i & 63) * PAYLOAD.TCP;
    packet.set(source.subarray(at, at + PAYLOAD.TCP), 52);
    total += sum(packet, 52, PAYLOAD.TCP) + sum(packet, 52, PAYLOAD.TCP);
    target.set(packet.subarray(52), at);
  }
  const cost = Number(process.hrtime.bigint() - started) / 1000 / PACKETS;
  if (total === 0) throw new Error('nothing was summed');
  return cost;
}
