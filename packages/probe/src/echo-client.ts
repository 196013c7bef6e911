/** Asks an echo server, over plain TCP of our own stack, until an undamaged answer comes. */
import type { IpAddress } from '@subflow/wire';
import type { Connection } from '@subflow/stack';
import { decodeFrame, encodeFrame, readResponse } from './echo-protocol.ts';
import type { EchoPacket, EchoRequest, EchoResponse } from './echo-protocol.ts';
import { ProbeError } from './errors.ts';
import type { Hub } from './hub.ts';
import { joined, PortHost } from './port-host.ts';
import { until } from './walk.ts';

const TRIES = 6;
const PATIENCE = 4_000_000;
/** After this long an answer is asked for again on the same connection: boxes may have damaged the question. */
const ASK_AGAIN = 1_200_000;
const MAX_ANSWER = 2 << 20;
/** Packets of a flow that are asked for: a server keeps 500, one that says there are always more must not go on for ever. */
const MAX_PACKETS = 1024;
/** Most servers are none: they get less time. */
const PRESENT_TRIES = 3;
const PRESENT_PATIENCE = 1_500_000;

type Answered = Extract<EchoResponse, { ok: true }>;

export class EchoClient {
  private readonly hub: Hub;
  private readonly target: IpAddress;
  private readonly port: number;
  private readonly host: PortHost;
  private readonly source: IpAddress;

  /** Throws {@link ProbeError} `NO_ROUTE`. */
  constructor(hub: Hub, target: IpAddress, port: number) {
    const source = hub.port.source(target);
    if (source === null) throw new ProbeError('NO_ROUTE', 'no way to the echo server; expected a route');
    this.hub = hub;
    this.target = target;
    this.port = port;
    this.source = source;
    this.host = new PortHost(hub, { addresses: [source], mptcp: { enabled: false } });
  }

  /** Whether an echo server answers there. */
  async present(): Promise<boolean> {
    try {
      await this.ask({ op: 'flows', since: Number.MAX_SAFE_INTEGER }, PRESENT_TRIES, PRESENT_PATIENCE);
      return true;
    } catch {
      return false;
    }
  }

  /** Throws {@link ProbeError} `NO_ECHO_SERVER` when nothing undamaged comes back. */
  async ask(request: EchoRequest, tries: number = TRIES, patience: number = PATIENCE): Promise<Answered> {
    const limit = request.op === 'walk' || request.op === 'distance' ? Math.min(tries, 2) : tries;
    for (let i = 0; i < limit; i++) {
      const response = await this.once(request, patience);
      if (response === null) continue;
      if (!response.ok) throw new ProbeError('NO_ECHO_SERVER', `the echo server refused ${request.op}: ${response.message}`);
      return response;
    }
    throw new ProbeError('NO_ECHO_SERVER', `no answer to "${request.op}" from the echo server after ${limit} tries`);
  }

  /** Every packet of a flow as the server has it. */
  async packets(flow: number): Promise<EchoPacket[]> {
    const out: EchoPacket[] = [];
    for (let more = true; more && out.length < MAX_PACKETS;) {
      const answer = await this.ask({ op: 'packets', flow, from: out.length });
      if (!('packets' in answer)) break;
      out.push(...answer.packets);
      more = answer.more && answer.packets.length > 0;
    }
    return out;
  }

  private async once(request: EchoRequest, patience: number): Promise<EchoResponse | null> {
    const { host } = this;
    const reserved = this.hub.port.reserve(this.source);
    // Only what is for this connection: our host would reset every other one that this machine has.
    const unclaim = this.hub.claim(reserved.port, this.target, this.port, { segment: (_packet, bytes) => host.receive(bytes), quote: () => undefined });
    const pieces: Uint8Array[] = [];
    let size = 0;
    let ended = false;
    let response: EchoResponse | null = null;
    const connection: Connection = host.host.connect(
      { remote: this.target, port: this.port, local: this.source, localPort: reserved.port, multipath: false },
      host.now(),
    );
    const frame = encodeFrame(request);
    connection.write(frame.slice(), host.now());
    const collect = (): void => {
      for (let chunk = host.read(connection, MAX_ANSWER); chunk.length > 0 && size < MAX_ANSWER; chunk = host.read(connection, MAX_ANSWER)) {
        pieces.push(chunk);
        size += chunk.length;
        ended = false;
      }
    };
    host.onEvent = (event) => {
      if (!('connection' in event) || event.connection !== connection.id) return;
      if (event.type === 'connection-readable' || event.type === 'connection-end') collect();
      if (event.type === 'connection-end' || event.type === 'connection-closed') ended = true;
    };
    host.pump();
    const started = host.now();
    const walking = request.op === 'walk' || request.op === 'distance';
    let asked = 1;
    let looked = -1;
    await until(this.hub, walking ? 2 * patience : patience, () => {
      if (size !== looked) {
        looked = size;
        response = readResponse(decodeFrame(joined(pieces)));
      }
      if (response === null && size === 0 && host.now() - started > asked * (walking ? 3 : 1) * ASK_AGAIN && !connection.sendClosed) {
        asked++;
        connection.write(frame.slice(), host.now());
        host.pump();
      }
      return response !== null || ended;
    });
    connection.abort(host.now());
    host.pump();
    this.hub.linger(() => {
      unclaim();
      reserved.release();
    });
    return response;
  }
}
