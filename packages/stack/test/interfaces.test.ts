/** Interfaces that go down and come up again (RFC 8684 §3.4.2): whatever the path manager, version and family, the subflows come back. */
import { defaultPathManager, fullMesh, ndiffports, noPathManager } from '@subflow/stack';
import type { PathManagerFactory, VersionNumber } from '@subflow/stack';
import { describe, expect, it } from 'vitest';
import { SECOND } from './client.ts';
import { World } from './paths.ts';

const MANAGERS: Readonly<Record<string, PathManagerFactory>> = { default: defaultPathManager, fullmesh: fullMesh };

const KINDS = ([4, 6] as const).flatMap((family) =>
  ([1, 0] as const).flatMap((version) => Object.keys(MANAGERS).map((manager): [4 | 6, VersionNumber, string] => [family, version, manager])),
);

describe.each(KINDS)('an interface over IPv%i, version %i, path manager %s', (family, version, manager) => {
  it.each([
    ['the second', 1],
    ['the one it began on', 0],
  ])('%s: down, the peer hears it over the other and data goes on; up, the subflow is there again', (_name, which) => {
    const world = new World(family, version, MANAGERS[manager]!);
    expect(world.subflows).toEqual([0, 1]);
    for (let round = 0; round < 3; round++) {
      const before = world.removals();
      world.down(which);
      expect(world.subflows).toEqual([1 - which]);
      expect(world.send()).toBe(true);
      expect(world.removals()).toBeGreaterThan(before);
      world.run(5 * SECOND);
      world.up(which);
      expect(world.send()).toBe(true);
      expect(world.subflows).toEqual([0, 1]);
    }
  });

  it('repeated reports change nothing', () => {
    const world = new World(family, version, MANAGERS[manager]!);
    world.up(1);
    world.up(0);
    expect([world.send(), world.subflows]).toEqual([true, [0, 1]]);
    world.down(1);
    const before = world.removals();
    world.down(1);
    world.down(1);
    world.run(SECOND);
    expect(world.subflows).toEqual([0]);
    world.up(1);
    world.up(1);
    expect([world.send(), world.subflows]).toEqual([true, [0, 1]]);
    expect(world.removals() - before).toBeLessThanOrEqual(2);
  });

  it('of three, two go down and come back in the other order', () => {
    const world = new World(family, version, MANAGERS[manager]!, 3);
    expect(world.subflows).toEqual([0, 1, 2]);
    world.down(0);
    world.run(SECOND);
    world.down(2);
    expect([world.send(), world.subflows]).toEqual([true, [1]]);
    world.up(2);
    expect([world.send(), world.subflows]).toEqual([true, [1, 2]]);
    world.up(0);
    expect([world.send(), world.subflows]).toEqual([true, [0, 1, 2]]);
  });

  it('no new connection leaves through one that is down', () => {
    const world = new World(family, version, MANAGERS[manager]!);
    world.down(0);
    const { remoteAddress } = world.connection;
    const other = world.client.host.connect({ remote: remoteAddress, port: 80 }, world.agenda.now);
    expect(other.subflows[0]!.tcb.interface).toBe(world.interfaces[1]);
    world.down(1);
    expect(() => world.client.host.connect({ remote: remoteAddress, port: 80 }, world.agenda.now)).toThrow(
      expect.objectContaining({ code: 'NO_ROUTE' }) as Error,
    );
  });
});

describe('path managers that open nothing of themselves', () => {
  it.each([
    ['none', noPathManager],
    ['ndiffports', ndiffports(2)],
  ])('%s: a connection over one interface is not disturbed by another one', (_name, manager) => {
    const world = new World(4, 1, manager);
    world.down(1);
    world.up(1);
    expect(world.send()).toBe(true);
    expect(world.connection.open).toBe(true);
  });
});
