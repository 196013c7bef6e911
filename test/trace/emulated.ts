/** Two hosts of ours in virtual time, captured at both ends: captures of which everything is known. */
import { Agenda, EmulatedHost, LinkDirection, PERFECT_LINK, Random } from '@subflow/emulator';
import type { LinkConfig } from '@subflow/emulator';
import { Host } from '@subflow/stack';
import type { Connection, HostOptions, Interface, StackEvent } from '@subflow/stack';
import { LINKTYPE, parseAddress, pcapngInterface, pcapngPacket, pcapngSection } from '@subflow/wire';

export const SECOND = 1_000_000;
const EPOCH = 1_700_000_000;

export interface Frame {
  /** Microseconds of virtual time. */
  time: number;
  /** Number of the path. */
  path: number;
  bytes: Uint8Array;
}

export interface PathOptions {
  name: string;
  link?: Partial<LinkConfig>;
  client?: string;
  server?: string;
  /** The client tells the peer that its subflows here are backups. */
  backup?: boolean;
  /** Not there at the beginning. */
  absent?: boolean;
}

export interface World {
  agenda: Agenda;
  client: EmulatedHost;
  server: EmulatedHost;
  paths: { name: string; forward: LinkDirection; backward: LinkDirection; near: Interface; far: Interface }[];
  /** What tcpdump would see at each end. */
  captured: { client: Frame[]; server: Frame[] };
  events: StackEvent[];
  /** Cuts a path, or brings it back. */
  setUp(path: number, up: boolean): void;
}

export function emulatedWorld(
  paths: readonly PathOptions[],
  options: { seed?: number; client?: Partial<HostOptions>; server?: Partial<HostOptions> } = {},
): World {
  const agenda = new Agenda();
  const random = new Random(options.seed ?? 1);
  const make = (name: string, more: Partial<HostOptions> = {}): EmulatedHost =>
    new EmulatedHost(name, new Host({ entropy: () => random.uint32(), ...more }), agenda);
  const client = make('client', options.client);
  const server = make('server', options.server);
  const captured: World['captured'] = { client: [], server: [] };
  const events: StackEvent[] = [];
  const made = paths.map((path, i) => {
    const a = parseAddress(path.client ?? `192.0.2.${4 * i + 1}`);
    const b = parseAddress(path.server ?? `192.0.2.${4 * i + 2}`);
    const bits = a.length * 8;
    const near = client.host.addInterface({ name: path.name, mtu: 1500, addresses: [{ address: a, bits }] });
    const far = server.host.addInterface({ name: path.name, mtu: 1500, addresses: [{ address: b, bits }] });
    client.host.addRoute(new Uint8Array(a.length), 0, near);
    server.host.addRoute(a, bits, far);
    if (i > 0 || path.backup === true) client.host.addEndpoint({ address: a, subflow: true, backup: path.backup ?? false });
    const config = { ...PERFECT_LINK, ...path.link };
    const forward = new LinkDirection(agenda, random.fork(`f${i}`), config, (packet, now) => server.receive(far, packet, now));
    const backward = new LinkDirection(agenda, random.fork(`b${i}`), config, (packet, now) => client.receive(near, packet, now));
    forward.tap = (bytes, time, point) => captured[point === 'enter' ? 'client' : 'server'].push({ time, path: i, bytes: bytes.slice() });
    backward.tap = (bytes, time, point) => captured[point === 'enter' ? 'server' : 'client'].push({ time, path: i, bytes: bytes.slice() });
    client.attach(near, (packet) => forward.send(packet));
    server.attach(far, (packet) => backward.send(packet));
    if (path.absent === true) {
      forward.setUp(false);
      backward.setUp(false);
      client.host.interfaceDown(near, 0);
    }
    return { name: path.name, forward, backward, near, far };
  });
  const setUp = (path: number, up: boolean): void => {
    made[path]!.forward.setUp(up);
    made[path]!.backward.setUp(up);
  };
  return { agenda, client, server, paths: made, captured, events, setUp };
}

/** The server answers the first bytes with `size` bytes and ends; the client reads them to the end. Runs until both are done or `limit`. */
export function download(
  world: World,
  size: number,
  options: { port?: number; limit?: number; onClient?: (connection: Connection) => void; upload?: number } = {},
): { received: number; gaps: { from: number; to: number }[] } {
  const { client, server, agenda } = world;
  const port = options.port ?? 80;
  const result = { received: 0, gaps: [] as { from: number; to: number }[] };
  const body = new Uint8Array(65_536).map((_, i) => (i * 31) & 0xff);
  const left = new Map<number, number>();
  server.host.listen({ port });
  const write = (connection: Connection, now: number): void => {
    let rest = left.get(connection.id) ?? -1;
    if (rest < 0) return;
    while (rest > 0) {
      const piece = body.subarray(0, Math.min(body.length, rest));
      if (!connection.write(piece, now)) break;
      rest -= piece.length;
    }
    left.set(connection.id, rest);
    if (rest === 0) {
      connection.shutdown(now);
      left.set(connection.id, -1);
    }
  };
  server.onEvent = (event, now) => {
    world.events.push(event);
    if (event.type === 'connection-readable' || event.type === 'connection-writable') {
      const connection = server.host.connections.get(event.connection)!;
      if (connection.readable > 0 && !left.has(connection.id)) left.set(connection.id, size);
      if (connection.readable > 0) connection.consume(connection.readable, now);
      write(connection, now);
    }
    server.pump();
  };
  const connection = client.host.connect({ remote: world.paths[0]!.far.addresses[0]!.address, port }, agenda.now);
  options.onClient?.(connection);
  connection.write(new Uint8Array(options.upload ?? 100).fill(0x47), agenda.now);
  let last = agenda.now;
  client.onEvent = (event, now) => {
    world.events.push(event);
    if (event.type === 'connection-readable') {
      result.received += connection.readable;
      if (result.received > connection.readable && now - last > 50_000) result.gaps.push({ from: last, to: now });
      last = now;
      connection.consume(connection.readable, now);
    }
    if (event.type === 'connection-end') connection.shutdown(now);
    client.pump();
  };
  client.pump();
  agenda.runUntil(options.limit ?? 120 * SECOND);
  return result;
}

export interface WriteOptions {
  snap?: number;
  /** Added to all times, microseconds. */
  offset?: number;
  /** Link type of the frames; raw by default. */
  linkType?: number;
}

/** A pcapng file of frames, one interface per path. */
export function pcapngOf(frames: readonly Frame[], names: readonly string[], options: WriteOptions = {}): Uint8Array {
  const parts = [pcapngSection('test'), ...names.map((name) => pcapngInterface(options.linkType ?? LINKTYPE.raw, name, options.snap ?? 0))];
  for (const frame of frames.toSorted((a, b) => a.time - b.time)) {
    const micros = frame.time + (options.offset ?? 0);
    const seconds = Math.floor(micros / 1e6);
    parts.push(
      pcapngPacket({
        interface: frame.path,
        seconds: EPOCH + seconds,
        nanoseconds: Math.round((micros - seconds * 1e6) * 1000),
        bytes: options.snap === undefined ? frame.bytes : frame.bytes.slice(0, options.snap),
        originalLength: frame.bytes.length,
      }),
    );
  }
  const out = new Uint8Array(parts.reduce((n, part) => n + part.length, 0));
  let at = 0;
  for (const part of parts) {
    out.set(part, at);
    at += part.length;
  }
  return out;
}
