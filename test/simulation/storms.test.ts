/** Both ends have said that no more will come while octets before the DATA_FIN are still on a slow path: the ends wait, and do not ask each other all the time. */
import { describe, expect, it } from 'vitest';
import type { VersionNumber } from '@subflow/stack';
import { establish, pair, readAll } from '../../packages/stack/test/world.ts';
import { PacketBudget } from './packet-budget.ts';
import type { Watched } from './packet-budget.ts';

const SECOND = 1_000_000;
const SLOW = 150_000;
const PIECES = 30;
const PIECE = 5000;

interface Outcome {
  packets: number;
  problem: string | null;
  received: number[];
  ends: (string | null)[];
}

/** A fast and a slow path, data on both, both ends shut down 1 ms later; `dead`: the slow path is then cut. */
function shutdownWithHoles(fast: number, version: VersionNumber, checksum: boolean, dead: boolean): Outcome {
  const options = { mptcp: { versions: [version], checksum } };
  const world = pair({ paths: 2, link: { delay: SLOW }, client: options, server: options });
  for (const link of [world.links[1]!.up, world.links[1]!.down]) link.config = { ...link.config, delay: fast };
  const { client, server } = establish(world, 2 * SECOND);
  // The first data confirms Multipath TCP: now the fast path joins.
  client.write(new Uint8Array(100), world.agenda.now);
  world.client.pump();
  world.agenda.runUntil(world.agenda.now + 2 * SECOND);
  readAll(server, world.agenda.now);
  expect([client, server].map((one) => one.subflows.length)).toEqual([2, 2]);
  const budget = new PacketBudget();
  const ends: Watched[] = [
    { name: 'client', received: 0, connection: client },
    { name: 'server', received: 0, connection: server },
  ];
  let packets = 0;
  for (const { up, down } of world.links) {
    for (const [link, from, to] of [
      [up, ends[0]!, ends[1]!],
      [down, ends[1]!, ends[0]!],
    ] as const) {
      link.tap = (packet, now, point) => {
        if (point === 'enter') packets++;
        budget.watch(point === 'enter' ? from : to, point === 'enter' ? 'out' : 'in', packet, now);
      };
    }
  }
  for (const connection of [client, server]) for (let i = 0; i < PIECES; i++) connection.write(new Uint8Array(PIECE), world.agenda.now);
  const pump = (): void => [world.client, world.server].forEach((node) => node.pump());
  pump();
  world.agenda.runUntil(world.agenda.now + 1000);
  for (const connection of [client, server]) connection.shutdown(world.agenda.now);
  pump();
  if (dead) for (const link of [world.links[0]!.up, world.links[0]!.down]) link.setUp(false);
  for (let i = 0; i < 100 && budget.problem === null; i++) {
    // Step by step: a loop without delay would never reach the end of the tenth.
    const until = world.agenda.now + SECOND / 10;
    while (budget.problem === null && world.agenda.step(until));
    if (budget.problem === null) world.agenda.runUntil(until);
    [client, server].forEach((connection, k) => {
      for (let chunk = connection.peek(); chunk !== null; chunk = connection.peek()) {
        ends[k]!.received += chunk.length;
        connection.consume(chunk.length, world.agenda.now);
      }
    });
    pump();
  }
  return { packets, problem: budget.problem, received: ends.map((end) => end.received), ends: [client.closeReason, server.closeReason] };
}

describe('DATA_FIN in both directions before the octets of a slow path', () => {
  for (const version of [1, 0] as const) {
    for (const checksum of [false, true]) {
      for (const dead of [false, true]) {
        it(`causes a handful of packets: version ${version}, ${checksum ? 'checksums' : 'no checksums'}, slow path ${dead ? 'cut' : 'alive'}`, () => {
          for (const fast of [0, 50, 500, 5000]) {
            const { packets, problem, received, ends } = shutdownWithHoles(fast, version, checksum, dead);
            expect({ fast, problem, received }).toEqual({ fast, problem: null, received: [PIECES * PIECE, PIECES * PIECE] });
            // A subflow on a path that is cut is closed by its timers, later.
            if (!dead) expect(ends).toEqual(['normal', 'normal']);
            // 300 kB both ways are 220 segments; with their ACKs, and all of them once again over the other path.
            expect(packets).toBeLessThan(1000);
          }
        });
      }
    }
  }
});
