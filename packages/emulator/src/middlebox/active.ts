/** Boxes that speak themselves: inject resets, acknowledge for the receiver, answer for the server. */
import { buildPacket, FLAG, ipHeader, PROTOCOL } from '@subflow/wire';
import type { TcpOption } from '@subflow/wire';
import { Host } from '@subflow/stack';
import type { Connection, Interface, StackEvent } from '@subflow/stack';
import { EmulatedHost } from '../node.ts';
import type { Random } from '../random.ts';
import { isMptcp, rebuilt, tcpOf } from './box.ts';
import type { MiddleboxFactory, TcpPacket } from './box.ts';

/** Resets a connection towards both ends when the `after`-th segment of the client passes, with right sequence numbers. */
export function injectReset(after: number, times = 1): MiddleboxFactory {
  return ({ emit }) => {
    const counts = new Map<string, number>();
    let left = times;
    return {
      name: `inject a reset after ${after} segments`,
      forward: (bytes) => {
        const packet = tcpOf(bytes);
        if (packet === null || left === 0) return bytes;
        const { tcp, ip } = packet;
        const key = `${tcp.sourcePort}>${tcp.destinationPort}`;
        const count = (counts.get(key) ?? 0) + 1;
        counts.set(key, count);
        if (count !== after || (tcp.flags & FLAG.ack) === 0) return bytes;
        left--;
        emit('backward', reset(ip.destination, ip.source, tcp.destinationPort, tcp.sourcePort, tcp.ack));
        return reset(ip.source, ip.destination, tcp.sourcePort, tcp.destinationPort, tcp.seq);
      },
    };
  };
}

function reset(source: Uint8Array, destination: Uint8Array, sourcePort: number, destinationPort: number, seq: number): Uint8Array {
  return segment(source, destination, sourcePort, destinationPort, seq, 0, FLAG.rst, 0, []);
}

function segment(
  source: Uint8Array,
  destination: Uint8Array,
  sourcePort: number,
  destinationPort: number,
  seq: number,
  ack: number,
  flags: number,
  window: number,
  options: TcpOption[],
): Uint8Array {
  return buildPacket(ipHeader(source, destination, PROTOCOL.tcp), {
    tcp: { sourcePort, destinationPort, seq: seq >>> 0, ack: ack >>> 0, headerLength: 20, reserved: 0, flags, window, checksum: 0, urgent: 0, options },
  });
}

const REPEAT_AFTER = 300_000;
const MAX_REPEATS = 2000;

/**
 * A performance-enhancing proxy (RFC 3135 §2.2): acknowledges the client's data at once, without Multipath TCP options
 * of course, and takes over the duty of getting it to the server.
 */
