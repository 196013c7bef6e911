/** Our stack to our stack in one process: bulk throughput of checked payload, short connections, memory of idle ones. */
import { Host, TransmitSlot } from '@subflow/stack';
import type { Connection, HostOptions, Interface } from '@subflow/stack';
import { parseAddress } from '@subflow/wire';
import { row } from './rows.ts';
import type { Row } from './rows.ts';

const RUNS = 5;
const CLIENT = parseAddress('192.0.2.1');
const SERVER = parseAddress('192.0.2.2');

function random(): () => number {
  let state = 1;
  return () => {
    state = (Math.imul(state, 1664525) + 1013904223) >>> 0;
    return state;
  };
}

/** Two hosts joined by a wire that hands each packet over at once. */
class Wire {
  readonly client: Host;
  readonly server: Host;
  now = 1_000_000;
  private readonly slot = new TransmitSlot();
  private readonly hot = new Uint8Array(70_000);
  private readonly view = new DataView(this.hot.buffer);
  private readonly near: Interface;
  private readonly far: Interface;

  constructor(options: Partial<HostOptions> = {}, segmentationLimit = 65_000) {
    const entropy = random();
    this.client = new Host({ entropy, ...options });
    this.server = new Host({ entropy, ...options });
    const common = { mtu: 1500, segmentationLimit, checksumOffload: true };
    this.near = this.client.addInterface({ name: 'near', addresses: [{ address: CLIENT, bits: 24 }], ...common });
    this.far = this.server.addInterface({ name: 'far', addresses: [{ address: SERVER, bits: 24 }], ...common });
  }

  /** Moves packets until neither side has any, at most `limit` each way. */
  run(limit = 1_000_000): void {
    for (let moved = true; moved && limit > 0; limit--) {
      moved = this.move(this.client, this.server, this.far) || this.move(this.server, this.client, this.near);
      this.now += 1;
    }
  }

  private move(from: Host, to: Host, through: Interface): boolean {
    const { slot } = this;
    let any = false;
    for (let i = 0; i < 16 && from.pollTransmit(slot, this.now); i++) {
      any = true;
      const length = slot.copyTo(this.hot, 0);
      to.handlePacket(through, this.view, this.hot, 0, length, true, this.now);
    }
    return any;
  }
}

function accept(wire: Wire): Connection | null {
  let found: Connection | null = null;
  for (let event = wire.server.pollEvent(); event !== null; event = wire.server.pollEvent()) {
    if (event.type === 'connection-accepted') found = wire.server.connections.get(event.connection) ?? null;
  }
  return found;
}

/** Gbit/s of payload that the receiver compares byte by byte with what was sent. */
export function throughput(): Row[] {
  const size = 2_000_000_000;
  const chunk = Buffer.alloc(65_536);
  for (let i = 0; i < chunk.length; i++) chunk[i] = (i * 31) & 0xff;
  const doubled = Buffer.concat([chunk, chunk]);
  const runs: number[] = [];
  const copies: number[] = [];
  for (let k = 0; k < RUNS; k++) {
    const wire = new Wire();
    wire.server.listen({ port: 80 });
    const client = wire.client.connect({ remote: SERVER, port: 80 }, wire.now);
    client.write(new Uint8Array([chunk[0]!]), wire.now);
    wire.run();
    const server = accept(wire)!;
    let received = 0;
    let sent = 1;
    const start = process.hrtime.bigint();
    while (received < size) {
      while (sent < size) {
        const piece = doubled.subarray(sent % 65_536, (sent % 65_536) + Math.min(65_536, size - sent));
        if (!client.write(piece, wire.now)) break;
        sent += piece.length;
      }
      wire.run(1);
      for (let bytes = server.peek(); bytes !== null; bytes = server.peek()) {
        const at = received % 65_536;
        if (doubled.compare(bytes, 0, bytes.length, at, at + bytes.length) !== 0) throw new Error(`wrong bytes at ${received}`);
        received += bytes.length;
        server.consume(bytes.length, wire.now);
      }
      while (wire.client.pollEvent() !== null);
      while (wire.server.pollEvent() !== null);
    }
    runs.push((size * 8) / Number(process.hrtime.bigint() - start));
    // The peer in the same run: the two copies and the comparison alone.
    const target = Buffer.alloc(65_536);
    const second = Buffer.alloc(65_536);
    const begin = process.hrtime.bigint();
    for (let done = 0; done < size; done += 65_536) {
      target.set(chunk);
      second.set(target);
      if (second.compare(chunk) !== 0) throw new Error('copy');
    }
    copies.push((size * 8) / Number(process.hrtime.bigint() - begin));
  }
  const middle = copies.toSorted((a, b) => a - b)[RUNS >>> 1]!;
  return [row('in process: checked payload', 'Gbit/s', runs, 'aim', 20), row('in process: the same', 'Gbit/s', runs, 'two copies and a compare', middle)];
}

