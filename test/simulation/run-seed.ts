/** One random scenario: two hosts of ours, 1 to 4 paths that do all that paths do, and the invariants that must hold. */
import { parseAddress } from '@subflow/wire';
import { Agenda, attachMiddlebox, EmulatedHost, LinkDirection, PERFECT_LINK, Random, stripMultipath } from '@subflow/emulator';
import type { LinkConfig } from '@subflow/emulator';
import { COUPLED_CONTROLLERS, defaultPathManager, fullMesh, Host, makeFastOpenCookie, ndiffports, noPathManager, SCHEDULERS } from '@subflow/stack';
import type { Connection, Interface, StackEvent, VersionNumber } from '@subflow/stack';
import { drawBox } from './boxes.ts';
import type { DrawnBox } from './boxes.ts';

const SECOND = 1_000_000;
/** Virtual time after which a scenario counts as stuck. */
const LIMIT = 3600 * SECOND;
const PORT = 80;

const MANAGERS = { default: defaultPathManager, fullmesh: fullMesh, ndiffports: ndiffports(3), none: noPathManager };
const OFFERS: readonly (readonly VersionNumber[])[] = [[1], [1], [1, 0], [0]];
const ACCEPTS: readonly (readonly VersionNumber[])[] = [[1, 0], [1, 0], [1], [0]];

export interface SeedResult {
  seed: number;
  /** Empty when every invariant held. */
  problems: string[];
  virtualSeconds: number;
  bytes: number;
  /** Short description of what was drawn. */
  summary: string;
  events: StackEvent[];
}

interface Side {
  node: EmulatedHost;
  connection: Connection | null;
  /** Bytes this side will send, and has handed to the stack, and has received. */
  size: number;
  written: number;
  received: number;
  wrong: number;
  ended: boolean;
  closed: string | null;
  readChunk: number;
  readPause: number;
  stalledUntil: number;
}

/** Byte `position` of what a side sends. */
function patternByte(seed: number, side: number, position: number): number {
  return (Math.imul(position, 2654435761) ^ Math.imul(seed + side, 40503) ^ (position >>> 8)) & 0xff;
}

