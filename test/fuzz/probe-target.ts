/** The prober and its echo server: any bytes as packets, as quotes, as frames, as text of a script or a list. Nothing may throw or grow. */
import type { ProbePort } from '@subflow/probe';
import type { Instrumented } from './instrument.ts';
import type { Target } from './wire-target.ts';

const CLIENT = Uint8Array.of(192, 0, 2, 1);
const SERVER = Uint8Array.of(198, 51, 100, 2);
const PORT = 8443;
/** A fresh prober and server after so many inputs: what one leaves behind, the next ones meet. */
const RENEW = 64;

export function probeTarget({ wire, probe }: Instrumented): Target {
  let world = fresh();
  let runs = 0;
  return (buffer, length) => {
    if (++runs % RENEW === 0) world = fresh();
    const bytes = buffer.slice(0, length);
    switch (length === 0 ? 0 : bytes[length - 1]! & 7) {
      case 0:
        probe.decodeFrame(bytes);
        return;
      case 1: {
        const text = String.fromCharCode(...bytes);
        expected(() => probe.compose(text, { values: new Map([['k', 5n]]), version: 1, random: () => 7 }, { iss: 1, sndNxt: 2 }));
        expected(() => probe.parseScript(text));
        expected(() => [...probe.targetsOf(text.slice(0, 60), [], 80)].length);
        return;
      }
      case 2: {
        probe.readQuote(bytes);
        probe.layersOf(bytes);
        probe.mptcpHex(bytes);
        const half = bytes.subarray(0, length >>> 1);
        for (const one of probe.differences(bytes, half)) if (one.before === one.after) throw new Error(`a difference that is none: ${one.field}`);
        if (probe.differences(bytes, bytes).length > 0) throw new Error('a packet differs from itself');
        return;
      }
      case 3:
        world.toServer(aimed(bytes, CLIENT, SERVER, world.flow.localPort, PORT));
        return;
      case 4:
        world.toServer(bytes);
        return;
      case 5:
        world.toClient(aimed(bytes, SERVER, CLIENT, PORT, world.flow.localPort));
        return;
      case 6: {
        const quote = aimed(bytes, CLIENT, SERVER, world.flow.localPort, PORT);
        const icmp = { kind: 'error', version: 4, type: bytes[0]! % 20, code: 0, checksum: 0, rest: bytes[0]! << 16, quote } as const;
        world.toClient(wire.buildPacket(wire.ipHeader(SERVER, CLIENT, wire.PROTOCOL.icmp), { icmp }));
        return;
      }
      default:
        world.toClient(bytes);
    }
  };

  /** Errors with a code are answers; anything else is a bug. */
  function expected(run: () => unknown): void {
    try {
      run();
    } catch (error) {
      if (typeof (error as { code?: unknown }).code !== 'string') throw error;
    }
  }

  function fresh() {
    const client = stub(CLIENT);
    const server = stub(SERVER);
    const hub = new probe.Hub(client.port);
    const echo = new probe.EchoServer(new probe.Hub(server.port), { port: PORT, addresses: [SERVER] });
    const session = new probe.Session(hub, { address: SERVER, port: PORT, version: 1 });
    const flow = new probe.Flow(hub, SERVER, PORT);
    session.adopt(flow);
    // The handshake by hand: what the server answers is given to the client.
    hub.send(flow.build({ flags: wire.FLAG.syn, seq: flow.iss, options: [{ kind: 'mss', value: 1460 }, probe.mptcp(session.capableSyn())] }));
    for (const packet of client.sent.splice(0)) server.deliver(packet);
    for (const packet of server.sent.splice(0)) client.deliver(packet);
    const synAck = flow.arrivals[0];
    if (synAck !== undefined) session.accept(synAck);
    session.confirm();
    return { flow, echo, toClient: client.deliver, toServer: server.deliver };
  }

  function stub(address: Uint8Array): { port: ProbePort; sent: Uint8Array[]; deliver: (packet: Uint8Array) => void } {
    const sent: Uint8Array[] = [];
    let handler: (packet: Uint8Array) => void = () => undefined;
    let draws = address[3]!;
    let time = 1;
    const port: ProbePort = {
      checksumsUnknown: true,
      now: () => (time += 100),
      entropy: () => Math.imul(draws++, 0x9e3779b1) >>> 0,
      at: () => () => undefined,
      source: () => address,
      otherSources: () => [],
      reserve: (_source, wanted) => ({ port: wanted ?? 40_000, release: () => undefined }),
      send: (packet) => {
        if (sent.length < 64) sent.push(packet.slice());
      },
      onPacket: (take) => (handler = take),
      close: () => undefined,
    };
    return { port, sent, deliver: (packet) => handler(packet) };
  }

  /** The bytes as a segment between these endpoints, whatever they were. */
  function aimed(bytes: Uint8Array, from: Uint8Array, to: Uint8Array, fromPort: number, toPort: number): Uint8Array {
    const out = bytes.slice();
    if (out.length < 28) return out;
    out[0] = 0x45;
    out[9] = 6;
    out[6] = out[7] = 0;
    out.set(from, 12);
    out.set(to, 16);
    const view = new DataView(out.buffer);
    view.setUint16(2, out.length);
    view.setUint16(20, fromPort);
    view.setUint16(22, toPort);
    view.setUint16(10, 0);
    view.setUint16(10, wire.ipv4Checksum(out, 0, 20));
    return out;
  }
}