/** Connections per second: open, one request, one answer, close on both sides. */
export function shortConnections(): Row[] {
  const count = 3000;
  const request = new Uint8Array(100);
  const answer = new Uint8Array(1000);
  const measure = (multipath: boolean): number => {
    const wire = new Wire({ tcp: { timeWait: 1000 } });
    wire.server.listen({ port: 80 });
    const start = process.hrtime.bigint();
    for (let i = 0; i < count; i++) {
      const client = wire.client.connect({ remote: SERVER, port: 80, multipath }, wire.now);
      client.write(request, wire.now);
      wire.run();
      const server = accept(wire)!;
      server.consume(server.readable, wire.now);
      server.write(answer, wire.now);
      server.shutdown(wire.now);
      wire.run();
      client.consume(client.readable, wire.now);
      client.shutdown(wire.now);
      wire.run();
      while (wire.client.pollEvent() !== null);
      if (client.closeReason !== 'normal') throw new Error(`connection ${i}: ${client.closeReason}`);
      wire.now += 2000;
      wire.client.handleTimeout(wire.now);
      wire.server.handleTimeout(wire.now);
    }
    return (count * 1e9) / Number(process.hrtime.bigint() - start);
  };
  measure(true);
  const mptcp: number[] = [];
  const tcp: number[] = [];
  for (let i = 0; i < RUNS; i++) {
    mptcp.push(measure(true));
    tcp.push(measure(false));
  }
  return [row('short connections: Multipath TCP, both ends', '1/s', mptcp, 'our plain TCP', tcp.toSorted((a, b) => a - b)[RUNS >>> 1]!)];
}

/** Bytes per idle connection at 100,000 of them, one end. */
export function memory(): Row[] {
  const count = 100_000;
  const collect = (globalThis as { gc?: () => void }).gc;
  if (collect === undefined) throw new Error('memory: run node with --expose-gc (npm run bench does)');
  const runs: number[] = [];
  for (const multipath of [true, false]) {
    const wire = new Wire();
    wire.server.listen({ port: 80, backlog: count });
    wire.server.listen({ port: 81, backlog: count });
    const settle = (): number => {
      collect();
      collect();
      const used = process.memoryUsage();
      return used.heapUsed + used.external + used.arrayBuffers;
    };
    const before = settle();
    for (let i = 0; i < count; i++) {
      // Ephemeral ports to one address and port would run out: a source port and two listeners make the tuples.
      wire.client.connect({ remote: SERVER, port: 80 + (i & 1), localPort: 1024 + (i >>> 1), multipath }, wire.now);
      wire.run();
      while (wire.client.pollEvent() !== null);
      while (wire.server.pollEvent() !== null);
    }
    if (wire.server.sizes.connections !== count) throw new Error(`${wire.server.sizes.connections} connections`);
    runs.push((settle() - before) / count / 2);
    if (wire.client.sizes.connections !== count) throw new Error('client');
  }
  return [
    row('memory: idle Multipath TCP connection of 100,000', 'bytes', [runs[0]!], 'aim', 4096, true),
    row('memory: idle plain TCP connection of 100,000', 'bytes', [runs[1]!], 'aim', 4096, true),
  ];
}