export function acknowledgeProactively(): MiddleboxFactory {
  return ({ agenda, emit }) => {
    interface Flow {
      /** Packets the server has not acknowledged, in order of their sequence numbers. */
      waiting: { end: number; bytes: Uint8Array; repeats: number }[];
      acked: number;
      window: number;
      tsVal: number;
      /** The server's next sequence number. */
      seq: number;
      armed: boolean;
    }
    const flows = new Map<string, Flow>();
    const arm = (flow: Flow): void => {
      if (flow.armed || flow.waiting.length === 0) return;
      flow.armed = true;
      agenda.at(agenda.now + REPEAT_AFTER, () => {
        flow.armed = false;
        const first = flow.waiting[0];
        if (first === undefined) return;
        if (++first.repeats > MAX_REPEATS) flow.waiting.length = 0;
        else emit('forward', first.bytes);
        arm(flow);
      });
    };
    return {
      name: 'acknowledge proactively',
      forward: (bytes) => {
        const packet = tcpOf(bytes);
        if (packet === null) return bytes;
        const { tcp, ip, payload } = packet;
        const flow = flows.get(`${tcp.sourcePort}>${tcp.destinationPort}`);
        if (flow === undefined || payload.length === 0 || (tcp.flags & (FLAG.syn | FLAG.rst | FLAG.fin)) !== 0) return bytes;
        const end = (tcp.seq + payload.length) | 0;
        if (((tcp.seq - flow.acked) | 0) !== 0) return bytes;
        flow.acked = end;
        flow.waiting.push({ end, bytes, repeats: 0 });
        arm(flow);
        const stamps = tcp.options.find((option) => option.kind === 'timestamps');
        const options: TcpOption[] =
          stamps === undefined ? [] : [{ kind: 'nop' }, { kind: 'nop' }, { kind: 'timestamps', value: flow.tsVal, echo: stamps.value }];
        emit('backward', segment(ip.destination, ip.source, tcp.destinationPort, tcp.sourcePort, flow.seq, end, FLAG.ack, flow.window, options));
        return bytes;
      },
      backward: (bytes) => {
        const packet = tcpOf(bytes);
        if (packet === null) return bytes;
        const { tcp, payload } = packet;
        const key = `${tcp.destinationPort}>${tcp.sourcePort}`;
        const stamps = tcp.options.find((option) => option.kind === 'timestamps');
        if ((tcp.flags & FLAG.syn) !== 0) {
          if (flows.has(key)) return bytes;
          flows.set(key, { waiting: [], acked: tcp.ack | 0, window: tcp.window, tsVal: stamps?.value ?? 0, seq: (tcp.seq + 1) | 0, armed: false });
          return bytes;
        }
        const flow = flows.get(key);
        if (flow === undefined) return bytes;
        if ((tcp.flags & FLAG.rst) !== 0) {
          flow.waiting.length = 0;
          flows.delete(key);
          return bytes;
        }
        flow.seq = (tcp.seq + payload.length + ((tcp.flags & FLAG.fin) !== 0 ? 1 : 0)) | 0;
        flow.window = tcp.window;
        if (stamps !== undefined) flow.tsVal = stamps.value;
        while (flow.waiting.length > 0 && ((tcp.ack - flow.waiting[0]!.end) | 0) >= 0) flow.waiting.shift();
        if (((tcp.ack - flow.acked) | 0) > 0) flow.acked = tcp.ack | 0;
        // The client has the ACK already: an older one would only look like a duplicate.
        if (((tcp.ack - flow.acked) | 0) < 0) {
          packet.tcp.ack = flow.acked >>> 0;
          return rebuilt(packet);
        }
        return bytes;
      },
    };
  };
}

/**
 * A transparent proxy: answers for the server, without Multipath TCP, and carries the bytes on in a connection of its
 * own that looks like the client's. Two plain hosts of our stack, one facing each side.
 */
export function transparentProxy(random: Random): MiddleboxFactory {
  return ({ agenda, emit }) => {
    const relays = new Map<string, Relay>();
    const relayOf = (client: TcpPacket): Relay => {
      const key = `${client.ip.source.join('.')}:${client.tcp.sourcePort}>${client.ip.destination.join('.')}:${client.tcp.destinationPort}`;
      let relay = relays.get(key);
      if (relay === undefined) {
        relay = new Relay(client, agenda, random, emit);
        relays.set(key, relay);
      }
      return relay;
    };
    return {
      name: 'transparent proxy',
      forward: (bytes, now) => {
        const packet = tcpOf(bytes);
        if (packet === null) return bytes;
        relayOf(packet).fromClient(bytes, now);
        return null;
      },
      backward: (bytes, now) => {
        const packet = tcpOf(bytes);
        if (packet === null) return bytes;
        const mirrored = { ...packet, ip: { ...packet.ip, source: packet.ip.destination, destination: packet.ip.source } } as TcpPacket;
        mirrored.tcp = { ...packet.tcp, sourcePort: packet.tcp.destinationPort, destinationPort: packet.tcp.sourcePort };
        relayOf(mirrored).fromServer(bytes, now);
        return null;
      },
    };
  };
}

class Relay {
  private readonly front: EmulatedHost;
  private readonly back: EmulatedHost;
  private readonly frontInterface: Interface;
  private readonly backInterface: Interface;
  private near: Connection | null = null;
  private far: Connection | null = null;

