/** Two hosts of ours and some paths in virtual time: one transfer, measured. */
import { Agenda, EmulatedHost, LinkDirection, PERFECT_LINK, Random } from '@subflow/emulator';
import type { LinkConfig } from '@subflow/emulator';
import { Host } from '@subflow/stack';
import type { Connection, HostOptions, StackEvent } from '@subflow/stack';
import { parseAddress } from '@subflow/wire';

const SECOND = 1_000_000;
const PORT = 80;

export interface PaperPath {
  /** Mbit/s. */
  rate: number;
  /** One way, milliseconds. */
  delay: number;
  /** Packets. */
  queue: number;
  loss?: number;
}

export interface TransferOptions {
  paths: readonly PaperPath[];
  /** Bytes; with `duration` the transfer is cut off then. */
  size: number;
  direction?: 'up' | 'down';
  options?: Partial<HostOptions>;
  /** Plain TCP over the first path. */
  plain?: boolean;
  duration?: number;
  seed?: number;
}

export interface TransferResult {
  /** From connect to the last byte at the receiver, milliseconds of virtual time. */
  milliseconds: number;
  bytes: number;
  /** Mbit/s of payload. */
  goodput: number;
  /** Bytes sent per subflow. */
  shares: number[];
  reinjected: number;
  /** Time-weighted mean of the bytes waiting out of order at the receiver, and the largest. */
  outOfOrderMean: number;
  outOfOrderMax: number;
  /** Time bytes waited in order to be deliverable: mean over bytes, milliseconds. */
  outOfOrderDelay: number;
}

/** Runs one transfer to its end. */
export function transfer(options: TransferOptions): TransferResult {
  const agenda = new Agenda();
  const random = new Random(options.seed ?? 1);
  const make = (name: string): EmulatedHost =>
    new EmulatedHost(name, new Host({ entropy: () => random.uint32(), ...options.options, tcp: { timeWait: SECOND, ...options.options?.tcp } }), agenda);
  const client = make('client');
  const server = make('server');
  options.paths.forEach((path, i) => connectPath(agenda, random, client, server, path, i));
  const up = options.direction === 'up';
  const body = new Uint8Array(65536);
  let sent = 0;
  let received = 0;
  let finished = 0;
  let receiver: Connection | null = null;
  let sender: Connection | null = null;
  const shares = new Map<number, number>();
  const order = new OrderMeter();
  const send = (connection: Connection, node: EmulatedHost): void => {
    while (sent < options.size) {
      const piece = body.subarray(0, Math.min(body.length, options.size - sent));
      if (!connection.write(piece, agenda.now)) break;
      sent += piece.length;
    }
    if (sent === options.size && !connection.sendClosed) connection.shutdown(agenda.now);
    node.pump();
  };
  const handle =
    (node: EmulatedHost, isClient: boolean) =>
    (event: StackEvent, now: number): void => {
      const sends = isClient === up;
      if (event.type === 'connection-accepted') {
        const connection = node.host.connections.get(event.connection)!;
        if (sends) send((sender = connection), node);
        else receiver = connection;
      } else if (event.type === 'connection-established' && isClient && sends) {
        send(sender!, node);
      } else if (event.type === 'connection-writable' && sends && sender !== null) {
        send(sender, node);
      } else if (event.type === 'connection-readable' && !sends) {
        const connection = receiver ?? [...node.host.connections.values()][0]!;
        for (let chunk = connection.peek(); chunk !== null; chunk = connection.peek()) {
          received += chunk.length;
          connection.consume(chunk.length, now);
        }
        order.note(connection, now);
        if (received >= options.size && finished === 0) finished = now;
      } else if (event.type === 'connection-end' && !sends) {
        const connection = receiver ?? [...node.host.connections.values()][0];
        if (connection !== undefined && !connection.sendClosed) connection.shutdown(now);
        node.pump();
      }
    };
  client.onEvent = handle(client, true);
  server.onEvent = handle(server, false);
  server.host.listen({ port: PORT });
  const connection = client.host.connect({ remote: parseAddress('192.0.2.2'), port: PORT, ...(options.plain === true ? { multipath: false } : {}) }, 0);
  if (up) sender = connection;
  else receiver = connection;
  client.pump();
  const limit = options.duration ?? 3600 * SECOND;
  while (finished === 0 && agenda.step(limit)) {
    if (receiver !== null) order.note(receiver, agenda.now);
  }
  for (const one of (sender as Connection | null)?.subflows ?? []) shares.set(one.id, one.tcb.bytesSent);
  const microseconds = finished === 0 ? agenda.now : finished;
  return {
    milliseconds: microseconds / 1000,
    bytes: received,
    goodput: (received * 8) / microseconds,
    shares: [...shares.values()],
    reinjected: (sender as Connection | null)?.reinjectedBytes ?? 0,
    outOfOrderMean: order.mean(microseconds),
    outOfOrderMax: order.largest,
    outOfOrderDelay: received === 0 ? 0 : order.area / received / 1000,
  };
}

/** One path: an address on either side, /30. */
export function connectPath(
  agenda: Agenda,
  random: Random,
  client: EmulatedHost,
  server: EmulatedHost,
  path: PaperPath,
  i: number,
): { up: LinkDirection; down: LinkDirection } {
  const a = parseAddress(`192.0.2.${4 * i + 1}`);
  const b = parseAddress(`192.0.2.${4 * i + 2}`);
  const own = client.host.addInterface({ name: `path${i}`, mtu: 1500, addresses: [{ address: a, bits: 30 }] });
  const peer = server.host.addInterface({ name: `path${i}`, mtu: 1500, addresses: [{ address: b, bits: 30 }] });
  if (i > 0) {
    client.host.addEndpoint({ address: a, subflow: true });
    server.host.addEndpoint({ address: b, signal: true });
  }
  const config: LinkConfig = { ...PERFECT_LINK, rate: path.rate * 1e6, delay: path.delay * 1000, queuePackets: path.queue, loss: path.loss ?? 0 };
  const up = new LinkDirection(agenda, random.fork(`u${i}`), config, (packet, now) => server.receive(peer, packet, now));
  const down = new LinkDirection(agenda, random.fork(`d${i}`), config, (packet, now) => client.receive(own, packet, now));
  client.attach(own, (packet) => up.send(packet));
  server.attach(peer, (packet) => down.send(packet));
  return { up, down };
}

/** Bytes that wait out of order, integrated over time. */
class OrderMeter {
  area = 0;
  largest = 0;
  private held = 0;
  private at = 0;

  note(connection: Connection, now: number): void {
    this.area += this.held * (now - this.at);
    this.at = now;
    this.held = connection.outOfOrderBytes;
    if (this.held > this.largest) this.largest = this.held;
  }

  mean(duration: number): number {
    return duration === 0 ? 0 : this.area / duration;
  }
}
