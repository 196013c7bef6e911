/** Our stack to our stack in one process: bulk throughput of checked payload, short connections, memory of idle ones. */
import { row } from './rows.ts';
import type { Row } from './rows.ts';
import { SERVER, Wire } from './wire.ts';

const RUNS = 5;

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
    const server = wire.accepted()!;
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
      const server = wire.accepted()!;
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
