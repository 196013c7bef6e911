/** The world of a scenario: two hosts of ours, one to four paths that do all that paths do, and the boxes on them. */
import { parseAddress } from '@subflow/wire';
import { Agenda, attachMiddlebox, EmulatedHost, LinkDirection, PERFECT_LINK, Random, stripMultipath } from '@subflow/emulator';
import type { LinkConfig } from '@subflow/emulator';
import { Host } from '@subflow/stack';
import type { Interface } from '@subflow/stack';
import { drawBox } from './boxes.ts';
import type { DrawnBox } from './boxes.ts';
import { drawSettings, SECOND } from './settings.ts';
import type { Settings } from './settings.ts';
import { Side } from './side.ts';

export interface Path {
  forward: LinkDirection;
  backward: LinkDirection;
  client: Interface;
  server: Interface;
}

export interface World {
  seed: number;
  random: Random;
  /** The stream from which the scenario is drawn. */
  draw: Random;
  settings: Settings;
  agenda: Agenda;
  client: Side;
  server: Side;
  paths: Path[];
  boxes: DrawnBox[];
  /** A box strips the options somewhere. */
  strips: boolean;
}

/** Sees every packet that a host sends, and every one that reaches it. */
export type Watch = (side: Side, direction: 'out' | 'in', packet: Uint8Array, now: number) => void;

export function makeWorld(seed: number, watch: Watch): World {
  const random = new Random(seed);
  const draw = random.fork('scenario');
  const agenda = new Agenda(draw.integer(0, SECOND));
  const settings = drawSettings(draw);
  const entropy = random.fork('entropy');
  const { tcp, mptcp, server: other } = settings;
  const clientHost = new Host({ entropy: () => entropy.uint32(), tcp, mptcp });
  const serverHost = new Host({ entropy: () => entropy.uint32(), tcp: { ...tcp, ...other.tcp }, mptcp: { ...mptcp, ...other.mptcp } });
  const client = new Side(new EmulatedHost('client', clientHost, agenda), agenda, seed, 0, draw);
  const server = new Side(new EmulatedHost('server', serverHost, agenda), agenda, seed, 1, draw);
  const world: World = { seed, random, draw, settings, agenda, client, server, paths: [], boxes: [], strips: false };
  const benign = draw.chance(0.5);
  for (let i = 0; i < settings.paths; i++) addPath(world, i, benign, watch);
  drawBoxes(world);
  client.size = drawSize(draw);
  server.size = drawSize(draw);
  return world;
}

function addPath(world: World, i: number, benign: boolean, watch: Watch): void {
  const { draw, random, agenda, client, server } = world;
  const v6 = draw.chance(0.3);
  const [a, b, bits] = v6 ? ([`2001:db8:${i + 1}::1`, `2001:db8:${i + 1}::2`, 64] as const) : ([`192.0.2.${i * 4 + 1}`, `192.0.2.${i * 4 + 2}`, 30] as const);
  const own = client.node.host.addInterface({ name: `path${i}`, mtu: draw.pick([1500, 1500, 1400, 1280]), addresses: [{ address: parseAddress(a), bits }] });
  const peer = server.node.host.addInterface({ name: `path${i}`, mtu: 1500, addresses: [{ address: parseAddress(b), bits }] });
  const backup = draw.chance(0.2);
  if (i > 0) {
    client.node.host.addEndpoint({ address: parseAddress(a), subflow: true, backup });
    server.node.host.addEndpoint({ address: parseAddress(b), signal: true });
  }
  const deliver =
    (side: Side, through: Interface) =>
    (packet: Uint8Array, now: number): void => {
      watch(side, 'in', packet, now);
      side.node.receive(through, packet, now);
    };
  const config = drawLink(draw, benign);
  const forward = new LinkDirection(agenda, random.fork(`f${i}`), config, deliver(server, peer));
  const backward = new LinkDirection(agenda, random.fork(`b${i}`), draw.chance(0.7) ? config : drawLink(draw, benign), deliver(client, own));
  const attach = (side: Side, through: Interface, link: LinkDirection): void => {
    side.node.attach(through, (packet) => {
      watch(side, 'out', packet, agenda.now);
      link.send(packet);
    });
  };
  attach(client, own, forward);
  attach(server, peer, backward);
  world.paths.push({ forward, backward, client: own, server: peer });
}

function drawBoxes(world: World): void {
  const { draw, random, agenda, paths, boxes } = world;
  // Sometimes a middlebox strips the options, from the start or from some time on.
  if (draw.chance(0.15)) {
    world.strips = true;
    const from = draw.chance(0.5) ? 0 : agenda.now + draw.integer(0, 3 * SECOND);
    const where = draw.pick(['syn', 'synack', 'after-handshake', 'all'] as const);
    const path = draw.pick(paths);
    if (draw.chance(0.7)) path.forward.filter = stripMultipath(where, () => agenda.now >= from);
    if (draw.chance(0.7)) path.backward.filter = stripMultipath(where, () => agenda.now >= from);
  }
  // Or a box from the catalogue stands on one path, seldom on all.
  if (world.strips || !draw.chance(0.4)) return;
  const drawn = drawBox(draw, random);
  const everywhere = draw.chance(0.15);
  paths.forEach((path, i) => {
    if (!everywhere && i !== (draw.chance(0.5) ? 0 : paths.length - 1)) return;
    attachMiddlebox(drawn.make(path.client.addresses[0]!.address), agenda, path.forward, path.backward);
    boxes.push(drawn);
  });
}

function drawSize(draw: Random): number {
  const kind = draw.float();
  if (kind < 0.15) return 0;
  if (kind < 0.4) return draw.integer(1, 5000);
  return draw.integer(5000, 400_000);
}

function drawLink(draw: Random, benign: boolean): LinkConfig {
  return {
    ...PERFECT_LINK,
    rate: draw.chance(0.2) ? 0 : draw.integer(300_000, 50_000_000),
    delay: draw.integer(0, 120_000),
    jitter: draw.chance(0.3) ? draw.integer(0, 20_000) : 0,
    loss: benign ? 0 : draw.chance(0.3) ? { goodToBad: 0.01, badToGood: 0.2, lossGood: 0, lossBad: 0.5 } : draw.float() * 0.2,
    reorder: draw.chance(0.3) ? draw.float() * 0.2 : 0,
    reorderDelay: draw.integer(0, 30_000),
    duplicate: draw.chance(0.2) ? draw.float() * 0.1 : 0,
    corrupt: draw.chance(0.2) ? draw.float() * 0.05 : 0,
    queuePackets: draw.chance(0.3) ? draw.integer(5, 100) : 0,
    queueTime: draw.integer(20_000, 300_000),
    markAbove: draw.chance(0.2) ? 10_000 : 0,
  };
}
