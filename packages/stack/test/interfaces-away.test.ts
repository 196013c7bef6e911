/** Interfaces that are all away: a connection waits for one that comes back (break before make, RFC 8684 §3.3.3). */
import { defaultPathManager, fullMesh } from '@subflow/stack';
import type { PathManagerFactory, VersionNumber } from '@subflow/stack';
import { describe, expect, it } from 'vitest';
import { SECOND } from './client.ts';
import { World } from './paths.ts';

const MANAGERS: Readonly<Record<string, PathManagerFactory>> = { default: defaultPathManager, fullmesh: fullMesh };
const KINDS = ([4, 6] as const).flatMap((family) =>
  ([1, 0] as const).flatMap((version) => Object.keys(MANAGERS).map((manager): [4 | 6, VersionNumber, string] => [family, version, manager])),
);

describe.each(KINDS)('interfaces over IPv%i, version %i, path manager %s', (family, version, manager) => {
  it.each([1, 20])('all away for %i s: the connection waits, and goes on over the one that comes back (break before make)', (seconds) => {
    for (const back of [0, 1]) {
      const world = new World(family, version, MANAGERS[manager]!);
      world.down(0);
      world.down(1);
      expect(world.connection.open).toBe(true);
      world.connection.write(new Uint8Array(500), world.agenda.now);
      world.run(seconds * SECOND);
      expect(world.connection.open).toBe(true);
      world.up(back);
      expect([world.send(), world.subflows]).toEqual([true, [back]]);
    }
  });

  it('all away for longer than a connection waits: it ends', () => {
    const world = new World(family, version, MANAGERS[manager]!);
    world.down(1);
    world.down(0);
    world.run(120 * SECOND);
    expect(world.connection.open).toBe(false);
  });
});
