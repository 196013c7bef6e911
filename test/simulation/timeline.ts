/** What happens to a scenario while it runs: the connection begins, paths go down and come back, an application gives up. */
import type { Agenda } from '@subflow/emulator';
import { makeFastOpenCookie } from '@subflow/stack';
import { SECOND } from './settings.ts';
import type { Path, World } from './world.ts';

const PORT = 80;

/** How long a connection without keepalives may wait for a peer that is gone. */
const SILENT_FOR = 900 * SECOND;

export interface Timeline {
  start: number;
  fastOpen: boolean;
  /** Something ends the connection or all its paths on purpose. */
  violent: boolean;
}

export function drawTimeline(world: World): Timeline {
  const { draw, agenda, server } = world;
  const fastOpen = draw.chance(0.2);
  server.node.host.listen({ port: PORT, fastOpen });
  const timeline: Timeline = { start: agenda.now, fastOpen, violent: false };
  begin(world, timeline);
  drawCuts(world, timeline);
  drawApplication(world, timeline);
  const { client, boxes } = world;
  // A box that answers for the other end may have lost what it answered for.
  const between = boxes.length > 0 && (timeline.violent || boxes.some((box) => !box.harmless));
  // Who has nothing to send learns only by a keepalive that the peer is gone without a word (RFC 9293 §3.8.4); but two that
  // are both there must need none.
  for (let i = 1; i <= 3; i++) {
    agenda.at(timeline.start + i * SILENT_FOR, (now) => {
      for (const [side, other] of [
        [client, server],
        [server, client],
      ] as const) {
        if (!between && other.connection !== null && other.closed === null) continue;
        for (const connection of side.node.host.connections.values()) connection.configure({ keepaliveIdle: 60 * SECOND }, now);
        side.node.pump();
      }
    });
  }
  return timeline;
}

function begin(world: World, { start, fastOpen }: Timeline): void {
  const { draw, agenda, client, server, paths } = world;
  const remote = paths[0]!.server.addresses[0]!.address;
  const { host } = client.node;
  agenda.at(start, () => {
    if (fastOpen) {
      const cookie = makeFastOpenCookie(server.node.host.secret, remote, paths[0]!.client.addresses[0]!.address);
      host.peers.rememberCookie(remote, PORT, draw.chance(0.8) ? cookie : new Uint8Array(6), 1400);
    }
    client.connection = host.connect({ remote, port: PORT, fastOpen }, agenda.now);
    if (!fastOpen) client.node.pump();
    client.act();
  });
}

/** Paths go down and come back; the last change always restores them, unless this scenario is violent. */
function drawCuts(world: World, timeline: Timeline): void {
  const { draw, agenda, paths } = world;
  const changes = draw.chance(0.5) ? draw.integer(1, 6) : 0;
  let at = timeline.start;
  for (let i = 0; i < changes; i++) {
    at += draw.integer(10_000, 3 * SECOND);
    const path = draw.pick(paths);
    const direction = draw.integer(0, 2);
    setUpAt(agenda, at, path, direction, false);
    const back = at + draw.integer(50_000, 6 * SECOND);
    setUpAt(agenda, back, path, 2, true);
  }
  if (draw.chance(0.05)) {
    timeline.violent = true;
    const cut = timeline.start + draw.integer(0, 4 * SECOND);
    for (const path of paths) setUpAt(agenda, cut, path, 2, false);
  }
}

/** `direction`: 0 forward, 1 backward, 2 both. */
function setUpAt(agenda: Agenda, at: number, path: Path, direction: number, up: boolean): void {
  agenda.at(at, () => {
    if (direction !== 1) path.forward.setUp(up);
    if (direction !== 0) path.backward.setUp(up);
  });
}

function drawApplication(world: World, timeline: Timeline): void {
  const { draw, agenda, client, server, paths } = world;
  const { start } = timeline;
  if (draw.chance(0.12)) {
    timeline.violent = true;
    const target = draw.chance(0.5) ? client : server;
    agenda.at(start + draw.integer(1000, 5 * SECOND), (now) => {
      target.connection?.abort(now);
      target.node.pump();
    });
  }
  if (paths.length > 1 && draw.chance(0.15)) {
    agenda.at(start + draw.integer(1000, 4 * SECOND), (now) => {
      client.node.host.interfaceDown(paths.at(-1)!.client, now);
      client.node.pump();
    });
  }
  if (draw.chance(0.2)) {
    agenda.at(start + draw.integer(1000, 3 * SECOND), (now) => {
      const { connection } = client;
      const subflow = connection?.subflows[0];
      if (connection !== null && subflow !== undefined && subflow.established) connection.setBackup(subflow, true, now);
      client.node.pump();
    });
  }
}