export function runSeed(seed: number, keepEvents = false): SeedResult {
  const random = new Random(seed);
  const draw = random.fork('scenario');
  const agenda = new Agenda(draw.integer(0, 1_000_000));
  const paths = draw.integer(1, 4);
  const checksum = draw.chance(0.3);
  const events: StackEvent[] = [];
  const small = draw.chance(0.2);
  const huge = draw.chance(0.1);
  const buffer = small ? draw.integer(2000, 20000) : huge ? 8_000_000 : draw.integer(20_000, 500_000);
  const tcp = {
    timeWait: 5 * SECOND,
    keepaliveIdle: 60 * SECOND,
    keepaliveInterval: 10 * SECOND,
    keepaliveProbes: 5,
    finWait2: 20 * SECOND,
    maxRto: 20 * SECOND,
    maxRetransmits: 10,
    receiveBuffer: buffer,
    maxReceiveBuffer: small ? buffer : Math.max(buffer, 4_000_000),
    sendBuffer: buffer,
    maxSendBuffer: Math.max(buffer, 1_000_000),
    timestamps: !draw.chance(0.1),
    sack: !draw.chance(0.15),
    windowScaling: !draw.chance(0.1),
    ecn: draw.chance(0.2),
    nagle: draw.chance(0.7),
    congestion: draw.pick(['cubic', 'cubic', 'newreno', 'bbr']),
  };
  const schedulerName = draw.chance(0.4) ? 'lowest-rtt' : draw.pick(Object.keys(SCHEDULERS));
  const managerName = draw.chance(0.7) ? 'default' : draw.pick(Object.keys(MANAGERS));
  const coupled = draw.chance(0.6) ? 'none' : draw.pick(Object.keys(COUPLED_CONTROLLERS));
  const offers = draw.pick(OFFERS);
  const accepts = draw.pick(ACCEPTS);
  const mptcp = {
    checksum,
    closeTimeout: 30 * SECOND,
    coupled,
    versions: offers,
    acceptVersions: accepts,
    scheduler: SCHEDULERS[schedulerName]!,
    pathManager: MANAGERS[managerName as keyof typeof MANAGERS],
    fastclose: draw.pick(['reset', 'ack'] as const),
    opportunisticRetransmission: draw.chance(0.7),
    penalisation: draw.chance(0.7),
    failTimeout: 20 * SECOND,
    synCookies: draw.chance(0.15) ? ('always' as const) : ('when-full' as const),
    pendingJoins: draw.chance(0.2) ? 0 : 4,
  };
  const entropy = random.fork('entropy');
  const clientHost = new Host({ entropy: () => entropy.uint32(), tcp, mptcp });
  const serverHost = new Host({
    entropy: () => entropy.uint32(),
    tcp: { ...tcp, sack: !draw.chance(0.15) },
    mptcp: { ...mptcp, checksum: draw.chance(0.2), scheduler: SCHEDULERS[draw.chance(0.7) ? schedulerName : draw.pick(Object.keys(SCHEDULERS))]! },
  });
  const client = side(new EmulatedHost('client', clientHost, agenda), draw);
  const server = side(new EmulatedHost('server', serverHost, agenda), draw);
  const links: { forward: LinkDirection; backward: LinkDirection; client: Interface; server: Interface }[] = [];
  const benignLoss = draw.chance(0.5);
  let strips = false;
  for (let i = 0; i < paths; i++) {
    const v6 = draw.chance(0.3);
    const [a, b, bits] = v6 ? ([`2001:db8:${i + 1}::1`, `2001:db8:${i + 1}::2`, 64] as const) : ([`192.0.2.${i * 4 + 1}`, `192.0.2.${i * 4 + 2}`, 30] as const);
    const own = clientHost.addInterface({ name: `path${i}`, mtu: draw.pick([1500, 1500, 1400, 1280]), addresses: [{ address: parseAddress(a), bits }] });
    const peer = serverHost.addInterface({ name: `path${i}`, mtu: 1500, addresses: [{ address: parseAddress(b), bits }] });
    const backup = draw.chance(0.2);
    if (i > 0) {
      clientHost.addEndpoint({ address: parseAddress(a), subflow: true, backup });
      serverHost.addEndpoint({ address: parseAddress(b), signal: true });
    }
    const config = drawLink(draw, benignLoss);
    const forward = new LinkDirection(agenda, random.fork(`f${i}`), config, (packet, now) => server.node.receive(peer, packet, now));
    const backward = new LinkDirection(agenda, random.fork(`b${i}`), draw.chance(0.7) ? config : drawLink(draw, benignLoss), (packet, now) =>
      client.node.receive(own, packet, now),
    );
    client.node.attach(own, (packet) => forward.send(packet));
    server.node.attach(peer, (packet) => backward.send(packet));
    links.push({ forward, backward, client: own, server: peer });
  }
  // Sometimes a middlebox strips the options, from the start or from some time on.
  if (draw.chance(0.15)) {
    strips = true;
    const from = draw.chance(0.5) ? 0 : agenda.now + draw.integer(0, 3 * SECOND);
    const where = draw.pick(['syn', 'synack', 'after-handshake', 'all'] as const);
    const link = draw.pick(links);
    if (draw.chance(0.7)) link.forward.filter = stripMultipath(where, () => agenda.now >= from);
    if (draw.chance(0.7)) link.backward.filter = stripMultipath(where, () => agenda.now >= from);
  }
  // Or a box from the catalogue stands on one path, seldom on all.
  const boxes: DrawnBox[] = [];
  if (!strips && draw.chance(0.4)) {
    const drawn = drawBox(draw, random);
    const everywhere = draw.chance(0.15);
    links.forEach((link, i) => {
      if (!everywhere && i !== (draw.chance(0.5) ? 0 : paths - 1)) return;
      attachMiddlebox(drawn.make(link.client.addresses[0]!.address), agenda, link.forward, link.backward);
      boxes.push(drawn);
    });
  }
  client.size = drawSize(draw);
  server.size = drawSize(draw);
  const fastOpen = draw.chance(0.2);
  serverHost.listen({ port: PORT, fastOpen });
  const start = agenda.now;
  const remote = links[0]!.server.addresses[0]!.address;
  let violent = false;
  wire(client, seed, 0, agenda, keepEvents ? events : null, null, draw);
  wire(server, seed, 1, agenda, keepEvents ? events : null, client, draw);
  agenda.at(start, () => {
    if (fastOpen) {
      const cookie = makeFastOpenCookie(serverHost.secret, remote, links[0]!.client.addresses[0]!.address);
      clientHost.peers.rememberCookie(remote, PORT, draw.chance(0.8) ? cookie : new Uint8Array(6), 1400);
    }
    client.connection = clientHost.connect({ remote, port: PORT, fastOpen }, agenda.now);
    if (!fastOpen) client.node.pump();
    act(client, seed, 0, agenda);
  });
  // Paths go down and come back; the last change always restores them, unless this scenario is violent.
  const changes = draw.chance(0.5) ? draw.integer(1, 6) : 0;
  let at = start;
  for (let i = 0; i < changes; i++) {
    at += draw.integer(10_000, 3 * SECOND);
    const link = draw.pick(links);
    const direction = draw.integer(0, 2);
    agenda.at(at, () => setUp(link, direction, false));
    const back = at + draw.integer(50_000, 6 * SECOND);
    agenda.at(back, () => setUp(link, 2, true));
  }
  if (draw.chance(0.05)) {
    violent = true;
    agenda.at(start + draw.integer(0, 4 * SECOND), () => {
      for (const link of links) setUp(link, 2, false);
    });
  }
  if (draw.chance(0.12)) {
    violent = true;
    const target = draw.chance(0.5) ? client : server;
    agenda.at(start + draw.integer(1000, 5 * SECOND), (now) => {
      target.connection?.abort(now);
      target.node.pump();
    });
  }
  if (paths > 1 && draw.chance(0.15)) {
    agenda.at(start + draw.integer(1000, 4 * SECOND), (now) => {
      clientHost.interfaceDown(links[paths - 1]!.client, now);
      client.node.pump();
    });
    violent ||= paths < 2;
  }
  if (draw.chance(0.2)) {
    agenda.at(start + draw.integer(1000, 3 * SECOND), (now) => {
      const connection = client.connection;
      const subflow = connection?.subflows[0];
      if (connection !== null && subflow !== undefined && subflow.established) connection.setBackup(subflow, true, now);
      client.node.pump();
    });
  }
  const problems: string[] = [];
  try {
    let steps = 0;
    while (agenda.step(start + LIMIT)) {
      if (++steps > 5_000_000) {
        problems.push('more than 5,000,000 events: a loop');
        break;
      }
    }
  } catch (error) {
    problems.push(`threw ${(error as Error).stack ?? String(error)}`);
  }
  if (agenda.next !== Number.POSITIVE_INFINITY && problems.length === 0)
    problems.push(`not finished after ${LIMIT / SECOND} s: client ${describe(client)}, server ${describe(server)}`);
  // A box may change payload where nobody can notice: without checksums, or after fallback (RFC 8684 §3.7).
  const rewrites = boxes.some((box) => box.rewrites !== 'no');
  const resizes = boxes.some((box) => box.rewrites === 'length');
  const unprotected = server.connection === null || server.connection.mode === 'tcp' || !server.connection.checksum;
  // Data on a Fast Open SYN is outside the data sequence space and its checksums (RFC 8684 appendix B.2).
  const mayBeWrong = rewrites && (unprotected || fastOpen);
  for (const [name, one] of [
    ['client', client],
    ['server', server],
  ] as const) {
    if (one.wrong > 0 && !(name === 'server' && mayBeWrong)) problems.push(`${name} received ${one.wrong} wrong bytes`);
    if (one.connection !== null && one.closed === null) problems.push(`${name} connection never ended (${describe(one)})`);
    if (!one.node.host.idle) problems.push(`${name} leaves behind ${JSON.stringify(one.node.host.sizes)}`);
  }
  const whole = client.received === server.size && server.received === client.size;
  if (client.received > server.size || (server.received > client.size && !(resizes && (unprotected || fastOpen))))
    problems.push('more bytes delivered than sent');
  const normal = client.closed === 'normal' && server.closed === 'normal';
  if (normal && !whole && !(resizes && (unprotected || fastOpen)))
    problems.push(`closed normally, but client has ${client.received}/${server.size}, server ${server.received}/${client.size}`);
  // A handshake may run out of tries by loss alone, and a server that keeps no state does not repeat its SYN+ACK.
  // Such a server also knows nothing of a client whose third packet never came, and resets it after a minute.
  const damage = links
    .flatMap((link) => [link.forward, link.backward])
    .some((one) => one.counters.corrupted > 0 || Object.values(one.counters.dropped).some((count) => count > 0));
  const forgotten = damage && mptcp.synCookies === 'always' && server.connection === null;
  const unlucky = forgotten || (client.closed === 'timeout' && client.connection?.wasOpen === false);
  if (!violent && !strips && !whole && !unlucky && boxes.every((box) => box.harmless))
    problems.push(
      `nothing forbids success, but client has ${client.received}/${server.size} (${client.closed}), server ${server.received}/${client.size} (${server.closed})`,
    );
  return {
    seed,
    problems,
    virtualSeconds: (agenda.now - start) / SECOND,
    bytes: client.received + server.received,
    summary: `${paths} paths, ${client.size}+${server.size} bytes, buffer ${buffer}${checksum ? ', checksum' : ''}${strips ? ', strips' : ''}${violent ? ', violent' : ''}, ${schedulerName}, ${managerName}, ${tcp.congestion}/${coupled}, offers ${offers.join('+')} accepts ${accepts.join('+')}${boxes.map((box) => `, ${box.name}`).join('')}`,
    events,
  };
}

