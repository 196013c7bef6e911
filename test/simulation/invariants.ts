/** What must hold when a scenario is over. */
import { SECOND } from './settings.ts';
import type { Timeline } from './timeline.ts';
import type { World } from './world.ts';

/** The invariants that do not hold, in words. */
export function violations(world: World, timeline: Timeline, limit: number): string[] {
  const { client, server } = world;
  const problems: string[] = [];
  if (world.agenda.next !== Number.POSITIVE_INFINITY)
    problems.push(`not finished after ${limit / SECOND} s: client ${client.describe()}, server ${server.describe()}`);
  problems.push(...ends(world, timeline), ...bytes(world, timeline));
  return problems;
}

/** A box may change payload where nobody can notice: without checksums, or after fallback (RFC 8684 §3.7). */
function liberties({ boxes, server }: World, { fastOpen }: Timeline): { rewritten: boolean; resized: boolean } {
  const unprotected = server.connection === null || server.connection.mode === 'tcp' || !server.connection.checksum;
  // Data on a Fast Open SYN is outside the data sequence space and its checksums (RFC 8684 appendix B.2).
  const free = unprotected || fastOpen;
  return { rewritten: free && boxes.some((box) => box.rewrites !== 'no'), resized: free && boxes.some((box) => box.rewrites === 'length') };
}

/** Every connection ends, and leaves nothing behind. */
function ends(world: World, timeline: Timeline): string[] {
  const problems: string[] = [];
  const { rewritten } = liberties(world, timeline);
  for (const side of [world.client, world.server]) {
    const { host } = side.node;
    if (side.wrong > 0 && !(side === world.server && rewritten)) problems.push(`${side.name} received ${side.wrong} wrong bytes`);
    if (side.connection !== null && side.closed === null) problems.push(`${side.name} connection never ended (${side.describe()})`);
    if (!host.idle) problems.push(`${side.name} leaves behind ${JSON.stringify(host.sizes)}`);
  }
  return problems;
}

/** A normal end means that every byte arrived; and every byte arrives unless something forbids it. */
function bytes(world: World, timeline: Timeline): string[] {
  const { client, server, boxes, strips } = world;
  const { resized } = liberties(world, timeline);
  const problems: string[] = [];
  const whole = client.received === server.size && server.received === client.size;
  const counts = `client has ${client.received}/${server.size} (${client.closed}), server ${server.received}/${client.size} (${server.closed})`;
  if (client.received > server.size || (server.received > client.size && !resized)) problems.push('more bytes delivered than sent');
  const normal = client.closed === 'normal' && server.closed === 'normal';
  if (normal && !whole && !resized) problems.push(`closed normally, but ${counts}`);
  if (!timeline.violent && !strips && !whole && !unlucky(world) && boxes.every((box) => box.harmless)) problems.push(`nothing forbids success, but ${counts}`);
  return problems;
}

/**
 * A handshake may run out of tries by loss alone, on either side (version 1: the keys are on the third ACK only), and a
 * server that keeps no state does not repeat its SYN+ACK. Such a server also knows nothing of a client whose third packet
 * never came, and resets it after a minute.
 */
function unlucky({ client, server, paths, settings }: World): boolean {
  const damage = paths
    .flatMap((path) => [path.forward, path.backward])
    .some((one) => one.counters.corrupted > 0 || Object.values(one.counters.dropped).some((count) => count > 0));
  const forgotten = damage && settings.mptcp.synCookies === 'always' && server.connection === null;
  return forgotten || (damage && [client, server].some((side) => side.closed === 'timeout' && side.connection?.wasOpen !== true));
}
