/** Interfaces that are away for a moment: a REMOVE_ADDR that is repeated must not meet the next subflow (RFC 8684 §3.4.2). */
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
  it.each([0, 1])('away for 50 ms (the one with number %i): REMOVE_ADDR does not come again once the address is in use again', (which) => {
    const world = new World(family, version, MANAGERS[manager]!);
    world.down(which);
    world.run(SECOND / 20);
    world.up(which);
    world.run(SECOND / 20);
    expect(world.subflows).toEqual([0, 1]);
    const removals = world.removals();
    world.run(5 * SECOND);
    expect(world.removals()).toBe(removals);
    expect([world.send(), world.subflows]).toEqual([true, [0, 1]]);
  });
});