  constructor(client: TcpPacket, agenda: BoxAgenda, random: Random, emit: (direction: 'forward' | 'backward', packet: Uint8Array) => void) {
    const make = (name: string): EmulatedHost => {
      const tcp = {
        timeWait: 1_000_000,
        keepaliveIdle: 60_000_000,
        keepaliveInterval: 10_000_000,
        keepaliveProbes: 5,
        maxRetransmits: 8,
        finWait2: 20_000_000,
      };
      return new EmulatedHost(name, new Host({ entropy: () => random.uint32(), tcp, mptcp: { enabled: false } }), agenda);
    };
    this.front = make('front');
    this.back = make('back');
    const bits = 0;
    this.frontInterface = this.front.host.addInterface({ name: 'front', mtu: 1500, addresses: [{ address: client.ip.destination, bits }] });
    this.backInterface = this.back.host.addInterface({ name: 'back', mtu: 1500, addresses: [{ address: client.ip.source, bits }] });
    this.front.attach(this.frontInterface, (packet) => emit('backward', packet));
    this.back.attach(this.backInterface, (packet) => emit('forward', packet));
    this.front.host.listen({ port: client.tcp.destinationPort, multipath: false });
    const { destination } = client.ip;
    const { sourcePort, destinationPort } = client.tcp;
    this.front.onEvent = (event, now) => {
      if (event.type === 'connection-accepted' && this.near === null) {
        this.near = this.front.host.connections.get(event.connection) ?? null;
        this.far = this.back.host.connect(
          { remote: destination, port: destinationPort, local: client.ip.source, localPort: sourcePort, multipath: false },
          now,
        );
        this.back.pump();
      }
      this.relay(event, now);
    };
    this.back.onEvent = (event, now) => this.relay(event, now);
  }

  fromClient(bytes: Uint8Array, now: number): void {
    this.front.receive(this.frontInterface, bytes, now);
  }

  fromServer(bytes: Uint8Array, now: number): void {
    this.back.receive(this.backInterface, bytes, now);
  }

  private relay(event: StackEvent, now: number): void {
    if (!event.type.startsWith('connection-')) return;
    if (event.type === 'connection-closed' && event.reason !== 'normal') {
      this.near?.abort(now);
      this.far?.abort(now);
    } else {
      carry(this.near, this.far, now);
      carry(this.far, this.near, now);
    }
    this.front.pump();
    this.back.pump();
  }
}

type BoxAgenda = ConstructorParameters<typeof EmulatedHost>[2];

/** Moves what has been read to the other side, as far as it takes it. */
function carry(from: Connection | null, to: Connection | null, now: number): void {
  if (from === null || to === null || to.sendClosed) return;
  for (let chunk = from.peek(); chunk !== null && to.writable > 0; chunk = from.peek()) {
    if (!to.write(chunk.slice(), now)) return;
    from.consume(chunk.length, now);
  }
  if (from.receiveEnded && from.readable === 0) to.shutdown(now);
  else if (from.readable > 0) to.wantsWritable = true;
}

/** A firewall that resets both ends when a segment with a Multipath TCP option passes: SYNs, or what comes later. */
export function resetMultipath(where: 'syn' | 'after-handshake'): MiddleboxFactory {
  return ({ emit }) => ({
    name: `reset on Multipath TCP in ${where} segments`,
    forward: (bytes) => {
      const packet = tcpOf(bytes);
      if (packet === null || !packet.tcp.options.some(isMptcp)) return bytes;
      const { tcp, ip } = packet;
      const syn = (tcp.flags & FLAG.syn) !== 0;
      if (syn !== (where === 'syn') || (!syn && packet.payload.length === 0)) return bytes;
      const length = packet.payload.length + (syn ? 1 : 0);
      emit('backward', resetFor(packet, syn ? 0 : tcp.ack, tcp.seq + length));
      return syn ? null : reset(ip.source, ip.destination, tcp.sourcePort, tcp.destinationPort, tcp.seq);
    },
  });
}

function resetFor(packet: TcpPacket, seq: number, ack: number): Uint8Array {
  const { tcp, ip } = packet;
  return segment(ip.destination, ip.source, tcp.destinationPort, tcp.sourcePort, seq, ack, FLAG.rst | FLAG.ack, 0, []);
}