function side(node: EmulatedHost, draw: Random): Side {
  return {
    node,
    connection: null,
    size: 0,
    written: 0,
    received: 0,
    wrong: 0,
    ended: false,
    closed: null,
    readChunk: draw.chance(0.2) ? draw.integer(1, 3000) : 1 << 20,
    readPause: draw.chance(0.2) ? draw.integer(0, 50_000) : 0,
    stalledUntil: 0,
  };
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

function setUp(link: { forward: LinkDirection; backward: LinkDirection }, direction: number, up: boolean): void {
  if (direction !== 1) link.forward.setUp(up);
  if (direction !== 0) link.backward.setUp(up);
}

function wire(self: Side, seed: number, index: number, agenda: Agenda, events: StackEvent[] | null, _peer: Side | null, draw: Random): void {
  const { host } = self.node;
  void draw;
  self.node.onEvent = (event, now) => {
    events?.push(event);
    switch (event.type) {
      case 'connection-accepted':
        // A second one can only come from a replayed cookie or a proxy on a further path: nobody wants it.
        if (self.connection !== null && self.connection.id !== event.connection) host.connections.get(event.connection)?.abort(now);
        self.connection ??= host.connections.get(event.connection) ?? null;
        act(self, seed, index, agenda);
        break;
      case 'connection-established':
      case 'connection-writable':
        act(self, seed, index, agenda);
        break;
      case 'connection-readable':
      case 'connection-end':
        if (event.type === 'connection-end') self.ended = true;
        readSome(self, seed, index, agenda);
        break;
      case 'connection-closed':
        if (self.connection === null || event.connection === self.connection.id) {
          drain(self, seed, index, now, Number.MAX_SAFE_INTEGER);
          self.closed = event.reason;
        }
        break;
      default:
        break;
    }
  };
}

/** Writes what the buffer takes; shuts down after the last byte. */
function act(self: Side, seed: number, index: number, agenda: Agenda): void {
  const { connection } = self;
  if (connection === null || connection.closed) return;
  while (self.written < self.size) {
    const length = Math.min(self.size - self.written, 8000);
    const bytes = new Uint8Array(length);
    for (let i = 0; i < length; i++) bytes[i] = patternByte(seed, index, self.written + i);
    if (!connection.write(bytes, agenda.now)) break;
    self.written += length;
  }
  if (self.written === self.size && !connection.sendClosed) connection.shutdown(agenda.now);
  self.node.pump();
}

function readSome(self: Side, seed: number, index: number, agenda: Agenda): void {
  if (self.readPause === 0 && self.readChunk >= 1 << 20) {
    drain(self, seed, index, agenda.now, Number.MAX_SAFE_INTEGER);
    self.node.pump();
    return;
  }
  if (self.stalledUntil > agenda.now) return;
  drain(self, seed, index, agenda.now, self.readChunk);
  self.node.pump();
  if ((self.connection?.readable ?? 0) === 0) return;
  self.stalledUntil = agenda.now + Math.max(1, self.readPause / 10);
  agenda.at(self.stalledUntil, () => readSome(self, seed, index, agenda));
}

function drain(self: Side, seed: number, index: number, now: number, limit: number): void {
  const { connection } = self;
  let left = limit;
  while (connection !== null && left > 0) {
    const chunk = connection.peek();
    if (chunk === null) return;
    const take = Math.min(chunk.length, left);
    for (let i = 0; i < take; i++) if (chunk[i] !== patternByte(seed, 1 - index, self.received + i)) self.wrong++;
    self.received += take;
    left -= take;
    connection.consume(take, now);
  }
}

function describe(self: Side): string {
  const c = self.connection;
  if (c === null) return 'none';
  return `mode ${c.mode} phase ${c.phase} subflows ${c.subflows.map((s) => `${s.id}:${s.tcb.state}/${s.established ? 'e' : '-'}${s.stale ? 's' : ''} una ${s.tcb.sndUna} nxt ${s.tcb.sndNxt} end ${s.tcb.sndEnd} rcv ${s.tcb.rcvNxt} fl ${s.tcb.inFlight} lost ${s.tcb.lostBytes} cwnd ${s.tcb.cwnd | 0} wnd ${s.tcb.sndWndEdge - s.tcb.sndNxt} rto@${s.tcb.retransmitAt} persist@${s.tcb.persistAt}`).join(' | ')} data ${c.dataUna}/${c.dataNxt}/${c.sendBuffer.end} wnd ${c.dataWndEdge} rcv ${c.dataRcvNxt} fin ${c.finSent}/${c.finAcknowledged}/${c.remoteFin}/${c.receiveEnded}`;
}
